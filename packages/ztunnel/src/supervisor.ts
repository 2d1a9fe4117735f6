// Owns the data workers: starts them, tells each everything it must know, answers their questions, replaces one that
// dies with the full state sent again. The mesh view and the certificates are other people's; this only passes on what
// follows from them. The work is done in supervisor/; this is the one door, and says who hears what.
import type { DnsSettings, Ip } from '@ambit/mesh';
import type { ConnectionRecord, RequestRecord } from '@ambit/proxy';
import type { Clock } from './clock.ts';
import type { DnsPodCounts, DnsRecord, ResolverSet } from './dns/dns-messages.ts';
import { ZtunnelError } from './errors.ts';
import type { CertificateState } from './identity/certificate-manager.ts';
import type { Logger } from './log.ts';
import type { WorkerAnswers, WorkerQuestion } from './admin/worker-questions.ts';
import { Asking } from './supervisor/asking.ts';
import { DnsDesk, type NamedMesh } from './supervisor/dns-desk.ts';
import { certificateMessage, type IdentityStore } from './supervisor/identity-users.ts';
import type { OpenFailure } from './supervisor/pod-record.ts';
import { Pods } from './supervisor/pods.ts';
import { Rebalancing } from './supervisor/rebalancing.ts';
import type { RouteOptions } from './supervisor/route-answers.ts';
import { RouteDesk } from './supervisor/route-desk.ts';
import { Telling } from './supervisor/telling.ts';
import type { WorkerLink } from './supervisor/worker-link.ts';
import { type WorkerNews, Workers } from './supervisor/workers.ts';
import type { PodInfo, RequestReaders, ToWorker, WorkerSettings } from './worker-protocol.ts';
import type { RecordReaders } from './worker-settings.ts';

export interface SupervisorDeps {
  readonly view: NamedMesh;
  readonly identities: IdentityStore;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly onRecords: (records: readonly ConnectionRecord[]) => void;
  /** A worker ended, and its connections with it: they have no last record. */
  readonly onWorkerGone?: (index: number) => void;
  readonly onRequests?: (requests: readonly RequestRecord[]) => void;
  readonly onDnsRecords?: (records: readonly DnsRecord[]) => void;
  readonly onDnsCounts?: (counts: readonly DnsPodCounts[]) => void;
  /**
   * Finds out about a destination before a route to it is decided. Undefined when the mesh can be believed as it is; else
   * whether it can be now.
   */
  readonly lookup?: (destination: Ip) => Promise<boolean> | undefined;
}

/** What an update of the mesh touched. */
export interface MeshChange {
  readonly addresses: boolean;
  readonly policies: boolean;
}

export interface SupervisorOptions {
  readonly entry: URL;
  readonly workers: number;
  readonly settings: WorkerSettings;
  readonly routes: RouteOptions;
  readonly names: DnsSettings;
  /** How long a worker may take to open a pod, and to start where `startTimeoutMs` says nothing else. */
  readonly answerTimeoutMs: number;
  /** Workers start beside the reading of the mesh, on a machine that may be starting everything else too. */
  readonly startTimeoutMs?: number;
}

/** Counted since the start; gauges say so. */
export interface SupervisorStats {
  readonly workersReplaced: number;
  /** Gauge. */
  readonly pods: number;
  readonly podsOpened: number;
  readonly podsFailed: number;
  readonly podsClosed: number;
  /** Live tunnels handed from a busy worker to an idle one. */
  readonly tunnelsMoved: number;
  /** Routes refused because the control plane did not say in time what a destination is. */
  readonly lookupsFailed: number;
}

/** Counters and gauges by name. Counters begin anew with a worker that replaces another. */
export type WorkerStats = Readonly<Record<string, number>>;

const STOP_GRACE_MS = 2000;
/** `stats` that are not asked for to compare loads. */
const NO_ROUND = -1;

export class Supervisor {
  readonly #deps: SupervisorDeps;
  readonly #options: SupervisorOptions;
  readonly #workers: Workers;
  readonly #pods: Pods;
  readonly #routes: RouteDesk;
  readonly #names: DnsDesk;
  readonly #rebalancing: Rebalancing;
  readonly #telling: Telling;
  readonly #workerStats = new Map<number, WorkerStats>();
  readonly #asking: Asking;
  #readers: RecordReaders | undefined;
  #requestReaders: RequestReaders = 'none';
  #revocations: readonly string[] = [];
  #resolvers: ResolverSet | undefined;
  #mode: 'new' | 'running' | 'draining' | 'stopped' = 'new';

