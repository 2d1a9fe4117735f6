// The access log as it is written: lines of the connections and requests that were chosen, a share of those that ended well,
// and no more a second than allowed. Failures are never left to chance, and the last fifth of a second's lines is theirs.
// What was left out for want of room is told once a second. Never blocks, never throws: a line is cheaper than a connection.
import type { ConnectionRecord, RequestRecord } from '@ambit/proxy';
import type { AccessFilter } from './access-log-filter.ts';
import { type AccessLine, accessLevel, accessLine } from './access-log.ts';
import { type RequestLine, requestLevel, requestLine } from './access-log-request.ts';
import type { Cancel, Clock } from './clock.ts';
import type { Logger } from './log.ts';

export interface AccessLogDeps {
  /** Scope `access`. */
  readonly connections: Logger;
  /** Scope `access.l7`. */
  readonly requests: Logger;
  /** Where it says what it left out. */
  readonly log: Logger;
  readonly clock: Clock;
  /** Hears of each line that was written. */
  readonly onLine?: (
    scope: 'access' | 'access.l7',
    line: AccessLine | RequestLine,
    traceId: string | undefined,
  ) => void;
}

export interface AccessLogOptions {
  readonly matches: AccessFilter;
  /** Share of the connections that ended well, 0 to 1. */
  readonly sample: number;
  /** Infinity: no limit. */
  readonly linesPerSecond: number;
}

/** Counted since the start. */
export interface AccessLogStats {
  readonly written: number;
  /** Not chosen by AMBIT_ACCESS_LOG_FILTER. */
  readonly filtered: number;
  /** Not in the sample. */
  readonly sampledOut: number;
  /** Over the limit. */
  readonly dropped: number;
}

const FAILURES_SHARE = 0.2;
const SECOND_MS = 1000;

export class AccessLog {
  readonly #deps: AccessLogDeps;
  readonly #options: AccessLogOptions;
  readonly #stats = { written: 0, filtered: 0, sampledOut: 0, dropped: 0 };
  #secondAtMs = Number.NEGATIVE_INFINITY;
  #inThisSecond = 0;
  #untold = 0;
  #cancelTelling: Cancel | undefined;

  constructor(deps: AccessLogDeps, options: AccessLogOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  get stats(): AccessLogStats {
    return this.#stats;
  }

  connection(record: ConnectionRecord): void {
    if (record.event === 'progress') return;
    const { connections, onLine } = this.#deps;
    // Levels are checked before any text is built: opens are at debug and normally unwanted.
    const level = accessLevel(record);
    if (!connections.isEnabled(level)) return;
    if (!this.#passes(record, level !== 'error' && level !== 'warn')) return;
    const line = accessLine(record);
    connections.log(line.level, line.message, line.fields, line.timeMs);
    onLine?.('access', line, record.traceId);
  }

  request(told: RequestRecord): void {
    const { requests, onLine } = this.#deps;
    const level = requestLevel(told.request);
    if (!requests.isEnabled(level)) return;
    if (!this.#passes(told.connection, level === 'info')) return;
    const line = requestLine(told);
    requests.log(line.level, line.message, line.fields, line.timeMs);
    onLine?.('access.l7', line, line.traceId);
  }

  /** Tells what is still to be told, and no more after that. */
  close(): void {
    this.#cancelTelling?.();
    this.#tell();
  }

  #passes(record: ConnectionRecord, isClean: boolean): boolean {
    if (!this.#options.matches(record)) {
      this.#stats.filtered++;
      return false;
    }
    if (isClean && !isSampled(record, this.#options.sample)) {
      this.#stats.sampledOut++;
      return false;
    }
    if (!this.#hasRoom(isClean)) {
      this.#stats.dropped++;
      this.#untold++;
      this.#cancelTelling ??= this.#deps.clock.after(SECOND_MS, () => this.#tell());
      return false;
    }
    this.#stats.written++;
    return true;
  }

  #hasRoom(isClean: boolean): boolean {
    const { linesPerSecond } = this.#options;
    if (linesPerSecond === Number.POSITIVE_INFINITY) return true;
    const now = this.#deps.clock.now();
    // A clock that was set back begins a new second too.
    if (now - this.#secondAtMs >= SECOND_MS || now < this.#secondAtMs) {
      this.#secondAtMs = now;
      this.#inThisSecond = 0;
    }
    const limit = isClean ? Math.max(1, Math.floor(linesPerSecond * (1 - FAILURES_SHARE))) : linesPerSecond;
    if (this.#inThisSecond >= limit) return false;
    this.#inThisSecond++;
    return true;
  }

  #tell(): void {
    this.#cancelTelling = undefined;
    if (this.#untold === 0) return;
    this.#deps.log.warn('Access log lines were left out, there were more than AMBIT_ACCESS_LOG_RATE allows', [
      ['dropped', this.#untold],
    ]);
    this.#untold = 0;
  }
}

/** All lines of a connection, and where both ends take part those of both, are in or out together. */
function isSampled({ traceId, id }: ConnectionRecord, share: number): boolean {
  if (share >= 1) return true;
  // The last digits of a trace id are random (W3C Trace Context level 2); ids of our own are counters and are spread.
  const tail = traceId === undefined ? Number.NaN : Number.parseInt(traceId.slice(-8), 16);
  return (Number.isNaN(tail) ? spread(id) : tail) < share * 2 ** 32;
}

/** FNV-1a, 32 bits, and a final mix, for ids that differ in one digit only. */
function spread(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x45d9f3b);
  return (hash ^ (hash >>> 16)) >>> 0;
}
