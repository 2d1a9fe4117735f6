// Finds out what a connection's plaintext is from its first bytes, and hands it to the reader of that protocol. Decides within the
// first 256 bytes of the side that talks, in however many reads; what is not recognised by then is `unknown`, and never read again.
// Detection is by content alone: ports and names say nothing about what an application really speaks.
import { CLIENT_PREFACE, FRAME_HEADER_BYTES, FRAME_TYPE } from '../h2/index.ts';
import { Http1Reader } from './http1-reader.ts';
import { Http2Reader } from './http2-reader.ts';
import { KafkaReader, probeKafka } from './kafka.ts';
import { MysqlReader, probeMysql } from './mysql.ts';
import { PostgresqlReader, probePostgresql } from './postgresql.ts';
import { probeRedis, RedisReader } from './redis.ts';
import { type Movable, type Move, type Packed, Packing, Unpacking, withRoom } from './moving.ts';
import type { L7Options } from './sniffer-options.ts';
import { hasText, methodNumber } from './sniffer-texts.ts';
import type { L7Listener, L7Protocol, L7Sniffer, MovableSniffer } from './types.ts';

/** Bytes of one side after which a decision is made with what is there. */
const MAX_PROBE_BYTES = 256;
/** Longest method of HTTP/1 that is looked for: what its reader takes. */
const MAX_TOKEN = 32;

/** What a probe says of first bytes: these are mine, they are not, or it takes more to tell. */
export type ProbeAnswer = 'yes' | 'no' | 'more';
type Side = 'client' | 'server';
type Probe = (bytes: Uint8Array, start: number, end: number, side: Side) => ProbeAnswer;

/** HTTP/1.x: a method, a request target and `HTTP/1.`; a line too long to see its end, if its method is a known one. */
export function probeHttp1(bytes: Uint8Array, start: number, end: number, side: Side): ProbeAnswer {
  if (side === 'server') return 'no';
  const stop = Math.min(end, start + MAX_PROBE_BYTES);
  let at = start;
  while (at < stop && at - start < MAX_TOKEN && isMethodByte(bytes[at] ?? 0)) at++;
  if (at === stop) return 'more';
  if (at === start || bytes[at] !== 0x20) return 'no';
  const isKnown = methodNumber(bytes, start, at) !== 0;
  let lineEnd = at + 1;
  while (lineEnd < stop && bytes[lineEnd] !== 0x0a) {
    const byte = bytes[lineEnd] ?? 0;
    if (byte < 0x20 && byte !== 0x0d) return 'no';
    lineEnd++;
  }
  if (lineEnd === stop && stop - start < MAX_PROBE_BYTES) return 'more';
  if (lineEnd === stop) return isKnown ? 'yes' : 'no';
  if (bytes[lineEnd - 1] === 0x0d) lineEnd--;
  // Redis takes commands such as `GET name` as a line too; the version tells.
  return lineEnd - 9 > at && hasText(bytes, lineEnd - 9, ' HTTP/1.') ? 'yes' : 'no';
}

// Of the characters of a token (RFC 9110 §5.6.2), those that anybody has named a method with.
function isMethodByte(byte: number): boolean {
  const lower = byte | 0x20;
  return (lower >= 0x61 && lower <= 0x7a) || (byte >= 0x30 && byte <= 0x39) || byte === 0x2d || byte === 0x5f;
}

/**
 * HTTP/2 with prior knowledge (RFC 9113 §3.3): the client's preface, or the SETTINGS that many gRPC servers send before they have
 * seen any.
 */
export function probeHttp2(bytes: Uint8Array, start: number, end: number, side: Side): ProbeAnswer {
  if (side === 'client') {
    const length = Math.min(end - start, CLIENT_PREFACE.length);
    return hasText(bytes, start, CLIENT_PREFACE.slice(0, length))
      ? length === CLIENT_PREFACE.length
        ? 'yes'
        : 'more'
      : 'no';
  }
  // At most 40 settings, no flags, stream 0.
  for (let i = 0; i < Math.min(end - start, FRAME_HEADER_BYTES); i++) {
    const byte = bytes[start + i] ?? 0;
    if (i === 2 ? byte > 240 || byte % 6 !== 0 : byte !== (i === 3 ? FRAME_TYPE.SETTINGS : 0)) return 'no';
  }
  return end - start >= FRAME_HEADER_BYTES ? 'yes' : 'more';
}

/** TLS: a handshake record that holds a ClientHello (RFC 8446 §5.1). */
export function probeTls(bytes: Uint8Array, start: number, end: number, side: Side): ProbeAnswer {
  if (side === 'server') return 'no';
  const length = end - start;
  if (length > 0 && bytes[start] !== 0x16) return 'no';
  if (length > 1 && bytes[start + 1] !== 3) return 'no';
  if (length > 2 && (bytes[start + 2] ?? 0) > 4) return 'no';
  if (length > 5 && bytes[start + 5] !== 1) return 'no';
  return length > 5 ? 'yes' : 'more';
}

