// The node agent's half of enrolment: tells every new ztunnel about all pods of the node and then about each change. A pod
// is added through the connection that came last, as a proxy that takes over connects while its predecessor still drains;
// removals go to all. When the last goes, the one before is the last again. A pod whose namespace is not known yet is
// kept: a ztunnel that serves it goes on. What one ztunnel does wrong ends its own connection and nothing else.
import { type Reactor, type SeqPacket } from '@ambit/native';
import type { WorkloadInfo } from '@ambit/wire';
import { type Log, SILENT_LOG } from '@ambit/log';
import { CniError } from '../errors.ts';
import type { HeldNetns } from '../netns/held-netns.ts';
import { ZdsListener } from './zds-listener.ts';
import { ZdsSession } from './zds-session.ts';

export interface ZdsServerOptions {
  /** How long a ztunnel may take for its hello and for each answer. Default 10 000. */
  readonly answerTimeoutMs?: number;
  /** Users that may be a ztunnel, besides root and our own. */
  readonly allowedUids?: readonly number[];
  /** Default 5, as upstream. */
  readonly acceptsPerSecond?: number;
  readonly events?: Partial<ZdsEvents>;
  readonly log?: Log;
}

export interface ZdsEvents {
  /** The ztunnel that counts answered for a pod; undefined: it serves it. */
  readonly onAnswer: (uid: string, error: CniError | undefined) => void;
  /** A ztunnel came, took its snapshot, or went. */
  readonly onConnections: () => void;
}

const DEFAULT_ANSWER_TIMEOUT_MS = 10_000;
/** One proxy, one that takes over, and room for accidents; others are hung up on. */
const MAX_CONNECTIONS = 8;

/** A pod as ztunnels are told of it. */
interface Announced {
  readonly uid: string;
  readonly info: WorkloadInfo;
  readonly held: HeldNetns;
  /** Answer of the connection that counts; replaced when another connection counts. */
  attempt: Attempt;
}

interface Attempt {
  state: 'open' | 'served' | 'failed';
  readonly answer: PromiseWithResolvers<void>;
}

interface Connection {
  readonly session: ZdsSession;
  /** Pods this proxy has been told of, by what it was told; undefined: kept. */
  readonly told: Map<string, string | undefined>;
  readonly snapshot: PromiseWithResolvers<void>;
  isSynced: boolean;
}

export class ZdsServer {
  readonly path: string;
  readonly #reactor: Reactor;
  readonly #options: ZdsServerOptions;
  readonly #log: Log;
  #listener: ZdsListener | undefined;
  readonly #answerTimeoutMs: number;
  readonly #pods = new Map<string, Announced>();
  /** Pods that exist and whose namespace is not known. */
  readonly #kept = new Set<string>();
  /** Oldest first. */
  #connections: Connection[] = [];
  /** Resolves with the next connection that says hello, and is replaced then. */
  #arrival = Promise.withResolvers<Connection>();
  #isClosed = false;

