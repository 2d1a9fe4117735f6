// One connection that an application of the pod makes (port 15001): find out where it was going, get a route, then carry
// it through a tunnel or copy it plainly (outbound-inbound.md sections 4 and 8). A hop that cannot be reached is replaced by
// another one of the route while no byte has been read from the application, which upstream does not do.
//
// Life: accepted -> routed -> reaching (a host name's addresses, a tunnel, a TCP connect) -> carried -> closed. One machine and
// therefore one file: every step may be cut, and may fall back to the step before it with another address or hop.
import {
  type DialByName,
  formatForwarded,
  type Hop,
  type Ip,
  isCanary,
  type OutboundRoute,
  pickHop,
  type ReasonCode,
  resolveHop,
  type SocketAddress,
} from '@ambit/mesh';
import {
  closeWithReset,
  familyOf,
  type Fd,
  localAddress,
  originalDestination,
  peerAddress,
  send,
  type TcpHealth,
} from '@ambit/native';
import {
  beginDial,
  dialReason,
  errnoText,
  failed,
  H2_ERROR,
  type PlaintextTap,
  type PooledTunnel,
  type PoolWaiter,
  PlainSplice,
  poolKey,
  type PoolTarget,
  type SpliceOwner,
  type StreamEnd,
  type StreamOwner,
  type TunnelStream,
} from '@ambit/proxy';
import { asMeshAddress } from './addresses.ts';
import { type VoiceName, VOICES } from './client-voice.ts';
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
import { startingAnywhere } from './host-names.ts';
import type { LiveConnection, PodProxy } from './pod-proxy.ts';
import type { FrozenReading, ReadConnection } from './l7-desk.ts';
import { newTraceparent, traceIdOf } from './trace-ids.ts';

/** Hops tried for one connection before it is given up. */
const MAX_ATTEMPTS = 3;

/** Failures that another endpoint may not share. */
const UNREACHED: ReadonlySet<ReasonCode> = new Set([
  'dial.refused',
  'dial.timeout',
  'dial.unreachable',
  'dial.failed',
  'dns.lookup_failed',
  'dns.no_addresses',
  'peer.reset',
  'tls.eof',
  'tls.handshake_timeout',
  'hbone.goaway',
]);

type Carrier =
  | { readonly kind: 'none' }
  | { readonly kind: 'waiting'; readonly key: string }
  | { readonly kind: 'stream'; readonly stream: TunnelStream }
  | { readonly kind: 'splice'; readonly splice: PlainSplice }
  | { readonly kind: 'closed' };

const NONE: Carrier = { kind: 'none' };
const CLOSED: Carrier = { kind: 'closed' };

/** What moves with a connection to another worker. Plain data. */
interface FrozenConnection {
  readonly facts: ConnectionFacts;
  readonly voice: VoiceName | undefined;
  readonly reading: FrozenReading | undefined;
}

export class OutboundConnection implements LiveConnection, PoolWaiter, StreamOwner, SpliceOwner {
  readonly #pod: PodProxy;
  readonly #facts: ConnectionFacts;
  /** The application's connection, until a carrier takes it over. */
  #client: Fd | undefined;
  #carrier: Carrier = NONE;
  #route: OutboundRoute | undefined;
  #hop: Hop | undefined;
  #target: PoolTarget | undefined;
  #tried: Set<Hop> | undefined;
  #attempts = 0;
  /** Further addresses of the hop's host name. */
  #addresses: readonly Ip[] = [];
  readonly #voice: VoiceName | undefined;
  readonly #sinceMs: number;
  #l7: ReadConnection | undefined;

  private constructor(pod: PodProxy, facts: ConnectionFacts, client: Fd | undefined, voice: VoiceName | undefined) {
    this.#pod = pod;
    this.#facts = facts;
    this.#client = client;
    this.#voice = voice;
    this.#sinceMs = pod.deps.engine.nowMs;
    pod.track(this);
  }

  /** Takes over a connection that the redirection brought to the outbound listener. */
  static accept(pod: PodProxy, client: Fd): void {
    const { forward, ports } = pod.deps.settings;
    const reached = asMeshAddress(originalDestination(client) ?? localAddress(client));
    const destination = forward !== undefined && reached.port === ports.outbound ? forward : reached;
    OutboundConnection.begin(pod, client, destination, isCanary(destination) ? 'canary' : undefined);
  }