  constructor(deps: SupervisorDeps, options: SupervisorOptions) {
    const { clock, log } = deps;
    this.#deps = deps;
    this.#options = options;
    this.#workers = new Workers(deps, options, {
      onNews: (link, news) => this.#onNews(link, news),
      onGone: index => {
        this.#pods.onWorkerGone(index);
        this.#asking.onWorkerGone();
        deps.onWorkerGone?.(index);
      },
      onJoined: link => this.#replay(link),
    });
    this.#pods = new Pods({ ...deps, accepts: () => this.#mode === 'running' }, this.#workers, options.answerTimeoutMs);
    this.#routes = new RouteDesk({ ...deps, podOf: uid => this.#pods.info(uid) }, options.routes);
    const broadcast = (message: ToWorker): void => this.#workers.broadcast(message);
    this.#names = new DnsDesk({ ...deps, podOf: uid => this.#pods.info(uid), broadcast }, options.names);
    this.#rebalancing = new Rebalancing(clock, log, this.#workers);
    this.#telling = new Telling(clock, this.#workers);
    this.#asking = new Asking(clock, this.#workers);
  }

  get stats(): SupervisorStats {
    return {
      ...this.#pods.counts,
      pods: this.#pods.size,
      workersReplaced: this.#workers.replaced,
      tunnelsMoved: this.#rebalancing.moved,
      lookupsFailed: this.#routes.lookupsFailed,
    };
  }

  /** Resolves once one of the workers is ready: pods that are opened now are served, by the others as they come. */
  get serving(): Promise<void> {
    return this.#workers.serving;
  }

  /** Starts all workers. @throws worker.died when one does not get ready in time */
  async start(): Promise<void> {
    const { answerTimeoutMs, startTimeoutMs = answerTimeoutMs, workers, settings } = this.#options;
    this.#mode = 'running';
    const ready = this.#workers.start(startTimeoutMs);
    if (this.#resolvers !== undefined) this.#workers.broadcast({ type: 'resolvers', set: this.#resolvers });
    if (await ready) {
      if (this.#mode === 'running' && workers > 1 && settings.tlsRecords === 'own') this.#rebalancing.start();
      return;
    }
    await this.stop();
    throw new ZtunnelError('worker.died', `not all data workers were ready within ${startTimeoutMs} ms`);
  }

  /** The pod of that uid, while it is open. */
  podInfo(uid: string): PodInfo | undefined {
    return this.#pods.info(uid);
  }

  /**
   * Opens a pod on every worker. The caller owns `netnsFd` and keeps it open until `closePod` resolves, or until this
   * reports a failure. A pod of the same uid must have been closed before; its end is waited for.
   */
  openPod(pod: PodInfo, netnsFd: number | undefined): Promise<OpenFailure | undefined> {
    return this.#pods.open(pod, netnsFd);
  }

  /** What is said of an open pod changed, but not who it is. Unknown uids are fine. */
  describePod(pod: PodInfo): void {
    this.#pods.describe(pod);
  }

  /** Closes a pod on every worker; resolves when the last connection has ended. Unknown uids are fine. */
  closePod(uid: string, mode: 'graceful' | 'immediate', deadlineMs: number): Promise<void> {
    return this.#pods.close(uid, mode, deadlineMs);
  }

  /** The mesh changed: own workloads, policies and routes of all pods follow. Pods that are not concerned hear nothing. */
  onMeshChanged(change: MeshChange = { addresses: true, policies: true }): void {
    const isChanged = change.addresses || change.policies;
    if (isChanged) this.#pods.pushStates();
    if (this.#routes.takeUnsure() || isChanged) this.#workers.broadcast({ type: 'forgetRoutes' });
    this.#forgetNames();
    if (change.addresses) this.#names.wake();
  }

  /** The search list that resolvers append, in dedicated mode; undefined: that of a pod. */
  setSearchDomains(domains: readonly string[] | undefined): void {
    this.#names.setSearchDomains(domains);
    this.#workers.broadcast({ type: 'forgetNames', stale: { kind: 'all' } });
  }

  /** Where questions go that are not about the mesh. */
  setResolvers(set: ResolverSet): void {
    this.#resolvers = set;
    this.#workers.broadcast({ type: 'resolvers', set });
  }

  /** The revoked certificates, all of them. */
  setRevocations(keys: readonly string[]): void {
    this.#revocations = keys;
    this.#workers.broadcast({ type: 'revocations', keys });
  }

  /** A certificate was issued, renewed or lost. */
  onCertificate(identity: string, state: CertificateState): void {
    const message = certificateMessage(identity, state);
    if (message !== undefined) this.#workers.broadcast(message);
  }

  /** Which single requests `onRequests` hears of from now on; none until it is said. */
  setRequestReaders(readers: RequestReaders): void {
    this.#requestReaders = readers;
    this.#workers.broadcast({ type: 'requestReaders', readers });
  }

  /** What each worker said last of itself. */
  get workerStats(): ReadonlyMap<number, WorkerStats> {
    return this.#workerStats;
  }

  /** Asks the workers for `workerStats`; they are there by the time a `flushRecords` that follows has ended well. */
  refreshStats(): void {
    this.#workers.broadcast({ type: 'stats', id: NO_ROUND });
  }

  /** Has `onRecords` hear all that workers know by now; false when one did not answer within `timeoutMs`. */
  flushRecords(timeoutMs: number): Promise<boolean> {
    return this.#telling.all(timeoutMs);
  }

  /** Who reads what, from now on; the settings of the start say it until then. */
  setReaders(readers: RecordReaders): void {
    this.#readers = readers;
    this.#workers.broadcast({ type: 'readers', ...readers });
  }

  /** Puts a question of the admin endpoint to all workers; those that do not answer within `timeoutMs` are left out. */
  ask(question: WorkerQuestion, timeoutMs: number): Promise<WorkerAnswers> {
    return this.#asking.ask(question, timeoutMs);
  }

  /** Pods and how far they are. */
  get pods(): readonly { readonly pod: PodInfo; readonly phase: 'opening' | 'open' | 'closing' }[] {
    return this.#pods.list();
  }

  /** Stops accepting everywhere and lets connections finish. Resolves when all workers are done or the deadline has passed. */
  async drain(deadlineMs: number): Promise<void> {
    if (this.#mode !== 'running') return;
    this.#mode = 'draining';
    this.#rebalancing.stop();
    // The workers keep the deadline themselves; the margin is for the answer to arrive.
    if (await this.#workers.drain(deadlineMs, deadlineMs + STOP_GRACE_MS)) return;
    this.#deps.log.warn('drain duration expired with pending connections, forcefully shutting down');
  }

  /** Ends all workers. */
  async stop(): Promise<void> {
    this.#mode = 'stopped';
    this.#rebalancing.stop();
    await this.#workers.stop(STOP_GRACE_MS);
    this.#pods.abandon();
  }

  #onNews(link: WorkerLink, news: WorkerNews): void {
    switch (news.type) {
      case 'podOpened':
        this.#pods.onOpened(link, news.uid, news.error);
        return;
      case 'podClosed':
        this.#pods.onClosed(link.index, news.uid);
        return;
      case 'needOutboundRoute':
        this.#routes.outbound(link, news);
        return;
      case 'needInboundRoute':
        this.#routes.inbound(link, news);
        return;
      case 'missCertificate':
        this.#deps.identities.need(news.identity);
        return;
      case 'records':
        link.send({ type: 'recordsTaken' });
        this.#deps.onRecords(news.records);
        return;
      case 'requests':
        link.send({ type: 'requestsTaken' });
        this.#deps.onRequests?.(news.requests);
        return;
      case 'told':
        this.#telling.onTold(link.index, news.id);
        return;
      case 'answer':
        this.#asking.onAnswer(link.index, news.id, news.answer);
        return;
      case 'needDns':
        this.#names.answer(link, news);
        return;
      case 'dnsRecords':
        link.send({ type: 'dnsRecordsTaken' });
        this.#deps.onDnsRecords?.(news.records);
        return;
      case 'dnsCounts':
        link.send({ type: 'dnsCountsTaken' });
        this.#deps.onDnsCounts?.(news.counts);
        return;
      case 'frozen':
        this.#rebalancing.onFrozen(link, news.tunnel);
        return;
      case 'stats':
        this.#workerStats.set(link.index, news.stats);
        this.#rebalancing.onStats(link, news.id, news.stats);
        return;
      case 'frozenAll':
        // The answer to a question this version does not ask.
        return;
    }
  }

  /** Before anything that is decided by the new view: messages keep their order. */
  #forgetNames(): void {
    const stale = this.#names.takeStale();
    if (stale !== undefined) this.#workers.broadcast({ type: 'forgetNames', stale });
  }

  /** Everything a fresh worker must know. */
  #replay(link: WorkerLink): void {
    // Before anything that could let a connection in.
    if (this.#revocations.length > 0) link.send({ type: 'revocations', keys: this.#revocations });
    if (this.#resolvers !== undefined) link.send({ type: 'resolvers', set: this.#resolvers });
    const bits = this.#names.labels;
    if (bits !== undefined) link.send({ type: 'meshLabels', bits });
    if (this.#requestReaders !== 'none') link.send({ type: 'requestReaders', readers: this.#requestReaders });
    if (this.#readers !== undefined) link.send({ type: 'readers', ...this.#readers });
    this.#pods.replay(link);
  }
}
