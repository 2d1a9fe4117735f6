// The state machine of ZDS on the proxy's side, pure: requests of the node agent in, effects out. One thing at a time:
// while a pod is being started nothing else is fed in, so acks leave in the order of their requests. Protocol as
// Istio's (ztunnel `inpod/statemanager`), with these differences: a protocol error ends the connection instead of the
// process, pending pods survive a reconnect, a pod whose names changed is restarted under its new identity, and one that is
// only described otherwise goes on under its new description.
import type { WorkloadInfo, WorkloadRequest } from '@ambit/wire';

/** A network namespace the agent sent. `key` is equal for equal namespaces; the descriptor behind it is the driver's. */
export interface NetnsHandle {
  readonly key: string;
}

/** Why the connection is given up. */
export type DisconnectReason = 'keep_after_snapshot' | 'second_snapshot' | 'add_without_info' | 'bad_packet';

export type ZdsEffect<N extends NetnsHandle> =
  /** Open the pod's listeners; report with `onStarted`. Exactly one is in flight at a time. */
  | { readonly kind: 'start'; readonly uid: string; readonly info: WorkloadInfo; readonly netns: N }
  /** The pod goes on as it is; what is said of it changed, but not who it is. */
  | { readonly kind: 'describe'; readonly uid: string; readonly info: WorkloadInfo }
  /** Cut the pod's connections and close its listeners. The driver releases the namespace when that is done. */
  | { readonly kind: 'stop'; readonly uid: string }
  | { readonly kind: 'ack'; readonly error: string | undefined }
  /** This handle is not needed (any more). */
  | { readonly kind: 'release'; readonly netns: N }
  | { readonly kind: 'disconnect'; readonly reason: DisconnectReason; readonly detail: string }
  /** A `keep` for a pod that this proxy does not know: it is not served until the agent adds it. */
  | { readonly kind: 'unknownKeep'; readonly uid: string };

type PodState<N> =
  | { readonly kind: 'running'; readonly info: WorkloadInfo; readonly netns: N }
  | { readonly kind: 'pending'; readonly info: WorkloadInfo; readonly netns: N; readonly error: string };

type Session =
  | { readonly kind: 'disconnected' }
  | { readonly kind: 'snapshot'; readonly names: Set<string> }
  | { readonly kind: 'synced' };

interface Starting<N> {
  readonly uid: string;
  readonly info: WorkloadInfo;
  readonly netns: N;
  /** A request waits for its ack; a retry does not. */
  readonly isForRequest: boolean;
}

export class ZdsMachine<N extends NetnsHandle> {
  readonly #pods = new Map<string, PodState<N>>();
  #session: Session = { kind: 'disconnected' };
  #starting: Starting<N> | undefined;
  /** Uids still to be tried in the present retry round. */
  #retries: string[] = [];

  /** A snapshot was received on the present connection and no pod is pending. */
  get isReady(): boolean {
    return this.#session.kind === 'synced' && this.pendingCount === 0;
  }

  get isBusy(): boolean {
    return this.#starting !== undefined;
  }

  get runningCount(): number {
    return this.#pods.size - this.pendingCount;
  }

  get pendingCount(): number {
    let count = 0;
    for (const pod of this.#pods.values()) if (pod.kind === 'pending') count++;
    return count;
  }

  /** Uid and state of each pod, for the admin view and tests. */
  pods(): ReadonlyMap<string, { readonly kind: 'running' | 'pending'; readonly info: WorkloadInfo }> {
    return this.#pods;
  }

  /** A new connection: the agent will send a snapshot. Running pods stay. */
  onConnected(): void {
    this.#session = { kind: 'snapshot', names: new Set() };
  }

  onDisconnected(): void {
    this.#session = { kind: 'disconnected' };
  }

  /** One request; `netns` exactly for an `add`. @throws Error when fed while busy: a bug of the driver */
  onRequest(request: WorkloadRequest, netns: N | undefined): readonly ZdsEffect<N>[] {
    this.#assertIdle();
    switch (request.kind) {
      case 'add':
        return netns === undefined
          ? this.onBadPacket('No control message')
          : this.#add(request.uid, request.info, netns);
      case 'keep':
        return this.#keep(request.uid);
      case 'del':
        return this.#delete(request.uid);
      case 'snapshotSent':
        return this.#snapshotSent();
    }
  }

  /** A packet that is not a request, or whose descriptors are wrong. */
  onBadPacket(detail: string): readonly ZdsEffect<N>[] {
    const ack: ZdsEffect<N> = { kind: 'ack', error: `failure to read message : ${detail}` };
    return [ack, { kind: 'disconnect', reason: 'bad_packet', detail }];
  }

  /** An `add` whose sender forgot who the pod is. */
  onAddWithoutInfo(): readonly ZdsEffect<N>[] {
    return protocolError('add_without_info', 'workload add without workload info');
  }

  /** The outcome of the `start` in flight; `error` undefined means all listeners are open. */
  onStarted(uid: string, error: string | undefined): readonly ZdsEffect<N>[] {
    const starting = this.#starting;
    if (starting?.uid !== uid) throw new Error(`no start of ${uid} is in flight`);
    this.#starting = undefined;
    const { info, netns, isForRequest } = starting;
    this.#pods.set(
      uid,
      error === undefined ? { kind: 'running', info, netns } : { kind: 'pending', info, netns, error },
    );
    if (!isForRequest) return this.#nextRetry();
    return [{ kind: 'ack', error: error === undefined ? undefined : `failure to start proxy : ${error}` }];
  }

