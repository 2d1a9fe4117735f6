// The node proxy's configuration: environment variables under upstream's names and with its defaults, read once at
// start into one frozen object. A mistake is a start-up error that names variable, value and reason; a variable whose
// feature this version lacks is refused when ignoring it would weaken security, and warned about otherwise.
import { existsSync } from 'node:fs';
import { type AccessLogConfig, parseAccessLog } from './config/access-log.ts';
import { type ControlPlaneConfig, parseControlPlane } from './config/control-plane.ts';
import { type DnsConfig, parseDns } from './config/dns.ts';
import { type L7Config, parseL7 } from './config/l7.ts';
import { type OtlpConfig, parseOtlp } from './config/otlp.ts';
import { EnvReader, type Environment, type ValueSource } from './config/env-reader.ts';
import { type Ip, isLoopback, parseIp, parseSocketAddress, type SocketAddress } from '@ambit/mesh';
import type { ProxyConfig } from './config/proxy-config.ts';
import { workerCount } from './config/threads.ts';
import { checkAmbitNames, checkUnsupported } from './config/unsupported.ts';

export type { Environment, ValueSource } from './config/env-reader.ts';

/** The one pod a dedicated proxy serves. */
export interface DedicatedWorkload {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
}

/** Where the mesh comes from: a watched file or text of the same format. */
export type LocalConfigSource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'inline'; readonly text: string };

/** Durations in milliseconds, sizes in bytes. Absent upstream options are ones this version has no use for. */
export interface Config extends ControlPlaneConfig, DnsConfig, L7Config, AccessLogConfig, OtlpConfig {
  readonly proxyMode: 'shared' | 'dedicated';
  /** Set exactly in dedicated mode. */
  readonly dedicatedWorkload: DedicatedWorkload | undefined;
  readonly nodeName: string | undefined;
  readonly network: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  /** Whose services answer to a name that several namespaces have and nothing else ranks. */
  readonly preferredServiceNamespace: string | undefined;
  readonly istioVersion: string;

  readonly localConfig: LocalConfigSource | undefined;
  readonly secretTtlMs: number;
  /** File of revocation lists; undefined: nobody is looked up. */
  readonly crlPath: string | undefined;
  /** Root certificate and key that sign workload certificates in-process; development only, both or neither. */
  readonly devCa: { readonly certPath: string; readonly keyPath: string } | undefined;

  /** true: required, false: never, undefined: when the kernel lets us. */
  readonly originalSource: boolean | undefined;
  /** Undefined: no mark. */
  readonly packetMark: number | undefined;
  readonly inpodUds: string;
  readonly inpodPortReuse: boolean;
  readonly ipv6Enabled: boolean;
  readonly poolMaxStreamsPerConnection: number;
  readonly poolUnusedReleaseMs: number;
  readonly streamWindowBytes: number;
  readonly connectionWindowBytes: number;
  readonly frameBytes: number;
  readonly keepaliveEnabled: boolean;
  readonly keepaliveTimeMs: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveRetries: number;
  readonly userTimeoutEnabled: boolean;
  /** `UNSTABLE_ENABLE_SOCKS5`: the pod's applications may name their destination on port 15080. */
  readonly socks5Enabled: boolean;
  readonly localhostAppTunnel: boolean;
  readonly responseBaggage: boolean;
  readonly terminationDeadlineMs: number;
  /** `COMPLIANCE_POLICY=pqc`: only X25519MLKEM768 key exchange. */
  readonly postQuantumOnly: boolean;
  readonly policyInfoLogging: boolean;
  readonly workers: number;

  readonly logFilter: string;
  readonly logFormat: 'plain' | 'json';

  readonly memoryBudgetBytes: number;
  /** Who encrypts records after the handshake: our own code or OpenSSL (for comparison). */
  readonly tlsRecords: 'own' | 'openssl';
  /** The one local address all listeners take, for several dedicated proxies in one network; undefined: every address. */
  readonly bindAddress: Ip | undefined;
  /** Where connections go that a client made to the outbound port itself, for machines without redirection. */
  readonly forward: SocketAddress | undefined;
  /** File or FIFO that gets every connection record as a JSON line; undefined: nowhere. */
  readonly recordsPath: string | undefined;
  /** Loopback port of config_dump; `proxyAdminPort` of the proxy configuration. */
  readonly adminPort: number;
  /** The one address of the metrics' port; undefined: every address, as upstream. */
  readonly statsAddress: Ip | undefined;
  /** Port of the metrics; `statsPort` of the proxy configuration. */
  readonly statsPort: number;
  /** Lines that one metric may have before what is new goes to overflow series. */
  readonly metricsMaxSeries: number;
  /** After this long without a change, and without a connection that stands for it, a series is not shown any more. */
  readonly metricsIdleMs: number;