type Reader = L7Sniffer & Movable;

interface Candidate {
  readonly protocol: L7Protocol;
  readonly probe: Probe;
  /** Absent for what is only named. */
  readonly open?: (listener: L7Listener, options: L7Options) => Reader;
}

// In order of how sure a yes is.
const CANDIDATES: readonly Candidate[] = [
  { protocol: 'tls', probe: probeTls },
  { protocol: 'http', probe: probeHttp2, open: (listener, options) => new Http2Reader(listener, options) },
  { protocol: 'http', probe: probeHttp1, open: (listener, options) => new Http1Reader(listener, options) },
  { protocol: 'postgresql', probe: probePostgresql, open: listener => new PostgresqlReader(listener) },
  { protocol: 'mysql', probe: probeMysql, open: listener => new MysqlReader(listener) },
  { protocol: 'redis', probe: probeRedis, open: listener => new RedisReader(listener) },
  { protocol: 'kafka', probe: probeKafka, open: listener => new KafkaReader(listener) },
];

const NO_BYTES = new Uint8Array(0);

// First bytes of one side that were not enough, kept until the reader can be given them.
class Prefix {
  bytes: Uint8Array | undefined = undefined;
  length = 0;
  firstMs = 0;

  add(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    if (this.length === 0) this.firstMs = nowMs;
    this.bytes ??= new Uint8Array(MAX_PROBE_BYTES);
    this.bytes.set(bytes.subarray(start, end), this.length);
    this.length += end - start;
  }

  carry(move: Move): void {
    this.firstMs = move.time(this.firstMs);
    const bytes = move.bytes(this.bytes?.subarray(0, this.length) ?? NO_BYTES);
    if (!move.isUnpacking) return;
    this.bytes = bytes.length === 0 ? undefined : withRoom(bytes, MAX_PROBE_BYTES);
    this.length = bytes.length;
  }
}

// Of a frozen sniffer: the number of a candidate, or that none was found yet.
const UNDECIDED = -1;

interface FrozenSniffer {
  readonly candidate: number;
  readonly packed: Packed;
}

/** A sniffer of a connection that may turn out to be anything. */
export class DetectingSniffer implements MovableSniffer {
  readonly #listener: L7Listener;
  readonly #options: L7Options;
  #reader: Reader | undefined = undefined;
  #candidate = UNDECIDED;
  #isDecided = false;
  // Undefined once decided, and before anything came.
  #client: Prefix | undefined = undefined;
  #server: Prefix | undefined = undefined;

  constructor(listener: L7Listener, options: L7Options) {
    this.#listener = listener;
    this.#options = options;
  }

  /** Goes on with what `freeze` gave. @throws TypeError when that is not what it was */
  static thaw(state: unknown, listener: L7Listener, options: L7Options): DetectingSniffer {
    const { candidate, packed } = state as FrozenSniffer; // of this program, see moving.ts
    const sniffer = new DetectingSniffer(listener, options);
    const move = new Unpacking(packed);
    if (candidate === UNDECIDED) {
      sniffer.#client = new Prefix();
      sniffer.#server = new Prefix();
    } else {
      sniffer.#isDecided = true;
      sniffer.#candidate = candidate;
      sniffer.#reader = CANDIDATES[candidate]?.open?.(listener, options);
    }
    sniffer.#carry(move);
    if (!move.isDone) throw new TypeError('invariant: a moved reader has something left over');
    return sniffer;
  }

  get reader(): L7Sniffer {
    return this.#reader ?? this;
  }

