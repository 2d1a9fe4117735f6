// The `:authority` of a CONNECT: `ip:port`, `[ipv6]:port` or `hostname:port`. Strict and bounded: it comes from a peer.
// IPv4-mapped IPv6 addresses are read as IPv4, so that they can equal the address a connection was made to.
import { parsePort, parseSocketAddress } from './address.ts';
import type { HboneAuthority } from './inbound-route.ts';

const LONGEST_HOSTNAME = 253;
const LONGEST_AUTHORITY = LONGEST_HOSTNAME + 6;
// Letters, digits, dots, hyphens, underscores; no quantifier nests, so matching is linear.
const HOSTNAME = /^[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?$/;

export function parseHboneAuthority(text: string): HboneAuthority | undefined {
  if (text.length > LONGEST_AUTHORITY) return undefined;
  const address = parseSocketAddress(text);
  if (address !== undefined) return { kind: 'address', address };
  const colon = text.lastIndexOf(':');
  if (colon < 0) return undefined;
  const port = parsePort(text.slice(colon + 1));
  const hostname = text.slice(0, colon);
  if (port === undefined || hostname.length > LONGEST_HOSTNAME || !HOSTNAME.test(hostname)) return undefined;
  return { kind: 'hostname', hostname, port };
}
