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
    const previous = this.remove(given.uid);
    const workload = this.#interner.share(given);
    this.#byUid.set(workload.uid, workload);
    if (workload.networkMode !== 'HostNetwork') {
      for (const ip of workload.workloadIps) this.#byAddress.add(workload.network, ip, workload);
    }
    if (workload.hostname !== '') this.#byHostname.add(hostnameKey(workload.namespace, workload.hostname), workload);
    if (this.#isLocal(workload)) {
      this.#byPod.add(podKey(workload), workload);
      const identity = identityKey(workload.namespace, workload.serviceAccount);
      this.#identityUses.set(identity, (this.#identityUses.get(identity) ?? 0) + 1);
    }
    return { stored: workload, previous };
  }

  remove(uid: string): Workload | undefined {
    const workload = this.#byUid.get(uid);
    if (workload === undefined) return undefined;
    this.#byUid.delete(uid);
    if (workload.networkMode !== 'HostNetwork') {
      for (const ip of workload.workloadIps) this.#byAddress.delete(workload.network, ip, workload);
    }
    if (workload.hostname !== '') this.#byHostname.delete(hostnameKey(workload.namespace, workload.hostname), workload);
    if (this.#isLocal(workload)) {
      this.#byPod.delete(podKey(workload), workload);
      const identity = identityKey(workload.namespace, workload.serviceAccount);
      const uses = (this.#identityUses.get(identity) ?? 1) - 1;
      if (uses > 0) this.#identityUses.set(identity, uses);
      else this.#identityUses.delete(identity);
    }
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

  #isLocal(workload: Workload): boolean {
    return this.#localNode === undefined || workload.node === this.#localNode;
  }
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
