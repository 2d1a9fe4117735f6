// Tunnels of one pod towards its peers, shared by all its connections (hbone.md section 7). One entry a key; a key is
// everything that must be equal for two connections to share a tunnel: source identity, accepted peer identities,
// address dialled, source address.
//
// Differences from upstream, all of behaviour and none on the wire: a failed dial is shared by everyone who waited for
// it; a full tunnel takes connections again when streams end; the peer's stream limit is honoured; a tunnel is idle when
// it has no stream, not when it had no new one; entries go with their last tunnel.
import { Alert, AlertLevel, type Fd, familyOf, type TlsContext } from '@ambit/native';
import type { ReasonCode, SocketAddress } from '@ambit/mesh';
import type { RecordTls } from './connection-record.ts';
import { beginDial } from './dial.ts';
import type { Engine } from './engine.ts';
import { closeLingering } from './lingering-close.ts';
import { type SecuredSocket, SecureHandshake } from './secure-handshake.ts';
import type { Timer } from './timers.ts';
import { TunnelOutput } from './tunnel-output.ts';
import { ASSUMED_PEER_STREAMS, Tunnel, type TunnelEvents, type TunnelSettings } from './tunnel.ts';

/** Where a tunnel goes and whom it must find there. */
export interface PoolTarget {
  /** Identity presented; selects the client certificate. */
  readonly sourceIdentity: string;
  readonly sourceIp: string;
  readonly dial: SocketAddress;
  /** SPIFFE IDs of which the peer must prove one; an empty list always fails. */
  readonly expectedIdentities: readonly string[];
}

/** Who waits for a tunnel. Exactly one of the two is called, possibly before `request` returns. */
export interface PoolWaiter {
  onTunnel(pooled: PooledTunnel): void;
  onTunnelFailed(reason: ReasonCode, error: string): void;
}

export interface PoolSettings {
  readonly maxStreamsPerTunnel: number;
  /** A tunnel without streams for this long is closed. */
  readonly idleMs: number;
  readonly connectTimeoutMs: number;
  readonly handshakeTimeoutMs: number;
}

export interface PoolDeps {
  readonly engine: Engine;
  readonly tunnelSettings: TunnelSettings;
  /** A nonblocking TCP socket in the pod's namespace with marks and options set. @throws SysError */
  openSocket(family: 'ipv4' | 'ipv6'): Fd;
  /** The client context of an identity; undefined while there is no certificate. The text says why. */
  clientContext(identity: string): TlsContext | { readonly error: string };
  /** Whether one of these certificates (`SecuredSocket.certificates`) has been revoked. */
  isRevoked(certificates: readonly string[]): boolean;
}

/** Connections that may wait for one key; beyond it they are refused rather than remembered. */
const MAX_WAITERS = 4096;
/** Dials under way for one key, when more connections wait than one tunnel can carry. */
const MAX_DIALS = 4;

interface Entry {
  readonly key: string;
  readonly target: PoolTarget;
  readonly tunnels: PooledTunnel[];
  readonly dials: Set<SecureHandshake>;
  waiters: PoolWaiter[];
  /** The stream limit that the peer announced last, assumed of its next tunnels until they announce theirs. */
  peerMaxStreams: number | undefined;
}

export function poolKey(target: PoolTarget): string {
  return `${target.sourceIdentity}|${target.sourceIp}|${target.dial.ip}|${target.dial.port}|${target.expectedIdentities.join(',')}`;
}

export class HbonePool {
  readonly #deps: PoolDeps;
  readonly #settings: PoolSettings;
  readonly #entries = new Map<string, Entry>();
  /** Tunnels that take no new streams and wait for the end of their last. */
  readonly #draining = new Set<PooledTunnel>();
  #closed = false;

  constructor(deps: PoolDeps, settings: PoolSettings) {
    this.#deps = deps;
    this.#settings = settings;
  }

