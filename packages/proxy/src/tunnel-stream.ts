// The copy engine between one HTTP/2 stream of a tunnel and one TCP connection of a pod or application. It must stay
// one file: readiness of the socket, both flow-control windows, half-close in both directions and reset in both
// directions are one state machine.
//
// Life:  requested --attach--> dialing --accept--> open --both ends closed--> closed
//             \----------------------response 200--/  \------abort/reset-----> closed
//
// Guarantees: bytes leave in the order they came; window is given back to the peer only for bytes the kernel of the
// TCP side took; FIN becomes END_STREAM and END_STREAM becomes FIN, each direction alone; a reset on either side resets
// the other; nothing is read from TCP that the peer's windows do not allow; `onClosed` is called exactly once.
import {
  closeWithReset,
  Errno,
  errnoName,
  EventMask,
  type EventHandler,
  Fd,
  readv,
  type Registration,
  shutdownWrite,
} from '@ambit/native';
import type { ReasonCode } from '@ambit/mesh';
import { takeErrno } from './dial-failure.ts';
import type { Delivery, DeliveryTarget } from './delivery.ts';
import { BULK_SEGMENTS, type Pumpable } from './engine.ts';
import type { FrozenStream } from './frozen.ts';
import { H2_ERROR } from './h2/index.ts';
import type { PlaintextTap } from './l7/plaintext-tap.ts';
import { PendingBytes } from './pending-bytes.ts';
import type { Tunnel } from './tunnel.ts';

/** Records a stream reads at first; doubled while reads fill them, halved while they stay mostly empty. */
const FIRST_SEGMENTS = 2;
/** Window is given back in steps of this share of the whole, so that updates stay rare. */
const CREDIT_SHARE = 4;

/** How a stream ended. `retryable` means that the peer provably did nothing for it. */
export type StreamEnd =
  | { readonly kind: 'finished' }
  | { readonly kind: 'failed'; readonly reason: ReasonCode; readonly error: string; readonly retryable: boolean };

const FINISHED: StreamEnd = { kind: 'finished' };

export function failed(reason: ReasonCode, error: string, retryable = false): StreamEnd {
  return { kind: 'failed', reason, error, retryable };
}

/** Whoever asked for the stream: it decides, the stream copies. */
export interface StreamOwner {
  /** Client role: the peer answered. With status 200 the stream opens next; with any other it closes next. */
  onResponse(stream: TunnelStream, status: number, baggage: readonly string[]): void;
  /** The TCP connection given to `attach(…, 'dialing')` is up (0) or failed (errno). */
  onDialed(stream: TunnelStream, errno: number): void;
  /**
   * The stream is gone, and its TCP connection with it; except after a retryable end, when `untouched` is the TCP
   * connection, of which nothing was read: the owner closes it or uses it again.
   */
  onClosed(stream: TunnelStream, end: StreamEnd, untouched: Fd | undefined): void;
  /** Plain data from which an owner can be made elsewhere; the owner is dropped after this. */
  freeze(): unknown;
}

/** Owner of a stream that nobody waits for: before its owner has decided, or after a refusal. */
export const UNOWNED: StreamOwner = {
  onResponse() {},
  onDialed() {},
  onClosed() {},
  freeze: () => undefined,
};

export class TunnelStream implements EventHandler, Pumpable, DeliveryTarget {
  readonly tunnel: Tunnel;
  readonly id: number;
  owner: StreamOwner;
  phase: 'requested' | 'dialing' | 'open' | 'closed' = 'requested';
  queued = false;
  /** Waiting in the tunnel for output room or connection window; belongs to the tunnel. */
  isWaiting = false;
  /** What the peer still lets us send on this stream; may be negative after a settings change. */
  sendWindow: number;
  /** What we still let the peer send. */
  receiveWindow: number;
  bytesToTunnel = 0;
  bytesFromTunnel = 0;
  /** Reads what passes, if anybody wants it read. Set it before the stream opens. */
  tap: PlaintextTap | undefined;
  /** Who ended first: the side that left, when something was still under way. */
  firstToEnd: 'tcp' | 'tunnel' | undefined;
  #fd: Fd | undefined;
  #registration: Registration | undefined;
  #segments = FIRST_SEGMENTS;
  #readable = false;
  #writable = true;
  #hungUp = false;
  #localEnded = false;
  #remoteEnded = false;
  #uncredited = 0;
  #prepended = 0;
  #pending: PendingBytes | undefined;

  constructor(tunnel: Tunnel, id: number, owner: StreamOwner) {
    this.tunnel = tunnel;
    this.id = id;
    this.owner = owner;
    this.sendWindow = tunnel.peerInitialWindow;
    this.receiveWindow = tunnel.settings.streamWindowBytes;
  }

  get isBulk(): boolean {
    return this.#segments > FIRST_SEGMENTS;
  }