  tellMessages(): void {
    if (this.#reader instanceof Http2Reader) this.#reader.tellMessages();
  }

  freeze(): unknown {
    const isFinished =
      this.skippableFromClient === Number.POSITIVE_INFINITY && this.skippableFromServer === Number.POSITIVE_INFINITY;
    if (isFinished) return undefined;
    const move = new Packing();
    this.#client ??= new Prefix();
    this.#server ??= new Prefix();
    this.#carry(move);
    const candidate = this.#candidate;
    this.#isDecided = true;
    this.#reader = undefined;
    const { packed } = move;
    if (packed === undefined) {
      this.#listener.onGiveUp('moved');
      return undefined;
    }
    return { candidate, packed } satisfies FrozenSniffer;
  }

  get skippableFromClient(): number {
    if (this.#reader !== undefined) return this.#reader.skippableFromClient;
    return this.#isDecided ? Number.POSITIVE_INFINITY : 0;
  }

  get skippableFromServer(): number {
    if (this.#reader !== undefined) return this.#reader.skippableFromServer;
    return this.#isDecided ? Number.POSITIVE_INFINITY : 0;
  }

  fromClient(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    if (this.#reader !== undefined) this.#reader.fromClient(bytes, start, end, nowMs);
    else if (!this.#isDecided && start < end) this.#probe('client', bytes, start, end, nowMs);
  }

  fromServer(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    if (this.#reader !== undefined) this.#reader.fromServer(bytes, start, end, nowMs);
    else if (!this.#isDecided && start < end) this.#probe('server', bytes, start, end, nowMs);
  }

  skipFromClient(bytes: number, nowMs: number): void {
    this.#reader?.skipFromClient(bytes, nowMs);
  }

  skipFromServer(bytes: number, nowMs: number): void {
    this.#reader?.skipFromServer(bytes, nowMs);
  }

  end(byClient: boolean, nowMs: number): void {
    if (this.#reader !== undefined) this.#reader.end(byClient, nowMs);
    else if (!this.#isDecided && (this.#client?.length ?? 0) + (this.#server?.length ?? 0) > 0) this.#decide(undefined);
  }

  #probe(side: Side, bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    const own = side === 'client' ? this.#client : this.#server;
    const held = own?.length ?? 0;
    const fits = held + end - start < MAX_PROBE_BYTES;
    const candidate = this.#find(side, own, bytes, start, end);
    if (candidate === 'more' && fits) {
      const prefix = own ?? new Prefix();
      if (side === 'client') this.#client = prefix;
      else this.#server = prefix;
      prefix.add(bytes, start, end, nowMs);
      return;
    }
    const server = this.#server;
    const client = this.#client;
    this.#decide(candidate === 'more' ? undefined : candidate);
    replay(this.#reader, 'server', server);
    replay(this.#reader, 'client', client);
    if (side === 'client') this.#reader?.fromClient(bytes, start, end, nowMs);
    else this.#reader?.fromServer(bytes, start, end, nowMs);
  }

  // The protocol of what one side has sent, 'more', or undefined when it is none of them.
  #find(
    side: Side,
    own: Prefix | undefined,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): Candidate | 'more' | undefined {
    let probed = bytes;
    let from = start;
    let to = end;
    if (own?.bytes !== undefined && own.length > 0) {
      // What came before and as much of the new bytes as a decision may need.
      probed = new Uint8Array(MAX_PROBE_BYTES);
      probed.set(own.bytes.subarray(0, own.length));
      const taken = Math.min(end - start, MAX_PROBE_BYTES - own.length);
      probed.set(bytes.subarray(start, start + taken), own.length);
      from = 0;
      to = own.length + taken;
    }
    let isUndecided = false;
    for (const candidate of CANDIDATES) {
      const answer = candidate.probe(probed, from, to, side);
      if (answer === 'yes') return candidate;
      if (answer === 'more') isUndecided = true;
    }
    return isUndecided ? 'more' : undefined;
  }

  #carry(move: Move): void {
    if (this.#reader !== undefined) {
      this.#reader.carry(move);
      return;
    }
    this.#client?.carry(move);
    this.#server?.carry(move);
  }

  #decide(candidate: Candidate | undefined): void {
    this.#isDecided = true;
    this.#client = undefined;
    this.#server = undefined;
    this.#reader = candidate?.open?.(this.#listener, this.#options);
    if (candidate !== undefined) this.#candidate = CANDIDATES.indexOf(candidate);
    // HTTP/2 says itself whether it is gRPC, at its first request.
    if (!(this.#reader instanceof Http2Reader)) this.#listener.onProtocol(candidate?.protocol ?? 'unknown');
  }
}

function replay(reader: L7Sniffer | undefined, side: Side, prefix: Prefix | undefined): void {
  if (reader === undefined || prefix?.bytes === undefined || prefix.length === 0) return;
  if (side === 'client') reader.fromClient(prefix.bytes, 0, prefix.length, prefix.firstMs);
  else reader.fromServer(prefix.bytes, 0, prefix.length, prefix.firstMs);
}

/**
 * Reads a connection from its first byte, whatever it is. `onProtocol` is called once, when that is known; a connection
 * without bytes has none.
 */
export function openSniffer(listener: L7Listener, options: L7Options): DetectingSniffer {
  return new DetectingSniffer(listener, options);
}

/** Goes on reading a connection that another thread has frozen (`freeze`); undefined when the state is not of this program. */
export function thawSniffer(state: unknown, listener: L7Listener, options: L7Options): DetectingSniffer | undefined {
  try {
    return DetectingSniffer.thaw(state, listener, options);
  } catch {
    return undefined;
  }
}