  /** Tries pending pods again, one after another. Does nothing while a start is in flight. */
  onRetryTimer(): readonly ZdsEffect<N>[] {
    if (this.#starting !== undefined) return [];
    this.#retries = [...this.#pods].filter(([, pod]) => pod.kind === 'pending').map(([uid]) => uid);
    return this.#nextRetry();
  }

  #add(uid: string, info: WorkloadInfo, netns: N): readonly ZdsEffect<N>[] {
    if (this.#session.kind === 'snapshot') this.#session.names.add(uid);
    const known = this.#pods.get(uid);
    if (known?.kind === 'running' && known.netns.key === netns.key && sameNames(known.info, info)) {
      const effects: readonly ZdsEffect<N>[] = [
        { kind: 'release', netns },
        { kind: 'ack', error: undefined },
      ];
      if (known.info.l7 === info.l7) return effects;
      this.#pods.set(uid, { ...known, info });
      return [{ kind: 'describe', uid, info }, ...effects];
    }
    // A recreated sandbox or another identity: the old proxy must be gone before the new one opens.
    return [...this.#drop(uid), ...this.#start({ uid, info, netns, isForRequest: true })];
  }

  #keep(uid: string): readonly ZdsEffect<N>[] {
    if (this.#session.kind !== 'snapshot') {
      return protocolError('keep_after_snapshot', 'keep is only allowed before the snapshot is complete');
    }
    this.#session.names.add(uid);
    const ack: ZdsEffect<N> = { kind: 'ack', error: undefined };
    return this.#pods.has(uid) ? [ack] : [{ kind: 'unknownKeep', uid }, ack];
  }

  #delete(uid: string): readonly ZdsEffect<N>[] {
    const ack: ZdsEffect<N> = { kind: 'ack', error: undefined };
    if (this.#session.kind !== 'snapshot') return [...this.#drop(uid), ack];
    this.#session.names.delete(uid);
    // A running pod goes with the snapshot, which decides what stays.
    return this.#pods.get(uid)?.kind === 'pending' ? [...this.#drop(uid), ack] : [ack];
  }

  #snapshotSent(): readonly ZdsEffect<N>[] {
    const session = this.#session;
    if (session.kind !== 'snapshot') return protocolError('second_snapshot', 'the snapshot was already complete');
    const gone = [...this.#pods.keys()].filter(uid => !session.names.has(uid));
    this.#session = { kind: 'synced' };
    return [...gone.flatMap(uid => this.#drop(uid)), { kind: 'ack', error: undefined }];
  }

  #drop(uid: string): readonly ZdsEffect<N>[] {
    const pod = this.#pods.get(uid);
    if (pod === undefined) return [];
    this.#pods.delete(uid);
    return pod.kind === 'running' ? [{ kind: 'stop', uid }] : [{ kind: 'release', netns: pod.netns }];
  }

  #start(starting: Starting<N>): readonly ZdsEffect<N>[] {
    this.#starting = starting;
    return [{ kind: 'start', uid: starting.uid, info: starting.info, netns: starting.netns }];
  }

  #nextRetry(): readonly ZdsEffect<N>[] {
    for (let uid = this.#retries.shift(); uid !== undefined; uid = this.#retries.shift()) {
      const pod = this.#pods.get(uid);
      if (pod?.kind === 'pending') return this.#start({ uid, info: pod.info, netns: pod.netns, isForRequest: false });
    }
    return [];
  }

  #assertIdle(): void {
    if (this.#starting !== undefined) throw new Error('a request was fed while a pod is being started');
  }
}

function protocolError<N extends NetnsHandle>(reason: DisconnectReason, detail: string): readonly ZdsEffect<N>[] {
  const ack: ZdsEffect<N> = { kind: 'ack', error: `failure to process message : ${detail}` };
  return [ack, { kind: 'disconnect', reason, detail }];
}

function sameNames(a: WorkloadInfo, b: WorkloadInfo): boolean {
  return a.name === b.name && a.namespace === b.namespace && a.serviceAccount === b.serviceAccount;
}