  /** Listens once `listen` is called: what is announced before is part of the first snapshot. */
  constructor(reactor: Reactor, path: string, options: ZdsServerOptions = {}) {
    this.path = path;
    this.#reactor = reactor;
    this.#options = options;
    this.#log = options.log ?? SILENT_LOG;
    this.#answerTimeoutMs = options.answerTimeoutMs ?? DEFAULT_ANSWER_TIMEOUT_MS;
    quiet(this.#arrival.promise);
  }

  /** Must be called on the thread that polls the reactor. @throws CniError cni.config */
  listen(): this {
    this.#checkOpen();
    const { allowedUids, acceptsPerSecond } = this.#options;
    this.#listener ??= new ZdsListener(this.#reactor, this.path, socket => this.#onSocket(socket), {
      log: this.#log,
      ...(allowedUids === undefined ? {} : { allowedUids }),
      ...(acceptsPerSecond === undefined ? {} : { acceptsPerSecond }),
    });
    return this;
  }

  /** Proxies that are connected and have said hello. */
  get connections(): number {
    return this.#connections.filter(({ session }) => session.isLive).length;
  }

  /** Proxies that hold a whole snapshot. */
  get synced(): number {
    return this.#connections.filter(({ session, isSynced }) => session.isLive && isSynced).length;
  }

  /** Whether the proxy that serves new pods gives them a canary: ours do, Istio's do not. */
  get hasCanary(): boolean {
    return this.#last()?.session.hasCanary ?? false;
  }

  /**
   * Announces a pod, to the proxy there is or to the next that connects; `enrolled` tells the outcome. The namespace stays
   * the caller's, who keeps it open until `remove` has resolved. Announcing what is served already does nothing; another
   * namespace, another description, or an answer that was no, is said anew: of a pod that it serves Istio's ztunnel ignores
   * what is said, ours takes over `l7`.
   */
  add(uid: string, info: WorkloadInfo, held: HeldNetns): void {
    this.#checkOpen();
    const before = this.#pods.get(uid);
    if (before?.held.key === held.key && sameInfo(before.info, info) && before.attempt.state !== 'failed') return;
    const attempt = before?.attempt.state === 'open' ? before.attempt : newAttempt();
    const pod: Announced = { uid, info, held, attempt };
    this.#pods.set(uid, pod);
    this.#kept.delete(uid);
    const last = this.#last();
    if (last !== undefined) this.#sendAdd(last, pod);
  }

  /** The pod exists: whoever serves it should go on, though its namespace is not known. Ends with `add` or `remove`. */
  keep(uid: string): void {
    this.#checkOpen();
    // Later than the snapshot it would be an error, and is not needed: nothing ends what runs.
    if (!this.#pods.has(uid)) this.#kept.add(uid);
  }

  /**
   * Waits for the proxy's answer to the pod's latest announcement, and for a proxy if there is none.
   * @throws enrol.refused with the proxy's words, enrol.no_ztunnel, enrol.timeout, enrol.unknown_pod, enrol.disconnected (closed)
   */
  async enrolled(uid: string, signal: AbortSignal): Promise<void> {
    const pod = this.#pods.get(uid);
    if (pod === undefined) throw new CniError('enrol.unknown_pod', `pod ${uid} is not announced`);
    const what = `${pod.info.namespace}/${pod.info.name}`;
    await until(pod.attempt.answer.promise, signal, () =>
      this.connections === 0
        ? new CniError('enrol.no_ztunnel', `no ztunnel is there to serve ${what}`, {
            where: this.path,
            next: 'is ztunnel running on this node, with INPOD_UDS set to that path? its log says more',
          })
        : new CniError('enrol.timeout', `ztunnel has not answered for ${what} in time`, { next: 'read its log' }),
    );
  }

  /** Waits until the proxy that connected last has acknowledged the end of its snapshot. @throws enrol.no_ztunnel, enrol.disconnected */
  async whenSynced(signal: AbortSignal): Promise<void> {
    this.#checkOpen();
    const snapshot = async () => (this.#last() ?? (await this.#arrival.promise)).snapshot.promise;
    await until(
      snapshot(),
      signal,
      () => new CniError('enrol.no_ztunnel', `no ztunnel has taken the snapshot at ${this.path}`),
    );
  }

  /** Withdraws a pod; resolves when every proxy that knew it has answered or is gone. Unknown pods are fine. */
  async remove(uid: string): Promise<void> {
    const pod = this.#pods.get(uid);
    const isKept = this.#kept.delete(uid);
    if (pod === undefined && !isKept) return;
    this.#pods.delete(uid);
    if (pod !== undefined) this.#settle(pod, new CniError('enrol.unknown_pod', `pod ${uid} was removed`));
    const told = this.#connections.filter(connection => connection.told.delete(uid));
    await Promise.all(told.map(async ({ session }) => sendDel(session, uid)));
  }

  /** Hangs up on everybody and forgets all pods. Proxies keep serving what they serve. Closing twice is fine. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#listener?.close();
    for (const { session } of this.#connections) session.close();
    const gone = new CniError('enrol.disconnected', 'the node agent is ending');
    this.#arrival.reject(gone);
    for (const pod of this.#pods.values()) this.#settle(pod, gone);
    this.#pods.clear();
  }

  #onSocket(socket: SeqPacket): void {
    if (this.#connections.length >= MAX_CONNECTIONS) {
      this.#log.warn('Hung up on a ztunnel: too many are connected', { limit: MAX_CONNECTIONS });
      socket.close();
      return;
    }
    const events = { onHello: () => this.#onHello(connection), onEnd: (why: CniError) => this.#onEnd(connection, why) };
    const session = new ZdsSession(socket, this.#reactor, events, this.#answerTimeoutMs);
    const snapshot = Promise.withResolvers<void>();
    quiet(snapshot.promise);
    const connection: Connection = { session, told: new Map(), snapshot, isSynced: false };
    this.#connections.push(connection);
  }

  #onHello(connection: Connection): void {
    // Order of hellos, not of accepts, decides who is last.
    this.#connections = [...this.#connections.filter(other => other !== connection), connection];
    this.#log.info('A ztunnel connected', { pods: this.#pods.size, connections: this.connections });
    for (const pod of this.#pods.values()) this.#sendAdd(connection, pod);
    for (const uid of this.#kept) this.#sendKeep(connection, uid);
    connection.session.send({
      request: { kind: 'snapshotSent' },
      netns: undefined,
      done: outcome => {
        if (outcome.kind === 'ok') {
          connection.isSynced = true;
          connection.snapshot.resolve();
          this.#options.events?.onConnections?.();
        } else {
          connection.snapshot.reject(outcome.kind === 'lost' ? outcome.error : refused('snapshot', outcome.error));
        }
      },
    });
    this.#arrival.resolve(connection);
    this.#arrival = Promise.withResolvers();
    quiet(this.#arrival.promise);
    this.#options.events?.onConnections?.();
  }

  #onEnd(connection: Connection, why: CniError): void {
    this.#connections = this.#connections.filter(other => other !== connection);
    if (this.#isClosed) return;
    this.#log.info('A ztunnel went', { reason: why.message, code: why.code, connections: this.connections });
    const last = this.#last();
    if (last !== undefined) {
      // What only the lost proxy was told goes to the one that counts now.
      for (const pod of this.#pods.values()) if (last.told.get(pod.uid) !== wordOf(pod)) this.#sendAdd(last, pod);
    }
    this.#options.events?.onConnections?.();
  }

  /** The live connection that said hello last. */
  #last(): Connection | undefined {
    return this.#connections.findLast(({ session }) => session.isLive);
  }

  #sendAdd(connection: Connection, pod: Announced): void {
    if (pod.attempt.state !== 'open') pod.attempt = newAttempt();
    connection.told.set(pod.uid, wordOf(pod));
    connection.session.send({
      request: { kind: 'add', uid: pod.uid, info: pod.info },
      netns: pod.held.fd,
      done: outcome => {
        // Lost: the pod stays announced, and its attempt open, for the next connection. Of two, the last one counts.
        if (outcome.kind === 'lost' || this.#pods.get(pod.uid) !== pod || this.#last() !== connection) return;
        const error =
          outcome.kind === 'ok' ? undefined : refused(`${pod.info.namespace}/${pod.info.name}`, outcome.error);
        this.#settle(pod, error);
        this.#options.events?.onAnswer?.(pod.uid, error);
      },
    });
  }

  #sendKeep(connection: Connection, uid: string): void {
    connection.told.set(uid, undefined);
    // What it answers changes nothing: either it serves the pod or the pod is added later.
    connection.session.send({ request: { kind: 'keep', uid }, netns: undefined, done: () => undefined });
  }

  #settle(pod: Announced, error: CniError | undefined): void {
    pod.attempt.state = error === undefined ? 'served' : 'failed';
    if (error === undefined) pod.attempt.answer.resolve();
    else pod.attempt.answer.reject(error);
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new CniError('enrol.disconnected', 'the node agent is ending');
  }
}

