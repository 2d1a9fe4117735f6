// One CONNECT stream that arrived for the pod: check where it wants to go, authorize it, connect to the application with
// the client's own address as source, answer 200, copy (outbound-inbound.md section 9, steps S1 to S8).
//
// Order matters and fails closed: nothing is dialled before authorization, and 200 is sent only when the application
// answered. A stream that is dialling or open is on the pod's list, so a policy change reaches it at once.
import {
  authorize,
  guessService,
  isCanaryAuthority,
  type InboundRoute,
  parseForwardedHost,
  parseHboneAuthority,
  parseTraceparent,
  type PolicySet,
  type ReasonCode,
  type SocketAddress,
} from '@ambit/mesh';
import { familyOf, type Fd, filledSocket } from '@ambit/native';
import {
  beginDial,
  dialReason,
  errnoText,
  failed,
  H2_ERROR,
  type RequestHead,
  type StreamEnd,
  type StreamOwner,
  type Timer,
  type TunnelStream,
  UNOWNED,
} from '@ambit/proxy';
import { baggageSource } from './baggage-source.ts';
import { canaryAnswer } from './canary-answer.ts';
import {
  closed,
  type ConnectionFacts,
  nothingTold,
  ongoing,
  OPENED,
  type RecordOutcome,
  refused,
  wallNow,
} from './connection-facts.ts';
import type { InboundPeer } from './inbound-tunnel.ts';
import type { FrozenReading, ReadConnection } from './l7-desk.ts';
import type { LiveConnection, PodProxy } from './pod-proxy.ts';
import { writeProxyHeader } from './proxy-header.ts';
import { newTraceparent, traceIdOf } from './trace-ids.ts';

type DeliverRoute = Extract<InboundRoute, { kind: 'deliver' }>;

/** What a frozen stream needs to go on. Plain data. */
interface FrozenInboundConnection {
  readonly facts: ConnectionFacts;
  readonly forwardedHost: string | undefined;
  readonly target: SocketAddress | undefined;
  readonly route: DeliverRoute | undefined;
  readonly reading: FrozenReading | undefined;
}

export class InboundConnection implements StreamOwner, LiveConnection {
  readonly #pod: PodProxy;
  readonly #peer: InboundPeer;
  readonly #stream: TunnelStream;
  readonly #facts: ConnectionFacts;
  readonly #sinceMs: number;
  readonly #forwardedHost: string | undefined;
  /** The workload's address and final port: what policies look at. */
  #target: SocketAddress | undefined;
  #route: DeliverRoute | undefined;
  #timer: Timer | undefined;
  #l7: ReadConnection | undefined;

  private constructor(
    pod: PodProxy,
    peer: InboundPeer,
    stream: TunnelStream,
    facts: ConnectionFacts,
    forwardedHost: string | undefined,
  ) {
    this.#pod = pod;
    this.#peer = peer;
    this.#stream = stream;
    this.#facts = facts;
    this.#forwardedHost = forwardedHost;
    this.#sinceMs = pod.deps.engine.nowMs;
    stream.owner = this;
    pod.track(this);
  }

  static begin(pod: PodProxy, peer: InboundPeer, stream: TunnelStream, request: RequestHead): void {
    const forwardedHost = request.forwarded === undefined ? undefined : parseForwardedHost(request.forwarded);
    const adopted = request.traceparent === undefined ? undefined : parseTraceparent(request.traceparent)?.traceId;
    const facts: ConnectionFacts = {
      id: pod.deps.nextId(),
      pod: pod.info.uid,
      direction: 'inbound',
      startedAtMs: wallNow(),
      protocol: 'HBONE',
      source: peer.source,
      sourceWorkload: baggageSource(request.baggage),
      sourceIdentity: peer.identity,
      destination: peer.connected,
      destinationWorkload: pod.summary,
      destinationIdentity: pod.identity,
      originalDestination: undefined,
      authority: request.authority,
      service: undefined,
      tls: peer.tls,
      traceId: adopted ?? traceIdOf(newTraceparent()),
      connectMs: undefined,
      policy: undefined,
      isCanary: request.authority !== undefined && isCanaryAuthority(request.authority),
      told: nothingTold(),
    };
    facts.told.retransmits = stream.tunnel.health.totalRetransmits;
    const connection = new InboundConnection(pod, peer, stream, facts, forwardedHost);
    if (facts.isCanary) connection.#answerCanary();
    else connection.#findRoute(request.authority);
  }