  /** Takes over a connection whose destination is known. */
  static begin(pod: PodProxy, client: Fd, destination: SocketAddress, voice: VoiceName | undefined): void {
    const facts: ConnectionFacts = {
      id: pod.deps.nextId(),
      pod: pod.info.uid,
      direction: 'outbound',
      startedAtMs: wallNow(),
      protocol: 'TCP',
      source: asMeshAddress(peerAddress(client)),
      sourceWorkload: pod.summary,
      sourceIdentity: undefined,
      destination,
      destinationWorkload: undefined,
      destinationIdentity: undefined,
      originalDestination: destination,
      authority: undefined,
      service: undefined,
      tls: undefined,
      traceId: undefined,
      connectMs: undefined,
      policy: undefined,
      isCanary: isCanary(destination),
      told: nothingTold(),
    };
    const connection = new OutboundConnection(pod, facts, client, voice);
    if (pod.workload !== undefined) connection.#findRoute();
    else pod.awaitWorkload(() => connection.#findRoute());
  }

  /** Continues a connection that another worker froze. */
  static thaw(pod: PodProxy, stream: TunnelStream, context: unknown): OutboundConnection {
    const { facts, voice, reading } = context as FrozenConnection;
    const connection = new OutboundConnection(pod, facts, undefined, voice);
    connection.#carrier = { kind: 'stream', stream };
    if (reading !== undefined) connection.#l7 = pod.deps.l7.thaw(facts, reading);
    stream.tap = connection.#l7?.tap;
    return connection;
  }

  // ---- routing ----------------------------------------------------------------------------------------------------

  #findRoute(): void {
    if (this.#carrier.kind === 'closed') return;
    const pod = this.#pod;
    if (pod.workload === undefined) {
      this.#refuse('identity.unknown_source', pod.unknownWorkloadError);
      return;
    }
    this.#facts.sourceWorkload = pod.summary;
    const { source, destination } = this.#facts;
    const key = `${source.ip}>${destination.ip}:${destination.port}`;
    const known = pod.outboundRoutes.get(key);
    if (known !== undefined) this.#follow(known);
    else {
      pod.outboundRoutes.wait(
        key,
        route => this.#follow(route),
        () => pod.deps.askOutbound(pod, key, source, destination),
      );
    }
  }

  #follow(route: OutboundRoute): void {
    if (this.#carrier.kind === 'closed') return;
    this.#route = route;
    switch (route.kind) {
      case 'deny':
        this.#refuse(route.reason, route.error);
        return;
      case 'passthrough':
        this.#facts.service = route.service;
        this.#dialPlain(route.destination);
        return;
      case 'hops':
        this.#tryHop();
    }
  }

  #tryHop(): void {
    const route = this.#route;
    if (route?.kind !== 'hops') return;
    const hop = pickHop(route, Math.random, this.#tried);
    if (hop.kind === 'deny') {
      this.#refuse(hop.reason, hop.error);
      return;
    }
    this.#attempts++;
    this.#hop = hop;
    this.#addresses = [];
    const facts = this.#facts;
    facts.protocol = hop.protocol;
    facts.destinationWorkload = hop.workload;
    facts.service = hop.service;
    facts.authority = hop.authority;
    if ('ip' in hop.dial) this.#dial(hop, hop.dial);
    else this.#lookUp(hop, hop.dial);
  }

  #lookUp(hop: Hop, { hostname, family }: DialByName): void {
    this.#pod.dns.countHost(hostname);
    this.#pod.deps.hosts.lookup(hostname, family, outcome => {
      if (this.#carrier.kind !== 'none' || this.#hop !== hop) return;
      if (outcome.kind === 'failed') {
        this.#fail(outcome.reason, `${outcome.error} (workload ${hop.workload?.uid ?? 'unknown'}, host ${hostname})`);
        return;
      }
      this.#addresses = startingAnywhere(outcome.addresses, Math.random);
      this.#dialNextAddress(hop);
    });
  }

  #dialNextAddress(hop: Hop): void {
    const [ip, ...others] = this.#addresses;
    if (ip === undefined) return;
    this.#addresses = others;
    const { dial, authority } = resolveHop(hop, ip);
    this.#facts.authority = authority;
    if ('ip' in dial) this.#dial(hop, dial);
  }

  #dial(hop: Hop, dial: SocketAddress): void {
    this.#facts.destination = dial;
    if (hop.protocol === 'TCP') this.#dialPlain(dial);
    else if (hop.protocol === 'HBONE') this.#whenIdentified(hop, dial);
    else
      this.#refuse(
        'route.gateway_unavailable',
        'unknown network gateway: tunnels through a gateway are not supported yet',
      );
  }

  // ---- through a tunnel -------------------------------------------------------------------------------------------

  #whenIdentified(hop: Hop, dial: SocketAddress): void {
    if (this.#pod.hasIdentity) {
      this.#dialTunnel(hop, dial);
      return;
    }
    this.#pod.awaitIdentity(() => {
      if (this.#carrier.kind === 'none' && this.#hop === hop) this.#dialTunnel(hop, dial);
    });
  }

  #dialTunnel(hop: Hop, dial: SocketAddress): void {
    const sourceIdentity = this.#pod.identity ?? '';
    // Asked of connections on a running tunnel too: that one was made with a certificate which has run out meanwhile.
    const missing = this.#pod.deps.certificates.missing(sourceIdentity);
    if (missing !== undefined) {
      this.#refuse('identity.unavailable', `identity error: ${missing}`);
      return;
    }
    this.#target = {
      sourceIdentity,
      sourceIp: this.#facts.source.ip,
      dial,
      expectedIdentities: hop.upstreamIdentities,
    };
    // Each canary proves a handshake of its own: apart from all traffic, and a tunnel takes one and no more. The pool makes
    // one after the other, so that a pod that asks without end does not have a thousand handshakes at once.
    const key = this.#facts.isCanary ? `${poolKey(this.#target)}|canary` : poolKey(this.#target);
    this.#carrier = { kind: 'waiting', key };
    this.#pod.pool.request(key, this.#target, this);
  }

  onTunnel(pooled: PooledTunnel): void {
    const client = this.#client;
    if (client === undefined || this.#carrier.kind !== 'waiting') return;
    this.#client = undefined;
    const facts = this.#facts;
    facts.sourceIdentity = this.#target?.sourceIdentity;
    facts.destinationIdentity = pooled.peer.identity;
    facts.tls = pooled.peer.tls;
    const traceparent = newTraceparent();
    facts.traceId = traceIdOf(traceparent);
    const stream = pooled.tunnel.openStream(this, {
      authority: facts.authority ?? '',
      baggage: this.#pod.baggage,
      forwarded: formatForwarded(facts.source, facts.service?.hostname),
      traceparent,
      xForwardedNetwork: undefined,
    });
    this.#carrier = { kind: 'stream', stream };
    facts.told.retransmits = pooled.tunnel.health.totalRetransmits;
    stream.attach(client, 'connected');
    if (facts.isCanary) pooled.tunnel.drain();
  }

  onTunnelFailed(reason: ReasonCode, error: string): void {
    if (this.#carrier.kind === 'closed') return;
    this.#carrier = NONE;
    this.#fail(reason, error);
  }

  onResponse(stream: TunnelStream, status: number): void {
    if (status !== 200) return; // `onClosed` follows with the reason
    const greeting = this.#greeting;
    if (greeting !== undefined) stream.prepend(greeting);
    stream.tap = this.#read();
    this.#tellOpen();
  }

  onDialed(): void {
    // Client role: nothing is dialled behind a stream.
  }

  onClosed(stream: TunnelStream, end: StreamEnd, untouched: Fd | undefined): void {
    this.#carrier = NONE;
    if (end.kind === 'failed' && untouched !== undefined) {
      // The peer did nothing for this stream, so another tunnel to the same hop may serve it.
      this.#client = untouched;
      if (this.#attempts < MAX_ATTEMPTS && this.#hop !== undefined && this.#target !== undefined) {
        this.#attempts++;
        this.#dialTunnel(this.#hop, this.#target.dial);
        return;
      }
    }
    this.#l7?.end(stream.firstToEnd === 'tcp');
    this.#finish(end, stream.bytesToTunnel, stream.bytesFromTunnel, stream.tunnel.health);
  }

  freeze(): unknown {
    const reading = this.#l7?.freeze();
    const news = this.progress();
    if (this.#l7?.tallies.hasNews === true && news !== undefined) this.#pod.deps.emit(this.#facts, news);
    this.#carrier = CLOSED;
    this.#pod.untrack(this);
    return { facts: this.#facts, voice: this.#voice, reading } satisfies FrozenConnection;
  }

  // ---- plainly ----------------------------------------------------------------------------------------------------

  #dialPlain(to: SocketAddress): void {
    const pod = this.#pod;
    const client = this.#client;
    if (client === undefined) return;
    this.#facts.destination = to;
    const dial = beginDial(() => pod.sockets.open(familyOf(to.ip)), to);
    if (dial.kind === 'failed') {
      this.#fail(dial.reason, `io error: ${dial.error}`);
      return;
    }
    this.#client = undefined;
    const { engine, settings } = pod.deps;
    const splice = new PlainSplice(engine, client, dial.fd, this, settings.connectTimeoutMs);
    this.#carrier = { kind: 'splice', splice };
  }

  onUpstreamDialed(errno: number): void {
    if (this.#carrier.kind !== 'splice') return;
    const { splice } = this.#carrier;
    if (errno === 0) {
      const greeting = this.#greeting;
      if (greeting !== undefined) splice.greetClient(greeting);
      splice.tap = this.#read();
      this.#tellOpen();
      return;
    }
    this.#client = splice.giveUpUpstream();
    this.#carrier = NONE;
    this.#fail(dialReason(errno), `io error: ${errnoText(errno)}`);
  }

  onSpliceClosed(end: StreamEnd): void {
    if (this.#carrier.kind !== 'splice') return;
    const { splice } = this.#carrier;
    this.#l7?.end(splice.firstToEnd === 'client');
    this.#finish(end, splice.bytesToUpstream, splice.bytesToClient, splice.health);
  }

  // ---- ends -------------------------------------------------------------------------------------------------------

  cut(reason: ReasonCode, error: string): void {
    const end = failed(reason, error);
    switch (this.#carrier.kind) {
      case 'stream':
        this.#carrier.stream.abort(H2_ERROR.CANCEL, end);
        return;
      case 'splice':
        this.#carrier.splice.abort(end);
        return;
      case 'waiting':
        this.#pod.pool.withdraw(this.#carrier.key, this);
        this.#finish(end, 0, 0);
        return;
      case 'none':
        this.#finish(end, 0, 0);
        return;
      case 'closed':
    }
  }

  get facts(): ConnectionFacts {
    return this.#facts;
  }

  progress(): RecordOutcome | undefined {
    if (this.#facts.connectMs === undefined) return undefined;
    switch (this.#carrier.kind) {
      case 'stream': {
        const { stream } = this.#carrier;
        return ongoing(stream.bytesToTunnel, stream.bytesFromTunnel, stream.tunnel.health, this.#l7?.refresh());
      }
      case 'splice': {
        const { splice } = this.#carrier;
        return ongoing(splice.bytesToUpstream, splice.bytesToClient, splice.health, this.#l7?.refresh());
      }
      default:
        return undefined;
    }
  }

  recheck(): void {
    // Policies are enforced where a connection arrives.
  }

  get #greeting(): Uint8Array | undefined {
    return this.#voice === undefined ? undefined : VOICES[this.#voice].connected;
  }

  #read(): PlaintextTap | undefined {
    const { deps, l7Choice } = this.#pod;
    const port = (this.#facts.originalDestination ?? this.#facts.destination).port;
    this.#l7 = deps.l7.open(this.#facts, l7Choice, port, 'client');
    return this.#l7?.tap;
  }

  #tellOpen(): void {
    const { deps } = this.#pod;
    this.#facts.connectMs = deps.engine.nowMs - this.#sinceMs;
    deps.emit(this.#facts, OPENED);
  }

  #mayTryAnother(reason: ReasonCode): boolean {
    return this.#route?.kind === 'hops' && this.#attempts < MAX_ATTEMPTS && UNREACHED.has(reason);
  }

  /** The present hop failed: its next address or another hop, if that can help, else the end. */
  #fail(reason: ReasonCode, error: string): void {
    const hop = this.#hop;
    if (hop !== undefined && this.#route?.kind === 'hops' && this.#mayTryAnother(reason)) {
      if (this.#addresses.length > 0) {
        this.#attempts++;
        this.#dialNextAddress(hop);
        return;
      }
      this.#tried ??= new Set();
      this.#tried.add(hop);
      if (pickHop(this.#route, Math.random, this.#tried).kind === 'hop') {
        this.#tryHop();
        return;
      }
    }
    this.#finish(failed(reason, error), 0, 0);
  }

  /** No connection came to be. */
  #refuse(reason: ReasonCode, error: string): void {
    this.#close(reason);
    this.#pod.deps.emit(this.#facts, refused(reason, error));
  }

  #finish(end: StreamEnd, bytesToServer: number, bytesToClient: number, network?: Readonly<TcpHealth>): void {
    this.#close(end.kind === 'failed' ? end.reason : undefined);
    this.#pod.deps.emit(this.#facts, closed(end, bytesToServer, bytesToClient, network, this.#l7));
  }

  #close(reason: ReasonCode | undefined): void {
    if (this.#carrier.kind === 'closed') return;
    this.#carrier = CLOSED;
    const client = this.#client;
    this.#client = undefined;
    if (client !== undefined) this.#dismiss(client, reason);
    this.#pod.untrack(this);
  }

  /** Nothing was carried for this client. */
  #dismiss(client: Fd, reason: ReasonCode | undefined): void {
    if (this.#voice === undefined || reason === undefined) {
      closeWithReset(client);
      return;
    }
    const { receive } = this.#pod.deps.engine;
    const reply = VOICES[this.#voice].refused(reason);
    receive.bytes.set(reply, 0);
    send(client, receive, 0, reply.length);
    client.close();
  }
}