  /** Variable name -> where its value came from. */
  readonly sources: ReadonlyMap<string, ValueSource>;
  /** Things to tell the operator once logging works. */
  readonly warnings: readonly string[];
}

const U16 = 0xffff;
const U32 = 0xffff_ffff;
/** HTTP/2 flow-control windows are 31 bits (RFC 9113 6.9.1). */
const MAX_WINDOW = 0x7fff_ffff;
const MIN_FRAME = 1 << 14;
const MAX_FRAME = (1 << 24) - 1;
/** Istio's mark for packets that the proxy sent, 0x539; in-pod rules let them pass. */
const SHARED_MARK = 1337;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const DEFAULT_ADMIN_PORT = 15_000;
const DEFAULT_STATS_PORT = 15_020;
/** Fewer would hide everything; each set of labels is a kilobyte or two. */
const MIN_SERIES = 100;
const MAX_SERIES = 1_000_000;
const KIB = 1024;
const MIB = 1 << 20;

/** What the machine and the optional proxy configuration add to the environment. */
export interface ConfigInputs {
  readonly cores: number;
  readonly proxyConfig?: ProxyConfig;
  /** Whether there is a file of that name; the file system by default. */
  readonly exists?: (path: string) => boolean;
}

/** Parses and checks everything. Same inputs and same files, same result. @throws config.invalid, config.unsupported */
export function parseConfig(env: Environment, inputs: ConfigInputs): Config {
  const read = new EnvReader(env);
  checkAmbitNames(env);
  const warnings = [...checkUnsupported(env)];
  const proxyMode = read.choice('PROXY_MODE', ['shared', 'dedicated'], 'shared');
  const inpodPortReuse = read.flagOr('INPOD_PORT_REUSE', true);
  let workers = parseWorkers(read, inputs);
  if (!inpodPortReuse && workers > 1) {
    warnings.push('INPOD_PORT_REUSE=false lets only one worker own a port: running one worker');
    workers = 1;
  }
  const controlPlane = parseControlPlane(
    read,
    env,
    { proxyConfig: inputs.proxyConfig, exists: inputs.exists ?? existsSync },
    warnings,
  );
  const devCa = parseDevCa(read);
  if (devCa !== undefined && read.sources.get('CA_ADDRESS') === 'env' && controlPlane.ca !== undefined) {
    warnings.push('CA_ADDRESS has no effect: AMBIT_DEV_CA_CERT and AMBIT_DEV_CA_KEY sign certificates here');
  }
  const bindAddress = parseDedicatedOnly(read, proxyMode, 'AMBIT_BIND_ADDRESS', parseIp);
  const nodeName = read.text('NODE_NAME');
  const clusterId = read.text('ISTIO_META_CLUSTER_ID') ?? read.textOr('CLUSTER_ID', 'Kubernetes');
  return Object.freeze<Config>({
    ...controlPlane,
    ...parseL7(read),
    ...parseDns(read, { ...controlPlane, bindAddress }),
    proxyMode,
    dedicatedWorkload: parseDedicated(read, proxyMode),
    nodeName,
    network: read.textOr('NETWORK', ''),
    clusterId,
    clusterDomain: read.textOr('CLUSTER_DOMAIN', 'cluster.local'),
    preferredServiceNamespace: read.text('PREFERED_SERVICE_NAMESPACE') || undefined,
    istioVersion: read.textOr('ISTIO_META_ISTIO_VERSION', 'unknown'),

    localConfig: parseLocalConfig(read),
    secretTtlMs: parsePositiveDuration(read, 'SECRET_TTL', DAY_MS),
    devCa,
    crlPath: read.text('CRL_PATH') || undefined,

    originalSource: read.flag('ENABLE_ORIG_SRC'),
    packetMark: parseMark(read, proxyMode),
    inpodUds: read.textOr('INPOD_UDS', '/var/run/ztunnel/ztunnel.sock'),
    inpodPortReuse,
    ipv6Enabled: read.flagOr('IPV6_ENABLED', true),
    poolMaxStreamsPerConnection: Math.max(1, read.integerOr('POOL_MAX_STREAMS_PER_CONNECTION', U16, 100)),
    poolUnusedReleaseMs: read.durationMsOr('POOL_UNUSED_RELEASE_TIMEOUT', 300_000),
    // Upstream's 4 MiB let one bulk stream fill the queues that requests beside it wait in: with 512 KiB there were twice as
    // many of them, at the same bulk rate (bench row `beside`). Long fat links want more.
    streamWindowBytes: read.integerOr('HTTP2_STREAM_WINDOW_SIZE', MAX_WINDOW, 512 * KIB),
    connectionWindowBytes: read.integerOr('HTTP2_CONNECTION_WINDOW_SIZE', MAX_WINDOW, 16 * MIB),
    frameBytes: parseFrameBytes(read),
    keepaliveEnabled: read.flagOr('KEEPALIVE_ENABLED', true),
    keepaliveTimeMs: read.durationMsOr('KEEPALIVE_TIME', 180_000),
    keepaliveIntervalMs: read.durationMsOr('KEEPALIVE_INTERVAL', 180_000),
    keepaliveRetries: read.integerOr('KEEPALIVE_RETRIES', U32, 9),
    userTimeoutEnabled: read.flagOr('USER_TIMEOUT_ENABLED', false),
    socks5Enabled: parseSocks5(read, bindAddress),
    localhostAppTunnel: read.flagOr('LOCALHOST_APP_TUNNEL', true),
    responseBaggage: read.flagOr('ENABLE_RESPONSE_BAGGAGE', true),
    terminationDeadlineMs: parseTerminationDeadline(read),
    postQuantumOnly: read.isExactly('COMPLIANCE_POLICY', 'pqc'),
    policyInfoLogging: read.isExactly('AUTHZ_POLICY_INFO_LOGGING', 'true'),
    workers,

    logFilter: read.textOr('RUST_LOG', 'info'),
    logFormat: read.isExactly('LOG_FORMAT', 'json') ? 'json' : 'plain',
    ...parseAccessLog(read),
    ...parseOtlp(read, { nodeName, clusterId }),

    memoryBudgetBytes: read.bytes('AMBIT_MEMORY_BUDGET', 16 * MIB, 2 ** 40) ?? 256 * MIB,
    tlsRecords: read.choice('AMBIT_TLS_RECORDS', ['own', 'openssl'], 'own'),
    bindAddress,
    forward: parseDedicatedOnly(read, proxyMode, 'AMBIT_FORWARD', parseSocketAddress),
    recordsPath: read.text('AMBIT_RECORDS_PATH') || undefined,
    adminPort: inputs.proxyConfig?.proxyAdminPort ?? DEFAULT_ADMIN_PORT,
    statsAddress: parseStatsAddress(read) ?? bindAddress,
    statsPort: inputs.proxyConfig?.statsPort ?? DEFAULT_STATS_PORT,
    metricsMaxSeries: parseMaxSeries(read),
    metricsIdleMs: parsePositiveDuration(read, 'AMBIT_METRICS_IDLE', HOUR_MS),

    sources: read.sources,
    warnings,
  });
}

