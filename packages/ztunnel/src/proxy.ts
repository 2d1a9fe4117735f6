// One life of the node proxy: makes its parts and wires them, in upstream's order of start and drain.
import { MeshState } from '@ambit/mesh';
import { releaseMemory, setOpenFileLimitToMax } from '@ambit/native';
import { AccessLog } from './access-log-writer.ts';
import { type AdminServer, serveAdmin } from './admin/admin-server.ts';
import { Life } from './admin/life-report.ts';
import type { PodReport } from './admin/pod-shapes.ts';
import { checkCapabilities } from './capabilities.ts';
import { systemClock } from './clock.ts';
import type { Config, Environment } from './config.ts';
import { logQueries } from './dns/query-log.ts';
import { ResolverFile } from './dns/resolver-file.ts';
import { errorText, ZtunnelError } from './errors.ts';
import type { CertificateAuthority } from './identity/certificate-authority.ts';
import { CertificateManager, type CertificateState } from './identity/certificate-manager.ts';
import { NO_AUTHORITY } from './identity/open-authority.ts';
import { certificateFacts } from './insight/certificate-facts.ts';
import { InsightDesk, type Interest } from './insight/insight-desk.ts';
import { insightRoutes } from './insight/insight-routes.ts';
import type { Fields, Log, Logger } from './log.ts';
import { loadMesh, readStaticMesh, type StopWatching } from './mesh-source.ts';
import { ZtunnelMetrics } from './metrics/ztunnel-metrics.ts';
import type { OtlpSender } from './otlp/otlp-sender.ts';
import { addAccessLogMetrics, addOtlpMetrics } from './otlp/self-metrics.ts';
import { READINESS_PORT } from './ports.ts';
import { withRequestSource, withSource } from './record-enrichment.ts';
import { Readiness, serveReadiness } from './readiness.ts';
import { RecordStream } from './record-stream.ts';
import { RevocationList } from './revocation/revocation-list.ts';
import type { Shutdown } from './shutdown.ts';
import { announceStart, proxyVersion } from './start-announcement.ts';
import type { HttpListener } from './stats/http-listener.ts';
import { serveStats } from './stats/stats-server.ts';
import { Supervisor } from './supervisor.ts';
import { illegalPorts, type RecordReaders, workerSettings } from './worker-settings.ts';
import type { XdsSource } from './xds/xds-source.ts';
import type { ZdsRunner } from './zds/run-zds.ts';

export interface ProxyOptions {
  readonly workerEntry?: URL;
  /** The environment, for the process that sends telemetry. */
  readonly env?: Environment;
  readonly readinessPort?: number;
  readonly statsPort?: number;
  /** Log lines lost so far. */
  readonly logLinesDropped?: () => number;
}

const ANSWER_TIMEOUT_MS = 10_000;
/** How long a scrape waits for workers to tell what they know. */
const FLUSH_MS = 200;
const TIDY_MS = 4000;
/** For telemetry that is still to be sent when the proxy ends. */
const OTLP_FLUSH_MS = 1000;
const POD_STATES = { opening: 'Pending', open: 'Up', closing: 'Draining' } as const;

/** Parts are released in reverse order of their start. */
export class Proxy {
  readonly #config: Config;
  readonly #log: Log;
  readonly #options: ProxyOptions;
  readonly #readiness: Readiness;
  readonly #certificates: CertificateManager;
  readonly #state: MeshState;
  readonly #supervisor: Supervisor;
  readonly #metrics: ZtunnelMetrics;
  readonly #records: RecordStream | undefined;
  readonly #access: AccessLog;
  readonly #revocations: RevocationList | undefined;
  readonly #resolvers: ResolverFile;
  readonly #life: Life;
  readonly #insight: InsightDesk;
  #interest: Interest = { connections: false, requests: false };
  #otlp: OtlpSender | undefined;
  #xds: XdsSource | undefined;
  #zds: ZdsRunner | undefined;