  /** Live tunnels, for statistics and tests. */
  get tunnelCount(): number {
    let count = this.#draining.size;
    for (const entry of this.#entries.values()) count += entry.tunnels.length;
    return count;
  }

  /** Keys that have a tunnel, a dial or a waiter; for leak tests. */
  get entryCount(): number {
    return this.#entries.size;
  }

  /** Gives `waiter` a tunnel with room for one more stream: a running one, one under way, or a new one. */
  request(key: string, target: PoolTarget, waiter: PoolWaiter): void {
    if (this.#closed) {
      waiter.onTunnelFailed('drain.deadline', 'pool draining');
      return;
    }
    const entry = this.#entryOf(key, target);
    const pooled = entry.waiters.length === 0 ? this.#withRoom(entry) : undefined;
    if (pooled !== undefined) {
      waiter.onTunnel(pooled);
      return;
    }
    if (entry.waiters.length >= MAX_WAITERS) {
      waiter.onTunnelFailed('limit.connections', `more than ${MAX_WAITERS} connections wait for one tunnel`);
      return;
    }
    entry.waiters.push(waiter);
    this.#dialAsNeeded(entry);
  }

  /** The waiter lost interest. */
  withdraw(key: string, waiter: PoolWaiter): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.waiters = entry.waiters.filter(each => each !== waiter);
    this.#dropIfEmpty(entry);
  }

