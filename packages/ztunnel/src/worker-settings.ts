// Configuration -> what a data worker needs of it, plain data that survives structured cloning. Pure.
import type { Ip } from '@ambit/mesh';
import type { Config } from './config.ts';
import { PROXY_PORTS, SOCKS5_PORT } from './ports.ts';
import type { WorkerSettings } from './worker-protocol.ts';

const LOCALHOST = '127.0.0.1' as Ip;

/** Reaching the proxy through itself would loop. */
export function illegalPorts(config: Config): readonly number[] {
  return [...Object.values(PROXY_PORTS), ...(config.socks5Enabled ? [SOCKS5_PORT] : [])];
}

/** Upstream's listen backlog is 128, which overflows in a storm; the kernel cuts this to net.core.somaxconn. */
const BACKLOG = 1024;
/** Upstream's limit for one tunnel (HTTP/2 MAX_CONCURRENT_STREAMS). */
const SERVER_STREAMS = 200;
const MAX_HEADER_LIST_BYTES = 16 << 10;
const PING_INTERVAL_MS = 10_000;
const PING_TIMEOUT_MS = 20_000;
const CONNECT_TIMEOUT_MS = 10_000;
/** Upstream has none; a silent peer must not hold a slot for ever. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** How long a connection waits for its own workload to become known. */
export const WORKLOAD_WAIT_MS = 5000;
/** Hybrid post-quantum key exchange and nothing else (`COMPLIANCE_POLICY=pqc`). */
const PQC_GROUPS = 'X25519MLKEM768';

/** What somebody reads beyond the records that metrics are made of: a record stream all, the access log by its level. */
export interface RecordReaders {
  readonly opens: boolean;
  /** Answered DNS questions. */
  readonly queries: boolean;
}

export function workerSettings(config: Config, readers: RecordReaders): WorkerSettings {
  const isShared = config.proxyMode === 'shared';
  const tunnel = {
    streamWindowBytes: config.streamWindowBytes,
    connectionWindowBytes: config.connectionWindowBytes,
    maxFrameBytes: config.frameBytes,
    maxHeaderListBytes: MAX_HEADER_LIST_BYTES,
    pingIntervalMs: PING_INTERVAL_MS,
    pingTimeoutMs: PING_TIMEOUT_MS,
  };
  return {
    network: config.network,
    bindAddress: config.bindAddress ?? (config.ipv6Enabled ? '::' : '0.0.0.0'),
    ipv6: config.ipv6Enabled,
    forward: config.forward,
    ports: PROXY_PORTS,
    socks5: config.socks5Enabled ? { ip: config.bindAddress ?? LOCALHOST, port: SOCKS5_PORT } : undefined,
    illegalPorts: illegalPorts(config),
    packetMark: config.packetMark ?? 0,
    markListeners: isShared,
    transparent: config.originalSource === undefined ? 'try' : config.originalSource ? 'require' : 'no',
    // Workers share each pod's port through SO_REUSEPORT, whatever the mode.
    reusePort: config.inpodPortReuse || config.workers > 1,
    backlog: BACKLOG,
    keepAlive: config.keepaliveEnabled
      ? {
          idleSeconds: wholeSeconds(config.keepaliveTimeMs),
          intervalSeconds: wholeSeconds(config.keepaliveIntervalMs),
          // The kernel takes 1..127.
          probes: Math.min(127, Math.max(1, config.keepaliveRetries)),
        }
      : undefined,
    userTimeoutMs: config.userTimeoutEnabled
      ? config.keepaliveTimeMs + config.keepaliveRetries * config.keepaliveIntervalMs
      : undefined,
    clientTunnel: { ...tunnel, maxConcurrentStreams: config.poolMaxStreamsPerConnection },
    serverTunnel: { ...tunnel, maxConcurrentStreams: SERVER_STREAMS },
    pool: {
      maxStreamsPerTunnel: config.poolMaxStreamsPerConnection,
      idleMs: config.poolUnusedReleaseMs,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
    },
    responseBaggage: config.responseBaggage,
    recordOpens: readers.opens,
    workloadWaitMs: WORKLOAD_WAIT_MS,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    tlsRecords: config.tlsRecords,
    tlsGroups: config.postQuantumOnly ? PQC_GROUPS : undefined,
    memoryBudgetBytes: config.memoryBudgetBytes,
    l7: config.l7,
    dns:
      config.dnsProxy === undefined
        ? undefined
        : { ...config.dnsProxy, ipv6: config.ipv6Enabled, recordQueries: readers.queries },
  };
}

/** The kernel's keepalive times are whole seconds from 1 to 32767. */
function wholeSeconds(ms: number): number {
  return Math.min(32_767, Math.max(1, Math.ceil(ms / 1000)));
}
