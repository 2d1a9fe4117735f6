// Which namespace is which pod's. A namespace belongs to one pod and a pod to one namespace; the node's own is nobody's; and
// a claim counts only when an address of the pod is in the namespace. Whoever claims otherwise is refused: traffic of one
// pod must never be given another's identity. Fails closed.
import { join } from 'node:path';
import { NetNs } from '@ambit/native';
import { CniError } from '../errors.ts';
import { type AgentPod, podName } from '../pod/agent-pod.ts';
import { HeldNetns } from './held-netns.ts';
import { type NetnsFinder, ownsAddress } from './netns-finder.ts';

export interface ClaimRequest {
  /** Addresses of the pod, as whoever set up its network says. */
  readonly ips: readonly string[];
  /** As the runtime or the source gave it; undefined: it is looked for. */
  readonly netnsPath: string | undefined;
}

export interface ClaimDeps {
  readonly finder: NetnsFinder;
  /** Where the node's file system is seen by the agent: before every path that a runtime gives. Empty: as it is. */
  readonly hostRoot: string;
  /** Gives up the namespace of a pod that no source has any more. @returns whether it did */
  readonly evict: (uid: string) => Promise<boolean>;
}

export class NetnsClaims {
  readonly #deps: ClaimDeps;
  /** By `dev:inode`. */
  readonly #owners = new Map<string, string>();
  readonly #forbidden: ReadonlySet<string | undefined>;

  constructor(deps: ClaimDeps) {
    this.#deps = deps;
    using own = NetNs.own();
    this.#forbidden = new Set([deps.finder.hostKey(), `${own.identity.dev}:${own.identity.ino}`]);
  }

  /**
   * The pod's namespace: `held` if that is still what is meant, else another, which is the caller's to close by `release`.
   * @throws CniError enrol.no_netns, enrol.netns_foreign, enrol.netns_gone
   */
  async claim(
    pod: AgentPod,
    held: HeldNetns | undefined,
    request: ClaimRequest,
    signal: AbortSignal,
  ): Promise<HeldNetns> {
    const path = request.netnsPath ?? pod.netnsPath;
    if (path === undefined && held !== undefined) return held;
    const candidate = path === undefined ? await this.#find(pod, request.ips, signal) : this.#open(path);
    return this.accept(pod, held, candidate, request.ips);
  }

  /** As `claim`, for a namespace that somebody found; takes it over, also when it is refused and closed. */
  async accept(
    pod: AgentPod,
    held: HeldNetns | undefined,
    candidate: HeldNetns,
    ips: readonly string[],
  ): Promise<HeldNetns> {
    if (candidate.key === held?.key) {
      candidate.close();
      return held;
    }
    try {
      await this.#vacate(pod, candidate);
      // From here to the note of the new owner nothing waits, so that of two pods one comes first.
      this.#check(pod, held, candidate, ips);
      this.#owners.set(candidate.key, pod.uid);
      return candidate;
    } catch (error) {
      candidate.close();
      throw error;
    }
  }

  /** Whether a path, as a runtime gives it, leads to the namespace. */
  isSame(held: HeldNetns, path: string): boolean {
    try {
      const other = this.#open(path);
      other.close();
      return other.key === held.key;
    } catch {
      // Nothing there is something else.
      return false;
    }
  }

  /** Gives a namespace up. */
  release(held: HeldNetns): void {
    this.#owners.delete(held.key);
    held.close();
  }

  #open(path: string): HeldNetns {
    return HeldNetns.open(this.#deps.hostRoot === '' ? path : join(this.#deps.hostRoot, path));
  }

  async #find(pod: AgentPod, ips: readonly string[], signal: AbortSignal): Promise<HeldNetns> {
    const found = await this.#deps.finder.find([{ uid: pod.uid, ips }], signal);
    const held = found.get(pod.uid);
    if (held !== undefined) return held;
    throw new CniError('enrol.no_netns', `no process in the network of pod ${podName(pod)} was found`, {
      next:
        ips.length === 0 ? 'the pod has no address yet' : 'does the agent see the processes of the node (/host/proc)?',
    });
  }

  /** Has a namespace given up whose pod is gone. */
  async #vacate(pod: AgentPod, { key }: HeldNetns): Promise<void> {
    const owner = this.#owners.get(key);
    if (owner === undefined || owner === pod.uid || !(await this.#deps.evict(owner))) return;
    if (this.#owners.get(key) === owner) this.#owners.delete(key);
  }

  #check(pod: AgentPod, held: HeldNetns | undefined, candidate: HeldNetns, ips: readonly string[]): void {
    const name = podName(pod);
    if (this.#forbidden.has(candidate.key)) throw foreign(name, candidate, "it is the node's own network");
    const owner = this.#owners.get(candidate.key);
    if (owner !== undefined && owner !== pod.uid) {
      throw foreign(name, candidate, `it is held for pod ${owner}`);
    }
    if (ips.length === 0) return;
    if (!hasAddress(candidate, ips))
      throw foreign(name, candidate, `none of ${ips.join(', ')} is on an interface in it`);
    // A new sandbox of the same pod is fine: the old one has lost the address by then.
    if (held !== undefined && hasAddress(held, ips)) {
      throw foreign(name, candidate, `the namespace ${held.path} has the pod's address as well`);
    }
  }
}

function hasAddress(held: HeldNetns, ips: readonly string[]): boolean {
  try {
    return ownsAddress(held.netns, ips);
  } catch (cause) {
    throw new CniError('enrol.netns_gone', `the network namespace ${held.path} cannot be entered`, { cause });
  }
}

function foreign(name: string, { path }: HeldNetns, why: string): CniError {
  return new CniError('enrol.netns_foreign', `the network namespace ${path} is not that of pod ${name}: ${why}`, {
    where: name,
    next: 'the pod is not let in; ambit audit says more',
  });
}