  /** Every tunnel, for a hand-over. */
  tunnels(): PooledTunnel[] {
    return [...Array.from(this.#entries.values()).flatMap(entry => entry.tunnels), ...this.#draining];
  }

  /** Takes in a tunnel that was handed over; `make` gets the events to build it with. */
  adopt(target: PoolTarget, peer: TunnelPeer, make: (events: TunnelEvents) => Tunnel): PooledTunnel {
    const key = poolKey(target);
    const entry = this.#entryOf(key, target);
    const pooled = new PooledTunnel(this.#deps.engine, this.#settings, target, peer, make, this.#hooks(entry));
    if (pooled.tunnel.state === 'open') entry.tunnels.push(pooled);
    else {
      this.#draining.add(pooled);
      this.#dropIfEmpty(entry);
    }
    return pooled;
  }

  /** Forgets a tunnel that was frozen; it is not closed. */
  release(pooled: PooledTunnel): void {
    pooled.dispose();
    if (this.#draining.delete(pooled)) return;
    for (const entry of this.#entries.values()) {
      const index = entry.tunnels.indexOf(pooled);
      if (index < 0) continue;
      entry.tunnels.splice(index, 1);
      this.#dropIfEmpty(entry);
      return;
    }
  }

  /** No new tunnels; idle ones close, busy ones when their last stream ends. */
  drain(): void {
    this.#closed = true;
    for (const entry of Array.from(this.#entries.values())) {
      this.#failWaiters(entry, 'drain.deadline', 'pool draining');
      for (const dial of entry.dials) dial.cancel();
      entry.dials.clear();
      for (const pooled of entry.tunnels.slice()) pooled.tunnel.drain();
      this.#dropIfEmpty(entry);
    }
  }

  /** Cuts every tunnel whose peer showed a certificate that has been revoked since. */
  recheckRevocations(): void {
    for (const { tunnel, peer } of this.tunnels()) {
      if (this.#deps.isRevoked(peer.certificates)) {
        tunnel.destroy('identity.revoked', 'connection closed: peer certificate revoked by CRL');
      }
    }
  }

  /** Every stream ends now; tunnels without one still send what they owe their peer. */
  close(reason: ReasonCode, error: string): void {
    this.drain();
    for (const { tunnel } of Array.from(this.#draining)) if (tunnel.streams.size > 0) tunnel.destroy(reason, error);
  }

  #entryOf(key: string, target: PoolTarget): Entry {
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = { key, target, tunnels: [], dials: new Set(), waiters: [], peerMaxStreams: undefined };
      this.#entries.set(key, entry);
    }
    return entry;
  }

  #withRoom(entry: Entry): PooledTunnel | undefined {
    // The oldest first: newer ones then fall idle and close once a burst is over.
    for (const pooled of entry.tunnels) if (pooled.hasRoom) return pooled;
    return undefined;
  }

  #dialAsNeeded(entry: Entry): void {
    const each = Math.max(1, Math.min(this.#settings.maxStreamsPerTunnel, entry.peerMaxStreams ?? Infinity));
    const wanted = Math.min(MAX_DIALS, Math.ceil(entry.waiters.length / each));
    while (entry.dials.size < wanted && entry.waiters.length > 0) this.#dial(entry);
  }

  #dial(entry: Entry): void {
    const { engine } = this.#deps;
    const { target } = entry;
    const context = this.#deps.clientContext(target.sourceIdentity);
    if ('error' in context) {
      this.#failWaiters(entry, 'identity.unavailable', `identity error: ${context.error}`);
      return;
    }
    const begun = beginDial(() => this.#deps.openSocket(familyOf(target.dial.ip)), target.dial);
    if (begun.kind === 'failed') {
      this.#failWaiters(entry, begun.reason, `io error: ${begun.error}`);
      return;
    }
    const state = begun.isConnected ? 'connected' : 'connecting';
    const dial: SecureHandshake = new SecureHandshake(engine, begun.fd, context, state, this.#settings, {
      onSecured: socket => {
        entry.dials.delete(dial);
        this.#onSecured(entry, socket);
      },
      onHandshakeFailed: (reason, error) => {
        entry.dials.delete(dial);
        this.#onDialFailed(entry, reason, error);
      },
    });
    entry.dials.add(dial);
  }

  #onSecured(entry: Entry, socket: SecuredSocket): void {
    const { session, fd, identities } = socket;
    const proven = identities.find(identity => entry.target.expectedIdentities.includes(identity));
    const { engine, tunnelSettings } = this.#deps;
    if (proven === undefined) {
      // Said in a TLS alert on the way out; no byte of HTTP/2 was sent.
      refusePeer(engine, socket);
      const wanted = entry.target.expectedIdentities.join(', ');
      const text = `tls error: peer did not present the expected SAN (${wanted}), got ${identities.join(', ') || 'none'}`;
      this.#onDialFailed(entry, 'identity.mismatch', text);
      return;
    }
    if (this.#deps.isRevoked(socket.certificates)) {
      refusePeer(engine, socket, Alert.certificate_revoked);
      this.#onDialFailed(entry, 'identity.revoked', `tls error: the certificate of ${proven} is revoked`);
      return;
    }
    const tls: RecordTls = { version: session.version, suite: session.suite, group: session.group };
    const make = (events: TunnelEvents): Tunnel =>
      new Tunnel(engine, 'client', fd, session.records, tunnelSettings, events);
    const peer: TunnelPeer = { identity: proven, tls, certificates: socket.certificates };
    const pooled = new PooledTunnel(engine, this.#settings, entry.target, peer, make, this.#hooks(entry));
    if (entry.peerMaxStreams !== undefined) pooled.tunnel.peerMaxStreams = entry.peerMaxStreams;
    entry.tunnels.push(pooled);
    pooled.tunnel.start();
    this.#serveWaiters(entry);
  }

  #onDialFailed(entry: Entry, reason: ReasonCode, error: string): void {
    // A parallel dial may still succeed; who waits for it keeps waiting.
    if (entry.dials.size > 0) return;
    this.#failWaiters(entry, reason, error);
    this.#dropIfEmpty(entry);
  }

  #failWaiters(entry: Entry, reason: ReasonCode, error: string): void {
    const waiters = entry.waiters;
    entry.waiters = [];
    for (const waiter of waiters) waiter.onTunnelFailed(reason, error);
    this.#dropIfEmpty(entry);
  }

  #serveWaiters(entry: Entry): void {
    while (entry.waiters.length > 0) {
      const pooled = this.#withRoom(entry);
      if (pooled === undefined) break;
      const waiter = entry.waiters.shift();
      waiter?.onTunnel(pooled);
    }
    this.#dialAsNeeded(entry);
  }

  #hooks(entry: Entry): PooledHooks {
    return {
      onCapacity: pooled => {
        if (pooled.tunnel.peerMaxStreams !== ASSUMED_PEER_STREAMS) entry.peerMaxStreams = pooled.tunnel.peerMaxStreams;
        if (entry.waiters.length > 0 && pooled.hasRoom) this.#serveWaiters(entry);
      },
      onDraining: pooled => {
        this.#draining.add(pooled);
        this.#forget(entry, pooled);
      },
      onClosed: pooled => {
        this.#draining.delete(pooled);
        this.#forget(entry, pooled);
      },
    };
  }