/** What an `add` may say anew of a pod. */
function wordOf({ held, info }: Announced): string {
  return `${held.key} ${info.l7 ?? ''}`;
}

async function sendDel(session: ZdsSession, uid: string): Promise<void> {
  // A proxy that is lost or refuses has no such pod any more, or ends it with its next snapshot.
  await new Promise<void>(resolve => {
    session.send({ request: { kind: 'del', uid }, netns: undefined, done: () => resolve() });
  });
}

function newAttempt(): Attempt {
  const answer = Promise.withResolvers<void>();
  quiet(answer.promise);
  return { state: 'open', answer };
}

/** Nobody may be waiting when it fails, and that is fine. */
function quiet(promise: Promise<unknown>): void {
  promise.catch(() => {});
}

function sameInfo(a: WorkloadInfo, b: WorkloadInfo): boolean {
  const isSame = a.name === b.name && a.namespace === b.namespace && a.serviceAccount === b.serviceAccount;
  return isSame && a.l7 === b.l7;
}

function refused(what: string, error: string): CniError {
  return new CniError('enrol.refused', `ztunnel refused ${what}: ${error}`, {
    next: 'it tries again every 5 s; its log says more',
  });
}

async function until(promise: Promise<void>, signal: AbortSignal, late: () => CniError): Promise<void> {
  const { promise: ended, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(late());
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([promise, ended]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
