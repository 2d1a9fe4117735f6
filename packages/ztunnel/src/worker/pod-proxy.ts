// One pod as one worker serves it: its listeners, its certificates as TLS contexts, its tunnels, the routes it asked for,
// the policies that guard it, and its live connections. The main thread decides what a pod is; this carries it out.
//
// Life: open --drain--> draining --last connection gone, or cut--> closed. Closing is reported once.
import type { PolicySet, ReasonCode, SocketAddress, Workload, WorkloadSummary } from '@ambit/mesh';
import {
  compilePolicies,
  formatBaggage,
  formatSpiffeId,
  type InboundRoute,
  type OutboundRoute,
  summarizeWorkload,
} from '@ambit/mesh';
import { type Fd, SysError, type TlsContext } from '@ambit/native';
import { type Engine, HbonePool } from '@ambit/proxy';
import { PodDns } from '../dns/pod-dns.ts';
import type { WorkerDns } from '../dns/worker-dns.ts';
import type { CertificateStore } from './certificate-store.ts';
import type { ConnectionFacts, RecordOutcome } from './connection-facts.ts';
import type { HostNames } from './host-names.ts';
import { InboundTunnel } from './inbound-tunnel.ts';
import { type L7Choice, parseL7Choice } from './l7-choice.ts';
import type { L7Desk } from './l7-desk.ts';
import { ConnectionListener } from './listener.ts';
import { OutboundConnection } from './outbound-connection.ts';
import { PassthroughConnection } from './passthrough-connection.ts';
import type { Reportable } from './progress.ts';
import type { Revocations } from './revocations.ts';
import { RouteCache } from './route-cache.ts';
import { SocketFactory } from './socket-factory.ts';
import { SocksConnection } from './socks-connection.ts';
import type { PodInfo, WorkerSettings } from '../worker-protocol.ts';

/** A connection of the pod as the pod sees it. */
export interface LiveConnection extends Reportable {
  /** End it now and say why. */
  cut(reason: ReasonCode, error: string): void;
  /** The pod's policies changed: end it if they do not allow it any more. */
  recheck(policies: PolicySet): void;
}

/** What a pod needs from its worker. */
export interface PodDeps {
  readonly engine: Engine;
  readonly settings: WorkerSettings;
  readonly certificates: CertificateStore;
  readonly revocations: Revocations;
  readonly askOutbound: (pod: PodProxy, key: string, source: SocketAddress, destination: SocketAddress) => void;
  readonly askInbound: (pod: PodProxy, key: string, connected: SocketAddress, authority: string) => void;
  /** Tells of a connection, if anybody wants to hear that kind of news. */
  readonly emit: (facts: ConnectionFacts, outcome: RecordOutcome) => void;
  readonly nextId: () => string;
  readonly dns: WorkerDns;
  readonly l7: L7Desk;
  readonly hosts: HostNames;
  readonly onNoFds: () => void;
  readonly onClosed: (pod: PodProxy) => void;
}

/** Why a pod could not be opened, as a reason code. */
export interface OpenFailure {
  readonly code: ReasonCode;
  readonly message: string;
}

export class PodProxy {
  /** Replaced when the pod is described otherwise; names and uid stay. */
  info: PodInfo;
  readonly deps: PodDeps;
  readonly sockets: SocketFactory;
  readonly pool: HbonePool;
  readonly dns: PodDns;
  readonly outboundRoutes = new RouteCache<OutboundRoute>();
  readonly inboundRoutes = new RouteCache<InboundRoute>();
  /** The pod's own workload; undefined until the mesh knows it. */
  workload: Workload | undefined;
  summary: WorkloadSummary | undefined;
  /** SPIFFE ID the pod presents; undefined while the workload is unknown. */
  identity: string | undefined;
  /** Value of the `baggage` header that describes the pod. */
  baggage = '';
  policies: PolicySet = compilePolicies([]);
  /** Whether connections to the application may carry the client's address. */
  isTransparent = false;
  /** Which of its connections are read. */
  l7Choice: L7Choice;
  readonly #live = new Set<LiveConnection>();
  readonly #tunnels = new Set<InboundTunnel>();
  readonly #awaitingWorkload = new Set<() => void>();
  #listeners: ConnectionListener[] = [];
  #state: 'open' | 'draining' | 'closed' = 'open';

