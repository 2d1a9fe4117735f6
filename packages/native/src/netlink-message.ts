// Netlink messages and their attributes as bytes (netlink(7), linux/netlink.h); pure. Writing builds whole requests within
// a bound. Reading never trusts a length: whatever comes, it ends, stays inside the bytes and gives only complete parts.
import { NativeError } from './errors.ts';
import { formatIpv4, formatIpv6 } from './ip-text.ts';
import { NLMSGHDR_BYTES } from './layouts.ts';

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_CAPPED = 0x100;
export const NLM_F_ACK_TLVS = 0x200;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLMSG_NOOP = 1;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const NLMSG_OVERRUN = 4;

/** Largest request: many times what a link, a route or a rule takes. */
export const MAX_REQUEST_BYTES = 16 * 1024;
/** The kernel's own tables of attributes are shorter. */
const MAX_ATTRIBUTES = 512;
const ATTRIBUTE_HEADER_BYTES = 4;
const NLA_TYPE_MASK = 0x3fff;
const NLA_F_NESTED = 0x8000;
/** NLMSGERR_ATTR_MSG: what the kernel has to say beside the errno. */
const NLMSGERR_ATTR_MSG = 1;
const MAX_TEXT_BYTES = 256;

/** A request's payload: a fixed header, then attributes, each aligned to 4. */
export class NetlinkWriter {
  readonly #buffer = Buffer.alloc(MAX_REQUEST_BYTES);
  #length = 0;

  /** @param headerBytes zeroed bytes at the start, for `header` to fill; a multiple of 4 */
  constructor(headerBytes: number) {
    this.#room(headerBytes);
  }

  /** The fixed header's bytes. */
  get header(): Buffer {
    return this.#buffer;
  }

  bytes(type: number, value: Uint8Array): this {
    const at = this.#room(ATTRIBUTE_HEADER_BYTES + value.length);
    this.#buffer.writeUInt16LE(ATTRIBUTE_HEADER_BYTES + value.length, at);
    this.#buffer.writeUInt16LE(type, at + 2);
    this.#buffer.set(value, at + ATTRIBUTE_HEADER_BYTES);
    return this;
  }

  u16(type: number, value: number): this {
    const bytes = Buffer.alloc(2);
    bytes.writeUInt16LE(value);
    return this.bytes(type, bytes);
  }

  u32(type: number, value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return this.bytes(type, bytes);
  }

  /** Text with its terminating zero. */
  text(type: number, value: Uint8Array): this {
    return this.bytes(type, Buffer.concat([value, Buffer.alloc(1)]));
  }

  /** An attribute that holds what `fill` writes, after `headerBytes` zeroed bytes. */
  nested(type: number, fill: () => void, headerBytes = 0): this {
    const at = this.#room(ATTRIBUTE_HEADER_BYTES + headerBytes);
    this.#buffer.writeUInt16LE(type | NLA_F_NESTED, at + 2);
    fill();
    this.#buffer.writeUInt16LE(this.#length - at, at);
    return this;
  }

  /** Everything written so far; valid until the next write. */
  finish(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  #room(length: number): number {
    const at = this.#length;
    const end = at + align4(length);
    if (end > MAX_REQUEST_BYTES - NLMSGHDR_BYTES)
      throw new NativeError('native.bounds', `a netlink request of ${end} bytes`);
    this.#length = end;
    return at;
  }
}

/** Attributes by type, without the flag bits; of a repeated type the last counts, as in the kernel. */
export type Attributes = ReadonlyMap<number, Buffer>;

/** The complete attributes of `bytes` from `offset` on; what follows a wrong length is left out. At most 512. */
export function readAttributes(bytes: Buffer, offset = 0): Attributes {
  const found = new Map<number, Buffer>();
  let at = offset;
  for (let count = 0; count < MAX_ATTRIBUTES && at + ATTRIBUTE_HEADER_BYTES <= bytes.length; count++) {
    const length = bytes.readUInt16LE(at);
    if (length < ATTRIBUTE_HEADER_BYTES || at + length > bytes.length) break;
    const type = bytes.readUInt16LE(at + 2) & NLA_TYPE_MASK;
    found.set(type, bytes.subarray(at + ATTRIBUTE_HEADER_BYTES, at + length));
    at += align4(length);
  }
  return found;
}

/** A 32-bit number, or undefined when absent or short. */
export function u32Of(attributes: Attributes, type: number): number | undefined {
  const value = attributes.get(type);
  return value !== undefined && value.length >= 4 ? value.readUInt32LE(0) : undefined;
}

/** Text up to its zero byte, at most 256 bytes of it. */
export function textOf(attributes: Attributes, type: number): string | undefined {
  const value = attributes.get(type)?.subarray(0, MAX_TEXT_BYTES);
  if (value === undefined) return undefined;
  const end = value.indexOf(0);
  return value.toString('utf8', 0, end < 0 ? value.length : end);
}

/** RFC 5952 text of a 4- or 16-byte address. IPv4-mapped IPv6 reads as IPv4, as everywhere here. */
export function ipOf(attributes: Attributes, type: number): string | undefined {
  const value = attributes.get(type);
  if (value?.length === 4) return formatIpv4(value);
  return value?.length === 16 ? formatIpv6(value) : undefined;
}

/** One message of a datagram; `payload` is a view. */
export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly payload: Buffer;
}

/** The complete messages of one datagram, in order; what follows a wrong length is left out. */
export function readMessages(datagram: Buffer): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  let at = 0;
  while (at + NLMSGHDR_BYTES <= datagram.length) {
    const length = datagram.readUInt32LE(at);
    if (length < NLMSGHDR_BYTES || at + length > datagram.length) break;
    messages.push({
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      sequence: datagram.readUInt32LE(at + 8),
      payload: datagram.subarray(at + NLMSGHDR_BYTES, at + length),
    });
    at += align4(length);
  }
  return messages;
}

/** What an NLMSG_ERROR, or the NLMSG_DONE of a dump, says. */
export interface Verdict {
  /** 0 for success, else the positive errno; -1 when the message is too short to say. */
  readonly errno: number;
  /** The kernel's sentence (extended acknowledgement), or ''. */
  readonly text: string;
}

/** Reads the verdict of either kind of message; they differ in what stands between the number and the text. */
export function readVerdict({ type, flags, payload }: NetlinkMessage): Verdict {
  if (payload.length < 4) return { errno: type === NLMSG_DONE ? 0 : -1, text: '' };
  const number = payload.readInt32LE(0);
  const errno = number <= 0 ? Math.abs(number) : type === NLMSG_DONE ? 0 : -1;
  if ((flags & NLM_F_ACK_TLVS) === 0) return { errno, text: '' };
  let at = 4;
  if (type === NLMSG_ERROR) {
    // The request's header, and its payload too unless the kernel capped it.
    const echoed = payload.length >= 8 ? payload.readUInt32LE(4) : 0;
    at += (flags & NLM_F_CAPPED) !== 0 ? NLMSGHDR_BYTES : align4(Math.max(echoed, NLMSGHDR_BYTES));
  }
  return { errno, text: textOf(readAttributes(payload, at), NLMSGERR_ATTR_MSG) ?? '' };
}

/** Where the next message or attribute begins. */
export function align4(length: number): number {
  // Not by bit operations: a hostile length may have the sign bit.
  return Math.ceil(length / 4) * 4;
}
