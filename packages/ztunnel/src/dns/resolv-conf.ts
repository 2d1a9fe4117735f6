// resolv.conf(5) as far as forwarding needs it: name servers, search list, options timeout, attempts and rotate. As in glibc
// three name servers count, the last `search` or `domain` line wins, and no name server at all means the machine itself.
import { type Ip, parseIp } from '@ambit/mesh';
import type { Resolver, ResolverSet } from './dns-messages.ts';

export interface ResolvConf {
  readonly set: ResolverSet;
  /** Lower case, no dot at the end. */
  readonly search: readonly string[];
  /** Name servers that this proxy cannot use, such as link-local ones with a zone. */
  readonly unusable: readonly string[];
}

const DNS_PORT = 53;
const MAX_RESOLVERS = 3;
const MAX_SEARCH = 32;
const DEFAULT_TIMEOUT_S = 5;
const MAX_TIMEOUT_S = 30;
const DEFAULT_ATTEMPTS = 2;
const MAX_ATTEMPTS = 5;

/** Never fails: lines that say nothing are skipped, as resolvers do. */
export function parseResolvConf(text: string): ResolvConf {
  const resolvers: Resolver[] = [];
  const unusable: string[] = [];
  let search: string[] = [];
  let timeoutMs = DEFAULT_TIMEOUT_S * 1000;
  let attempts = DEFAULT_ATTEMPTS;
  let rotate = false;
  for (const line of text.split('\n')) {
    const [word, ...values] = line
      .replace(/[#;].*$/, '')
      .trim()
      .split(/\s+/);
    switch (word) {
      case 'nameserver': {
        const ip = parseIp(values[0] ?? '');
        if (ip === undefined) unusable.push(values[0] ?? '');
        else if (resolvers.length < MAX_RESOLVERS) resolvers.push({ ip, port: DNS_PORT });
        break;
      }
      case 'search':
      case 'domain':
        search = values.slice(0, word === 'domain' ? 1 : MAX_SEARCH).map(name => name.toLowerCase().replace(/\.$/, ''));
        break;
      case 'options':
        for (const option of values) {
          timeoutMs = numberOf(option, 'timeout', MAX_TIMEOUT_S, timeoutMs / 1000) * 1000;
          attempts = numberOf(option, 'attempts', MAX_ATTEMPTS, attempts);
          rotate ||= option === 'rotate';
        }
        break;
      default:
    }
  }
  if (resolvers.length === 0 && unusable.length === 0) resolvers.push({ ip: LOCALHOST, port: DNS_PORT });
  return { set: { resolvers, timeoutMs, attempts, rotate }, search: search.filter(name => name !== ''), unusable };
}

const LOCALHOST = '127.0.0.1' as Ip;

function numberOf(option: string, name: string, max: number, fallback: number): number {
  if (!option.startsWith(`${name}:`)) return fallback;
  const value = Number(option.slice(name.length + 1));
  return Number.isInteger(value) && value >= 1 ? Math.min(value, max) : fallback;
}
