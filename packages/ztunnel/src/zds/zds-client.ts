// Carries out ZDS: connects to the node agent for ever with back-off and jitter, feeds the state machine one thing at a
// time, opens and closes pods, acknowledges in order. Owns each pod's namespace descriptor until no worker needs it.
// A mistake of the agent costs the connection, never the running pods.
import { duplicateFd, type Fd, NetNs } from '@ambit/native';
import { decodeRequest, encodeAck, encodeHello, WireError, type WorkloadInfo } from '@ambit/wire';
import { type Cancel, backoffMs, type Clock } from '../clock.ts';
import { errorText } from '../errors.ts';
import { Bare, type Logger } from '../log.ts';
import { type DisconnectReason, type NetnsHandle, type ZdsEffect, ZdsMachine } from './zds-machine.ts';
import type { ZdsPacket, ZdsSocket } from './zds-socket.ts';

export interface ZdsClientDeps {
  /** @throws when nobody listens */
  readonly connect: () => ZdsSocket;
  /** Opens the pod's listeners; the text says why not. The descriptor stays ours. */
  readonly openPod: (uid: string, info: WorkloadInfo, netnsFd: number) => Promise<string | undefined>;
  /** What is said of a pod that is open changed, but not who it is. */
  readonly describePod: (uid: string, info: WorkloadInfo) => void;
  /** Cuts the pod off; resolves when its namespace is not needed any more. */
  readonly closePod: (uid: string) => Promise<void>;
  readonly onReady: (isReady: boolean) => void;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

export interface ZdsClientOptions {
  /** For messages. */
  readonly path: string;
  readonly retryPendingMs: number;
}

interface Netns extends NetnsHandle {
  readonly fd: Fd;
}

const CONNECT_FIRST_MS = 20;
const RECONNECT_FIRST_MS = 5;
const MAX_DELAY_MS = 15_000;
/** How long the answer to a `del` waits for connections to be reset. */
const STOP_PATIENCE_MS = 1000;

type EndReason = DisconnectReason | 'end_of_stream' | 'io';

export class ZdsClient {
  readonly #deps: ZdsClientDeps;
  readonly #options: ZdsClientOptions;
  readonly #machine = new ZdsMachine<Netns>();
  /** Namespaces of pods that run, by uid. */
  readonly #serving = new Map<string, Netns>();
  readonly #disconnects = new Map<EndReason, number>();
  #socket: ZdsSocket | undefined;
  /** Requests and retries wait for each other here. */
  #turn: Promise<void> = Promise.resolve();
  #isStopped = false;
  #wakeSleeper: () => void = () => undefined;

  constructor(deps: ZdsClientDeps, options: ZdsClientOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /** Pods that run, pods that wait for a retry. */
  /** By uid. */
  pods(): ReadonlyMap<string, { readonly kind: 'running' | 'pending'; readonly info: WorkloadInfo }> {
    return this.#machine.pods();
  }

  get counts(): { readonly running: number; readonly pending: number } {
    return { running: this.#machine.runningCount, pending: this.#machine.pendingCount };
  }

  /** Ended connections by reason, since the start. */
  get disconnects(): ReadonlyMap<EndReason, number> {
    return this.#disconnects;
  }

  /** Runs until `stop`. */
  async run(): Promise<void> {
    const cancelRetries = this.#scheduleRetries();
    let failures = 0;
    while (!this.#isStopped) {
      const socket = await this.#connect();
      if (socket === undefined) break;
      const wasReady = await this.#serve(socket);
      failures = wasReady ? 0 : failures + 1;
      // A healthy session that ended reconnects almost at once; an agent that always errs is left alone for longer.
      await this.#sleep(backoffMs(Math.max(1, failures), RECONNECT_FIRST_MS, MAX_DELAY_MS, this.#deps.random));
    }
    cancelRetries();
  }

  /** Closes the connection; pods stay as they are. */
  stop(): void {
    this.#isStopped = true;
    this.#socket?.close();
    this.#wakeSleeper();
  }

  async #connect(): Promise<ZdsSocket | undefined> {
    for (let attempt = 1; !this.#isStopped; attempt++) {
      try {
        return this.#deps.connect();
      } catch (error) {
        const delayMs = backoffMs(attempt, CONNECT_FIRST_MS, MAX_DELAY_MS, this.#deps.random);
        this.#deps.log.warn('Cannot connect to the CNI node agent, is it healthy?', [
          ['path', new Bare(this.#options.path)],
          ['error', errorText(error)],
          ['retry_in', `${Math.round(delayMs)}ms`],
        ]);
        await this.#sleep(delayMs);
      }
    }
    return undefined;
  }

  /** One connection to its end. Returns whether it ever was ready. */
  async #serve(socket: ZdsSocket): Promise<boolean> {
    this.#socket = socket;
    this.#machine.onConnected();
    this.#deps.log.info('Connected to the CNI node agent', [['path', new Bare(this.#options.path)]]);
    let wasReady = false;
    let reason: EndReason | undefined;
    try {
      socket.send(encodeHello({ canary: true }));
      while (reason === undefined) {
        const packet = await socket.receive();
        if (packet === undefined) reason = 'end_of_stream';
        else await this.#inTurn(async () => void (reason = await this.#handle(packet, socket)));
        wasReady ||= this.#machine.isReady;
      }
    } catch (error) {
      reason = 'io';
      this.#deps.log.warn('The connection to the CNI node agent failed', [['error', errorText(error)]]);
    }
    socket.close();
    this.#socket = undefined;
    await this.#inTurn(async () => this.#machine.onDisconnected());
    this.#disconnects.set(reason, (this.#disconnects.get(reason) ?? 0) + 1);
    if (!this.#isStopped) {
      this.#deps.onReady(false);
      this.#deps.log.info('Disconnected from the CNI node agent', [['reason', reason]]);
    }
    return wasReady;
  }

  async #handle(packet: ZdsPacket, socket: ZdsSocket): Promise<DisconnectReason | undefined> {
    const effects = this.#read(packet);
    const reason = await this.#carryOut(effects, socket);
    this.#deps.onReady(this.#machine.isReady);
    return reason;
  }

