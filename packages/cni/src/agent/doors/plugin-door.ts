// Where CNI plugins find the agent: `cni.sock` for our executable (frames of plugin/frame.ts), `pluginevent.sock` and `log.sock`
// for Istio's plugin (HTTP). Runtimes run plugins as root, so the sockets are root's alone, other than upstream's (0666):
// whoever may say "enrol this namespace" decides who is who. A plugin that gives up ends what was being done for it.
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Reactor } from '@ambit/native';
import { errorText, type Log } from '@ambit/log';
import { CniError } from '../../errors.ts';
import { errorAnswer } from '../../plugin/cni-answer.ts';
import { type HandledCni, handleCni } from '../../plugin/cni-requests.ts';
import { CMD_ADD_PATH, type CmdAdd, decodeCmdAdd, MAX_CMD_ADD_BYTES } from '../../plugin/cmd-add.ts';
import { decodeFrame, encodeAnswer, MAX_FRAME_BYTES } from '../../plugin/frame.ts';
import { decodeLogBatch, LOG_PATH, MAX_LOG_BYTES } from '../../plugin/log-batch.ts';
import type { CniHooks } from '../hooks.ts';
import { watchHangUp } from './hang-up.ts';
import { type DoorAnswer, type DoorRequest, HttpDoor, listenAt, plain } from './http-door.ts';

export interface PluginDoorOptions {
  readonly runDirectory: string;
  /** Polled by the caller. */
  readonly reactor: Reactor;
  readonly hooks: CniHooks;
  readonly log: Log;
  /** Called once an answer: 200, 400 or 500 as in Istio's counter. */
  readonly onAnswered: (status: number) => void;
}

const MODE = 0o600;
/** A node starts a handful of pods at a time; more wait in the listener's queue. */
const MAX_CONNECTIONS = 256;
/** Less than the plugin's own patience (90 s), so that it gets our reason. */
const FRAME_TIMEOUT_MS = 60_000;
/** Istio's plugin waits 5 s. */
const CMD_ADD_TIMEOUT_MS = 4_800;
const LOG_TIMEOUT_MS = 1_000;

export class PluginDoor {
  readonly #options: PluginDoorOptions;
  readonly #frames: Server;
  readonly #sockets = new Set<Socket>();
  readonly #closers: (() => Promise<void>)[] = [];

  private constructor(options: PluginDoorOptions) {
    this.#options = options;
    // Half open: the plugin shuts its half when its request is over.
    this.#frames = createServer({ allowHalfOpen: true }, socket => void this.#onFrame(socket));
    this.#frames.maxConnections = MAX_CONNECTIONS;
  }

