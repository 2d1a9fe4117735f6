// Token buckets against peers that send what costs them little and us much (CVE-2019-9511 to 9518, CVE-2023-44487,
// CVE-2025-8671).
// One guard a connection; time comes in as a number. A guard is not part of a hand-over: a fresh one starts full.

/**
 * What is counted. RAPID_RESET is a stream the peer opened and reset before we answered it; STREAM_FAULT is a stream it made
 * us reset by a fault, which undoes as much work and needs no RST_STREAM of its own.
 */
export const FLOOD_KIND = {
  PING: 0,
  SETTINGS: 1,
  RST_STREAM: 2,
  EMPTY_DATA: 3,
  WINDOW_UPDATE: 4,
  PRIORITY: 5,
  RAPID_RESET: 6,
  IGNORED_FRAME: 7,
  STREAM_FAULT: 8,
} as const;

/** One of FLOOD_KIND. */
export type FloodKind = (typeof FLOOD_KIND)[keyof typeof FLOOD_KIND];

/** A bucket: `burst` tokens at most, `perSecond` new ones a second. */
export interface FloodLimit {
  readonly burst: number;
  readonly perSecond: number;
}

/** Limits by FLOOD_KIND, chosen well above what an honest HBONE peer needs and well below what hurts. */
export const FLOOD_LIMITS: readonly FloodLimit[] = [
  // PING: each costs an answer. ztunnel sends one in 10 s; probes of bandwidth send one a round trip while data flows.
  { burst: 1000, perSecond: 200 },
  // SETTINGS: each costs an answer and a walk over all streams. Peers send one, rarely a second.
  { burst: 50, perSecond: 5 },
  // RST_STREAM: at most one a stream in honest use, and streams open at the rate connections do.
  { burst: 5000, perSecond: 5000 },
  // DATA without bytes or END_STREAM: carries nothing and consumes no window, so nothing else slows it.
  { burst: 100, perSecond: 10 },
  // WINDOW_UPDATE: pays for bytes we sent; `credit` adds tokens for those, the rate is for the rest.
  { burst: 10_000, perSecond: 1000 },
  // PRIORITY: obsolete; some clients still send a few at the start and one a stream.
  { burst: 1000, perSecond: 100 },
  // RAPID_RESET: each has cost a route, maybe a dial. Clients that give up early do so in tens; nghttp2 allows 1000, 33/s.
  { burst: 1000, perSecond: 100 },
  // Extension frames: ignored, but read. GREASE sends one or two a connection.
  { burst: 1000, perSecond: 100 },
  // STREAM_FAULT: an honest peer causes none, a faulty one a few.
  { burst: 100, perSecond: 10 },
];

/** Bytes of ours that earn the peer one WINDOW_UPDATE. Honest receivers update for 16 KiB or more, once for the stream and once for the connection. */
export const BYTES_PER_WINDOW_UPDATE = 2048;

/** Counts one connection's costly frames. */
export class FloodGuard {
  readonly #tokens: Float64Array;
  readonly #updatedMs: Float64Array;

  /** Buckets start full; `nowMs` from the clock that `note` will use, monotonic. */
  constructor(nowMs: number) {
    this.#tokens = Float64Array.from(FLOOD_LIMITS, limit => limit.burst);
    this.#updatedMs = new Float64Array(FLOOD_LIMITS.length).fill(nowMs);
  }

  /**
   * Takes one token of `kind`.
   * @returns false when there was none: end the connection with ENHANCE_YOUR_CALM (`hbone.flood`).
   */
  note(kind: FloodKind, nowMs: number): boolean {
    const limit = FLOOD_LIMITS[kind];
    if (limit === undefined) return false;
    // A clock that steps back gives nothing and takes nothing.
    const elapsedMs = Math.max(0, nowMs - (this.#updatedMs[kind] ?? nowMs));
    const tokens = Math.min(limit.burst, (this.#tokens[kind] ?? 0) + (elapsedMs * limit.perSecond) / 1000);
    this.#updatedMs[kind] = nowMs;
    if (tokens < 1) {
      this.#tokens[kind] = tokens;
      return false;
    }
    this.#tokens[kind] = tokens - 1;
    return true;
  }

  /** Tells of DATA bytes sent to the peer, which entitle it to window updates. Cheap enough for every send. */
  creditSent(bytes: number): void {
    const kind = FLOOD_KIND.WINDOW_UPDATE;
    const burst = FLOOD_LIMITS[kind]?.burst ?? 0;
    this.#tokens[kind] = Math.min(burst, (this.#tokens[kind] ?? 0) + bytes / BYTES_PER_WINDOW_UPDATE);
  }
}