  /** Descriptors first: whatever the packet says, none may leak. */
  #read({ bytes, fds, truncated }: ZdsPacket): readonly ZdsEffect<Netns>[] {
    const [fd] = fds;
    const refuse = (detail: string): readonly ZdsEffect<Netns>[] => {
      for (const unwanted of fds) unwanted.close();
      return this.#machine.onBadPacket(detail);
    };
    if (truncated) return refuse('the packet or its descriptors are longer than allowed');
    if (fds.length > 1) return refuse(`Expected 1 FD, got ${fds.length}`);
    try {
      const request = decodeRequest(bytes);
      if (request.kind !== 'add') {
        return fd === undefined ? this.#machine.onRequest(request, undefined) : refuse('Unexpected control message');
      }
      return this.#machine.onRequest(request, fd === undefined ? undefined : toNetns(fd));
    } catch (error) {
      if (error instanceof WireError && error.code === 'wire.no_workload_info') {
        for (const unwanted of fds) unwanted.close();
        return this.#machine.onAddWithoutInfo();
      }
      return refuse(errorText(error));
    }
  }

  async #carryOut(
    effects: readonly ZdsEffect<Netns>[],
    socket: ZdsSocket | undefined,
  ): Promise<DisconnectReason | undefined> {
    let reason: DisconnectReason | undefined;
    for (const effect of effects) {
      switch (effect.kind) {
        case 'start':
          reason = (await this.#carryOut(await this.#start(effect), socket)) ?? reason;
          break;
        case 'describe':
          this.#deps.describePod(effect.uid, effect.info);
          break;
        case 'stop':
          await this.#stop(effect.uid);
          break;
        case 'release':
          effect.netns.fd.close();
          break;
        case 'ack':
          socket?.send(encodeAck(effect.error));
          break;
        case 'disconnect':
          this.#deps.log.error('The CNI node agent broke the protocol, reconnecting', [
            ['reason', effect.reason],
            ['error', effect.detail],
            ['err.code', 'zds.protocol'],
          ]);
          reason = effect.reason;
          break;
        case 'unknownKeep':
          this.#deps.log.warn('The agent keeps a pod that is not served here', [['uid', effect.uid]]);
          break;
      }
    }
    return reason;
  }

  async #start({
    uid,
    info,
    netns,
  }: Extract<ZdsEffect<Netns>, { kind: 'start' }>): Promise<readonly ZdsEffect<Netns>[]> {
    let error: string | undefined;
    try {
      error = await this.#deps.openPod(uid, info, netns.fd.number);
    } catch (thrown) {
      error = errorText(thrown);
    }
    const pod = `${info.namespace}/${info.name}`;
    if (error === undefined) {
      this.#serving.set(uid, netns);
      this.#deps.log.info('Pod enrolled', [['pod', pod]]);
    } else {
      this.#deps.log.warn('Pod cannot be enrolled, trying again', [
        ['pod', pod],
        ['error', error],
      ]);
    }
    return this.#machine.onStarted(uid, error);
  }

  /**
   * The pod's network may go as soon as the agent has its answer, and with it the resets that tell peers that their
   * connections are over. So the answer waits for the workers, but not for one that hangs; the namespace is released when
   * the last connection has ended.
   */
  async #stop(uid: string): Promise<void> {
    const netns = this.#serving.get(uid);
    this.#serving.delete(uid);
    const release = (): void => netns?.fd.close();
    const closed = this.#deps.closePod(uid).then(release, (error: unknown) => {
      release();
      this.#deps.log.error('Closing a pod failed', [
        ['uid', uid],
        ['error', errorText(error)],
      ]);
    });
    const patience = Promise.withResolvers<void>();
    const cancel = this.#deps.clock.after(STOP_PATIENCE_MS, patience.resolve);
    await Promise.race([closed, patience.promise]);
    cancel();
  }

  #scheduleRetries(): Cancel {
    let cancel: Cancel = () => undefined;
    const next = (): void => {
      cancel = this.#deps.clock.after(this.#options.retryPendingMs, () => {
        void this.#inTurn(async () => {
          if (this.#isStopped) return;
          await this.#carryOut(this.#machine.onRetryTimer(), undefined);
          this.#deps.onReady(this.#machine.isReady);
        });
        next();
      });
    };
    next();
    return () => cancel();
  }

  async #inTurn(run: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(run);
    this.#turn = turn.catch(() => undefined);
    await turn;
  }

  async #sleep(ms: number): Promise<void> {
    if (this.#isStopped) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wakeSleeper = resolve;
    const cancel = this.#deps.clock.after(ms, resolve);
    await promise;
    cancel();
  }
}

/** Also proves that the descriptor is a network namespace. @throws native.argument, with `fd` closed by the caller */
function toNetns(fd: Fd): Netns {
  using probe = NetNs.fromFd(duplicateFd(fd));
  const { dev, ino } = probe.identity;
  return { fd, key: `${dev}:${ino}` };
}
