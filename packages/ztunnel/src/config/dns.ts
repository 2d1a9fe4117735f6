// The DNS proxy's part of the configuration: metadata of the proxy (`ISTIO_META_DNS_CAPTURE`, `ISTIO_META_DNS_PROXY_ADDR`,
// or the same keys of `proxyMetadata`) under upstream's names, and the file that names the resolvers.
import { type Ip, parsePort, parseSocketAddress } from '@ambit/mesh';
import { PROXY_PORTS, SOCKS5_PORT } from '../ports.ts';
import type { EnvReader } from './env-reader.ts';

export interface DnsConfig {
  /** undefined: names are not our business. */
  readonly dnsProxy: { readonly address: Ip | 'localhost'; readonly port: number } | undefined;
  readonly resolvConf: string;
}

const PORT = 15_053;
/** Of other listeners, which share ports with those of other workers and so would not notice. */
const OWN_PORTS: readonly number[] = [...Object.values(PROXY_PORTS), SOCKS5_PORT];
const CAPTURE = 'ISTIO_META_DNS_CAPTURE';
const ADDRESS = 'ISTIO_META_DNS_PROXY_ADDR';

export interface DnsInputs {
  readonly proxyMetadata: ReadonlyMap<string, string>;
  readonly xdsOnDemand: boolean;
  /** `AMBIT_BIND_ADDRESS`: several proxies in one network cannot share localhost. */
  readonly bindAddress: Ip | undefined;
}

/** @throws config.invalid */
export function parseDns(read: EnvReader, { proxyMetadata, xdsOnDemand, bindAddress }: DnsInputs): DnsConfig {
  for (const name of [CAPTURE, ADDRESS]) {
    if (read.text(name) === undefined && proxyMetadata.has(name.slice('ISTIO_META_'.length))) read.noteFile(name);
  }
  const resolvConf = read.text('AMBIT_RESOLV_CONF') || '/etc/resolv.conf';
  const capture = proxyMetadata.get('DNS_CAPTURE');
  if (capture !== undefined && capture.toLowerCase() !== 'true') return { dnsProxy: undefined, resolvConf };
  if (xdsOnDemand) {
    const why = `names need the whole mesh, XDS_ON_DEMAND knows only what was asked for: set ${CAPTURE}=false`;
    throw read.invalid('XDS_ON_DEMAND', 'true', why);
  }
  const text = proxyMetadata.get('DNS_PROXY_ADDR');
  if (text === undefined) return { dnsProxy: { address: bindAddress ?? 'localhost', port: PORT }, resolvConf };
  const local = text.startsWith('localhost:') ? parsePort(text.slice('localhost:'.length)) : undefined;
  const parsed = local === undefined ? parseSocketAddress(text) : { ip: 'localhost' as const, port: local };
  if (parsed === undefined || parsed.port === 0) {
    throw read.invalid(ADDRESS, text, 'expected localhost:port or an address with a port');
  }
  if (OWN_PORTS.includes(parsed.port)) throw read.invalid(ADDRESS, text, `port ${parsed.port} is the proxy's own`);
  return { dnsProxy: { address: parsed.ip, port: parsed.port }, resolvConf };
}
