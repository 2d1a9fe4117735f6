// Copies between two plain TCP connections of a pod: what passthrough traffic and plaintext inbound need. Same promises
// as TunnelStream: order, half-close in each direction alone, reset on either side resets the other, memory bounded
// by the budget (a direction is not read while its last bytes are not taken).
import {
  closeWithReset,
  Errno,
  EventMask,
  type EventHandler,
  type Fd,
  readTcpHealth,
  recv,
  type Registration,
  send,
  shutdownWrite,
  type TcpHealth,
} from '@ambit/native';
import { dialReason, errnoText, takeErrno } from './dial-failure.ts';
import { type Engine, type Pumpable, RECEIVE_BYTES } from './engine.ts';
import type { PlaintextTap } from './l7/plaintext-tap.ts';
import { PendingBytes } from './pending-bytes.ts';
import type { Timer } from './timers.ts';
import { failed, type StreamEnd } from './tunnel-stream.ts';

export interface SpliceOwner {
  /** The upstream connect finished: 0 or errno. On 0 copying has begun. */
  onUpstreamDialed(errno: number): void;
  /** Both connections are gone. */
  onSpliceClosed(end: StreamEnd): void;
}

/** A read that fills this much makes a direction bulk: it then runs after interactive work. */
const INTERACTIVE_BYTES = 32 * 1024;

class Side implements EventHandler, Pumpable {
  queued = false;
  isBulk = false;
  readonly fd: Fd;
  readonly splice: PlainSplice;
  registration: Registration | undefined;
  readable = false;
  writable: boolean;
  hungUp = false;
  ended = false;
  /** Bytes for this side that its socket has not taken. */
  pending: PendingBytes | undefined;
  /** Bytes this side's socket took. */
  written = 0;

  constructor(splice: PlainSplice, fd: Fd, writable: boolean) {
    this.splice = splice;
    this.fd = fd;
    this.writable = writable;
  }

  onEvents(mask: number): void {
    this.splice.onSideEvents(this, mask);
  }

  pump(): void {
    this.splice.pumpSide(this);
  }
}

export class PlainSplice {
  readonly #engine: Engine;
  readonly #owner: SpliceOwner;
  readonly #client: Side;
  readonly #upstream: Side;
  /** Ends a connect that takes too long. */
  #deadline: Timer | undefined;
  /** Reads what passes, if anybody wants it read; its TCP side is the client. Set it before the splice opens. */
  tap: PlaintextTap | undefined;
  /** Who ended first: the side that left, when something was still under way. */
  firstToEnd: 'client' | 'upstream' | undefined;
  readonly #health: TcpHealth = { rttUs: 0, totalRetransmits: 0 };
  #phase: 'dialing' | 'open' | 'closed' = 'dialing';

