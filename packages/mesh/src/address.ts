// IP addresses, socket addresses and CIDR blocks as canonical text, so that equality is `===` and a map key is the
// address itself. IPv4 is dotted decimal; IPv6 follows RFC 5952; an IPv4-mapped IPv6 address becomes IPv4, because the
// kernel hands both forms to a dual-stack listener for the same peer. Parsers are strict, bounded and never throw.

declare const ipBrand: unique symbol;

/** Canonical text of an IP address. Only `parseIp` and `ipFromBytes` make one, so it needs no second check. */
export type Ip = string & { readonly [ipBrand]: true };

export type IpFamily = 'ipv4' | 'ipv6';

/** A TCP endpoint. `port` is an integer from 0 to 65535. */
export interface SocketAddress {
  readonly ip: Ip;
  readonly port: number;
}

/**
 * An address block. Host bits are kept as given (`127.0.0.1/24`); containment looks at the network part only.
 * `length` is 0..32 for IPv4 and 0..128 for IPv6.
 */
export interface Cidr {
  readonly ip: Ip;
  readonly length: number;
}

const LONGEST_IP_TEXT = 45;
const LONGEST_SOCKET_ADDRESS_TEXT = LONGEST_IP_TEXT + 2 + 6;
const MAPPED_PREFIX_BITS = 96;

/** Reads an IPv4 or IPv6 address. Leading zeroes, zone ids, brackets and blanks are refused. */
export function parseIp(text: string): Ip | undefined {
  if (text.length < 2 || text.length > LONGEST_IP_TEXT) return undefined;
  const v4 = ipv4ToNumber(text);
  // Dotted decimal without leading zeroes is already canonical, so the text itself becomes the brand: no allocation.
  if (v4 !== undefined) return text as Ip;
  if (!text.includes(':')) return undefined;
  const groups = parseIpv6Groups(text);
  return groups === undefined ? undefined : canonicalFromGroups(groups);
}

/** Address from its 4 or 16 network-order bytes; any other length is undefined. */
export function ipFromBytes(bytes: Uint8Array): Ip | undefined {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as Ip;
  if (bytes.length !== 16) return undefined;
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  return canonicalFromGroups(groups);
}

/** The 4 or 16 network-order bytes of an address. */
export function ipToBytes(ip: Ip): Uint8Array {
  const v4 = ipv4ToNumber(ip);
  if (v4 !== undefined) return Uint8Array.of(v4 >>> 24, (v4 >>> 16) & 0xff, (v4 >>> 8) & 0xff, v4 & 0xff);
  const bytes = new Uint8Array(16);
  const groups = parseIpv6Groups(ip) ?? [];
  for (const [index, group] of groups.entries()) {
    bytes[index * 2] = group >>> 8;
    bytes[index * 2 + 1] = group & 0xff;
  }
  return bytes;
}

export function ipFamily(ip: Ip): IpFamily {
  return ip.includes(':') ? 'ipv6' : 'ipv4';
}

/** 127.0.0.0/8 or ::1. */
export function isLoopback(ip: Ip): boolean {
  return ip.startsWith('127.') || ip === '::1';
}

/** The loopback address of the same family as `ip`. */
export function loopbackLike(ip: Ip): Ip {
  return (ipFamily(ip) === 'ipv4' ? '127.0.0.1' : '::1') as Ip;
}

/** Reads `1.2.3.4:80` or `[::1]:80`; brackets are mandatory for IPv6 and refused for IPv4. */
export function parseSocketAddress(text: string): SocketAddress | undefined {
  if (text.length > LONGEST_SOCKET_ADDRESS_TEXT) return undefined;
  const colon = text.lastIndexOf(':');
  if (colon < 0) return undefined;
  const port = parsePort(text.slice(colon + 1));
  if (port === undefined) return undefined;
  const bracketed = text.startsWith('[') && text.charCodeAt(colon - 1) === 0x5d;
  const host = bracketed ? text.slice(1, colon - 1) : text.slice(0, colon);
  if (host.includes(':') !== bracketed) return undefined;
  const ip = parseIp(host);
  return ip === undefined ? undefined : { ip, port };
}

/** `1.2.3.4:80` or `[::1]:80`. */
export function formatSocketAddress(address: SocketAddress): string {
  return formatIpPort(address.ip, address.port);
}

export function formatIpPort(ip: Ip, port: number): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** Reads a port in decimal, 0..65535, at most five digits, no sign. */
export function parsePort(text: string): number | undefined {
  if (text.length === 0 || text.length > 5) return undefined;
  let port = 0;
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 0x30;
    if (digit < 0 || digit > 9) return undefined;
    port = port * 10 + digit;
  }
  return port > 65535 ? undefined : port;
}

/** Reads `10.0.0.0/8` or `fd00::/8`; an address alone stands for itself. IPv4-mapped blocks longer than /96 become IPv4. */
export function parseCidr(text: string): Cidr | undefined {
  if (text.length > LONGEST_IP_TEXT + 4) return undefined;
  const slash = text.indexOf('/');
  const address = slash < 0 ? text : text.slice(0, slash);
  const ip = parseIp(address);
  if (ip === undefined) return undefined;
  const familyMax = maxPrefixLength(ip);
  if (slash < 0) return { ip, length: familyMax };
  const length = parsePort(text.slice(slash + 1));
  if (length === undefined) return undefined;
  // `::ffff:10.0.0.0/104` names the IPv4 block 10.0.0.0/8; a shorter mapped prefix covers more than IPv4 and is refused.
  const isMapped = familyMax === 32 && address.includes(':');
  const effective = isMapped ? length - MAPPED_PREFIX_BITS : length;
  return isPrefixLength(ip, effective) ? { ip, length: effective } : undefined;
}

