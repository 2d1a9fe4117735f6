// One tunnel that a peer opened to the pod (port 15008): TLS with the pod's certificate, the trust-domain check of the
// peer, then one InboundConnection for each CONNECT (outbound-inbound.md section 9, steps I1 to I5).
//
// Life: shaking hands -> serving -> draining -> closed. It fails closed: a peer without an acceptable identity is cut
// with a TLS alert before it may speak HTTP/2.
import { parseSpiffeId, type ReasonCode, type SocketAddress, type SpiffeId } from '@ambit/mesh';
import { Alert, type Fd, localAddress, peerAddress } from '@ambit/native';
import {
  type FrozenTunnel,
  type HandshakeOwner,
  type RecordTls,
  refusePeer,
  type RequestHead,
  SecureHandshake,
  type SecuredSocket,
  Tunnel,
  type TunnelEvents,
  type TunnelStream,
} from '@ambit/proxy';
import { asMeshAddress } from './addresses.ts';
import { type ConnectionFacts, nothingTold, refused, wallNow } from './connection-facts.ts';
import { InboundConnection } from './inbound-connection.ts';
import type { PodProxy } from './pod-proxy.ts';

/** The peer as its certificate and socket prove it. Plain data: it moves with a tunnel that is handed over. */
export interface InboundPeer {
  readonly source: SocketAddress;
  /** Local address of the tunnel's socket: the pod's address and port 15008. */
  readonly connected: SocketAddress;
  readonly identity: string;
  readonly spiffe: SpiffeId;
  readonly tls: RecordTls;
  /** What revocation lists call the certificates it showed. */
  readonly certificates: readonly string[];
}

interface FrozenInbound {
  readonly pod: string;
  readonly peer: InboundPeer;
}

export class InboundTunnel implements HandshakeOwner, TunnelEvents {
  readonly #pod: PodProxy;
  readonly #source: SocketAddress;
  readonly #connected: SocketAddress;
  readonly #startedAtMs = wallNow();
  #handshake: SecureHandshake | undefined;
  #tunnel: Tunnel | undefined;
  #peer: InboundPeer | undefined;
  #isDraining = false;

  private constructor(pod: PodProxy, source: SocketAddress, connected: SocketAddress) {
    this.#pod = pod;
    this.#source = source;
    this.#connected = connected;
  }

