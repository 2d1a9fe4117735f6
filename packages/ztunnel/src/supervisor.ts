// Owns the data workers: starts them, tells each everything it must know, answers their questions, replaces one that
// dies with the full state sent again. A pod counts as enrolled when all workers have opened it, and is closed on all
// when one could not. The mesh view and the certificates are other people's; this only passes on what follows from them.
import { formatSpiffeId, type Ip, type MeshView, policiesFor } from '@ambit/mesh';
import type { ConnectionRecord, FrozenTunnel } from '@ambit/proxy';
import { backoffMs, type Clock } from './clock.ts';
import { errorText, ZtunnelError } from './errors.ts';
import type { CertificateState } from './identity/certificate-manager.ts';
import type { Logger } from './log.ts';
import { Balance } from './supervisor/balance.ts';
import { Condition } from './supervisor/condition.ts';
import { type IdentityStore, IdentityUsers } from './supervisor/identity-users.ts';
import { type OpenFailure, PodRecord, type PodState } from './supervisor/pod-record.ts';
import { answerInbound, answerOutbound, denyUnsure, type RouteOptions } from './supervisor/route-answers.ts';
import { WorkerLink } from './supervisor/worker-link.ts';
import type { FromWorker, PodInfo, ToWorker, WorkerSettings } from './worker-protocol.ts';

export interface SupervisorDeps {
  readonly view: MeshView;
  readonly identities: IdentityStore;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly onRecords: (records: readonly ConnectionRecord[]) => void;
  /**
   * Finds out about a destination before a route to it is decided. Undefined when the mesh can be believed as it is; else
   * whether it can be now.
   */
  readonly lookup?: (destination: Ip) => Promise<boolean> | undefined;
}

/** What an update of the mesh touched. */
export interface MeshChange {
  readonly addresses: boolean;
  readonly policies: boolean;
}

export interface SupervisorOptions {
  readonly entry: URL;
  readonly workers: number;
  readonly settings: WorkerSettings;
  readonly routes: RouteOptions;
  /** How long a worker may take to start, and to open a pod. */
  readonly answerTimeoutMs: number;
}

/** Counted since the start; gauges say so. */
export interface SupervisorStats {
  readonly workersReplaced: number;
  /** Gauge. */
  readonly pods: number;
  readonly podsOpened: number;
  readonly podsFailed: number;
  readonly podsClosed: number;
  /** Live tunnels handed from a busy worker to an idle one. */
  readonly tunnelsMoved: number;
  /** Routes refused because the control plane did not say in time what a destination is. */
  readonly lookupsFailed: number;
}

/** How often the workers' load is compared. */
const BALANCE_PERIOD_MS = 2000;
const STOP_GRACE_MS = 2000;
/** How long a pod that comes back waits for its former self to be gone. */
const REOPEN_WAIT_MS = 5000;
const REPLACE_FIRST_MS = 50;
const REPLACE_MAX_MS = 10_000;
/** A worker that lived this long starts with a clean slate when it dies. */
const STABLE_MS = 30_000;
/** A replaced worker that cannot open a pod the others serve tries again after this. */
const REOPEN_RETRY_MS = 5000;

interface Slot {
  link: WorkerLink;
  startedAtMs: number;
  failures: number;
  state: 'starting' | 'ready' | 'drained' | 'dead';
}

export class Supervisor {
  readonly #deps: SupervisorDeps;
  readonly #options: SupervisorOptions;
  readonly #budget: SharedArrayBuffer;
  readonly #slots: Slot[] = [];
  readonly #pods = new Map<string, PodRecord>();
  /** Former selves of pods, kept until all workers let go of them. */
  readonly #closing = new Set<PodRecord>();
  readonly #identities: IdentityUsers;
  readonly #condition: Condition;
  #revocations: readonly string[] = [];
  /** A route was refused for want of an answer: whatever comes next may be it. */
  #hasUnsureRoutes = false;
  #mode: 'new' | 'running' | 'draining' | 'stopped' = 'new';
  #counts = { workersReplaced: 0, podsOpened: 0, podsFailed: 0, podsClosed: 0, tunnelsMoved: 0, lookupsFailed: 0 };
  readonly #balance = new Balance();
  readonly #used = new Map<number, number>();
  #statsRound = 0;
  #balancedAtMs = 0;
  #adopter = 0;
  #cancelBalance: () => void = () => {};

