// Results of earlier plugins of a chain. We add nothing to them: what came in goes out, at the version of the network. Three
// shapes have existed: `ip4`/`ip6` (0.1, 0.2), a list `ips` whose items say their family (0.3, 0.4), and the same list without
// (1.0, 1.1). Fields that we do not know are kept, but those which a shape does not have are lost in it.
import { type Ip, parseCidr, parseIp } from '@ambit/mesh';
import { CniError } from '../errors.ts';
import { type CniVersion, isAtLeast, readCniVersion } from './cni-version.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

export interface PrevResult {
  /** Addresses of the pod, canonical, each once, in the result's order. */
  readonly ips: readonly Ip[];
  /** As the plugin must print it. */
  readonly output: JsonObject;
}

type Shape = 'pair' | 'families' | 'plain';

const MAX_IPS = 64;

/**
 * Reads `prevResult` of a network of version `version`; without one (undefined or null) the result is empty.
 * @throws CniError cni.protocol
 */
export function readPrevResult(value: unknown, version: CniVersion): PrevResult {
  if (value === undefined || value === null) return { ips: [], output: { cniVersion: version } };
  const result = object(value, 'prevResult');
  // A runtime may have cached it when the network still had another version.
  const from = result['cniVersion'] === undefined ? version : readCniVersion(result['cniVersion']);
  const addresses = addressTexts(result, shapeOf(from));
  if (addresses.length > MAX_IPS) throw refused('prevResult', `has more than ${MAX_IPS} addresses`);
  return {
    ips: [...new Set(addresses.map(readAddress))],
    output: { ...converted(result, shapeOf(from), shapeOf(version)), cniVersion: version },
  };
}

function shapeOf(version: CniVersion): Shape {
  if (isAtLeast(version, '1.0.0')) return 'plain';
  return isAtLeast(version, '0.3.0') ? 'families' : 'pair';
}

function addressTexts(result: JsonObject, shape: Shape): readonly string[] {
  if (shape === 'pair') {
    return ['ip4', 'ip6'].flatMap(key => {
      const half = result[key];
      return half === undefined || half === null ? [] : [text(object(half, `prevResult.${key}`)['ip'], `${key}.ip`)];
    });
  }
  return ipsOf(result).map((item, i) => text(item['address'], `ips[${i}].address`));
}

function ipsOf(result: JsonObject): readonly JsonObject[] {
  const ips = result['ips'] ?? [];
  if (!Array.isArray(ips)) throw refused('prevResult.ips', 'is not a list');
  return ips.map((item: unknown, i) => object(item, `prevResult.ips[${i}]`));
}

/** `10.0.0.7/24`, as the specification has it. An IPv4-mapped address is the IPv4 address. */
function readAddress(cidr: string): Ip {
  const ip = parseCidr(cidr) && parseIp(cidr.replace(/\/.*$/, ''));
  if (ip === undefined)
    throw refused('prevResult', `has an address that is none: ${JSON.stringify(cidr.slice(0, 64))}`);
  return ip;
}

function converted(result: JsonObject, from: Shape, to: Shape): JsonObject {
  if (from === to) return result;
  if (from === 'pair') return fromPair(result, to);
  if (to === 'pair') return toPair(result);
  const ips = ipsOf(result).map(({ version: _version, ...rest }) =>
    to === 'plain' ? rest : { version: familyOf(rest), ...rest },
  );
  return { ...result, ips };
}

function fromPair({ ip4, ip6, ...rest }: JsonObject, to: Shape): JsonObject {
  const halves = [ip4, ip6].filter(half => half !== undefined && half !== null).map(half => object(half, 'prevResult'));
  const ips = halves.map(half => {
    const item = { address: half['ip'], gateway: half['gateway'] };
    return to === 'plain' ? item : { version: familyOf(item), ...item };
  });
  return { ...rest, ips, routes: halves.flatMap(half => list(half['routes'])) };
}

/** The old shape holds one address a family: the first. */
function toPair(result: JsonObject): JsonObject {
  const { ips: _ips, interfaces: _interfaces, routes, ...rest } = result;
  const half = (family: string): JsonObject | undefined => {
    const item = ipsOf(result).find(each => familyOf(each) === family);
    if (item === undefined) return undefined;
    const own = list(routes).filter(
      route => familyOf({ address: object(route, 'prevResult.routes')['dst'] }) === family,
    );
    return { ip: item['address'], gateway: item['gateway'], ...(own.length > 0 ? { routes: own } : {}) };
  };
  const [ip4, ip6] = [half('4'), half('6')];
  return { ...rest, ...(ip4 && { ip4 }), ...(ip6 && { ip6 }) };
}

function familyOf(item: JsonObject): string {
  return text(item['address'], 'address').includes(':') ? '6' : '4';
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function text(value: unknown, at: string): string {
  if (typeof value !== 'string') throw refused(`prevResult: ${at}`, 'is not a text');
  return value;
}

function object(value: unknown, at: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refused(at, 'is not an object');
  return { ...value };
}

function refused(at: string, what: string): CniError {
  return new CniError('cni.protocol', `${at} ${what}`, { next: 'look at the plugins before this one in the chain' });
}