export function formatCidr(cidr: Cidr): string {
  return `${cidr.ip}/${cidr.length}`;
}

/** 32 or 128. */
export function maxPrefixLength(ip: Ip): number {
  return ip.includes(':') ? 128 : 32;
}

export function isPrefixLength(ip: Ip, length: number): boolean {
  return Number.isInteger(length) && length >= 0 && length <= maxPrefixLength(ip);
}

/** Whether the block contains the address; never across families. A block with an impossible length contains nothing. */
export function cidrContains(cidr: Cidr, ip: Ip): boolean {
  if (!isPrefixLength(cidr.ip, cidr.length)) return false;
  const network = ipv4ToNumber(cidr.ip);
  const candidate = ipv4ToNumber(ip);
  if ((network === undefined) !== (candidate === undefined)) return false;
  if (network !== undefined && candidate !== undefined) {
    return maskIpv4(network, cidr.length) === maskIpv4(candidate, cidr.length);
  }
  return maskedIpv6Key(cidr.ip, cidr.length) === maskedIpv6Key(ip, cidr.length);
}

/** An unsigned 32-bit value with everything behind the first `length` bits cleared. */
export function maskIpv4(value: number, length: number): number {
  // A shift by 32 is a shift by 0 in JavaScript, hence the special case.
  return length === 0 ? 0 : (value & (-1 << (32 - length))) >>> 0;
}

/** A comparable key of the first `length` bits of an IPv6 address. */
export function maskedIpv6Key(ip: Ip, length: number): string {
  const groups = parseIpv6Groups(ip) ?? [];
  let key = '';
  let bitsLeft = length;
  for (const group of groups) {
    if (bitsLeft <= 0) break;
    const masked = bitsLeft >= 16 ? group : group & (0xffff << (16 - bitsLeft));
    key += String.fromCharCode(masked & 0xffff);
    bitsLeft -= 16;
  }
  return key;
}

/** The unsigned 32-bit value of a dotted-decimal address, or undefined when the text is not one. */
export function ipv4ToNumber(text: string): number | undefined {
  const end = text.length;
  if (end < 7 || end > 15) return undefined;
  let value = 0;
  let octet = 0;
  let digits = 0;
  let dots = 0;
  for (let i = 0; i < end; i++) {
    const code = text.charCodeAt(i);
    if (code === 0x2e) {
      if (digits === 0 || dots === 3) return undefined;
      value = value * 256 + octet;
      octet = 0;
      digits = 0;
      dots++;
      continue;
    }
    const digit = code - 0x30;
    if (digit < 0 || digit > 9) return undefined;
    if (digits > 0 && octet === 0) return undefined;
    octet = octet * 10 + digit;
    digits++;
    if (octet > 255) return undefined;
  }
  return digits === 0 || dots !== 3 ? undefined : value * 256 + octet;
}

function parseIpv6Groups(text: string): number[] | undefined {
  const gap = text.indexOf('::');
  if (gap < 0) {
    const groups = parseGroupList(text, true);
    return groups?.length === 8 ? groups : undefined;
  }
  const head = parseGroupList(text.slice(0, gap), false);
  const tail = parseGroupList(text.slice(gap + 2), true);
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (missing < 1) return undefined;
  return [...head, ...Array.from({ length: missing }, () => 0), ...tail];
}

function parseGroupList(text: string, mayEndInIpv4: boolean): number[] | undefined {
  if (text === '') return [];
  const parts = text.split(':', 9);
  if (parts.length > 8) return undefined;
  const groups: number[] = [];
  for (const [index, part] of parts.entries()) {
    if (mayEndInIpv4 && index === parts.length - 1 && part.includes('.')) {
      const v4 = ipv4ToNumber(part);
      if (v4 === undefined) return undefined;
      groups.push(v4 >>> 16, v4 & 0xffff);
    } else {
      const group = parseHexGroup(part);
      if (group === undefined) return undefined;
      groups.push(group);
    }
  }
  return groups.length > 8 ? undefined : groups;
}

function parseHexGroup(text: string): number | undefined {
  if (text.length === 0 || text.length > 4) return undefined;
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    const digit = hexDigit(text.charCodeAt(i));
    if (digit < 0) return undefined;
    value = value * 16 + digit;
  }
  return value;
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

function canonicalFromGroups(groups: readonly number[]): Ip {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = groups;
  if ((a | b | c | d | e) === 0 && f === 0xffff) {
    return `${g >>> 8}.${g & 0xff}.${h >>> 8}.${h & 0xff}` as Ip;
  }
  // RFC 5952 4.2: compress the longest run of two or more zero groups, the first of equals.
  let bestStart = -1;
  let bestLength = 1;
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > bestLength) {
      bestStart = start;
      bestLength = length;
    }
  }
  const hex = groups.map(group => group.toString(16));
  if (bestStart < 0) return hex.join(':') as Ip;
  return `${hex.slice(0, bestStart).join(':')}::${hex.slice(bestStart + bestLength).join(':')}` as Ip;
}