function parseWorkers(read: EnvReader, inputs: ConfigInputs): number {
  const workerThreads = read.text('ZTUNNEL_WORKER_THREADS');
  const concurrency = inputs.proxyConfig?.concurrency;
  if (workerThreads === undefined && concurrency !== undefined) read.noteFile('ZTUNNEL_WORKER_THREADS');
  const count = workerCount({
    workerThreads,
    concurrency,
    resourceLimit: read.cpuCount('ZTUNNEL_RESOURCE_CPU_LIMIT'),
    resourceRequest: read.cpuCount('ZTUNNEL_RESOURCE_CPU_REQUEST'),
    cpuLimit: read.integer('ZTUNNEL_CPU_LIMIT', 4096),
    cores: inputs.cores,
  });
  if (typeof count === 'number') return count;
  throw read.invalid('ZTUNNEL_WORKER_THREADS', workerThreads ?? '', count.error);
}

function parseDedicated(read: EnvReader, mode: Config['proxyMode']): DedicatedWorkload | undefined {
  const text = read.text('PROXY_WORKLOAD_INFO');
  if (mode === 'shared') return undefined;
  // Split at the first two slashes, as upstream does: a service account may not hold one, but nobody checks here.
  const match = /^([^/]*)\/([^/]*)\/(.*)$/s.exec(text ?? '');
  const [, namespace, name, serviceAccount] = match ?? [];
  if (namespace === undefined || name === undefined || serviceAccount === undefined) {
    throw read.invalid('PROXY_WORKLOAD_INFO', text ?? '', 'dedicated mode needs namespace/name/service-account');
  }
  return { namespace, name, serviceAccount };
}

