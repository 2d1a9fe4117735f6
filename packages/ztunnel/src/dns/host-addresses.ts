// Questions of our own for the addresses of a host, and what an answer to one says.
import { type Ip, ipFromBytes, type IpFamily } from '@ambit/mesh';
import { encodeName } from './codec/names.ts';
import { CLASS_IN, Flag, HEADER_BYTES, Rcode, Type } from './codec/numbers.ts';
import { addressesOf, rcodeOf } from './codec/response.ts';
import type { ForwardOutcome } from './forwarder.ts';

export type HostAddresses =
  | { readonly kind: 'addresses'; readonly addresses: readonly Ip[]; readonly ttlSeconds: number }
  | { readonly kind: 'failed'; readonly error: string };

/** undefined when the text is no host name. */
export function addressQuery(host: string, family: IpFamily): Buffer | undefined {
  const name = encodeName(host);
  if (name === undefined || name.length === 1) return undefined;
  const message = Buffer.alloc(HEADER_BYTES + name.length + 4);
  message.writeUInt16BE(Flag.RD, 2);
  message.writeUInt16BE(1, 4);
  message.set(name, HEADER_BYTES);
  message.writeUInt16BE(typeOf(family), HEADER_BYTES + name.length);
  message.writeUInt16BE(CLASS_IN, HEADER_BYTES + name.length + 2);
  return message;
}

export function hostAddresses(host: string, family: IpFamily, outcome: ForwardOutcome): HostAddresses {
  if (outcome.kind === 'failed') return outcome;
  const { bytes, length } = outcome;
  const rcode = rcodeOf(bytes, 0);
  if (rcode !== Rcode.NOERROR) {
    const error = rcode === Rcode.NXDOMAIN ? `${host} does not exist` : `resolvers answer with code ${rcode}`;
    return { kind: 'failed', error };
  }
  const found = addressesOf(bytes, length, typeOf(family));
  if (found === undefined) return { kind: 'failed', error: 'a resolver gave a malformed answer' };
  const addresses = found.addresses.flatMap(each => ipFromBytes(each) ?? []);
  return { kind: 'addresses', addresses, ttlSeconds: found.ttlSeconds };
}

function typeOf(family: IpFamily): number {
  return family === 'ipv4' ? Type.A : Type.AAAA;
}
