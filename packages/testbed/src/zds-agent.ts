// The node agent's half of enrolment: listens where ztunnel connects, tells every new connection about all pods of the
// node and then about each change. A pod is added through the connection that came last, as a proxy that takes over
// connects while its predecessor still drains; removals go to all. When the last goes, the one before is the last again.
import { closeSync, openSync, rmSync } from 'node:fs';
import { Fd, type Reactor, type Registration, SeqPacket, type SeqPacketListener } from '@ambit/native';
import type { WorkloadInfo } from '@ambit/wire';
import { TestbedError } from './errors.ts';
import { ZdsSession } from './zds-session.ts';

export interface AgentOptions {
  /** How long a proxy may take for its hello and for each answer. Default 10 000. */
  readonly answerTimeoutMs?: number;
}

const DEFAULT_ANSWER_TIMEOUT_MS = 10_000;
const DEFAULT_ENROL_TIMEOUT_MS = 15_000;
const BACKLOG = 8;
/** One proxy, one that takes over, and room for accidents; others are hung up on. */
const MAX_CONNECTIONS = 8;

interface Enrolment {
  readonly uid: string;
  readonly info: WorkloadInfo;
  readonly netns: Fd;
  /** Answer of the connection that counts; replaced when another connection counts. */
  attempt: Attempt;
}

interface Attempt {
  isSettled: boolean;
  readonly answer: PromiseWithResolvers<void>;
}

interface Connection {
  readonly session: ZdsSession;
  /** Pods this proxy has been told of. */
  readonly told: Set<string>;
  readonly snapshot: PromiseWithResolvers<void>;
}

export class ZdsAgent {
  readonly path: string;
  readonly #reactor: Reactor;
  readonly #listener: SeqPacketListener;
  readonly #registration: Registration;
  readonly #answerTimeoutMs: number;
  readonly #pods = new Map<string, Enrolment>();
  /** Oldest first. */
  #connections: Connection[] = [];
  /** Resolves with the next connection that says hello, and is replaced then. */
  #arrival = Promise.withResolvers<Connection>();
  #isClosed = false;