  /** Bytes held for the TCP side; 0 in a stream that keeps up. */
  get pendingBytes(): number {
    return this.#pending?.bytes ?? 0;
  }

  /** Whether the peer has ended its direction. */
  get isRemoteEnded(): boolean {
    return this.#remoteEnded;
  }

  /** Both directions are over as far as the tunnel is concerned; only the TCP side has bytes to take yet. */
  get isSettled(): boolean {
    return this.#localEnded && this.#remoteEnded;
  }

  /** Takes over the TCP connection. `dialing`: a connect is under way; `connected`: it is up already. */
  attach(fd: Fd, state: 'dialing' | 'connected'): void {
    if (this.phase === 'closed') {
      closeWithReset(fd);
      return;
    }
    this.#fd = fd;
    if (state === 'dialing') {
      this.phase = 'dialing';
      this.#writable = false;
    }
    this.#registration = this.tunnel.engine.reactor.add(fd, this);
  }

  /**
   * Puts bytes of our own in front of all that the peer sends, also of what it sent before its answer; they count neither
   * as received nor against windows. Call it once, before the stream opens.
   */
  prepend(bytes: Uint8Array): void {
    this.#pending ??= new PendingBytes(this.tunnel.engine.budget);
    this.#pending.prependAnyway(bytes);
    this.#prepended += bytes.length;
  }