  constructor(info: PodInfo, netnsFd: number | undefined, deps: PodDeps) {
    const { engine, settings } = deps;
    this.info = info;
    this.l7Choice = parseL7Choice(info.l7);
    this.deps = deps;
    this.sockets = new SocketFactory(settings, netnsFd);
    this.pool = new HbonePool(
      {
        engine,
        tunnelSettings: settings.clientTunnel,
        openSocket: family => this.sockets.open(family),
        clientContext: identity => deps.certificates.client(identity),
        isRevoked: certificates => deps.revocations.isRevoked(certificates, 'source'),
      },
      settings.pool,
    );
    this.dns = new PodDns(deps.dns, {
      uid: info.uid,
      sockets: this.sockets,
      workload: () => this.workload,
      onNoFds: deps.onNoFds,
      onClosed: () => this.#closeIfDone(),
    });
  }

  /** Opens all listeners, or none. Order as upstream: DNS, inbound, inbound plaintext, outbound, SOCKS5. */
  open(): OpenFailure | undefined {
    const { engine, settings, onNoFds } = this.deps;
    const { socks5 } = settings;
    const kinds: Array<[port: number, onAccepted: (fd: Fd) => void, address?: string]> = [
      [settings.ports.inbound, fd => InboundTunnel.accept(this, fd)],
      [settings.ports.inboundPlaintext, fd => PassthroughConnection.accept(this, fd)],
      [settings.ports.outbound, fd => OutboundConnection.accept(this, fd)],
    ];
    if (socks5 !== undefined) kinds.push([socks5.port, fd => SocksConnection.accept(this, fd), socks5.ip]);
    try {
      this.dns.open();
      for (const [port, onAccepted, address] of kinds) {
        const keeps = port === settings.ports.inbound ? 'no keepalive' : 'keepalive';
        const listener = this.sockets.listen(port, keeps, address);
        this.isTransparent = listener.transparent;
        this.#listeners.push(new ConnectionListener(engine, listener.fd, onAccepted, onNoFds));
      }
      return undefined;
    } catch (error) {
      this.#state = 'closed';
      this.#closeListeners();
      this.dns.close();
      this.sockets.close();
      return openFailure(error);
    }
  }

  describe(info: PodInfo): void {
    this.info = info;
    this.l7Choice = parseL7Choice(info.l7);
  }

