// The texts of rtnetlink(7) entries: prefixes and hardware addresses to and from bytes; pure. Unlike a peer's address, a
// prefix inside ::ffff:0:0/96 stays IPv6 here, since the kernel's IPv6 tables know it as such.
import { NativeError } from './errors.ts';
import { formatIpv4, formatIpv6, parseIp } from './ip-text.ts';
import { AF_INET, AF_INET6 } from './layouts.ts';

/** Of routing tables and rules; the kernel keeps one set for each. */
export type RouteFamily = 4 | 6;

const LENGTH = /^(?:0|[1-9][0-9]{0,2})$/;

/** An address block in the kernel's form. */
export interface PrefixBytes {
  readonly bytes: Uint8Array;
  readonly length: number;
  readonly family: RouteFamily;
}

/** Reads `10.0.0.0/8` or `fd00::/64`; without a length it is one address. @throws native.argument */
export function parsePrefix(text: string): PrefixBytes {
  const slash = text.indexOf('/');
  const bytes = parseIp(slash < 0 ? text : text.slice(0, slash));
  const bits = bytes.length * 8;
  const rest = slash < 0 ? `${bits}` : text.slice(slash + 1);
  const length = LENGTH.test(rest) ? Number(rest) : Infinity;
  if (length > bits) throw new NativeError('native.argument', `not a prefix: ${JSON.stringify(text.slice(0, 64))}`);
  return { bytes, length, family: bits === 32 ? 4 : 6 };
}

/** The same, refused when it is of the other family. @throws native.argument */
export function parsePrefixOf(family: RouteFamily, text: string): PrefixBytes {
  const prefix = parsePrefix(text);
  if (prefix.family !== family) throw new NativeError('native.argument', `${text} is not IPv${family}`);
  return prefix;
}

/** Text of a prefix; absent bytes are the all-zero address (the kernel leaves 0/0 out). Undefined for a wrong size. */
export function formatPrefix(family: RouteFamily, bytes: Uint8Array | undefined, length: number): string | undefined {
  const size = family === 4 ? 4 : 16;
  const address = bytes ?? new Uint8Array(size);
  if (address.length !== size || length > size * 8) return undefined;
  if (family === 4) return `${formatIpv4(address)}/${length}`;
  const text = formatIpv6(address);
  return `${text.includes(':') ? text : `::ffff:${text}`}/${length}`;
}

/** `0a:00:27:ff:fe:01`, of any length the kernel gives. */
export function formatHardwareAddress(bytes: Uint8Array): string {
  return Array.from(bytes.subarray(0, 32), byte => byte.toString(16).padStart(2, '0')).join(':');
}

/** The kernel's number of a family. */
export function familyNumber(family: RouteFamily): number {
  return family === 4 ? AF_INET : AF_INET6;
}

/** Undefined for families other than IP. */
export function routeFamilyOf(number: number): RouteFamily | undefined {
  if (number === AF_INET) return 4;
  return number === AF_INET6 ? 6 : undefined;
}
