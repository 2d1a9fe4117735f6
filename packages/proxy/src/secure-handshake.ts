// From a TCP socket to a verified TLS peer, for either role: waits for a connect that is under way, shakes hands as
// readiness allows, and reads the peer's SPIFFE identities from the verified certificate. Each phase has a deadline, so
// a silent peer costs one socket for a bounded time (upstream waits for ever). It fails closed: there is a peer with at
// least one certificate that chains to our roots, or there is a failure and the socket is closed.
import {
  certificateKey,
  EventMask,
  type EventHandler,
  type Fd,
  Handshake,
  type Registration,
  spiffeUris,
  type TlsContext,
  type TlsSession,
} from '@ambit/native';
import { isReasonCode, parseSpiffeId, type ReasonCode } from '@ambit/mesh';
import { dialReason, errnoText, takeErrno } from './dial-failure.ts';
import type { Engine, Pumpable } from './engine.ts';
import { closeLingering } from './lingering-close.ts';
import type { Timer } from './timers.ts';

export interface SecuredSocket {
  readonly fd: Fd;
  readonly session: TlsSession;
  /** Every URI SAN of the leaf that is a SPIFFE ID of a workload, in order. */
  readonly identities: readonly string[];
  /** What revocation lists call the certificates that the peer showed, leaf first. */
  readonly certificates: readonly string[];
}

export interface HandshakeOwner {
  onSecured(socket: SecuredSocket): void;
  onHandshakeFailed(reason: ReasonCode, error: string): void;
}

export interface HandshakeLimits {
  readonly connectTimeoutMs: number;
  readonly handshakeTimeoutMs: number;
}

export class SecureHandshake implements EventHandler, Pumpable {
  queued = false;
  readonly isBulk = false;
  readonly #engine: Engine;
  readonly #fd: Fd;
  readonly #context: TlsContext;
  readonly #limits: HandshakeLimits;
  readonly #owner: HandshakeOwner;
  #handshake: Handshake | undefined;
  #registration: Registration | undefined;
  #timer: Timer | undefined;
  /** Why it could not even begin; told in the next turn, since owners do not expect a call from the constructor. */
  #stillborn: string | undefined;
  #phase: 'connecting' | 'shaking' | 'ended';

  /** Takes over `fd`. `connecting`: a connect was started and not answered yet. The role is that of the context. */
  constructor(
    engine: Engine,
    fd: Fd,
    context: TlsContext,
    state: 'connecting' | 'connected',
    limits: HandshakeLimits,
    owner: HandshakeOwner,
  ) {
    this.#engine = engine;
    this.#fd = fd;
    this.#context = context;
    this.#limits = limits;
    this.#owner = owner;
    this.#phase = state === 'connecting' ? 'connecting' : 'shaking';
    this.#registration = engine.reactor.add(fd, this);
    if (state === 'connecting') this.#arm(limits.connectTimeoutMs);
    else this.#begin();
  }

  onEvents(mask: number): void {
    if (this.#phase === 'connecting') {
      if ((mask & (EventMask.OUT | EventMask.ERR | EventMask.HUP)) === 0) return;
      const errno = takeErrno(this.#fd);
      if (errno !== 0) this.#fail(dialReason(errno), `io error: ${errnoText(errno)}`);
      else this.#begin();
      return;
    }
    this.#engine.enqueue(this);
  }

  pump(): void {
    if (this.#phase !== 'shaking') return;
    if (this.#stillborn !== undefined) this.#fail('tls.config', this.#stillborn);
    if (this.#handshake === undefined) return;
    const step = this.#handshake.step();
    if (step === 'done') this.#succeed(this.#handshake);
    else if (step === 'failed') {
      const failure = this.#handshake.failure;
      const code = failure?.code ?? 'tls.protocol';
      // Our alert, if there was reason for one, is in the socket and must arrive.
      this.#fail(reasonOfTls(code), `tls handshake error: ${failure?.message ?? code}`, 'linger');
    }
  }

  /** Gives up without telling the owner. */
  cancel(): void {
    if (this.#phase === 'ended') return;
    this.#end();
    this.#fd.close();
  }

  #begin(): void {
    this.#phase = 'shaking';
    try {
      this.#handshake = new Handshake(this.#context, this.#fd);
    } catch (error) {
      this.#stillborn = `tls error: ${error instanceof Error ? error.message : String(error)}`;
    }
    this.#arm(this.#limits.handshakeTimeoutMs);
    this.#engine.enqueue(this);
  }

  #arm(timeoutMs: number): void {
    this.#engine.timers.cancel(this.#timer);
    this.#timer = this.#engine.timers.at(this.#engine.nowMs + timeoutMs, () => this.#expire());
  }

  #expire(): void {
    if (this.#phase === 'connecting') {
      this.#fail(
        'dial.timeout',
        'connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: deadline has elapsed',
      );
    } else if (this.#phase === 'shaking') {
      this.#fail('tls.handshake_timeout', `tls handshake not finished within ${this.#limits.handshakeTimeoutMs} ms`);
    }
  }

  #succeed(handshake: Handshake): void {
    let session: TlsSession;
    let certificates: readonly string[];
    try {
      session = handshake.finish();
      certificates = session.peerChainDer.map(certificateKey);
    } catch (error) {
      this.#fail('tls.protocol', `tls error: ${error instanceof Error ? error.message : String(error)}`);
      return;
    }
    const identities = spiffeUris(session.peerLeafDer).filter(uri => parseSpiffeId(uri) !== undefined);
    this.#end(); // the descriptor lives on under another handler
    this.#owner.onSecured({ fd: this.#fd, session, identities, certificates });
  }

  #fail(reason: ReasonCode, error: string, how: 'close' | 'linger' = 'close'): void {
    if (this.#phase === 'ended') return;
    this.#end();
    if (how === 'linger') closeLingering(this.#engine, this.#fd);
    else this.#fd.close();
    this.#owner.onHandshakeFailed(reason, error);
  }

  #end(): void {
    this.#phase = 'ended';
    this.#engine.timers.cancel(this.#timer);
    this.#timer = undefined;
    if (this.#registration !== undefined) this.#engine.reactor.remove(this.#registration);
    this.#registration = undefined;
    this.#handshake?.close();
    this.#handshake = undefined;
  }
}

/** TLS failure codes are reason codes, but for alerts, whose name goes into the text and not into the code. */
function reasonOfTls(code: string): ReasonCode {
  if (code.startsWith('tls.alert_')) return 'tls.alert';
  return isReasonCode(code) ? code : 'tls.protocol';
}