/** A shared proxy is in its pods' networks, where neither an address of its own nor one destination makes sense. */
function parseDedicatedOnly<T>(
  read: EnvReader,
  mode: Config['proxyMode'],
  name: string,
  parse: (text: string) => T | undefined,
): T | undefined {
  const text = read.text(name) ?? '';
  if (text === '') return undefined;
  if (mode !== 'dedicated') throw read.invalid(name, text, 'only dedicated mode has it');
  const value = parse(text);
  if (value === undefined) throw read.invalid(name, text, 'not an address');
  return value;
}

/** Who reaches the SOCKS5 port speaks as the workload, so it is nowhere but on loopback. */
function parseSocks5(read: EnvReader, bindAddress: Ip | undefined): boolean {
  const isEnabled = read.flagOr('UNSTABLE_ENABLE_SOCKS5', false);
  if (isEnabled && bindAddress !== undefined && !isLoopback(bindAddress)) {
    throw read.invalid('UNSTABLE_ENABLE_SOCKS5', 'true', `AMBIT_BIND_ADDRESS ${bindAddress} can be reached by others`);
  }
  return isEnabled;
}

function parseLocalConfig(read: EnvReader): LocalConfigSource | undefined {
  const path = read.text('LOCAL_XDS_PATH');
  const text = read.text('LOCAL_XDS');
  if (path !== undefined && text !== undefined) {
    throw read.invalid('LOCAL_XDS_PATH', path, 'LOCAL_XDS is set too; only one of them may be');
  }
  if (path !== undefined) return { kind: 'file', path };
  return text === undefined ? undefined : { kind: 'inline', text };
}

function parseDevCa(read: EnvReader): Config['devCa'] {
  const certPath = read.text('AMBIT_DEV_CA_CERT');
  const keyPath = read.text('AMBIT_DEV_CA_KEY');
  if (certPath === undefined && keyPath === undefined) return undefined;
  if (certPath === undefined) {
    throw read.invalid('AMBIT_DEV_CA_KEY', keyPath ?? '', 'AMBIT_DEV_CA_CERT must be set too');
  }
  if (keyPath === undefined) throw read.invalid('AMBIT_DEV_CA_CERT', certPath, 'AMBIT_DEV_CA_KEY must be set too');
  return { certPath, keyPath };
}

function parseMark(read: EnvReader, mode: Config['proxyMode']): number | undefined {
  const mark = read.integer('PACKET_MARK', U32) ?? (mode === 'shared' ? SHARED_MARK : 0);
  return mark === 0 ? undefined : mark;
}

function parseFrameBytes(read: EnvReader): number {
  const bytes = read.integerOr('HTTP2_FRAME_SIZE', MAX_FRAME, MIB);
  if (bytes < MIN_FRAME) {
    throw read.invalid('HTTP2_FRAME_SIZE', String(bytes), `HTTP/2 allows ${MIN_FRAME} to ${MAX_FRAME}`);
  }
  return bytes;
}

function parseStatsAddress(read: EnvReader): Ip | undefined {
  const text = read.text('AMBIT_METRICS_ADDRESS') ?? '';
  if (text === '') return undefined;
  const address = parseIp(text);
  if (address === undefined) throw read.invalid('AMBIT_METRICS_ADDRESS', text, 'not an address');
  return address;
}

function parseMaxSeries(read: EnvReader): number {
  const count = read.integerOr('AMBIT_METRICS_MAX_SERIES', MAX_SERIES, 50_000);
  if (count < MIN_SERIES)
    throw read.invalid('AMBIT_METRICS_MAX_SERIES', String(count), `must be at least ${MIN_SERIES}`);
  return count;
}

function parsePositiveDuration(read: EnvReader, name: string, fallbackMs: number): number {
  const ms = read.durationMsOr(name, fallbackMs);
  if (ms < 1000) throw read.invalid(name, `${ms}ms`, 'must be at least 1s');
  return ms;
}

/** Leaves the kubelet's grace period some room; unlike upstream a period of 0 is 1 s and not an underflow. */
function parseTerminationDeadline(read: EnvReader): number {
  const deadlineMs = read.durationMs('CONNECTION_TERMINATION_DEADLINE');
  const grace = read.integer('TERMINATION_GRACE_PERIOD_SECONDS', Number.MAX_SAFE_INTEGER);
  if (deadlineMs !== undefined) return deadlineMs;
  if (grace === undefined) return 5000;
  const seconds = grace > 10 ? grace - 5 : Math.max(1, grace - 1);
  return Math.min(seconds, 86_400 * 365) * 1000;
}
