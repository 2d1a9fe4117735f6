// Who owns a host name. Services and ServiceEntries claim host names; in each namespace one claim survives (a Kubernetes
// Service, else the oldest ServiceEntry), and of the survivors one is canonical, the answer for every other namespace.
// The outcome depends on the set of claims only, never on their order of arrival.
import type { Entry } from './object-store.ts';

export interface HostClaim {
  readonly hostname: string;
  readonly namespace: string;
  /** `namespace/hostname`, the name of the service's resource. */
  readonly key: string;
  readonly entry: Entry<'Service'> | Entry<'ServiceEntry'>;
  /** Set by the table: whether this claim is in force in its namespace. */
  survives: boolean;
  /** Set by the table: whether it is in force for all namespaces. */
  isCanonical: boolean;
}

export type ClaimChange = { readonly claim: HostClaim; readonly survivalChanged: boolean };

export class HostTable {
  readonly #claims = new Map<string, Set<HostClaim>>();
  readonly #unsettled = new Set<string>();

  add(claim: HostClaim): void {
    const group = this.#claims.get(claim.hostname);
    if (group === undefined) this.#claims.set(claim.hostname, new Set([claim]));
    else group.add(claim);
    this.#unsettled.add(claim.hostname);
  }

  remove(claim: HostClaim): void {
    const group = this.#claims.get(claim.hostname);
    if (group?.delete(claim) !== true) return;
    if (group.size === 0) this.#claims.delete(claim.hostname);
    this.#unsettled.add(claim.hostname);
  }

  /** The claim's object has another age now. */
  touch(claim: HostClaim): void {
    this.#unsettled.add(claim.hostname);
  }

  *claimsOf(hostname: string, namespace: string): Iterable<HostClaim> {
    for (const claim of this.#claims.get(hostname) ?? []) if (claim.namespace === namespace) yield claim;
  }

  /** Decides every host name whose claims changed; returns the claims whose standing is another now. */
  settle(): ClaimChange[] {
    const changes: ClaimChange[] = [];
    for (const hostname of this.#unsettled) {
      const group = [...(this.#claims.get(hostname) ?? [])].sort(compareClaims);
      const namespaces = new Set<string>();
      let hasCanonical: boolean = false;
      for (const claim of group) {
        const survives = !namespaces.has(claim.namespace);
        namespaces.add(claim.namespace);
        const isCanonical: boolean = survives && !hasCanonical;
        hasCanonical ||= isCanonical;
        if (claim.survives === survives && claim.isCanonical === isCanonical) continue;
        changes.push({ claim, survivalChanged: claim.survives !== survives });
        claim.survives = survives;
        claim.isCanonical = isCanonical;
      }
    }
    this.#unsettled.clear();
    return changes;
  }
}

/** Best claim first. An object without a creation time counts as the oldest, as upstream's zero time does. */
function compareClaims(a: HostClaim, b: HostClaim): number {
  const left = a.entry.object;
  const right = b.entry.object;
  if (left.kind !== right.kind) return left.kind === 'Service' ? -1 : 1;
  const age = (left.metadata.creationTime ?? 0) - (right.metadata.creationTime ?? 0);
  if (age !== 0) return age;
  if (a.namespace !== b.namespace) return a.namespace < b.namespace ? -1 : 1;
  return left.metadata.name < right.metadata.name ? -1 : 1;
}