  static accept(pod: PodProxy, fd: Fd): void {
    const tunnel = new InboundTunnel(pod, asMeshAddress(peerAddress(fd)), asMeshAddress(localAddress(fd)));
    pod.trackTunnel(tunnel);
    if (pod.hasIdentity) tunnel.#shake(fd);
    else pod.awaitIdentity(() => tunnel.#shake(fd));
  }

  /** Continues a tunnel that another worker froze. */
  static thaw(pod: PodProxy, frozen: FrozenTunnel): InboundTunnel {
    const { peer } = frozen.context as FrozenInbound;
    const inbound = new InboundTunnel(pod, peer.source, peer.connected);
    inbound.#peer = peer;
    const { engine, settings } = pod.deps;
    inbound.#tunnel = Tunnel.thaw(engine, frozen, settings.serverTunnel, inbound, (stream, context) =>
      InboundConnection.thaw(pod, inbound.#knownPeer(), stream, context),
    );
    pod.trackTunnel(inbound);
    return inbound;
  }

  /** What can be handed over now; undefined while it shakes hands. */
  get tunnel(): Tunnel | undefined {
    return this.#tunnel?.state === 'closed' ? undefined : this.#tunnel;
  }

  freeze(): FrozenTunnel {
    if (this.#tunnel === undefined) throw new Error('invariant: frozen before it serves');
    const context: FrozenInbound = { pod: this.#pod.info.uid, peer: this.#knownPeer() };
    const frozen = this.#tunnel.freeze(context);
    this.#tunnel = undefined;
    this.#pod.untrackTunnel(this);
    return frozen;
  }

  recheckRevocations(): void {
    if (this.#peer === undefined || !this.#pod.deps.revocations.isRevoked(this.#peer.certificates, 'destination'))
      return;
    this.#tunnel?.destroy('identity.revoked', 'connection closed: peer certificate revoked by CRL');
  }

  drain(): void {
    this.#isDraining = true;
    this.#tunnel?.drain();
  }

  destroy(reason: ReasonCode, error: string): void {
    if (this.#tunnel !== undefined) {
      this.#tunnel.destroy(reason, error);
      return;
    }
    this.#handshake?.cancel();
    this.#handshake = undefined;
    this.#refused(reason, error);
  }

  // ---- handshake --------------------------------------------------------------------------------------------------

  #shake(fd: Fd): void {
    const pod = this.#pod;
    if (pod.isClosed) {
      fd.close();
      return;
    }
    const context = pod.serverContext();
    if ('error' in context) {
      fd.close();
      const known = pod.workload !== undefined;
      this.#refused(
        known ? 'identity.unavailable' : 'identity.unknown_source',
        known ? `identity error: ${context.error}` : pod.unknownWorkloadError,
      );
      return;
    }
    const { engine, settings } = pod.deps;
    this.#handshake = new SecureHandshake(engine, fd, context, 'connected', settings.pool, this);
  }

  onSecured(socket: SecuredSocket): void {
    this.#handshake = undefined;
    const pod = this.#pod;
    const { engine, settings } = pod.deps;
    const { session, fd, identities, certificates } = socket;
    const identity = identities[0];
    const spiffe = identity === undefined ? undefined : parseSpiffeId(identity);
    const trustDomain = pod.workload?.trustDomain;
    // Policies judge the first, so it is the first that must be of our trust domain; upstream is content with any.
    if (identity === undefined || spiffe === undefined || spiffe.trustDomain !== trustDomain) {
      refusePeer(engine, socket);
      const got = identities.join(', ') || 'none';
      this.#refused(
        'identity.mismatch',
        `tls error: the peer has no identity in trust domain "${trustDomain}", got ${got}`,
      );
      return;
    }
    if (pod.deps.revocations.isRevoked(certificates, 'destination')) {
      refusePeer(engine, socket, Alert.certificate_revoked);
      this.#refused('identity.revoked', `tls error: the certificate of ${identity} is revoked`);
      return;
    }
    const tls: RecordTls = { version: session.version, suite: session.suite, group: session.group };
    this.#peer = { source: this.#source, connected: this.#connected, identity, spiffe, tls, certificates };
    this.#tunnel = new Tunnel(engine, 'server', fd, session.records, settings.serverTunnel, this);
    this.#tunnel.start();
    if (this.#isDraining) this.#tunnel.drain();
  }

  onHandshakeFailed(reason: ReasonCode, error: string): void {
    this.#handshake = undefined;
    this.#refused(reason, error);
  }

  // ---- tunnel -----------------------------------------------------------------------------------------------------

  onRequest(stream: TunnelStream, request: RequestHead): void {
    InboundConnection.begin(this.#pod, this.#knownPeer(), stream, request);
  }

  onBadRequest(_tunnel: Tunnel, _status: number, reason: ReasonCode, error: string): void {
    this.#emitRefused(reason, error);
  }

  onCapacity(): void {}

  onDraining(): void {}

  onClosed(): void {
    this.#tunnel = undefined;
    this.#pod.untrackTunnel(this);
  }

  #knownPeer(): InboundPeer {
    if (this.#peer === undefined) throw new Error('invariant: a tunnel before its peer is known');
    return this.#peer;
  }

  #refused(reason: ReasonCode, error: string): void {
    this.#emitRefused(reason, error);
    this.#pod.untrackTunnel(this);
  }

  #emitRefused(reason: ReasonCode, error: string): void {
    const facts: ConnectionFacts = {
      id: this.#pod.deps.nextId(),
      pod: this.#pod.info.uid,
      direction: 'inbound',
      startedAtMs: this.#startedAtMs,
      protocol: 'HBONE',
      source: this.#source,
      sourceWorkload: undefined,
      sourceIdentity: this.#peer?.identity,
      destination: this.#connected,
      destinationWorkload: this.#pod.summary,
      destinationIdentity: undefined,
      originalDestination: undefined,
      authority: undefined,
      service: undefined,
      tls: this.#peer?.tls,
      traceId: undefined,
      connectMs: undefined,
      policy: undefined,
      isCanary: false,
      told: nothingTold(),
    };
    this.#pod.deps.emit(facts, refused(reason, error));
  }
}
