// One life of the node proxy: makes its parts and wires them, in upstream's order of start and drain.
import { flushCompileCache } from 'node:module';
import { MeshState } from '@ambit/mesh';
import { releaseMemory, setOpenFileLimitToMax } from '@ambit/native';
import { type AdminServer, serveAdmin } from './admin/admin-server.ts';
import { Life } from './admin/life-report.ts';
import type { PodReport } from './admin/pod-shapes.ts';
import { checkCapabilities } from './capabilities.ts';
import { systemClock } from './clock.ts';
import type { Config, Environment } from './config.ts';
import { ResolverFile } from './dns/resolver-file.ts';
import { errorText, ZtunnelError } from './errors.ts';
import type { CertificateAuthority } from './identity/certificate-authority.ts';
import { CertificateManager, type CertificateState } from './identity/certificate-manager.ts';
import { NO_AUTHORITY } from './identity/open-authority.ts';
import { insightRoutes } from './insight/insight-routes.ts';
import type { Fields, Log, Logger } from './log.ts';
import { loadMesh, readStaticMesh, type StopWatching } from './mesh-source.ts';
import { READINESS_PORT } from './ports.ts';
import { Readiness, serveReadiness } from './readiness.ts';
import { RevocationList } from './revocation/revocation-list.ts';
import type { Shutdown } from './shutdown.ts';
import { announceStart, proxyVersion } from './start-announcement.ts';
import type { HttpListener } from './stats/http-listener.ts';
import { serveStats } from './stats/stats-server.ts';
import { Supervisor } from './supervisor.ts';
import { Telemetry } from './telemetry/telemetry.ts';
import { illegalPorts, workerSettings } from './worker-settings.ts';
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
const START_TIMEOUT_MS = 30_000;
const FLUSH_MS = 500;
const TIDY_MS = 4000;
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
  readonly #telemetry: Telemetry;
  readonly #revocations: RevocationList | undefined;
  readonly #resolvers: ResolverFile;
  readonly #life: Life;
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
    this.#telemetry = this.#makeTelemetry();
    this.#supervisor = new Supervisor(
      {
        view: this.#state,
        identities: this.#certificates,
        clock: systemClock,
        random: Math.random,
        log: log.scope('ztunnel::supervisor'),
        lookup: destination => this.#xds?.lookup?.prepare(destination),
        onRecords: records => this.#telemetry.onRecords(records),
        onWorkerGone: index => this.#telemetry.onWorkerGone(index),
        onRequests: requests => this.#telemetry.onRequests(requests),
        onDnsCounts: counts => this.#telemetry.onDnsCounts(counts),
        onDnsRecords: records => this.#telemetry.onDnsRecords(records),
      },
      {
        entry: options.workerEntry ?? new URL('./worker/start.ts', import.meta.url),
        workers: config.workers,
        settings: workerSettings(config, this.#telemetry.readers),
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
        startTimeoutMs: START_TIMEOUT_MS,
      },
    );
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
      this.#resolvers.start();
      // Threads and libraries take as long to load as the mesh does: who restarts a proxy waits for the slower, not for both.
      const workers = awaitedLater(this.#supervisor.start());
      const revocations = this.#revocations?.start();
      if (this.#config.dedicatedWorkload === undefined) void awaitedLater(loadZds());
      stopWatching = await this.#loadMesh();
      await this.#telemetry.startOtlp();
      await this.#followControlPlane();
      await Promise.race([this.#supervisor.serving, workers]);
      this.#telemetry.tellReaders();
      await revocations;
      if (await this.#hasFirstState(shutdown)) {
        this.#zds = await this.#startServing();
        await workers;
        this.#readiness.clear('proxy');
        this.#readiness.clear('dns proxy');
        this.#life.serve();
        // A proxy that is killed writes nothing when it ends, and the next start would compile everything again.
        setTimeout(flushCompileCache, FLUSH_MS).unref();
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
      await this.#telemetry.close();
      void admin?.close();
      void stats?.close();
      // A second close does nothing; one that still waits for a client does not hold up the end.
      void readiness?.close();
    }
  }

  #makeTelemetry(): Telemetry {
    const { istioVersion, proxyMode } = this.#config;
    const { env = process.env, logLinesDropped = () => 0 } = this.#options;
    const version = proxyVersion();
    return new Telemetry({
      config: this.#config,
      log: this.#log,
      clock: systemClock,
      view: this.#state,
      env,
      version,
      workers: () => this.#supervisor,
      identities: () => this.#certificates.identityStates(),
      readings: {
        istioVersion,
        version,
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
        logLinesDropped,
      },
    });
  }

  /** As with the admin port: one that is taken costs the view, never the service. */
  async #serveStats(): Promise<HttpListener | undefined> {
    const { ipv6Enabled, statsAddress } = this.#config;
    const port = this.#options.statsPort ?? this.#config.statsPort;
    const refresh = (): Promise<void> => this.#telemetry.refresh();
    try {
      const listen = { port, ipv6: ipv6Enabled, address: statsAddress };
      return await serveStats({ registry: this.#telemetry.registry, refresh }, listen);
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
      more: insightRoutes(this.#telemetry.insight, () => this.#telemetry.refresh()),
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

  async #loadMesh(): Promise<StopWatching> {
    const log = this.#log.scope('ztunnel::state');
    const onChange = (): void => this.#supervisor.onMeshChanged();
    return await loadMesh({ state: this.#state, log, onChange }, this.#config);
  }

  /** Begins to follow it, if there is one. */
  async #followControlPlane(): Promise<void> {
    const { xds } = this.#config;
    if (xds === undefined) return;
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
  }

  /** Until the first state of the control plane is there no pod is served; false when the end came first. */
  async #hasFirstState(shutdown: Shutdown): Promise<boolean> {
    const isThere = this.#xds?.ready.then(() => true) ?? true;
    const isReady = await Promise.race([isThere, shutdown.requested.then(() => false)]);
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
    const { runZds } = await loadZds();
    return runZds(inpodUds, this.#supervisor, this.#readiness, this.#log.scope('ztunnel::inpod'));
  }
}

/** Not loaded above: the protobuf library is 10 MB that dedicated mode has no use for. */
const loadZds = () => import('./zds/run-zds.ts');

/** The same promise; a failure is for whoever awaits it in the end, even if nobody comes to that. */
function awaitedLater<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/** A connection takes two descriptors, and what a shell or a container starts with is for a thousand. */
function raiseOpenFileLimit(log: Logger): void {
  try {
    setOpenFileLimitToMax();
  } catch (error) {
    log.warn('Cannot raise the limit of open files', [['error', errorText(error)]]);
  }
}
