// Addresses as the resources carry them: bytes, and the aliases under which they can be asked for.
import { type Ip, ipFromBytes, ipToBytes, maxPrefixLength, parseCidr, parseIp } from '@ambit/mesh';

export interface NetworkAddressParts {
  readonly network: string;
  readonly address: Uint8Array;
  /** Set for a block of addresses only. */
  readonly length: number | undefined;
  readonly alias: string;
}

/** All the addresses, or the first text that is none: half a dual-stack workload is worse than a refused one. */
export function parseAll(texts: readonly string[]): { readonly ips: readonly Ip[] } | { readonly bad: string } {
  const ips: Ip[] = [];
  for (const text of texts) {
    const ip = parseIp(text);
    if (ip === undefined) return { bad: text };
    ips.push(ip);
  }
  return { ips };
}

export function addressOf(network: string, ip: Ip): NetworkAddressParts {
  return { network, address: ipToBytes(ip), length: undefined, alias: `${network}/${ip}` };
}

/** An address, or a block with its host bits cleared; undefined when the text is neither. */
export function addressOfCidr(network: string, text: string): NetworkAddressParts | undefined {
  const cidr = parseCidr(text);
  if (cidr === undefined) return undefined;
  if (cidr.length === maxPrefixLength(cidr.ip)) return addressOf(network, cidr.ip);
  const address = masked(ipToBytes(cidr.ip), cidr.length);
  return {
    network,
    address,
    length: cidr.length,
    alias: `${network}/${ipFromBytes(address) ?? cidr.ip}/${cidr.length}`,
  };
}

function masked(bytes: Uint8Array, length: number): Uint8Array {
  return bytes.map((byte, index) => byte & (0xff00 >> Math.min(8, Math.max(0, length - index * 8))) & 0xff);
}
