// Socket addresses between our plain form and the kernel's `sockaddr_in` / `sockaddr_in6`. IPv4-mapped IPv6 never
// leaves this file: a dual-stack listener's IPv4 peers look like IPv4 (spec hbone.md section 10). No zone ids.
import { NativeError } from './errors.ts';
import { formatIpv4, formatIpv6, type IpFamily, parseIp } from './ip-text.ts';
import { AF_INET, AF_INET6, SOCKADDR_IN6_BYTES, SOCKADDR_IN_BYTES } from './layouts.ts';

/** Canonical text (RFC 5952) and a port 0..65535. */
export type SocketAddress = { readonly ip: string; readonly port: number };

const MAX_PORT = 65535;
/** Addresses kept as bytes: a node has few that it binds and dials again and again, and reading one costs microseconds. */
const MAX_KNOWN = 512;
const known = new Map<string, Uint8Array>();

/** The family of an address text. @throws native.argument */
export function familyOf(ip: string): IpFamily {
  return bytesOf(ip).length === 4 ? 'ipv4' : 'ipv6';
}

/** Writes the kernel form at `at` (28 bytes must be there) and returns its length. @throws native.argument */
export function writeSockaddr(to: Buffer, at: number, address: SocketAddress): number {
  const { ip, port } = address;
  if (!Number.isInteger(port) || port < 0 || port > MAX_PORT) throw new NativeError('native.argument', `port ${port}`);
  const bytes = bytesOf(ip);
  to.fill(0, at, at + SOCKADDR_IN6_BYTES);
  to.writeUInt16BE(port, at + 2);
  if (bytes.length === 4) {
    to.writeUInt16LE(AF_INET, at);
    to.set(bytes, at + 4);
    return SOCKADDR_IN_BYTES;
  }
  to.writeUInt16LE(AF_INET6, at);
  to.set(bytes, at + 8);
  return SOCKADDR_IN6_BYTES;
}

/** Reads what the kernel wrote; undefined for another family or a short address. */
export function readSockaddr(from: Buffer, at: number, length: number): SocketAddress | undefined {
  const family = length >= 2 ? from.readUInt16LE(at) : 0;
  if (family === AF_INET && length >= SOCKADDR_IN_BYTES) {
    return { ip: formatIpv4(from, at + 4), port: from.readUInt16BE(at + 2) };
  }
  if (family === AF_INET6 && length >= SOCKADDR_IN6_BYTES) {
    return { ip: formatIpv6(from, at + 8), port: from.readUInt16BE(at + 2) };
  }
  return undefined;
}

/** Shared: not to be changed. @throws native.argument */
function bytesOf(ip: string): Uint8Array {
  const found = known.get(ip);
  if (found !== undefined) return found;
  const bytes = parseIp(ip);
  if (known.size >= MAX_KNOWN) known.clear();
  known.set(ip, bytes);
  return bytes;
}