  static thaw(pod: PodProxy, peer: InboundPeer, stream: TunnelStream, context: unknown): InboundConnection {
    const frozen = context as FrozenInboundConnection;
    const connection = new InboundConnection(pod, peer, stream, frozen.facts, frozen.forwardedHost);
    connection.#target = frozen.target;
    connection.#route = frozen.route;
    if (frozen.reading !== undefined) connection.#l7 = pod.deps.l7.thaw(frozen.facts, frozen.reading);
    stream.tap = connection.#l7?.tap;
    if (stream.phase === 'requested') connection.#findRoute(frozen.facts.authority);
    else if (stream.phase === 'dialing') connection.#armDialTimer();
    return connection;
  }

  freeze(): unknown {
    this.#disarm();
    const reading = this.#l7?.freeze();
    const news = this.progress();
    if (this.#l7?.tallies.hasNews === true && news !== undefined) this.#pod.deps.emit(this.#facts, news);
    this.#pod.untrack(this);
    const frozen: FrozenInboundConnection = {
      facts: this.#facts,
      forwardedHost: this.#forwardedHost,
      target: this.#target,
      route: this.#route,
      reading,
    };
    return frozen;
  }

  // ---- where to ---------------------------------------------------------------------------------------------------

  #findRoute(authority: string | undefined): void {
    const pod = this.#pod;
    if (authority === undefined || parseHboneAuthority(authority) === undefined) {
      this.#refuse(400, 'hbone.no_authority', `no valid authority pseudo header: ${authority ?? ''}`);
      return;
    }
    const key = `${this.#peer.connected.ip}>${authority}`;
    const known = pod.inboundRoutes.get(key);
    if (known !== undefined) this.#follow(known);
    else {
      pod.inboundRoutes.wait(
        key,
        route => this.#follow(route),
        () => pod.deps.askInbound(pod, key, this.#peer.connected, authority),
      );
    }
  }

  #follow(route: InboundRoute): void {
    if (this.#stream.phase !== 'requested') return; // the peer lost patience meanwhile
    if (route.kind === 'deny') {
      this.#refuse(route.status, route.reason, route.error);
      return;
    }
    this.#route = route;
    this.#target = route.target;
    this.#facts.service = guessService(route, this.#forwardedHost, route.target.port);
    const verdict = this.#authorize(this.#pod.policies);
    if (verdict === undefined) return;
    this.#facts.policy = verdict.policy;
    if (!verdict.allowed) {
      this.#deny(verdict.reason, verdict.error);
      return;
    }
    this.#dial(route);
  }

  #authorize(policies: PolicySet): ReturnType<typeof authorize> | undefined {
    if (this.#target === undefined) return undefined;
    return authorize(policies, {
      sourceIp: this.#peer.source.ip,
      sourcePort: this.#peer.source.port,
      identity: this.#peer.spiffe,
      destinationIp: this.#target.ip,
      destinationPort: this.#target.port,
    });
  }

  /** The canary's end: the pod itself is told whom it proved to be; nobody else is told anything. */
  #answerCanary(): void {
    const { identity, deps, info } = this.#pod;
    if (identity === undefined || this.#peer.identity !== identity) {
      this.#refuse(403, 'identity.mismatch', `the canary of ${identity ?? 'an unknown pod'} is for itself alone`);
      return;
    }
    const line = canaryAnswer(this.#peer, {
      identity,
      validity: deps.certificates.validity(identity),
      name: `${info.namespace}/${info.name}`,
    });
    let end: Fd;
    try {
      end = filledSocket(line);
    } catch (error) {
      this.#unreachable('dial.no_fds', error instanceof Error ? error.message : String(error));
      return;
    }
    this.#stream.attach(end, 'dialing');
  }

  // ---- application ------------------------------------------------------------------------------------------------

  #dial(route: DeliverRoute): void {
    const dial = beginDial(() => this.#open(route), route.dial);
    if (dial.kind === 'failed') {
      this.#unreachable(dial.reason, dial.error);
      return;
    }
    this.#armDialTimer();
    this.#read(route.target.port);
    this.#stream.attach(dial.fd, 'dialing');
  }

  #read(port: number): void {
    const stream = this.#stream;
    // A client that spoke before it was let in has said something that nobody read.
    if (stream.pendingBytes > 0) return;
    this.#l7 = this.#pod.deps.l7.open(this.#facts, this.#pod.l7Choice, port, 'server');
    stream.tap = this.#l7?.tap;
  }

  #open(route: DeliverRoute): Fd {
    const { sockets, isTransparent } = this.#pod;
    const family = familyOf(route.dial.ip);
    const { source } = this.#peer;
    if (route.bindSource === 'loopback') return sockets.openFrom(family, route.dial.ip, 'plain');
    // A pod that reaches itself keeps the default source: the kernel would not answer a socket to its own address.
    const asClient =
      route.bindSource === 'client' && isTransparent && source.ip !== route.dial.ip && familyOf(source.ip) === family;
    return asClient ? sockets.openFrom(family, source.ip, 'transparent') : sockets.open(family);
  }

  #armDialTimer(): void {
    const { engine, settings } = this.#pod.deps;
    this.#timer = engine.timers.at(engine.nowMs + settings.connectTimeoutMs, () =>
      this.#unreachable('dial.timeout', 'deadline has elapsed'),
    );
  }

  onDialed(stream: TunnelStream, errno: number): void {
    this.#disarm();
    if (errno !== 0) {
      this.#unreachable(dialReason(errno), errnoText(errno));
      return;
    }
    const { deps, baggage } = this.#pod;
    const header = this.#route?.proxyProtocol;
    if (header !== undefined) stream.prepend(writeProxyHeader(this.#peer.source, header.target, this.#peer.identity));
    this.#facts.connectMs = deps.engine.nowMs - this.#sinceMs;
    deps.emit(this.#facts, OPENED);
    stream.tunnel.accept(stream, deps.settings.responseBaggage ? baggage : undefined);
  }

  onResponse(): void {
    // Server role: there is none.
  }

  onClosed(stream: TunnelStream, end: StreamEnd): void {
    this.#disarm();
    this.#l7?.end(stream.firstToEnd === 'tunnel');
    this.#pod.untrack(this);
    this.#pod.deps.emit(
      this.#facts,
      closed(end, stream.bytesFromTunnel, stream.bytesToTunnel, stream.tunnel.health, this.#l7),
    );
  }

  // ---- ends -------------------------------------------------------------------------------------------------------

  cut(reason: ReasonCode, error: string): void {
    this.#stream.abort(H2_ERROR.CANCEL, failed(reason, error));
  }

  get facts(): ConnectionFacts {
    return this.#facts;
  }

  progress(): RecordOutcome | undefined {
    const stream = this.#stream;
    return stream.phase === 'open'
      ? ongoing(stream.bytesFromTunnel, stream.bytesToTunnel, stream.tunnel.health, this.#l7?.refresh())
      : undefined;
  }

  recheck(policies: PolicySet): void {
    const verdict = this.#authorize(policies);
    if (verdict === undefined || verdict.allowed || !verdict.cutsLive) return;
    this.#facts.policy = verdict.policy;
    this.cut('policy.changed', 'connection closed due to policy change');
  }

  #deny(reason: ReasonCode, error: string): void {
    this.#stream.tunnel.refuse(this.#stream, 401, failed(reason, error));
  }

  #unreachable(reason: ReasonCode, error: string): void {
    this.#disarm();
    this.#stream.tunnel.refuse(this.#stream, 503, failed(reason, `connection failed: ${error}`));
  }

  /** No connection came to be: upstream's early deny, which has no open and close of its own. */
  #refuse(status: number, reason: ReasonCode, error: string): void {
    this.#stream.owner = UNOWNED;
    this.#pod.untrack(this);
    this.#stream.tunnel.refuse(this.#stream, status, failed(reason, error));
    this.#pod.deps.emit(this.#facts, refused(reason, error));
  }

  #disarm(): void {
    this.#pod.deps.engine.timers.cancel(this.#timer);
    this.#timer = undefined;
  }
}