  /** Listens at `path`, replacing a socket left there. Must be called on the thread that polls the reactor. @throws SysError */
  constructor(reactor: Reactor, path: string, options: AgentOptions = {}) {
    this.path = path;
    this.#reactor = reactor;
    this.#answerTimeoutMs = options.answerTimeoutMs ?? DEFAULT_ANSWER_TIMEOUT_MS;
    rmSync(path, { force: true });
    this.#listener = SeqPacket.listen(path, BACKLOG);
    this.#registration = reactor.add(this.#listener.fd, { onEvents: () => this.#acceptAll() });
    quiet(this.#arrival.promise);
  }

  /** Proxies that are connected and have said hello. */
  get connections(): number {
    return this.#connections.filter(({ session }) => session.isLive).length;
  }

  /**
   * Announces a pod, to the proxy there is or to the next that connects; `enrolled` tells the outcome. The namespace is
   * opened here and kept open until `remove`. @throws testbed.name_taken, testbed.closed, ENOENT
   */
  add(uid: string, info: WorkloadInfo, netnsPath: string): void {
    this.#checkOpen();
    if (this.#pods.has(uid)) throw new TestbedError('testbed.name_taken', `pod ${uid} is announced already`);
    const pod: Enrolment = { uid, info, netns: openNamespace(netnsPath), attempt: newAttempt() };
    this.#pods.set(uid, pod);
    const last = this.#last();
    if (last !== undefined) this.#sendAdd(last, pod);
  }

  /**
   * Waits for the proxy's answer to the pod's latest announcement.
   * @throws enrol.refused with the proxy's words, testbed.timeout, testbed.unknown, testbed.closed
   */
  async enrolled(uid: string, timeoutMs = DEFAULT_ENROL_TIMEOUT_MS): Promise<void> {
    const pod = this.#pods.get(uid);
    if (pod === undefined) throw new TestbedError('testbed.unknown', `pod ${uid} is not announced`);
    const podName = `${pod.info.namespace}/${pod.info.name}`;
    const why =
      this.connections === 0 ? `no proxy is connected to ${this.path}` : 'the proxy has not answered; read its log';
    await within(pod.attempt.answer.promise, timeoutMs, `enrolment of ${podName}`, why);
  }

  /** Waits until the proxy that connected last has acknowledged the end of its snapshot. @throws testbed.timeout */
  async synced(timeoutMs = DEFAULT_ENROL_TIMEOUT_MS): Promise<void> {
    this.#checkOpen();
    const snapshot = async () => (this.#last() ?? (await this.#arrival.promise)).snapshot.promise;
    await within(
      snapshot(),
      timeoutMs,
      'a proxy that takes the snapshot',
      `is it running with INPOD_UDS=${this.path}?`,
    );
  }

  /** Withdraws a pod; resolves when every proxy that knew it has answered or is gone. Unknown pods are fine. */
  async remove(uid: string): Promise<void> {
    const pod = this.#pods.get(uid);
    if (pod === undefined) return;
    this.#pods.delete(uid);
    this.#settle(pod, new TestbedError('testbed.closed', `pod ${uid} was removed`));
    const told = this.#connections.filter(connection => connection.told.delete(uid));
    await Promise.all(told.map(async ({ session }) => sendDel(session, uid)));
    // Only now: an add that was still queued needed the descriptor.
    pod.netns.close();
  }

  /** Hangs up on everybody and forgets all pods. Proxies keep serving what they serve. Closing twice is fine. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#reactor.remove(this.#registration);
    this.#listener.close();
    rmSync(this.path, { force: true });
    for (const { session } of this.#connections) session.close();
    const gone = new TestbedError('testbed.closed', 'the node agent was closed');
    this.#arrival.reject(gone);
    for (const pod of this.#pods.values()) {
      this.#settle(pod, gone);
      pod.netns.close();
    }
    this.#pods.clear();
  }

  #acceptAll(): void {
    for (let socket = this.#listener.accept(); socket !== undefined; socket = this.#listener.accept()) {
      if (this.#connections.length >= MAX_CONNECTIONS) {
        socket.close();
        continue;
      }
      const events = { onHello: () => this.#onHello(connection), onEnd: () => this.#onEnd(connection) };
      const session = new ZdsSession(socket, this.#reactor, events, this.#answerTimeoutMs);
      const connection: Connection = { session, told: new Set(), snapshot: Promise.withResolvers() };
      quiet(connection.snapshot.promise);
      this.#connections.push(connection);
    }
  }

  #onHello(connection: Connection): void {
    // Order of hellos, not of accepts, decides who is last.
    this.#connections = [...this.#connections.filter(other => other !== connection), connection];
    for (const pod of this.#pods.values()) this.#sendAdd(connection, pod);
    connection.session.send({
      request: { kind: 'snapshotSent' },
      netns: undefined,
      done: outcome => {
        if (outcome.kind === 'ok') connection.snapshot.resolve();
        else connection.snapshot.reject(outcome.kind === 'lost' ? outcome.error : refused('snapshot', outcome.error));
      },
    });
    this.#arrival.resolve(connection);
    this.#arrival = Promise.withResolvers();
    quiet(this.#arrival.promise);
  }

  #onEnd(connection: Connection): void {
    this.#connections = this.#connections.filter(other => other !== connection);
    const last = this.#last();
    if (last === undefined) return;
    // Pods that only the lost proxy was told of go to the one that counts now.
    for (const pod of this.#pods.values()) if (!last.told.has(pod.uid)) this.#sendAdd(last, pod);
  }

  /** The live connection that said hello last. */
  #last(): Connection | undefined {
    return this.#connections.findLast(({ session }) => session.isLive);
  }

  #sendAdd(connection: Connection, pod: Enrolment): void {
    if (pod.attempt.isSettled) pod.attempt = newAttempt();
    connection.told.add(pod.uid);
    connection.session.send({
      request: { kind: 'add', uid: pod.uid, info: pod.info },
      netns: pod.netns,
      done: outcome => {
        // Lost: the pod stays announced, and its attempt open, for the next connection. Of two, the last one counts.
        if (outcome.kind === 'lost' || this.#pods.get(pod.uid) !== pod || this.#last() !== connection) return;
        this.#settle(
          pod,
          outcome.kind === 'ok' ? undefined : refused(`${pod.info.namespace}/${pod.info.name}`, outcome.error),
        );
      },
    });
  }

  #settle(pod: Enrolment, error: TestbedError | undefined): void {
    pod.attempt.isSettled = true;
    if (error === undefined) pod.attempt.answer.resolve();
    else pod.attempt.answer.reject(error);
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new TestbedError('testbed.closed', 'the node agent was closed');
  }
}

async function sendDel(session: ZdsSession, uid: string): Promise<void> {
  // A proxy that is lost or refuses has no such pod any more, or ends it with its next snapshot.
  await new Promise<void>(resolve => {
    session.send({ request: { kind: 'del', uid }, netns: undefined, done: () => resolve() });
  });
}

function openNamespace(path: string): Fd {
  const number = openSync(path, 'r');
  try {
    return new Fd(number);
  } catch (error) {
    closeSync(number);
    throw error;
  }
}

function newAttempt(): Attempt {
  const answer = Promise.withResolvers<void>();
  quiet(answer.promise);
  return { isSettled: false, answer };
}

/** Nobody may be waiting when it fails, and that is fine. */
function quiet(promise: Promise<unknown>): void {
  promise.catch(() => {});
}

function refused(what: string, error: string): TestbedError {
  return new TestbedError('enrol.refused', `ztunnel refused ${what}: ${error}`, {
    next: 'it tries again every 5 s; its log says more',
  });
}

async function within(promise: Promise<void>, timeoutMs: number, what: string, next: string): Promise<void> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    reject(new TestbedError('testbed.timeout', `timed out after ${timeoutMs} ms waiting for ${what}`, { next }));
  }, timeoutMs);
  try {
    await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
