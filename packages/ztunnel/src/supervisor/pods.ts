// The pods of this node on all workers: a pod counts as open when every worker has opened it, and is closed on all when one
// could not. Each pod's workload, policies and identity follow the mesh; workers hear of them only when they changed.
import { formatSpiffeId, type MeshView, policiesFor } from '@ambit/mesh';
import type { Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import type { PodInfo } from '../worker-protocol.ts';
import { Condition } from './condition.ts';
import { certificateMessage, type IdentityStore, IdentityUsers } from './identity-users.ts';
import { type OpenFailure, type PodPhase, PodRecord, type PodState } from './pod-record.ts';
import type { WorkerLink } from './worker-link.ts';
import type { Workers } from './workers.ts';

export interface PodsDeps {
  readonly view: MeshView;
  readonly identities: IdentityStore;
  readonly clock: Clock;
  readonly log: Logger;
  /** Whether pods may still be opened. */
  readonly accepts: () => boolean;
}

/** Counted since the start. */
export interface PodCounts {
  readonly podsOpened: number;
  readonly podsFailed: number;
  readonly podsClosed: number;
}

/** How long a pod that comes back waits for its former self to be gone. */
const REOPEN_WAIT_MS = 5000;
/** A replaced worker that cannot open a pod the others serve tries again after this. */
const REOPEN_RETRY_MS = 5000;

export class Pods {
  readonly #deps: PodsDeps;
  readonly #workers: Workers;
  readonly #answerTimeoutMs: number;
  readonly #open = new Map<string, PodRecord>();
  /** Former selves of pods, kept until all workers let go of them. */
  readonly #closing = new Set<PodRecord>();
  readonly #identities: IdentityUsers;
  readonly #condition: Condition;
  readonly #counts = { podsOpened: 0, podsFailed: 0, podsClosed: 0 };

  /** A worker may take `answerTimeoutMs` to open a pod. */
  constructor(deps: PodsDeps, workers: Workers, answerTimeoutMs: number) {
    this.#deps = deps;
    this.#workers = workers;
    this.#answerTimeoutMs = answerTimeoutMs;
    this.#condition = new Condition(deps.clock);
    this.#identities = new IdentityUsers(deps.identities, identity =>
      workers.broadcast({
        type: 'certificate',
        identity,
        material: undefined,
        error: undefined,
      }),
    );
  }

  get size(): number {
    return this.#open.size;
  }

  get counts(): PodCounts {
    return this.#counts;
  }

  /** All that are not gone yet. */
  list(): readonly { readonly pod: PodInfo; readonly phase: PodPhase }[] {
    return this.#all().map(({ pod, phase }) => ({ pod, phase }));
  }

  info(uid: string): PodInfo | undefined {
    return this.#open.get(uid)?.pod;
  }

  /** See `Supervisor.openPod`. */
  async open(pod: PodInfo, netnsFd: number | undefined): Promise<OpenFailure | undefined> {
    await this.#untilGone(pod.uid);
    if (!this.#deps.accepts()) return { code: 'drain.pod_removed', message: 'the proxy is draining' };
    const record = new PodRecord(pod, netnsFd, this.#workers.indexes);
    this.#open.set(pod.uid, record);
    this.#workers.broadcast({ type: 'podAdd', pod, netnsFd });
    this.#pushState(record);
    const cancel = this.#deps.clock.after(this.#answerTimeoutMs, () => this.#expire(record));
    const outcome = await record.opened;
    cancel();
    if (outcome.kind === 'open') {
      this.#counts.podsOpened++;
      return undefined;
    }
    this.#counts.podsFailed++;
    // Some workers may have it open: a pod served by some of them only would lose connections at random.
    if (this.#open.get(pod.uid) === record) await this.#close(record, 'immediate', 0);
    return outcome.failure;
  }

  /** See `Supervisor.describePod`. */
  describe(pod: PodInfo): void {
    const record = this.#open.get(pod.uid);
    if (record === undefined) return;
    record.pod = pod;
    this.#workers.broadcast({ type: 'podInfo', pod });
  }

  /** See `Supervisor.closePod`. */
  async close(uid: string, mode: 'graceful' | 'immediate', deadlineMs: number): Promise<void> {
    const record = this.#open.get(uid);
    if (record !== undefined) await this.#close(record, mode, deadlineMs);
  }

  /** The workers are gone for good: whoever waits for a pod learns it. */
  abandon(): void {
    for (const record of this.#all()) {
      record.close();
      for (const index of this.#workers.indexes) record.onWorkerGone(index);
    }
  }

  /** Own workloads, policies or addresses may have changed. Pods that are not concerned hear nothing. */
  pushStates(): void {
    for (const record of this.#open.values()) this.#pushState(record);
  }

  /** Tells a fresh worker of certificates and pods. */
  replay(link: WorkerLink): void {
    for (const [identity, state] of this.#identities.states()) {
      const message = certificateMessage(identity, state);
      if (message !== undefined) link.send(message);
    }
    for (const record of this.#open.values()) {
      record.onWorkerBack(link.index);
      this.#send(link, record);
    }
  }

  onOpened(link: WorkerLink, uid: string, failure: OpenFailure | undefined): void {
    const record = this.#open.get(uid) ?? [...this.#closing].find(closing => closing.pod.uid === uid);
    if (record === undefined) return;
    if (failure !== undefined && record.phase === 'open') {
      this.#deps.log.error('A replaced data worker cannot open a pod, the other workers serve it alone', [
        ['pod', `${record.pod.namespace}/${record.pod.name}`],
        ['error', failure.message],
        ['err.code', failure.code],
      ]);
      this.#deps.clock.after(REOPEN_RETRY_MS, () => {
        if (this.#open.get(uid) === record) this.#send(link, record);
      });
    }
    record.onOpened(link.index, failure);
  }

  onClosed(index: number, uid: string): void {
    // Former selves first: a worker closes the old one before it opens the new one.
    for (const record of this.#closing) if (record.pod.uid === uid) record.onClosed(index);
  }

  onWorkerGone(index: number): void {
    for (const record of this.#all()) record.onWorkerGone(index);
  }

  #all(): readonly PodRecord[] {
    return [...this.#open.values(), ...this.#closing];
  }

  /** A worker that gives no answer may still act on what it was told, with a descriptor that is then someone else's. */
  #expire(record: PodRecord): void {
    const message = `a data worker did not answer within ${this.#answerTimeoutMs} ms`;
    for (const index of record.expire({ code: 'enrol.failed', message })) this.#workers.link(index)?.kill(message);
  }

  #send(link: WorkerLink, record: PodRecord): void {
    link.send({ type: 'podAdd', pod: record.pod, netnsFd: record.netnsFd });
    link.send(this.#stateOf(record));
  }

  #pushState(record: PodRecord): void {
    const workload = this.#deps.view.workloadForPod(record.pod);
    const { namespace, serviceAccount } = record.pod;
    // The trust domain is the mesh's to say; who the pod is, the node's (as upstream).
    const identity =
      workload === undefined
        ? undefined
        : formatSpiffeId({ trustDomain: workload.trustDomain, namespace, serviceAccount });
    this.#useIdentity(record, identity ?? record.identity);
    const state = this.#stateOf(record);
    if (isSamePodState(record.pushed, state)) return;
    record.pushed = state;
    this.#workers.broadcast(state);
  }

  #stateOf({ pod }: PodRecord): PodState {
    const { view } = this.#deps;
    const workload = view.workloadForPod(pod);
    const policies = workload === undefined ? [] : policiesFor(view, workload).policies;
    return { type: 'podState', uid: pod.uid, workload, policies };
  }

  #useIdentity(record: PodRecord, identity: string | undefined): void {
    const former = record.identity;
    record.identity = identity;
    this.#identities.change(former, identity);
  }

  async #close(record: PodRecord, mode: 'graceful' | 'immediate', deadlineMs: number): Promise<void> {
    this.#open.delete(record.pod.uid);
    this.#closing.add(record);
    if (record.close()) this.#workers.broadcast({ type: 'podRemove', uid: record.pod.uid, mode, deadlineMs });
    await record.closed;
    this.#closing.delete(record);
    this.#counts.podsClosed++;
    // Only now: connections of a gracefully closed pod may still need a handshake.
    this.#useIdentity(record, undefined);
    this.#condition.changed();
  }

  async #untilGone(uid: string): Promise<void> {
    const isGone = (): boolean => ![...this.#closing].some(record => record.pod.uid === uid);
    await this.#condition.until(isGone, REOPEN_WAIT_MS);
  }
}

/** Parts of the mesh are replaced and never changed, so equal content is the same object. */
function isSamePodState(a: PodState | undefined, b: PodState): boolean {
  return (
    a !== undefined &&
    a.workload === b.workload &&
    a.policies.length === b.policies.length &&
    a.policies.every((policy, index) => policy === b.policies[index])
  );
}
