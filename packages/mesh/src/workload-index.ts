// Workloads by everything they are looked up by. Every look-up is a map access; only workloads that share an address or
// a pod name are compared.
import type { Ip } from './address.ts';
import { WorkloadInterner } from './interning.ts';
import { MultiMap, NetworkMultiMap } from './multi-map.ts';
import type { PodKey } from './view.ts';
import type { Workload } from './workload.ts';

export class WorkloadIndex {
  readonly #localNode: string | undefined;
  readonly #interner = new WorkloadInterner();
  readonly #byUid = new Map<string, Workload>();
  readonly #byAddress = new NetworkMultiMap<Ip, Workload>();
  readonly #byPod = new MultiMap<string, Workload>();
  readonly #byHostname = new MultiMap<string, Workload>();
  readonly #identityUses = new Map<string, number>();

  constructor(localNode: string | undefined) {
    this.#localNode = localNode;
  }

  /** Adds or replaces by uid. Returns what is stored now and what was before. */
  upsert(given: Workload): { readonly stored: Workload; readonly previous: Workload | undefined } {
    const workload = this.#interner.share(given);
    const previous = this.#byUid.get(workload.uid);
    this.#byUid.set(workload.uid, workload);
    this.#exchange(previous, workload);
    return { stored: workload, previous };
  }

  remove(uid: string): Workload | undefined {
    const workload = this.#byUid.get(uid);
    if (workload === undefined) return undefined;
    this.#byUid.delete(uid);
    this.#exchange(workload, undefined);
    return workload;
  }

  byUid(uid: string): Workload | undefined {
    return this.#byUid.get(uid);
  }

  byAddress(network: string, ip: Ip): Workload | undefined {
    let best: Workload | undefined;
    for (const candidate of this.#byAddress.get(network, ip)) {
      // Of equals the newest wins, so a later one replaces on a tie.
      if (best === undefined || claimRank(candidate) >= claimRank(best)) best = candidate;
    }
    return best;
  }

  byPod(pod: PodKey): Workload | undefined {
    return this.#byPod.get(podKey(pod)).at(-1);
  }

  byHostname(namespace: string, hostname: string): Workload | undefined {
    return this.#byHostname.get(hostnameKey(namespace, hostname)).at(-1);
  }

  /** Whether any workload of this node runs under that service account. */
  usesIdentity(namespace: string, serviceAccount: string): boolean {
    return this.#identityUses.has(identityKey(namespace, serviceAccount));
  }

  values(): Iterable<Workload> {
    return this.#byUid.values();
  }

  get size(): number {
    return this.#byUid.size;
  }

  /** Takes the place of `previous` in every index; entries whose key stays the same are exchanged in place. */
  #exchange(previous: Workload | undefined, next: Workload | undefined): void {
    exchangeKeys(previous, next, addressesOf, {
      remove: (ip, from) => this.#byAddress.delete(from.network, ip, from),
      add: (ip, to) => this.#byAddress.add(to.network, ip, to),
      replace: (ip, from, to) => {
        if (from.network === to.network) this.#byAddress.replace(to.network, ip, from, to);
        else {
          this.#byAddress.delete(from.network, ip, from);
          this.#byAddress.add(to.network, ip, to);
        }
      },
    });
    exchangeKeys(previous, next, hostnameKeys, changesOf(this.#byHostname));
    exchangeKeys(
      previous,
      next,
      workload => (this.#isLocal(workload) ? [podKey(workload)] : []),
      changesOf(this.#byPod),
    );
    if (next !== undefined && this.#isLocal(next)) this.#countIdentity(next, 1);
    if (previous !== undefined && this.#isLocal(previous)) this.#countIdentity(previous, -1);
  }

  #countIdentity(workload: Workload, change: number): void {
    const identity = identityKey(workload.namespace, workload.serviceAccount);
    const uses = (this.#identityUses.get(identity) ?? 0) + change;
    if (uses > 0) this.#identityUses.set(identity, uses);
    else this.#identityUses.delete(identity);
  }

  #isLocal(workload: Workload): boolean {
    return this.#localNode === undefined || workload.node === this.#localNode;
  }
}

interface IndexChanges<K> {
  remove(key: K, from: Workload): void;
  add(key: K, to: Workload): void;
  replace(key: K, from: Workload, to: Workload): void;
}

function changesOf<K>(index: MultiMap<K, Workload>): IndexChanges<K> {
  return {
    remove: (key, from) => index.delete(key, from),
    add: (key, to) => index.add(key, to),
    replace: (key, from, to) => index.replace(key, from, to),
  };
}

function exchangeKeys<K>(
  previous: Workload | undefined,
  next: Workload | undefined,
  keysOf: (workload: Workload) => readonly K[],
  changes: IndexChanges<K>,
): void {
  const before = previous === undefined ? [] : keysOf(previous);
  const after = next === undefined ? [] : keysOf(next);
  if (previous !== undefined) {
    for (const key of before) if (!after.includes(key)) changes.remove(key, previous);
  }
  if (next === undefined) return;
  for (const key of after) {
    if (previous !== undefined && before.includes(key)) changes.replace(key, previous, next);
    else changes.add(key, next);
  }
}

function addressesOf(workload: Workload): readonly Ip[] {
  return workload.networkMode === 'HostNetwork' ? [] : workload.workloadIps;
}

function hostnameKeys(workload: Workload): readonly string[] {
  return workload.hostname === '' ? [] : [hostnameKey(workload.namespace, workload.hostname)];
}

/** Who keeps an address that several claim: real pods before entries written by hand, meshed before unmeshed. */
function claimRank(workload: Workload): number {
  return (workload.uid.includes('//Pod/') ? 2 : 0) + (workload.protocol === 'HBONE' ? 1 : 0);
}

// Names of Kubernetes objects have no slash; should one have, the worst case is a shared bucket of one key.
function podKey(pod: PodKey): string {
  return `${pod.namespace}/${pod.serviceAccount}/${pod.name}`;
}

function identityKey(namespace: string, serviceAccount: string): string {
  return `${namespace}/${serviceAccount}`;
}

function hostnameKey(namespace: string, hostname: string): string {
  return `${namespace}/${hostname}`;
}