  /** Takes over both descriptors; `upstream` has a connect under way, which may take `connectTimeoutMs` at most. */
  constructor(engine: Engine, client: Fd, upstream: Fd, owner: SpliceOwner, connectTimeoutMs: number) {
    this.#engine = engine;
    this.#owner = owner;
    this.#client = new Side(this, client, true);
    this.#upstream = new Side(this, upstream, false);
    this.#client.registration = engine.reactor.add(client, this.#client);
    this.#upstream.registration = engine.reactor.add(upstream, this.#upstream);
    this.#deadline = engine.timers.at(engine.nowMs + connectTimeoutMs, () =>
      this.abort(failed('dial.timeout', `io error: ${errnoText(Errno.ETIMEDOUT)}`)),
    );
  }

  get bytesToUpstream(): number {
    return this.#upstream.written;
  }

  get bytesToClient(): number {
    return this.#client.written;
  }

  /** How the network treats the upstream connection; as it was at the end, once it is over. */
  get health(): Readonly<TcpHealth> {
    if (this.#phase === 'open') readTcpHealth(this.#upstream.fd, this.#health);
    return this.#health;
  }

  get isOpen(): boolean {
    return this.#phase === 'open';
  }

  get isClosed(): boolean {
    return this.#phase === 'closed';
  }

  /**
   * After a failed dial: closes the upstream side and gives the untouched client connection back; the splice is over and
   * its owner hears no more of it. Undefined when it was open already.
   */
  giveUpUpstream(): Fd | undefined {
    if (this.#phase !== 'dialing') return undefined;
    this.#phase = 'closed';
    this.#disarm();
    this.#upstream.fd.close();
    for (const side of [this.#client, this.#upstream]) {
      if (side.registration !== undefined) this.#engine.reactor.remove(side.registration);
      side.registration = undefined;
    }
    return this.#client.fd;
  }

  /** Bytes of our own before all that comes from upstream; a client that cannot take so few is given up. */
  greetClient(bytes: Uint8Array): void {
    const slab = this.#engine.receive;
    slab.bytes.set(bytes, 0);
    if (send(this.#client.fd, slab, 0, bytes.length) !== bytes.length) {
      this.abort(failed('peer.reset', 'the client does not take its reply'));
    }
  }

  /** Resets both connections. */
  abort(end: StreamEnd): void {
    this.#close('reset', end);
  }

  onSideEvents(side: Side, mask: number): void {
    if (this.#phase === 'closed') return;
    if (this.#phase === 'dialing' && side === this.#upstream) {
      if ((mask & (EventMask.OUT | EventMask.ERR | EventMask.HUP)) === 0) return;
      this.#disarm();
      const errno = takeErrno(side.fd);
      if (errno === 0) {
        this.#phase = 'open';
        side.writable = true;
        if (this.#client.readable) this.#engine.enqueue(this.#client);
      }
      this.#owner.onUpstreamDialed(errno);
      if (errno !== 0 || this.isClosed) return;
    }
    if ((mask & EventMask.ERR) !== 0) {
      this.#fail(side, takeErrno(side.fd));
      return;
    }
    if ((mask & (EventMask.RDHUP | EventMask.HUP)) !== 0) side.hungUp = true;
    if ((mask & (EventMask.IN | EventMask.RDHUP | EventMask.HUP)) !== 0) {
      side.readable = true;
      if (this.#phase === 'open') this.#engine.enqueue(side);
    }
    if ((mask & EventMask.OUT) !== 0) {
      side.writable = true;
      if (this.#phase === 'open') this.#drain(side);
    }
  }

  pumpSide(from: Side): void {
    if (this.#phase !== 'open' || !from.readable || from.ended) return;
    const to = this.#otherOf(from);
    if (to.pending !== undefined) return; // `#drain` resumes
    const slab = this.#engine.receive;
    const read = recv(from.fd, slab, 0, RECEIVE_BYTES);
    if (read < 0) {
      if (read === -Errno.EAGAIN) from.readable = false;
      else this.#fail(from, -read);
      return;
    }
    if (read === 0) {
      from.ended = true;
      this.#noteEnd(from);
      shutdownWrite(to.fd);
      this.#finishIfDone();
      return;
    }
    if (this.tap !== undefined) this.#show(this.tap, from, read);
    from.isBulk = read > INTERACTIVE_BYTES;
    const sent = to.writable ? send(to.fd, slab, 0, read) : -Errno.EAGAIN;
    if (sent < 0 && sent !== -Errno.EAGAIN) {
      this.#fail(to, -sent);
      return;
    }
    const taken = Math.max(0, sent);
    to.written += taken;
    if (taken < read) {
      to.writable = false;
      to.pending = new PendingBytes(this.#engine.budget);
      if (!to.pending.append(slab.bytes, taken, read)) {
        this.abort(failed('limit.memory', 'memory budget of the proxy is spent'));
        return;
      }
    }
    if (read < RECEIVE_BYTES && !from.hungUp) from.readable = false;
    else if (to.pending === undefined) this.#engine.enqueue(from);
  }

  #show(tap: PlaintextTap, from: Side, read: number): void {
    const { nowMs, receive } = this.#engine;
    if (from === this.#client) tap.fromTcp(receive.bytes, 0, read, nowMs);
    else tap.toTcp(receive.bytes, 0, read, nowMs);
    if (tap.isDone) this.tap = undefined;
  }

  #drain(to: Side): void {
    const from = this.#otherOf(to);
    const pending = to.pending;
    if (pending === undefined) return;
    while (pending.bytes > 0) {
      const written = pending.writeTo(to.fd, this.#engine.iov);
      if (written < 0) {
        if (written === -Errno.EAGAIN) to.writable = false;
        else this.#fail(to, -written);
        return;
      }
      to.written += written;
      if (written < pending.offered) {
        to.writable = false;
        return;
      }
    }
    to.pending = undefined;
    if (from.readable) this.#engine.enqueue(from);
  }

  #otherOf(side: Side): Side {
    return side === this.#client ? this.#upstream : this.#client;
  }

  #finishIfDone(): void {
    if (this.#client.ended && this.#upstream.ended) this.#close('close', { kind: 'finished' });
  }

  #noteEnd(side: Side): void {
    this.firstToEnd ??= side === this.#client ? 'client' : 'upstream';
  }

  #fail(side: Side, errno: number): void {
    this.#noteEnd(side);
    const reset = errno === 0 || errno === Errno.ECONNRESET || errno === Errno.EPIPE;
    this.abort(
      failed(
        reset ? 'peer.reset' : dialReason(errno),
        `io error: ${errnoText(errno === 0 ? Errno.ECONNRESET : errno)}`,
      ),
    );
  }

  #close(how: 'close' | 'reset', end: StreamEnd): void {
    if (this.#phase === 'closed') return;
    if (this.#phase === 'open') readTcpHealth(this.#upstream.fd, this.#health);
    this.#phase = 'closed';
    this.#disarm();
    for (const side of [this.#client, this.#upstream]) {
      if (how === 'reset') closeWithReset(side.fd);
      else side.fd.close();
      if (side.registration !== undefined) this.#engine.reactor.remove(side.registration);
      side.registration = undefined;
      side.pending?.release();
    }
    this.#owner.onSpliceClosed(end);
  }

  #disarm(): void {
    this.#engine.timers.cancel(this.#deadline);
    this.#deadline = undefined;
  }
}
