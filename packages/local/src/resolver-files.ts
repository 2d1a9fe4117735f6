// `/etc/resolv.conf` and `/etc/hosts` as a workload sees them. A member asks the host's end of its link: every query to
// port 53 is led to the mesh's DNS proxy, which knows the mesh's names and asks the host's resolvers for the rest. Pure.
import type { Workload } from './workload.ts';

export interface ResolverFacts {
  /** The host's file. */
  readonly hostText: string;
  /** What systemd-resolved says of real resolvers, for workloads outside the mesh; undefined: there is no such file. */
  readonly realText: string | undefined;
  /** The host's end of the link. */
  readonly hostIp: string;
  readonly clusterDomain: string;
}

interface ResolverConfig {
  readonly nameservers: readonly string[];
  readonly search: readonly string[];
  readonly options: readonly string[];
}

/** resolv.conf(5): more are not read by every resolver. */
const MAX_SEARCH = 6;
const MAX_NAMESERVERS = 3;

export function resolvConf(workload: Pick<Workload, 'namespace' | 'isMember'>, facts: ResolverFacts): string {
  const host = parseResolvConf(facts.hostText);
  const { clusterDomain } = facts;
  if (!workload.isMember) return outsideResolvConf(host, facts);
  const ours = [`${workload.namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain];
  const search = [...ours, ...host.search].slice(0, MAX_SEARCH);
  // The search path is tried for names with fewer dots, so that `cart` and `cart.shop` are the mesh's first.
  const options = ['ndots:5', ...host.options.filter(option => !option.startsWith('ndots:'))];
  return lines([`nameserver ${facts.hostIp}`, `search ${search.join(' ')}`, `options ${options.join(' ')}`]);
}

/**
 * The host's file for a network that reaches none of its resolvers, since all are on its loopback: `forwarder` in their
 * place. undefined: the file is good as it is.
 */
export function forwardedResolvConf(hostText: string, forwarder: string): string | undefined {
  const host = parseResolvConf(hostText);
  if (host.nameservers.some(isReachable)) return undefined;
  return configLines({ ...host, nameservers: [forwarder] });
}

/** A resolver on the host's loopback is out of reach from another network: then the real ones, if they are known. */
function outsideResolvConf(host: ResolverConfig, { realText }: ResolverFacts): string {
  const own = host.nameservers.filter(isReachable);
  const real = realText === undefined ? [] : parseResolvConf(realText).nameservers.filter(isReachable);
  return configLines({ ...host, nameservers: (own.length > 0 ? own : real).slice(0, MAX_NAMESERVERS) });
}

function isReachable(ip: string): boolean {
  return !ip.startsWith('127.') && ip !== '::1';
}

function configLines({ nameservers, search, options }: ResolverConfig): string {
  return lines([
    ...nameservers.map(ip => `nameserver ${ip}`),
    ...(search.length > 0 ? [`search ${search.join(' ')}`] : []),
    ...(options.length > 0 ? [`options ${options.join(' ')}`] : []),
  ]);
}

export function hostsFile(
  workload: Pick<Workload, 'name' | 'namespace' | 'ip4' | 'ip6'>,
  clusterDomain: string,
): string {
  const { name, namespace, ip4, ip6 } = workload;
  const names = `${name} ${name}.${namespace}.svc.${clusterDomain}`;
  return lines([
    '127.0.0.1 localhost',
    '::1 localhost ip6-localhost ip6-loopback',
    `${ip4} ${names}`,
    ...(ip6 === undefined ? [] : [`${ip6} ${names}`]),
  ]);
}

function parseResolvConf(text: string): ResolverConfig {
  const nameservers: string[] = [];
  let search: readonly string[] = [];
  const options: string[] = [];
  for (const line of text.split('\n')) {
    const [word, ...values] = line.trim().split(/\s+/);
    if (word === 'nameserver' && values[0] !== undefined) nameservers.push(values[0]);
    // The last of them counts.
    else if (word === 'search' || word === 'domain') search = values.filter(each => each !== '.');
    else if (word === 'options') options.push(...values);
  }
  return { nameservers, search, options };
}

function lines(all: readonly string[]): string {
  return all.map(line => `${line}\n`).join('');
}