  constructor(config: Config, log: Log, authority: CertificateAuthority, options: ProxyOptions) {
    this.#config = config;
    this.#log = log;
    this.#options = options;
    this.#readiness = new Readiness({ log: log.scope('ztunnel::readiness'), now: systemClock.now });
    this.#life = new Life({ now: systemClock.now, pending: () => this.#readiness.pending });
    this.#state = new MeshState({ localNode: config.nodeName });
    this.#certificates = new CertificateManager({
      authority,
      clock: systemClock,
      random: Math.random,
      onChange: (identity, state) => this.#onCertificate(identity, state),
      log: log.scope('ztunnel::identity'),
    });
    const queries = log.scope('dns');
    this.#records = config.recordsPath === undefined ? undefined : RecordStream.open(config.recordsPath);
    this.#access = new AccessLog(
      {
        connections: log.scope('access'),
        requests: log.scope('access.l7'),
        log: log.scope('ztunnel::access'),
        clock: systemClock,
        onLine: (scope, line, traceId) => this.#otlp?.line(scope, line, traceId),
      },
      config.accessLog,
    );
    this.#supervisor = new Supervisor(
      {
        view: this.#state,
        identities: this.#certificates,
        clock: systemClock,
        random: Math.random,
        log: log.scope('ztunnel::supervisor'),
        lookup: destination => this.#xds?.lookup?.prepare(destination),
        onRecords: records => {
          const complete = records.map(record => withSource(record, this.#state, config.network));
          for (const record of complete) {
            this.#metrics.fold(record);
            this.#access.connection(record);
            this.#records?.write(record);
          }
          this.#insight.onRecords(complete);
        },
        onDnsCounts: counts => this.#metrics.foldDns(counts),
        onRequests: requests => {
          const complete = requests.map(told => withRequestSource(told, this.#state, config.network));
          for (const told of complete) {
            this.#access.request(told);
            this.#otlp?.request(told);
          }
          this.#insight.onRequests(complete);
        },
        onDnsRecords: records => logQueries(queries, records, uid => this.#supervisor.podInfo(uid)),
      },
      {
        entry: options.workerEntry ?? new URL('./worker/main.ts', import.meta.url),
        workers: config.workers,
        settings: workerSettings(config, this.#readers()),
        routes: {
          network: config.network,
          illegalPorts: new Set(illegalPorts(config)),
          preserveSource: config.originalSource !== false,
          localhostAppTunnel: config.localhostAppTunnel,
        },
        names: {
          clusterDomain: config.clusterDomain.toLowerCase(),
          ipv6: config.ipv6Enabled,
          preferredNamespace: config.preferredServiceNamespace,
          searchDomains: undefined,
        },
        answerTimeoutMs: ANSWER_TIMEOUT_MS,
      },
    );
    this.#metrics = this.#makeMetrics();
    addAccessLogMetrics(this.#metrics.registry, () => this.#access.stats);
    this.#insight = new InsightDesk({
      clock: systemClock,
      node: config.nodeName,
      certificates: () => certificateFacts(this.#certificates.identityStates()),
      onInterest: interest => {
        this.#interest = interest;
        this.#tellReaders();
      },
      log: log.scope('ztunnel::insight'),
    });
    log.follow(() => this.#tellReaders());
    this.#resolvers = new ResolverFile(config.resolvConf, {
      log: log.scope('ztunnel::dns'),
      onChange: conf => {
        this.#supervisor.setResolvers(conf.set);
        if (config.proxyMode === 'dedicated') this.#supervisor.setSearchDomains(conf.search);
      },
    });
    this.#revocations =
      config.crlPath === undefined
        ? undefined
        : new RevocationList(config.crlPath, {
            log: log.scope('ztunnel::revocation'),
            onChange: keys => this.#supervisor.setRevocations(keys),
            onUsable: () => this.#readiness.clear('revocation list'),
          });
  }

  /** From start to the end of the drain. @throws ZtunnelError and system errors of the start */
  async run(shutdown: Shutdown): Promise<void> {
    const log = this.#log.scope('ztunnel::app');
    announceStart(this.#config, log);
    raiseOpenFileLimit(log);
    this.#readiness.block('state manager');
    this.#readiness.block('proxy');
    if (this.#config.dnsProxy !== undefined) this.#readiness.block('dns proxy');
    if (this.#revocations !== undefined) this.#readiness.block('revocation list');
    if (this.#config.devCa === undefined && this.#config.ca === undefined) {
      this.#readiness.block('certificates');
      log.error(NO_AUTHORITY, [['err.code', 'identity.unavailable']]);
    }
    let stopWatching: StopWatching = () => undefined;
    let readiness: HttpListener | undefined;
    let stats: HttpListener | undefined;
    let admin: AdminServer | undefined;
    try {
      readiness = await serveReadiness(this.#readiness, {
        port: this.#options.readinessPort ?? READINESS_PORT,
        ipv6: this.#config.ipv6Enabled,
        address: this.#config.bindAddress,
      });
      admin = await this.#serveAdmin(shutdown);
      stats = await this.#serveStats();
      stopWatching = await this.#loadMesh();
      this.#resolvers.start();
      await this.#startOtlp();
      await this.#supervisor.start();
      this.#tellReaders();
      await this.#revocations?.start();
      if (await this.#followControlPlane(shutdown)) {
        this.#zds = await this.#startServing();
        this.#readiness.clear('proxy');
        this.#readiness.clear('dns proxy');
        this.#life.serve();
        // The start leaves garbage behind (compiled text, parsed files) that a quiet proxy would keep for ever.
        setTimeout(releaseMemory, TIDY_MS).unref();
      }
      const cause = await shutdown.requested;
      this.#life.drain(cause);
      log.info('Shutdown requested, draining', [['cause', cause]]);
      this.#zds?.stop();
      stopWatching();
      const drained = Promise.all([readiness.close(), this.#supervisor.drain(this.#config.terminationDeadlineMs)]);
      await Promise.race([drained, shutdown.insisted]);
      log.info('shutdown complete');
    } finally {
      this.#zds?.stop();
      stopWatching();
      this.#revocations?.close();
      this.#resolvers.stop();
      await this.#xds?.stop();
      this.#certificates.stop();
      await this.#supervisor.stop();
      this.#access.close();
      await this.#otlp?.close(OTLP_FLUSH_MS);
      await this.#records?.close();
      this.#metrics.close();
      this.#insight.close();
      void admin?.close();
      void stats?.close();
      // A second close does nothing; one that still waits for a client does not hold up the end.
      void readiness?.close();
    }
  }

  #makeMetrics(): ZtunnelMetrics {
    const { istioVersion, proxyMode, metricsMaxSeries, metricsIdleMs } = this.#config;
    return new ZtunnelMetrics(
      {
        clock: systemClock,
        workerStats: () => this.#supervisor.workerStats,
        readings: {
          istioVersion,
          version: proxyVersion(),
          isShared: proxyMode === 'shared',
          supervisor: () => this.#supervisor.stats,
          pendingPods: () => this.#zds?.pending().length ?? 0,
          xds: () => {
            const status = this.#xds?.status;
            return status === undefined ? undefined : { status, stats: status.stats };
          },
          certificates: () => ({
            stats: this.#certificates.stats,
            identities: this.#certificates.identityStates(),
          }),
          logLinesDropped: this.#options.logLinesDropped ?? (() => 0),
          streamedRecordsDropped: () => this.#records?.dropped ?? 0,
        },
      },
      { maxSeries: metricsMaxSeries, idleMs: metricsIdleMs },
    );
  }

  /** Who sends nothing to a collector does not pay for it. */
  async #startOtlp(): Promise<void> {
    const { otlp } = this.#config;
    if (otlp === undefined) return;
    const { OtlpSender: Sender } = await import('./otlp/otlp-sender.ts');
    const { registry } = this.#metrics;
    this.#otlp = new Sender(
      {
        clock: systemClock,
        random: Math.random,
        log: this.#log.scope('ztunnel::otlp'),
        registry,
        refresh: () => this.#refreshMetrics(),
        env: { ...(this.#options.env ?? process.env) },
        version: proxyVersion(),
      },
      otlp,
    );
    addOtlpMetrics(registry, this.#otlp);
    this.#otlp.start();
  }

  /** Has workers tell what they know. */
  async #refreshMetrics(): Promise<void> {
    this.#supervisor.refreshStats();
    await this.#supervisor.flushRecords(FLUSH_MS);
  }

  /** As with the admin port: one that is taken costs the view, never the service. */
  async #serveStats(): Promise<HttpListener | undefined> {
    const { ipv6Enabled, bindAddress } = this.#config;
    const port = this.#options.statsPort ?? this.#config.statsPort;
    const refresh = (): Promise<void> => this.#refreshMetrics();
    try {
      const listen = { port, ipv6: ipv6Enabled, address: bindAddress };
      return await serveStats({ registry: this.#metrics.registry, refresh }, listen);
    } catch (error) {
      const fields: Fields = [
        ['port', port],
        ['error', errorText(error)],
      ];
      this.#log.scope('ztunnel::stats').warn('Cannot open the port of metrics', fields);
      return undefined;
    }
  }

  /** People can look from the start on. A port that is taken costs the view, never the service. */
  async #serveAdmin(shutdown: Shutdown): Promise<AdminServer | undefined> {
    const { adminPort, ipv6Enabled, bindAddress } = this.#config;
    const deps = {
      state: this.#state,
      certificates: this.#certificates,
      config: this.#config,
      pods: () => this.#podReports(),
      workers: {
        count: this.#config.workers,
        ask: this.#supervisor.ask.bind(this.#supervisor),
      },
      staticMesh: () => readStaticMesh(this.#config),
      xds: () => this.#xds?.status,
      version: proxyVersion(),
      log: this.#log,
      life: () => this.#life.report,
      quit: () => shutdown.request('/quitquitquit'),
      now: systemClock.now,
      more: insightRoutes(this.#insight, () => this.#supervisor.flushRecords(FLUSH_MS)),
    };
    try {
      return await serveAdmin(deps, { port: adminPort, ipv6: ipv6Enabled, address: bindAddress });
    } catch (error) {
      const fields: Fields = [
        ['port', adminPort],
        ['error', errorText(error)],
      ];
      this.#log.scope('ztunnel::admin').warn('Cannot open the admin port', fields);
      return undefined;
    }
  }

  #podReports(): readonly PodReport[] {
    const known = this.#supervisor.pods.map(({ pod, phase }) => ({ pod, state: POD_STATES[phase] }));
    const waiting = (this.#zds?.pending() ?? []).filter(({ uid }) => !known.some(({ pod }) => pod.uid === uid));
    return [...known, ...waiting.map(pod => ({ pod, state: 'Pending' as const }))];
  }

  /** Workers tell only what somebody reads; what that is changes with the log's levels. */
  #tellReaders(): void {
    this.#supervisor.setReaders(this.#readers());
    const wantsAll = this.#interest.requests || this.#log.scope('access.l7').isEnabled('error');
    const wantsTraced = this.#otlp?.wantsRequests === true;
    this.#supervisor.setRequestReaders(wantsAll ? 'all' : wantsTraced ? 'traced' : 'none');
  }

  /** What is read beyond the records that metrics are made of. Follows the log's levels. */
  #readers(): RecordReaders {
    return {
      opens: this.#records !== undefined || this.#interest.connections || this.#log.scope('access').isEnabled('debug'),
      queries: this.#log.scope('dns').isEnabled('debug'),
    };
  }

  async #loadMesh(): Promise<StopWatching> {
    const log = this.#log.scope('ztunnel::state');
    const onChange = (): void => this.#supervisor.onMeshChanged();
    return await loadMesh({ state: this.#state, log, onChange }, this.#config);
  }

  /** Until the first state of the control plane is there no pod is served; false when the end came first. */
  async #followControlPlane(shutdown: Shutdown): Promise<boolean> {
    const { xds } = this.#config;
    let isReady = true;
    if (xds !== undefined) {
      // Loaded here and not above: whoever has no control plane needs neither HTTP/2 nor the schemas.
      const { startXds } = await import('./xds/xds-source.ts');
      this.#xds = startXds(
        {
          state: this.#state,
          prefetcher: this.#certificates,
          onChange: change => this.#supervisor.onMeshChanged(change),
          clock: systemClock,
          random: Math.random,
          log: this.#log.scope('ztunnel::xds'),
        },
        xds,
        this.#config,
      );
      isReady = await Promise.race([this.#xds.ready.then(() => true), shutdown.requested.then(() => false)]);
    }
    if (isReady) this.#readiness.clear('state manager');
    return isReady;
  }

  #onCertificate(identity: string, state: CertificateState): void {
    this.#supervisor.onCertificate(identity, state);
    if (this.#revocations === undefined || state.kind !== 'available') return;
    const bundles = this.#certificates
      .snapshot()
      .flatMap(([, each]) => (each.kind === 'available' ? [each.certificate.material.rootsPem] : []));
    this.#revocations.setIssuers([...new Set(bundles)].sort().join(''));
  }

  async #startServing(): Promise<ZdsRunner | undefined> {
    const { dedicatedWorkload, packetMark, inpodUds } = this.#config;
    if (dedicatedWorkload !== undefined) {
      const failure = await this.#supervisor.openPod({ uid: 'dedicated', ...dedicatedWorkload }, undefined);
      if (failure !== undefined)
        throw new ZtunnelError('enrol.failed', `cannot open the proxy's ports: ${failure.message}`);
      return undefined;
    }
    checkCapabilities(packetMark);
    this.#readiness.block('workload proxy manager');
    // Loaded here and not above: the protobuf library is 10 MB that dedicated mode has no use for.
    const { runZds } = await import('./zds/run-zds.ts');
    return runZds(inpodUds, this.#supervisor, this.#readiness, this.#log.scope('ztunnel::inpod'));
  }
}

/** A connection takes two descriptors, and what a shell or a container starts with is for a thousand. */
function raiseOpenFileLimit(log: Logger): void {
  try {
    setOpenFileLimitToMax();
  } catch (error) {
    log.warn('Cannot raise the limit of open files', [['error', errorText(error)]]);
  }
}