  /** The mesh's present word on the pod. */
  update(workload: Workload | undefined, policies: PolicySet): void {
    this.workload = workload;
    this.policies = policies;
    if (workload !== undefined) {
      this.summary = summarizeWorkload(workload);
      this.identity = formatSpiffeId({
        trustDomain: workload.trustDomain,
        namespace: this.info.namespace,
        serviceAccount: this.info.serviceAccount,
      });
      this.baggage = formatBaggage(this.summary);
      const waiting = [...this.#awaitingWorkload];
      this.#awaitingWorkload.clear();
      for (const wake of waiting) wake();
    }
    for (const connection of Array.from(this.#live)) connection.recheck(policies);
  }

  /** Calls `then` once the workload is known (now, perhaps) or the wait is over; the caller looks again. */
  awaitWorkload(then: () => void): void {
    if (this.workload !== undefined) {
      then();
      return;
    }
    const { engine, settings } = this.deps;
    const wake = (): void => {
      engine.timers.cancel(timer);
      then();
    };
    const timer = engine.timers.at(engine.nowMs + settings.workloadWaitMs, () => {
      this.#awaitingWorkload.delete(wake);
      then();
    });
    this.#awaitingWorkload.add(wake);
  }

  /**
   * As `awaitWorkload`, and then for the first word on the pod's certificate: right after enrolment it is being signed, and
   * a connection that comes in between waits instead of failing.
   */
  awaitIdentity(then: () => void): void {
    this.awaitWorkload(() => {
      const { engine, settings, certificates } = this.deps;
      const identity = this.identity;
      if (identity === undefined || certificates.isKnown(identity)) {
        then();
        return;
      }
      const forget = certificates.onKnown(identity, () => {
        engine.timers.cancel(timer);
        then();
      });
      const timer = engine.timers.at(engine.nowMs + settings.workloadWaitMs, () => {
        forget();
        then();
      });
    });
  }

  /** Whether a connection may go on at once: workload and certificate are known. */
  get hasIdentity(): boolean {
    return this.identity !== undefined && this.deps.certificates.isKnown(this.identity);
  }

  /** Text of the error when `awaitWorkload` ended without one; upstream's words. */
  get unknownWorkloadError(): string {
    const { name, namespace, serviceAccount } = this.info;
    return `failed to fetch information about local workload: ${serviceAccount}.${namespace} (${name})`;
  }

  serverContext(): TlsContext | { readonly error: string } {
    return this.identity === undefined
      ? { error: `workload is unknown: ${this.info.serviceAccount}.${this.info.namespace} (${this.info.name})` }
      : this.deps.certificates.server(this.identity);
  }

  track(connection: LiveConnection): void {
    this.#live.add(connection);
  }

  untrack(connection: LiveConnection): void {
    this.#live.delete(connection);
    this.#closeIfDone();
  }

  trackTunnel(tunnel: InboundTunnel): void {
    this.#tunnels.add(tunnel);
    if (this.#state !== 'open') tunnel.drain();
  }

  untrackTunnel(tunnel: InboundTunnel): void {
    this.#tunnels.delete(tunnel);
    this.#closeIfDone();
  }

  get inboundTunnels(): Iterable<InboundTunnel> {
    return this.#tunnels;
  }

  get connections(): Iterable<LiveConnection> {
    return this.#live;
  }

  get connectionCount(): number {
    return this.#live.size;
  }

  get tunnelCount(): number {
    return this.#tunnels.size + this.pool.tunnelCount;
  }

  /** Sockets that were accepted and are open: of the pod's own connections, or of those that come to it. */
  acceptedSockets(reporter: 'source' | 'destination'): number {
    let count = reporter === 'source' ? 0 : this.#tunnels.size;
    for (const { facts } of this.#live) {
      if (facts === undefined) continue;
      // What comes through a tunnel has the tunnel's socket, and none of its own.
      if (
        reporter === 'source'
          ? facts.direction === 'outbound'
          : facts.direction === 'inbound' && facts.protocol === 'TCP'
      )
        count++;
    }
    return count;
  }

  forgetRoutes(): void {
    this.outboundRoutes.forget();
    this.inboundRoutes.forget();
  }

  /** Cuts tunnels, of either role, whose peer's certificate has been revoked. */
  recheckRevocations(): void {
    for (const tunnel of Array.from(this.#tunnels)) tunnel.recheckRevocations();
    this.pool.recheckRevocations();
  }

  /** Stops accepting; what runs may run on until `force`. */
  drain(): void {
    if (this.#state !== 'open') return;
    this.#state = 'draining';
    this.#closeListeners();
    for (const tunnel of Array.from(this.#tunnels)) tunnel.drain();
    this.pool.drain();
    this.dns.drain();
    this.#closeIfDone();
  }

  /** Ends everything that still runs. */
  force(reason: ReasonCode, error: string): void {
    this.drain();
    this.dns.close();
    for (const connection of Array.from(this.#live)) connection.cut(reason, error);
    for (const tunnel of Array.from(this.#tunnels)) tunnel.destroy(reason, error);
    this.pool.close(reason, error);
    this.#closeIfDone();
  }

  get isClosed(): boolean {
    return this.#state === 'closed';
  }

  #closeListeners(): void {
    for (const listener of this.#listeners) listener.close();
    this.#listeners = [];
  }

  #closeIfDone(): void {
    if (this.#state !== 'draining' || this.#live.size > 0 || this.#tunnels.size > 0 || !this.dns.isClosed) return;
    this.#state = 'closed';
    this.pool.close('drain.pod_removed', 'pool draining');
    this.sockets.close();
    this.deps.onClosed(this);
  }
}

function openFailure(error: unknown): OpenFailure {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof SysError && error.code === 'EADDRINUSE') return { code: 'enrol.port_taken', message };
  if (error instanceof SysError && error.call === 'setns') return { code: 'enrol.netns_gone', message };
  return { code: 'enrol.failed', message };
}