  #forget(entry: Entry, pooled: PooledTunnel): void {
    const index = entry.tunnels.indexOf(pooled);
    if (index >= 0) entry.tunnels.splice(index, 1);
    if (entry.waiters.length > 0) this.#dialAsNeeded(entry);
    this.#dropIfEmpty(entry);
  }

  #dropIfEmpty(entry: Entry): void {
    if (entry.tunnels.length > 0 || entry.dials.size > 0 || entry.waiters.length > 0) return;
    if (this.#entries.get(entry.key) === entry) this.#entries.delete(entry.key);
  }
}

/** Whom a tunnel was found to lead to. */
export interface TunnelPeer {
  /** The SPIFFE ID that the peer proved. */
  readonly identity: string | undefined;
  readonly tls: RecordTls;
  readonly certificates: readonly string[];
}

interface PooledHooks {
  onCapacity(pooled: PooledTunnel): void;
  onDraining(pooled: PooledTunnel): void;
  onClosed(pooled: PooledTunnel): void;
}

/** A tunnel in the pool: its peer, its room for streams, its idle timer. */
export class PooledTunnel implements TunnelEvents {
  readonly tunnel: Tunnel;
  readonly peer: TunnelPeer;
  readonly target: PoolTarget;
  readonly #engine: Engine;
  readonly #settings: PoolSettings;
  readonly #hooks: PooledHooks;
  #idle: Timer | undefined;

  constructor(
    engine: Engine,
    settings: PoolSettings,
    target: PoolTarget,
    peer: TunnelPeer,
    make: (events: TunnelEvents) => Tunnel,
    hooks: PooledHooks,
  ) {
    this.#engine = engine;
    this.#settings = settings;
    this.#hooks = hooks;
    this.target = target;
    this.peer = peer;
    this.tunnel = make(this);
    this.#armIdle(settings.idleMs);
  }

  get hasRoom(): boolean {
    return this.tunnel.hasCapacity && this.tunnel.streams.size < this.#settings.maxStreamsPerTunnel;
  }

  onRequest(): void {
    // A server opens no streams towards a client; the frame reader refuses them before this.
  }

  onBadRequest(): void {}

  onCapacity(): void {
    if (this.tunnel.streams.size === 0) this.#armIdle(this.#settings.idleMs);
    this.#hooks.onCapacity(this);
  }

  onDraining(): void {
    this.#disarmIdle();
    this.#hooks.onDraining(this);
  }

  onClosed(): void {
    this.#disarmIdle();
    this.#hooks.onClosed(this);
  }

  dispose(): void {
    this.#disarmIdle();
  }

  // The timer is armed when the last stream ends and looks when it fires, so that opening a stream costs nothing.
  #armIdle(inMs: number): void {
    if (this.#idle !== undefined || this.tunnel.state !== 'open') return;
    this.#idle = this.#engine.timers.at(this.#engine.nowMs + inMs, () => {
      this.#idle = undefined;
      if (this.tunnel.state !== 'open') return;
      if (this.tunnel.streams.size > 0) return;
      const leftMs = this.tunnel.lastUsedMs + this.#settings.idleMs - this.#engine.nowMs;
      if (leftMs <= 0) this.tunnel.drain();
      else this.#armIdle(leftMs);
    });
  }

  #disarmIdle(): void {
    this.#engine.timers.cancel(this.#idle);
    this.#idle = undefined;
  }
}

/** Ends a connection whose peer proved the wrong identity: a fatal alert (default bad_certificate), then close. */
export function refusePeer(engine: Engine, socket: SecuredSocket, alert: number = Alert.bad_certificate): void {
  const output = new TunnelOutput(engine, socket.session.records, socket.fd);
  output.queueAlert(AlertLevel.fatal, alert);
  output.flush();
  output.close();
  socket.session.records.close();
  closeLingering(engine, socket.fd);
}