  /** @throws CniError cni.config */
  static async open(options: PluginDoorOptions): Promise<PluginDoor> {
    const door = new PluginDoor(options);
    const { runDirectory, log } = options;
    const at = (name: string) => ({ path: join(runDirectory, name), mode: MODE });
    try {
      await listenAt(door.#frames, at('cni.sock'));
      const common = { log, maxConnections: MAX_CONNECTIONS };
      const events = await HttpDoor.open({
        ...common,
        where: at('pluginevent.sock'),
        maxBodyBytes: MAX_CMD_ADD_BYTES,
        timeoutMs: CMD_ADD_TIMEOUT_MS,
        answer: async request => door.#onEvent(request),
      });
      door.#closers.push(async () => events.close());
      const logs = await HttpDoor.open({
        ...common,
        where: at('log.sock'),
        maxBodyBytes: MAX_LOG_BYTES,
        timeoutMs: LOG_TIMEOUT_MS,
        answer: request => door.#onLog(request),
      });
      door.#closers.push(async () => logs.close());
    } catch (error) {
      await door.close();
      throw error;
    }
    return door;
  }

  async close(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#frames.close(() => resolve());
    if (!this.#frames.listening) resolve();
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all([promise, ...this.#closers.map(async close => close())]);
  }

  /** One request a connection. */
  async #onFrame(socket: Socket): Promise<void> {
    this.#sockets.add(socket);
    const gone = new AbortController();
    socket.once('close', () => {
      this.#sockets.delete(socket);
      gone.abort();
    });
    // What was sent of it, or not: the plugin fails by itself when it gets no answer.
    socket.on('error', () => socket.destroy());
    socket.setTimeout(FRAME_TIMEOUT_MS, () => socket.destroy());
    try {
      const frame = await readAll(socket, MAX_FRAME_BYTES);
      if (frame === undefined) {
        socket.destroy();
        return;
      }
      const stop = watchHangUp(this.#options.reactor, socket, () => socket.destroy());
      const signal = AbortSignal.any([gone.signal, AbortSignal.timeout(FRAME_TIMEOUT_MS)]);
      const answer = await this.#handle(frame, signal).finally(stop);
      socket.end(encodeAnswer(answer));
      this.#note(answer);
    } catch (error) {
      this.#options.log.warn('Lost a request of the plugin', { error: errorText(error) });
      socket.destroy();
    }
  }

  async #handle(frame: Uint8Array, signal: AbortSignal): Promise<HandledCni> {
    try {
      return await handleCni(decodeFrame(frame), this.#options.hooks, signal);
    } catch (error) {
      return { ...errorAnswer(error), command: '', outcome: 'failed', why: errorText(error) };
    }
  }

  #note({ status, command, pod, outcome, why }: HandledCni): void {
    this.#options.onAnswered(status === 0 ? 200 : 500);
    const level = outcome === 'failed' ? 'warn' : outcome === 'enrolled' ? 'info' : 'debug';
    this.#options.log[level]('Plugin request', { command, pod, outcome, why });
  }

  /** Istio's plugin has decided already that the pod is a member; we look all the same. */
  async #onEvent({ method, path, body, signal }: DoorRequest): Promise<DoorAnswer> {
    if (method !== 'POST' || path !== CMD_ADD_PATH) return plain(404, 'POST /cmdadd\n');
    let event: CmdAdd;
    try {
      event = decodeCmdAdd(body);
    } catch (error) {
      this.#options.onAnswered(400);
      return plain(400, errorText(error));
    }
    try {
      await this.#add(event, signal);
      this.#options.onAnswered(200);
      return plain(200, '');
    } catch (error) {
      this.#options.onAnswered(500);
      const pod = `${event.podNamespace}/${event.podName}`;
      this.#options.log.warn('Plugin request', { command: 'cmdadd', pod, outcome: 'failed', why: errorText(error) });
      return plain(500, errorText(error));
    }
  }

  async #add({ podNamespace, podName, ips, netnsPath }: CmdAdd, signal: AbortSignal): Promise<void> {
    const { hooks, log } = this.#options;
    const member = await hooks.lookup(podNamespace, podName, signal);
    const name = `${podNamespace}/${podName}`;
    if (member.kind === 'unknown') throw new CniError('enrol.unknown_pod', `pod ${name}: ${member.why}`);
    if (member.kind === 'outsider') throw new CniError('enrol.not_member', `pod ${name} is no member: ${member.why}`);
    await hooks.enrol(member.pod, ips, netnsPath, signal);
    log.info('Plugin request', { command: 'cmdadd', pod: name, outcome: 'enrolled' });
  }

  #onLog({ method, path, body }: DoorRequest): DoorAnswer {
    if (method !== 'POST' || path !== LOG_PATH) return plain(404, 'POST /log\n');
    try {
      const log = this.#options.log.scope('cni-plugin');
      for (const { level, message, fields } of decodeLogBatch(body)) log[level](message, fields);
      return plain(200, '');
    } catch (error) {
      return plain(400, errorText(error));
    }
  }
}

/** All that the peer sends until it shuts its half; undefined: too much. */
async function readAll(socket: Socket, maxBytes: number): Promise<Uint8Array | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array | undefined>();
  const chunks: Buffer[] = [];
  let length = 0;
  socket.on('data', (chunk: Buffer) => {
    length += chunk.length;
    if (length > maxBytes) resolve(undefined);
    else chunks.push(chunk);
  });
  socket.once('end', () => resolve(Buffer.concat(chunks)));
  socket.once('close', () => reject(new Error('the plugin hung up in the middle of its request')));
  return promise;
}
