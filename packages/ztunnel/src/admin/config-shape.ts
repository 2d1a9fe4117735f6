// The effective configuration as upstream's config_dump shows it. Only what this version has: a field that upstream has and
// we do not is absent. Header values and the token are secrets and never shown; upstream shows them.
import { formatIpPort } from '@ambit/mesh';
import type { Config } from '../config.ts';
import type { ControlPlaneServer, RootSource } from '../config/control-plane.ts';
import { PROXY_PORTS, READINESS_PORT, SOCKS5_PORT } from '../ports.ts';
import { illegalPorts } from '../worker-settings.ts';
import type { Shape } from './mesh-shapes.ts';

export function configShape(config: Config): Shape {
  const any = config.bindAddress ?? (config.ipv6Enabled ? '::' : '0.0.0.0');
  const at = (port: number, ip: string = any): string => (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`);
  const { dedicatedWorkload } = config;
  return {
    adminAddr: { Localhost: [config.ipv6Enabled, config.adminPort] },
    altCaHostname: config.ca?.altName ?? null,
    altXdsHostname: config.xds?.altName ?? null,
    caAddress: config.ca?.url ?? null,
    caHeaders: headersShape(config.ca),
    caRootCert: rootShape(config.ca?.roots),
    clusterDomain: config.clusterDomain,
    clusterId: config.clusterId,
    connectionWindowSize: config.connectionWindowBytes,
    crlPath: config.crlPath ?? null,
    enableEnhancedBaggage: config.responseBaggage,
    frameSize: config.frameBytes,
    illegalPorts: illegalPorts(config),
    inboundAddr: at(PROXY_PORTS.inbound),
    inboundPlaintextAddr: at(PROXY_PORTS.inboundPlaintext),
    inpodPortReuse: config.inpodPortReuse,
    inpodUds: config.inpodUds,
    dnsProxy: config.dnsProxy !== undefined,
    dnsProxyAddr: dnsAddressShape(config),
    ipv6Enabled: config.ipv6Enabled,
    localNode: config.nodeName ?? null,
    localhostAppTunnel: config.localhostAppTunnel,
    network: config.network,
    numWorkerThreads: config.workers,
    outboundAddr: at(PROXY_PORTS.outbound),
    packetMark: config.packetMark ?? null,
    poolMaxStreamsPerConn: config.poolMaxStreamsPerConnection,
    poolUnusedReleaseTimeout: durationShape(config.poolUnusedReleaseMs),
    preferedServiceNamespace: config.preferredServiceNamespace ?? null,
    proxy: true,
    proxyMetadata: Object.fromEntries(config.proxyMetadata),
    proxyMode: config.proxyMode === 'shared' ? 'Shared' : 'Dedicated',
    proxyWorkloadInformation:
      dedicatedWorkload === undefined
        ? null
        : {
            name: dedicatedWorkload.name,
            namespace: dedicatedWorkload.namespace,
            serviceAccount: dedicatedWorkload.serviceAccount,
          },
    readinessAddr: { SocketAddr: at(READINESS_PORT) },
    requireOriginalSource: config.originalSource ?? null,
    secretTtl: durationShape(config.secretTtlMs),
    selfTerminationDeadline: durationShape(config.terminationDeadlineMs),
    socketConfig: {
      keepaliveEnabled: config.keepaliveEnabled,
      keepaliveInterval: durationShape(config.keepaliveIntervalMs),
      keepaliveRetries: config.keepaliveRetries,
      keepaliveTime: durationShape(config.keepaliveTimeMs),
      userTimeoutEnabled: config.userTimeoutEnabled,
    },
    socks5Addr: config.socks5Enabled ? { Localhost: [config.ipv6Enabled, SOCKS5_PORT] } : null,
    statsAddr: { SocketAddr: at(config.statsPort, config.statsAddress) },
    windowSize: config.streamWindowBytes,
    xdsAddress: config.xds?.url ?? null,
    xdsHeaders: headersShape(config.xds),
    xdsOnDemand: config.xdsOnDemand,
    xdsRootCert: rootShape(config.xds?.roots),
  };
}

/** As upstream's, where localhost says whether it has IPv6. */
function dnsAddressShape({ dnsProxy, ipv6Enabled }: Config): unknown {
  if (dnsProxy === undefined) return null;
  const { address, port } = dnsProxy;
  if (address === 'localhost') return { Localhost: [ipv6Enabled, port] };
  return { SocketAddr: formatIpPort(address, port) };
}

function durationShape(ms: number): Shape {
  return { nanos: Math.round((ms % 1000) * 1e6), secs: Math.floor(ms / 1000) };
}

function headersShape(server: ControlPlaneServer | undefined): readonly (readonly string[])[] {
  return [...(server?.headers.keys() ?? [])].map(name => [name, '(secret)']);
}

/** Roots are public, but the text of a bundle is not worth its length here. */
function rootShape(roots: RootSource | undefined): unknown {
  switch (roots?.kind) {
    case undefined:
      return null;
    case 'file':
      return { File: roots.path };
    case 'pem':
      return 'Static';
    case 'system':
      return 'System';
  }
}