  /** Starts copying: the server role calls this with the 200 it sends, the tunnel on a received 200. */
  open(): void {
    this.phase = 'open';
    if (this.#readable) this.tunnel.engine.enqueue(this);
    if (this.pendingBytes > 0) this.#drain();
    else if (this.#remoteEnded) this.#endTcp();
  }

  onEvents(mask: number): void {
    if (this.phase === 'closed') return;
    if (this.phase === 'dialing' && (mask & (EventMask.OUT | EventMask.ERR | EventMask.HUP)) !== 0) {
      // The same event may tell of the first bytes and the end of an application that speaks first; it comes only once.
      this.#finishDial();
      if (this.#isClosed()) return;
    }
    if ((mask & EventMask.ERR) !== 0) {
      this.#tcpFailed(this.#fd === undefined ? 0 : takeErrno(this.#fd));
      return;
    }
    if ((mask & (EventMask.RDHUP | EventMask.HUP)) !== 0) this.#hungUp = true;
    if ((mask & (EventMask.IN | EventMask.RDHUP | EventMask.HUP)) !== 0) {
      this.#readable = true;
      if (this.phase === 'open') this.tunnel.engine.enqueue(this);
    }
    if ((mask & EventMask.OUT) !== 0) {
      this.#writable = true;
      if (this.phase === 'open' && this.pendingBytes > 0) this.#drain();
    }
  }

  /** TCP to tunnel: one read, as large as windows, output and this pass's quantum allow. */
  pump(): void {
    if (this.phase !== 'open' || !this.#readable || this.#localEnded || this.#fd === undefined) return;
    const tunnel = this.tunnel;
    const output = tunnel.output;
    if (!output.acceptsData) {
      tunnel.awaitRoom(this);
      return;
    }
    if (this.sendWindow <= 0) return; // `addSendWindow` resumes
    if (tunnel.sendWindow <= 0) {
      tunnel.awaitRoom(this);
      return;
    }
    const limit = this.sendWindow < tunnel.sendWindow ? this.sendWindow : tunnel.sendWindow;
    const engine = tunnel.engine;
    const segments = this.isBulk && engine.bulkSegments < this.#segments ? engine.bulkSegments : this.#segments;
    const asked = output.prepareRead(limit, segments);
    if (asked === 0) {
      engine.awaitSlab(this);
      return;
    }
    // Whatever the read brings, the flush at the end of the turn gives an unused slab back.
    engine.markDirty(tunnel);
    const read = readv(this.#fd, engine.iov);
    engine.iov.clear();
    if (read < 0) {
      if (read === -Errno.EAGAIN) this.#readable = false;
      else this.#tcpFailed(-read);
      return;
    }
    if (read === 0) {
      this.#localEnded = true;
      this.firstToEnd ??= 'tcp';
      tunnel.sendEndStream(this.id);
      this.#finishIfDone();
      return;
    }
    this.sendWindow -= read;
    this.bytesToTunnel += read;
    if (this.tap !== undefined) this.#showRead(this.tap, read);
    output.commitRead(this.id, read);
    tunnel.noteSent(read);
    if (read === asked) {
      if (this.#segments < BULK_SEGMENTS) this.#segments *= 2;
      engine.enqueue(this);
      return;
    }
    if (this.#segments > FIRST_SEGMENTS && read < asked >> 2) this.#segments >>= 1;
    // A short read emptied the socket, and the next arrival is a new event; but a FIN that came before it is not.
    if (this.#hungUp) engine.enqueue(this);
    else this.#readable = false;
  }

  /** Tunnel to TCP: writes the gathered slices, keeps the rest. */
  takeDelivery(delivery: Delivery): void {
    const total = delivery.bytes;
    if (this.phase === 'closed') {
      this.tunnel.onBytesTaken(total);
      return;
    }
    if (this.tap !== undefined) this.#showDelivery(this.tap, delivery);
    let written = 0;
    if (this.phase === 'open' && this.#writable && this.pendingBytes === 0 && this.#fd !== undefined) {
      written = delivery.writeTo(this.#fd);
      if (written < 0) {
        if (written !== -Errno.EAGAIN) {
          this.tunnel.onBytesTaken(total);
          this.#tcpFailed(-written);
          return;
        }
        written = 0;
      }
      if (written < total) this.#writable = false;
    }
    if (written < total) {
      this.#pending ??= new PendingBytes(this.tunnel.engine.budget);
      const pending = this.#pending;
      const before = pending.bytes;
      if (!delivery.forEachAfter(written, (bytes, start, end) => pending.append(bytes, start, end))) {
        // What was kept is accounted for when the stream closes; the rest is dropped here.
        this.tunnel.onBytesTaken(total - (pending.bytes - before));
        this.abort(H2_ERROR.ENHANCE_YOUR_CALM, failed('limit.memory', 'memory budget of the proxy is spent'));
        return;
      }
    }
    if (written > 0) this.#credit(written);
  }

  /** The peer ended its direction. */
  onRemoteEnd(): void {
    if (this.#remoteEnded || this.phase === 'closed') return;
    this.#remoteEnded = true;
    this.firstToEnd ??= 'tunnel';
    if (this.phase === 'open' && this.pendingBytes === 0) this.#endTcp();
  }

  addSendWindow(bytes: number): void {
    this.sendWindow += bytes;
    if (this.#readable && this.phase === 'open' && this.sendWindow > 0) this.tunnel.engine.enqueue(this);
  }

  /** The peer reset the stream. */
  onReset(code: number): void {
    if (this.phase === 'closed') return;
    this.firstToEnd ??= 'tunnel';
    if (code === H2_ERROR.REFUSED_STREAM && this.phase === 'requested') {
      this.#close('reset', failed('hbone.refused_stream', 'stream refused by the peer', true));
    } else if (code === H2_ERROR.NO_ERROR && this.phase === 'open') {
      // The peer has sent all it will and wants no more from us: an ordinary end, what is pending still goes out.
      this.#localEnded = true;
      this.#remoteEnded = true;
      this.#finishIfDone();
    } else {
      this.#close('reset', failed('peer.reset', `stream reset by the peer (HTTP/2 error ${code})`));
    }
  }

  /** Ends the stream from our side: RST_STREAM to the peer, RST to the TCP side. */
  abort(code: number, end: StreamEnd): void {
    if (this.phase === 'closed') return;
    if (!this.isSettled) this.tunnel.sendReset(this.id, code);
    this.#close('reset', end);
  }

  /** Ends a stream whose request was answered with a final status (END_STREAM sent or received). */
  closeRefused(end: StreamEnd): void {
    this.#close('reset', end);
  }

  /** The tunnel is gone. A settled stream does not need it any more and lives on until its last bytes are taken. */
  onTunnelClosed(end: StreamEnd): void {
    if (this.isSettled) return;
    this.firstToEnd ??= 'tunnel';
    this.#close('reset', end);
  }

  /** Moves everything about the stream into plain data; this object is closed and owns no descriptor afterwards. */
  freeze(): FrozenStream {
    const fd = this.#fd;
    if (this.phase === 'closed') throw new Error('invariant: a closed stream cannot be frozen');
    if (this.#registration !== undefined) this.tunnel.engine.reactor.remove(this.#registration);
    const frozen: FrozenStream = {
      id: this.id,
      fd: fd?.release(),
      phase: this.phase,
      sendWindow: this.sendWindow,
      receiveWindow: this.receiveWindow,
      uncreditedBytes: this.#uncredited,
      prependedBytes: this.#prepended,
      pending: this.#pending?.takeAll() ?? [],
      localEnded: this.#localEnded,
      remoteEnded: this.#remoteEnded,
      bytesFromTunnel: this.bytesFromTunnel,
      bytesToTunnel: this.bytesToTunnel,
      context: this.owner.freeze(),
    };
    this.phase = 'closed';
    this.#fd = undefined;
    this.#registration = undefined;
    return frozen;
  }

  /** Continues a frozen stream; readiness is learnt anew from the reactor. */
  thaw(frozen: FrozenStream): void {
    this.phase = frozen.phase;
    this.sendWindow = frozen.sendWindow;
    this.receiveWindow = frozen.receiveWindow;
    this.#uncredited = frozen.uncreditedBytes;
    this.#prepended = frozen.prependedBytes;
    this.#localEnded = frozen.localEnded;
    this.#remoteEnded = frozen.remoteEnded;
    this.bytesFromTunnel = frozen.bytesFromTunnel;
    this.bytesToTunnel = frozen.bytesToTunnel;
    if (frozen.pending.length > 0) {
      const pending = new PendingBytes(this.tunnel.engine.budget);
      for (const bytes of frozen.pending) pending.appendAnyway(bytes);
      this.#pending = pending;
    }
    if (frozen.fd === undefined) return;
    this.#fd = new Fd(frozen.fd);
    if (this.phase === 'dialing') this.#writable = false;
    this.#registration = this.tunnel.engine.reactor.add(this.#fd, this);
  }

  // A method, because the compiler would otherwise conclude from an earlier check that the phase cannot have changed.
  #isClosed(): boolean {
    return this.phase === 'closed';
  }

  #showRead(tap: PlaintextTap, bytes: number): void {
    this.tunnel.output.showRead(bytes, tap);
    if (tap.isDone) this.tap = undefined;
  }

  #showDelivery(tap: PlaintextTap, delivery: Delivery): void {
    delivery.show(tap, this.tunnel.engine.nowMs);
    if (tap.isDone) this.tap = undefined;
  }

  #finishDial(): void {
    if (this.#fd === undefined) return;
    const errno = takeErrno(this.#fd);
    if (errno === 0) this.#writable = true;
    this.owner.onDialed(this, errno);
  }

  #drain(): void {
    const pending = this.#pending;
    if (pending === undefined || this.#fd === undefined) return;
    while (pending.bytes > 0) {
      const written = pending.writeTo(this.#fd, this.tunnel.engine.iov);
      if (written < 0) {
        if (written === -Errno.EAGAIN) this.#writable = false;
        else this.#tcpFailed(-written);
        return;
      }
      this.#credit(written);
      if (written < pending.offered) {
        this.#writable = false;
        return;
      }
    }
    this.#pending = undefined;
    if (this.#remoteEnded) this.#endTcp();
  }

  #credit(taken: number): void {
    // Bytes of our own go first, and nobody is owed window for them.
    const own = taken < this.#prepended ? taken : this.#prepended;
    this.#prepended -= own;
    const bytes = taken - own;
    if (bytes === 0) return;
    this.bytesFromTunnel += bytes;
    this.tunnel.onBytesTaken(bytes);
    this.#giveWindow(bytes);
  }

  #giveWindow(bytes: number): void {
    this.#uncredited += bytes;
    if (this.#remoteEnded || this.#uncredited * CREDIT_SHARE < this.tunnel.settings.streamWindowBytes) return;
    this.receiveWindow += this.#uncredited;
    this.tunnel.sendWindowUpdate(this.id, this.#uncredited);
    this.#uncredited = 0;
  }

  /** Padding and the like: window that the peer used for bytes nobody will take. */
  creditUnused(bytes: number): void {
    if (this.phase !== 'closed') this.#giveWindow(bytes);
  }

  #endTcp(): void {
    if (this.#fd !== undefined) shutdownWrite(this.#fd);
    this.#finishIfDone();
  }

  #finishIfDone(): void {
    if (this.#localEnded && this.#remoteEnded && this.pendingBytes === 0) this.#close('close', FINISHED);
  }

  #tcpFailed(errno: number): void {
    this.firstToEnd ??= 'tcp';
    const reset = errno === Errno.ECONNRESET || errno === Errno.EPIPE || errno === 0;
    const text = errno === 0 ? 'connection reset' : errnoName(errno);
    this.abort(H2_ERROR.CANCEL, failed(reset ? 'peer.reset' : 'dial.failed', `io error: ${text}`));
  }

  #close(how: 'close' | 'reset', end: StreamEnd): void {
    if (this.phase === 'closed') return;
    const isUntouched = this.phase === 'requested' && end.kind === 'failed' && end.retryable;
    this.phase = 'closed';
    const fd = this.#fd;
    this.#fd = undefined;
    if (fd !== undefined && !isUntouched) {
      if (how === 'reset') closeWithReset(fd);
      else fd.close();
    }
    // After the close, so that the reactor need not ask the kernel to forget a descriptor that is gone.
    if (this.#registration !== undefined) this.tunnel.engine.reactor.remove(this.#registration);
    this.#registration = undefined;
    const pending = this.#pending;
    if (pending !== undefined) {
      this.tunnel.onBytesTaken(pending.bytes);
      pending.release();
      this.#pending = undefined;
    }
    this.tunnel.forget(this);
    this.owner.onClosed(this, end, isUntouched ? fd : undefined);
  }
}
