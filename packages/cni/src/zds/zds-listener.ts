// The socket on which ztunnels find the node agent: its directory is made, a file left by a dead agent is replaced, and
// whoever connects is let in by what the kernel says of him, a few a second. Knows nothing of what is spoken there.
import { chmodSync, lstatSync, mkdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import {
  monotonicMs,
  peerCredentials,
  type Reactor,
  type Registration,
  SeqPacket,
  type SeqPacketListener,
} from '@ambit/native';
import { errorText, type Log } from '@ambit/log';
import { CniError } from '../errors.ts';

export interface ZdsListenerOptions {
  /** Users that may be a ztunnel, besides root and our own. */
  readonly allowedUids?: readonly number[];
  /** Connections let in a second, after as many at once. Default 5, as upstream. */
  readonly acceptsPerSecond?: number;
  readonly log: Log;
}

const DEFAULT_ACCEPTS_PER_SECOND = 5;
const BACKLOG = 8;

export class ZdsListener {
  readonly #path: string;
  readonly #reactor: Reactor;
  readonly #listener: SeqPacketListener;
  readonly #registration: Registration;
  readonly #onSocket: (socket: SeqPacket) => void;
  readonly #uids: ReadonlySet<number>;
  readonly #rate: number;
  readonly #log: Log;
  readonly #inode: bigint;
  #allowance: number;
  #refilledAt = monotonicMs();
  #timer: NodeJS.Timeout | undefined;

  /** Listens. Must be called on the thread that polls the reactor. @throws CniError cni.config */
  constructor(reactor: Reactor, path: string, onSocket: (socket: SeqPacket) => void, options: ZdsListenerOptions) {
    this.#path = path;
    this.#reactor = reactor;
    this.#onSocket = onSocket;
    this.#uids = new Set([0, process.getuid?.() ?? 0, ...(options.allowedUids ?? [])]);
    this.#rate = options.acceptsPerSecond ?? DEFAULT_ACCEPTS_PER_SECOND;
    this.#allowance = this.#rate;
    this.#log = options.log;
    this.#listener = listenAt(path);
    this.#inode = lstatSync(path, { bigint: true }).ino;
    this.#registration = reactor.add(this.#listener.fd, { onEvents: () => this.#acceptAll() });
  }

  /** Closing twice is fine. The file goes only if it is still ours: another agent may have taken over. */
  close(): void {
    clearTimeout(this.#timer);
    if (!this.#listener.fd.isOpen) return;
    this.#reactor.remove(this.#registration);
    this.#listener.close();
    const there = lstatSync(this.#path, { bigint: true, throwIfNoEntry: false });
    if (there?.ino === this.#inode) rmSync(this.#path, { force: true });
  }

  /** Edge-triggered: takes all there are, unless they are too many, and then comes back. */
  #acceptAll(): void {
    clearTimeout(this.#timer);
    this.#refill();
    while (this.#allowance >= 1) {
      const socket = this.#listener.accept();
      if (socket === undefined) return;
      this.#allowance -= 1;
      if (this.#isWelcome(socket)) this.#onSocket(socket);
      else socket.close();
    }
    this.#timer = setTimeout(() => this.#acceptAll(), 1000 / this.#rate);
    this.#timer.unref();
  }

  #refill(): void {
    const now = monotonicMs();
    this.#allowance = Math.min(this.#rate, this.#allowance + ((now - this.#refilledAt) / 1000) * this.#rate);
    this.#refilledAt = now;
  }

  #isWelcome(socket: SeqPacket): boolean {
    try {
      const { uid, pid } = peerCredentials(socket.fd);
      if (this.#uids.has(uid)) return true;
      this.#log.warn('Refused a connection to the ztunnel socket', { uid, pid });
    } catch (error) {
      this.#log.warn('Refused a connection to the ztunnel socket', { error: errorText(error) });
    }
    return false;
  }
}

function listenAt(path: string): SeqPacketListener {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o750 });
    if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) rmSync(path);
    const listener = SeqPacket.listen(path, BACKLOG);
    // Between bind and chmod the directory keeps others out, and the check of credentials does at any time.
    chmodSync(path, 0o600);
    return listener;
  } catch (cause) {
    throw new CniError('cni.config', `cannot listen for ztunnel at ${path}: ${errorText(cause)}`, {
      next: 'the path must be in a directory this agent may write; --zds-socket names another',
      cause,
    });
  }
}
