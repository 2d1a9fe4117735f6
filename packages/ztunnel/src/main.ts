// The node proxy's process: wires everything, in upstream's order of start and drain. A mistake before the proxy runs is
// status 1 with one explanation on standard error; a drain, however it ends, is status 0.
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { MeshState } from '@ambit/mesh';
import { releaseMemory, setOpenFileLimitToMax } from '@ambit/native';
import { logAccess } from './access-log.ts';
import { type AdminServer, serveAdmin } from './admin/admin-server.ts';
import { checkCapabilities } from './capabilities.ts';
import { systemClock } from './clock.ts';
import { readProxyConfig } from './config/proxy-config.ts';
import { type Config, type Environment, parseConfig } from './config.ts';
import { errorText, ZtunnelError } from './errors.ts';
import type { CertificateAuthority } from './identity/certificate-authority.ts';
import { CertificateManager, type CertificateState } from './identity/certificate-manager.ts';
import { DevCa } from './identity/dev-ca.ts';
import { LineWriter } from './log/line-writer.ts';
import { openDescriptorSink } from './log/stdout-sink.ts';
import { Bare, type Fields, Log, LogFilter, type Logger } from './log.ts';
import { loadMesh, type StopWatching } from './mesh-source.ts';
import { withSource } from './record-enrichment.ts';
import { Readiness, type ReadinessServer, serveReadiness } from './readiness.ts';
import { RecordStream } from './record-stream.ts';
import { RevocationList } from './revocation/revocation-list.ts';
import { Shutdown, type SignalSource } from './shutdown.ts';
import { Supervisor } from './supervisor.ts';
import { ILLEGAL_PORTS, workerSettings } from './worker-settings.ts';
import type { XdsSource } from './xds/xds-source.ts';
import type { ZdsRunner } from './zds/run-zds.ts';

/** What tests replace; the defaults are the real ones. */
export interface RunOptions {
  readonly signals?: SignalSource;
  readonly workerEntry?: URL;
  readonly readinessPort?: number;
  /** Descriptor for the log. */
  readonly logDescriptor?: number;
  readonly complain?: (text: string) => void;
}

const READINESS_PORT = 15021;
const ANSWER_TIMEOUT_MS = 10_000;
const FLUSH_MS = 1000;
const TIDY_MS = 4000;
const NO_AUTHORITY =
  'no certificate authority is configured: set AMBIT_DEV_CA_CERT and AMBIT_DEV_CA_KEY, or CA_ADDRESS';

/** Runs the node proxy until it is told to stop; resolves with the exit status. Never rejects. */
export async function runZtunnel(env: Environment, options: RunOptions = {}): Promise<number> {
  const complain = options.complain ?? (text => void process.stderr.write(text));
  const shutdown = new Shutdown(options.signals ?? process);
  const sink = openDescriptorSink(options.logDescriptor ?? 1);
  const writer = new LineWriter({ sink, droppedLine: count => droppedLine(log, count) });
  let log: Log | undefined;
  try {
    const config = parseConfig(env, { cores: availableParallelism(), proxyConfig: await readProxyConfig(env) });
    const filter = LogFilter.parse(config.logFilter);
    if (filter === undefined) {
      throw new ZtunnelError('config.invalid', `invalid env var RUST_LOG=${config.logFilter} (not a log filter)`);
    }
    log = new Log({ write: line => writer.write(line), now: systemClock.now }, { format: config.logFormat, filter });
    const authority = await openAuthority(config, log.scope('ztunnel::identity'));
    await new Proxy(config, log, authority, options).run(shutdown);
    return 0;
  } catch (error) {
    complain(explain(error));
    return 1;
  } finally {
    shutdown.close();
    await writer.flush(FLUSH_MS);
    sink.close();
  }
}

/** One life of the proxy. Parts are released in reverse order of their start. */
class Proxy {
  readonly #config: Config;
  readonly #log: Log;
  readonly #options: RunOptions;
  readonly #readiness: Readiness;
  readonly #certificates: CertificateManager;
  readonly #state: MeshState;
  readonly #supervisor: Supervisor;
  readonly #records: RecordStream | undefined;
  readonly #revocations: RevocationList | undefined;
  #xds: XdsSource | undefined;