  constructor(deps: SupervisorDeps, options: SupervisorOptions) {
    this.#deps = deps;
    this.#options = options;
    // The layout of MemoryBudget: the sum, then each worker's share of it.
    this.#budget = new SharedArrayBuffer(4 * (1 + options.workers));
    this.#condition = new Condition(deps.clock);
    this.#identities = new IdentityUsers(deps.identities, identity =>
      this.#broadcast({
        type: 'certificate',
        identity,
        material: undefined,
        error: 'the identity is no longer needed',
      }),
    );
  }

  get stats(): SupervisorStats {
    return { ...this.#counts, pods: this.#pods.size };
  }

  /** Starts all workers. @throws worker.died when one does not get ready in time */
  async start(): Promise<void> {
    this.#mode = 'running';
    for (let index = 0; index < this.#options.workers; index++) this.#slots.push(this.#startWorker(index, 0));
    const { answerTimeoutMs } = this.#options;
    if (await this.#condition.until(() => this.#slots.every(slot => slot.state === 'ready'), answerTimeoutMs)) {
      this.#armBalance();
      return;
    }
    await this.stop();
    throw new ZtunnelError('worker.died', `not all data workers were ready within ${answerTimeoutMs} ms`);
  }

  /**
   * Opens a pod on every worker. The caller owns `netnsFd` and keeps it open until `closePod` resolves, or until this
   * reports a failure. A pod of the same uid must have been closed before; its end is waited for.
   */
  async openPod(pod: PodInfo, netnsFd: number | undefined): Promise<OpenFailure | undefined> {
    await this.#untilGone(pod.uid);
    if (this.#mode !== 'running') return { code: 'drain.pod_removed', message: 'the proxy is draining' };
    const record = new PodRecord(pod, netnsFd, [...this.#slots.keys()]);
    this.#pods.set(pod.uid, record);
    this.#broadcast({ type: 'podAdd', pod, netnsFd });
    this.#pushPodState(record);
    const cancel = this.#deps.clock.after(this.#options.answerTimeoutMs, () => this.#expire(record));
    const outcome = await record.opened;
    cancel();
    if (outcome.kind === 'open') {
      this.#counts.podsOpened++;
      return undefined;
    }
    this.#counts.podsFailed++;
    // Some workers may have it open: a pod served by some of them only would lose connections at random.
    if (this.#pods.get(pod.uid) === record) await this.#close(record, 'immediate', 0);
    return outcome.failure;
  }

  /** Closes a pod on every worker; resolves when the last connection has ended. Unknown uids are fine. */
  async closePod(uid: string, mode: 'graceful' | 'immediate', deadlineMs: number): Promise<void> {
    const record = this.#pods.get(uid);
    if (record !== undefined) await this.#close(record, mode, deadlineMs);
  }

  /** The mesh changed: own workloads, policies and routes of all pods follow. Pods that are not concerned hear nothing. */
  onMeshChanged(change: MeshChange = { addresses: true, policies: true }): void {
    const isChanged = change.addresses || change.policies;
    if (!isChanged && !this.#hasUnsureRoutes) return;
    if (isChanged) for (const record of this.#pods.values()) this.#pushPodState(record);
    this.#hasUnsureRoutes = false;
    this.#broadcast({ type: 'forgetRoutes' });
  }

  /** The revoked certificates, all of them. */
  setRevocations(keys: readonly string[]): void {
    this.#revocations = keys;
    this.#broadcast({ type: 'revocations', keys });
  }

  /** A certificate was issued, renewed or lost. */
  onCertificate(identity: string, state: CertificateState): void {
    const message = certificateMessage(identity, state);
    if (message !== undefined) this.#broadcast(message);
  }

  /** Stops accepting everywhere and lets connections finish. Resolves when all workers are done or the deadline has passed. */
  async drain(deadlineMs: number): Promise<void> {
    if (this.#mode !== 'running') return;
    this.#mode = 'draining';
    this.#broadcast({ type: 'drain', deadlineMs });
    // The workers keep the deadline themselves; the margin is for the answer to arrive.
    const inTime = await this.#condition.until(
      () => this.#slots.every(({ state }) => state === 'drained' || state === 'dead'),
      deadlineMs + STOP_GRACE_MS,
    );
    if (!inTime) this.#deps.log.warn('drain duration expired with pending connections, forcefully shutting down');
  }

  /** Ends all workers. */
  async stop(): Promise<void> {
    this.#mode = 'stopped';
    this.#cancelBalance();
    await Promise.all(this.#slots.map(({ link }) => link.stop(STOP_GRACE_MS)));
    for (const record of [...this.#pods.values(), ...this.#closing]) {
      record.close();
      for (const index of this.#slots.keys()) record.onWorkerGone(index);
    }
  }

  /** A worker that gives no answer may still act on what it was told, with a descriptor that is then someone else's. */
  #expire(record: PodRecord): void {
    const message = `a data worker did not answer within ${this.#options.answerTimeoutMs} ms`;
    for (const index of record.expire({ code: 'enrol.failed', message })) this.#slots[index]?.link.kill(message);
  }

  #startWorker(index: number, failures: number): Slot {
    const { entry, settings } = this.#options;
    const link = new WorkerLink(index, {
      entry,
      settings,
      budget: this.#budget,
      onMessage: message => this.#onMessage(slot, message),
      onEnded: why => this.#onEnded(slot, why),
    });
    const slot: Slot = { link, startedAtMs: this.#deps.clock.now(), failures, state: 'starting' };
    return slot;
  }

  #onMessage(slot: Slot, message: FromWorker): void {
    const { index } = slot.link;
    switch (message.type) {
      case 'ready':
        slot.state = 'ready';
        this.#condition.changed();
        return;
      case 'podOpened':
        this.#onPodOpened(slot, message.uid, message.error);
        return;
      case 'podClosed':
        this.#onPodClosed(index, message.uid);
        return;
      case 'needOutboundRoute':
        this.#answerOutbound(slot, message);
        return;
      case 'needInboundRoute': {
        const pod = this.#pods.get(message.uid)?.pod;
        const route = answerInbound(this.#deps, this.#options.routes, pod, message);
        slot.link.send({ type: 'inboundRoute', id: message.id, route });
        return;
      }
      case 'missCertificate':
        this.#deps.identities.need(message.identity);
        return;
      case 'records':
        slot.link.send({ type: 'recordsTaken' });
        this.#deps.onRecords(message.records);
        return;
      case 'drained':
        slot.state = 'drained';
        this.#condition.changed();
        return;
      case 'frozen':
        this.#adopt(slot, message.tunnel);
        return;
      case 'stats':
        this.#onStats(slot, message.id, message.stats);
        return;
      case 'frozenAll':
        // The answer to a question this version does not ask.
        return;
    }
  }

  #answerOutbound(slot: Slot, message: Extract<FromWorker, { type: 'needOutboundRoute' }>): void {
    const { id, uid, input } = message;
    const answer = (isSure: boolean): void => {
      // Looked up again: the pod may have gone while we asked.
      const pod = this.#pods.get(uid)?.pod;
      const route = isSure
        ? answerOutbound(this.#deps, this.#options.routes, pod, message)
        : denyUnsure(input.destination);
      slot.link.send({ type: 'outboundRoute', id, route });
    };
    const pending = this.#pods.has(uid) ? this.#deps.lookup?.(input.destination.ip) : undefined;
    if (pending === undefined) {
      answer(true);
      return;
    }
    void this.#answerLater(pending, answer);
  }

  async #answerLater(pending: Promise<boolean>, answer: (isSure: boolean) => void): Promise<void> {
    const isSure = await pending.catch((error: unknown) => {
      this.#deps.log.error('A look-up failed on a bug, the connection is refused', [['error', errorText(error)]]);
      return false;
    });
    if (!isSure) {
      this.#counts.lookupsFailed++;
      this.#hasUnsureRoutes = true;
    }
    answer(isSure);
  }

  // ---- balancing between workers ----------------------------------------------------------------------------------

  #armBalance(): void {
    if (this.#options.workers < 2 || this.#options.settings.tlsRecords !== 'own') return;
    this.#cancelBalance = this.#deps.clock.after(BALANCE_PERIOD_MS, () => {
      if (this.#mode !== 'running') return;
      this.#statsRound++;
      this.#used.clear();
      for (const { link } of this.#slots) link.send({ type: 'stats', id: this.#statsRound });
      this.#armBalance();
    });
  }

  #onStats(slot: Slot, round: number, stats: Readonly<Record<string, number>>): void {
    if (round !== this.#statsRound || this.#mode !== 'running') return;
    this.#used.set(slot.link.index, stats.cpuMicros ?? 0);
    if (this.#used.size < this.#slots.length) return;
    const now = this.#deps.clock.now();
    const move = this.#balance.next(this.#used, now - this.#balancedAtMs);
    this.#balancedAtMs = now;
    if (move === undefined) return;
    this.#adopter = move.to;
    this.#slots[move.from]?.link.send({ type: 'shed', share: move.share });
  }

  /** A live tunnel left `from`: the worker it was meant for continues it, or `from` itself when that one is gone. */
  #adopt(from: Slot, tunnel: FrozenTunnel): void {
    const meant = this.#slots[this.#adopter];
    const to = meant !== undefined && meant.state === 'ready' ? meant : from;
    this.#counts.tunnelsMoved++;
    this.#deps.log.debug('A live tunnel moves to another worker', [
      ['from', from.link.index],
      ['to', to.link.index],
      ['streams', tunnel.streams.length],
    ]);
    to.link.send({ type: 'adopt', tunnel });
  }

  #onPodOpened(slot: Slot, uid: string, failure: OpenFailure | undefined): void {
    const record = this.#pods.get(uid) ?? [...this.#closing].find(closing => closing.pod.uid === uid);
    if (record === undefined) return;
    if (failure !== undefined && record.phase === 'open') {
      this.#deps.log.error('A replaced data worker cannot open a pod, the other workers serve it alone', [
        ['pod', `${record.pod.namespace}/${record.pod.name}`],
        ['error', failure.message],
        ['err.code', failure.code],
      ]);
      this.#deps.clock.after(REOPEN_RETRY_MS, () => {
        if (this.#pods.get(uid) === record) this.#sendPod(slot.link, record);
      });
    }
    record.onOpened(slot.link.index, failure);
  }

  #onPodClosed(index: number, uid: string): void {
    // Former selves first: a worker closes the old one before it opens the new one.
    for (const record of this.#closing) if (record.pod.uid === uid) record.onClosed(index);
  }

  #onEnded(slot: Slot, why: string | undefined): void {
    const { index } = slot.link;
    slot.state = 'dead';
    this.#condition.changed();
    for (const record of [...this.#pods.values(), ...this.#closing]) record.onWorkerGone(index);
    if (why === undefined || this.#mode !== 'running') return;
    const { clock, log, random } = this.#deps;
    this.#counts.workersReplaced++;
    const failures = clock.now() - slot.startedAtMs >= STABLE_MS ? 1 : slot.failures + 1;
    log.error('A data worker died and is replaced, its connections are lost', [
      ['worker', index],
      ['error', why],
      ['err.code', 'worker.died'],
    ]);
    clock.after(failures === 1 ? 0 : backoffMs(failures, REPLACE_FIRST_MS, REPLACE_MAX_MS, random), () => {
      void this.#replace(index, failures);
    });
  }

  async #replace(index: number, failures: number): Promise<void> {
    // Loaded only here: the rest of that package is the workers' business, and 4 MB.
    const { MemoryBudget } = await import('@ambit/proxy');
    if (this.#mode !== 'running') return;
    // What the dead worker had charged to the memory budget went with it.
    MemoryBudget.forget(this.#budget, index);
    const replacement = this.#startWorker(index, failures);
    this.#slots[index] = replacement;
    this.#replay(replacement.link);
  }

  /** Everything a fresh worker must know. It reads this after it has started: the port keeps messages in order. */
  #replay(link: WorkerLink): void {
    // Before anything that could let a connection in.
    if (this.#revocations.length > 0) link.send({ type: 'revocations', keys: this.#revocations });
    for (const [identity, state] of this.#identities.states()) {
      const message = certificateMessage(identity, state);
      if (message !== undefined) link.send(message);
    }
    for (const record of this.#pods.values()) {
      record.onWorkerBack(link.index);
      this.#sendPod(link, record);
    }
  }

  #sendPod(link: WorkerLink, record: PodRecord): void {
    link.send({ type: 'podAdd', pod: record.pod, netnsFd: record.netnsFd });
    link.send(this.#podState(record));
  }

  #pushPodState(record: PodRecord): void {
    const workload = this.#deps.view.workloadForPod(record.pod);
    const { namespace, serviceAccount } = record.pod;
    // The trust domain is the mesh's to say; who the pod is, the node's (as upstream).
    const identity =
      workload === undefined
        ? undefined
        : formatSpiffeId({ trustDomain: workload.trustDomain, namespace, serviceAccount });
    this.#useIdentity(record, identity ?? record.identity);
    const state = this.#podState(record);
    if (isSamePodState(record.pushed, state)) return;
    record.pushed = state;
    this.#broadcast(state);
  }

  #podState({ pod }: PodRecord): PodState {
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
    this.#pods.delete(record.pod.uid);
    this.#closing.add(record);
    if (record.close()) this.#broadcast({ type: 'podRemove', uid: record.pod.uid, mode, deadlineMs });
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

  #broadcast(message: ToWorker): void {
    for (const { link } of this.#slots) link.send(message);
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

function certificateMessage(identity: string, state: CertificateState): ToWorker | undefined {
  switch (state.kind) {
    case 'initializing':
      return undefined;
    case 'available':
      return { type: 'certificate', identity, material: state.certificate.material, error: undefined };
    case 'unavailable':
      return { type: 'certificate', identity, material: undefined, error: state.error };
  }
}