  constructor(config: Config, log: Log, authority: CertificateAuthority, options: RunOptions) {
    this.#config = config;
    this.#log = log;
    this.#options = options;
    this.#readiness = new Readiness({ log: log.scope('ztunnel::readiness'), now: systemClock.now });
    this.#state = new MeshState({ localNode: config.nodeName });
    this.#certificates = new CertificateManager({
      authority,
      clock: systemClock,
      random: Math.random,
      onChange: (identity, state) => this.#onCertificate(identity, state),
      log: log.scope('ztunnel::identity'),
    });
    const access = log.scope('access');
    this.#records = config.recordsPath === undefined ? undefined : RecordStream.open(config.recordsPath);
    this.#supervisor = new Supervisor(
      {
        view: this.#state,
        identities: this.#certificates,
        clock: systemClock,
        random: Math.random,
        log: log.scope('ztunnel::supervisor'),
        lookup: destination => this.#xds?.lookup?.prepare(destination),
        onRecords: records => {
          for (const record of records) {
            const complete = withSource(record, this.#state, config.network);
            logAccess(access, complete);
            this.#records?.write(complete);
          }
        },
      },
      {
        entry: options.workerEntry ?? new URL('./worker/main.ts', import.meta.url),
        workers: config.workers,
        settings: workerSettings(config, {
          opens: this.#records !== undefined || access.isEnabled('debug'),
          cleanCloses: this.#records !== undefined || access.isEnabled('info'),
        }),
        routes: {
          network: config.network,
          illegalPorts: new Set(ILLEGAL_PORTS),
          preserveSource: config.originalSource !== false,
          localhostAppTunnel: config.localhostAppTunnel,
        },
        answerTimeoutMs: ANSWER_TIMEOUT_MS,
      },
    );
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
    this.#announce();
    this.#readiness.block('state manager');
    this.#readiness.block('proxy');
    if (this.#revocations !== undefined) this.#readiness.block('revocation list');
    if (this.#config.devCa === undefined && this.#config.ca === undefined) {
      this.#readiness.block('certificates');
      log.error(NO_AUTHORITY, [['err.code', 'identity.unavailable']]);
    }
    let stopWatching: StopWatching = () => undefined;
    let readiness: ReadinessServer | undefined;
    let zds: ZdsRunner | undefined;
    let admin: AdminServer | undefined;
    try {
      readiness = await serveReadiness(this.#readiness, {
        port: this.#options.readinessPort ?? READINESS_PORT,
        ipv6: this.#config.ipv6Enabled,
        address: this.#config.bindAddress,
      });
      admin = await this.#serveAdmin();
      stopWatching = await this.#loadMesh();
      await this.#supervisor.start();
      await this.#revocations?.start();
      if (await this.#followControlPlane(shutdown)) {
        zds = await this.#startServing();
        this.#readiness.clear('proxy');
        // The start leaves garbage behind (compiled text, parsed files) that a quiet proxy would keep for ever.
        setTimeout(releaseMemory, TIDY_MS).unref();
      }
      log.info('Shutdown requested, draining', [['cause', await shutdown.requested]]);
      zds?.stop();
      stopWatching();
      const drained = Promise.all([readiness.close(), this.#supervisor.drain(this.#config.terminationDeadlineMs)]);
      await Promise.race([drained, shutdown.insisted]);
      log.info('shutdown complete');
    } finally {
      zds?.stop();
      stopWatching();
      this.#revocations?.close();
      await this.#xds?.stop();
      this.#certificates.stop();
      await this.#supervisor.stop();
      await this.#records?.close();
      void admin?.close();
      // A second close does nothing; one that still waits for a client does not hold up the end.
      void readiness?.close();
    }
  }

  #announce(): void {
    const log = this.#log.scope('ztunnel::app');
    log.info('Starting the node proxy', [['version', version()]]);
    try {
      setOpenFileLimitToMax();
    } catch (error) {
      log.warn('Cannot raise the limit of open files', [['error', errorText(error)]]);
    }
    for (const warning of this.#config.warnings) log.warn(warning);
    log.info('running with config', configFields(this.#config));
  }

  /** People can look from the start on. A port that is taken costs the view, never the service. */
  async #serveAdmin(): Promise<AdminServer | undefined> {
    const { adminPort, ipv6Enabled, bindAddress } = this.#config;
    const deps = {
      state: this.#state,
      certificates: this.#certificates,
      config: this.#config,
      xds: () => this.#xds?.status,
      version: version(),
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

/** Without an authority every identity is unavailable: nothing is ever sent in plain text instead. */
async function openAuthority(config: Config, log: Logger): Promise<CertificateAuthority> {
  const { devCa, ca, proxyMode, secretTtlMs } = config;
  if (devCa !== undefined) return new DevCa({ ...devCa, lifetimeMs: secretTtlMs });
  if (ca === undefined) {
    return {
      issue: () => Promise.reject(new ZtunnelError('identity.unavailable', NO_AUTHORITY)),
      close: () => undefined,
    };
  }
  const [{ createCaAuthority }, { grpcTarget }] = await Promise.all([
    import('./identity/ca-authority.ts'),
    import('./xds/target.ts'),
  ]);
  const target = grpcTarget(ca, config);
  return createCaAuthority({ target, lifetimeMs: secretTtlMs, impersonate: proxyMode === 'shared' }, { log });
}

function configFields(config: Config): Fields {
  // Values an operator may look for; inline mesh text and file contents stay out of the log.
  return [
    ['mode', new Bare(config.proxyMode)],
    ['node', config.nodeName],
    ['network', config.network],
    ['cluster', config.clusterId],
    ['workers', config.workers],
    ['xds', config.xds?.url],
    ['ca', config.devCa === undefined ? config.ca?.url : 'development'],
    ['local_config', config.localConfig?.kind === 'file' ? config.localConfig.path : config.localConfig?.kind],
    ['inpod_uds', config.proxyMode === 'shared' ? config.inpodUds : undefined],
    ['packet_mark', config.packetMark],
    ['memory_budget', config.memoryBudgetBytes],
    ['termination_deadline', `${config.terminationDeadlineMs}ms`],
  ];
}

function droppedLine(log: Log | undefined, count: number): string {
  const fields: Fields = [['dropped', count]];
  return log?.format('warn', 'ztunnel::log', 'Log lines were dropped, the reader is too slow', fields) ?? '';
}

function explain(error: unknown): string {
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? `  [${error.code}]` : '';
  const hint = error instanceof ZtunnelError && error.hint !== undefined ? `  next    ${error.hint}\n` : '';
  return `error: ${errorText(error)}${code}\n${hint}`;
}

function version(): string {
  const file: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return typeof file === 'object' && file !== null && 'version' in file ? String(file.version) : 'unknown';
}
