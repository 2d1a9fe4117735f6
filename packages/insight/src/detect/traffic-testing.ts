// A small mesh's traffic for tests of detection: made from a seed, second by second, with the noise that real traffic has.
// Rates swing, latencies have a long tail, a few requests fail, pods are replaced and drained, somebody is denied now and then.
import type { ConnectionRecord } from '@ambit/proxy';
import { EdgeTable } from '../edge-table.ts';
import { news, record, tally, workload } from '../record-testing.ts';
import { type CertificateFact, Detector } from './detector.ts';
import type { Finding } from './finding.ts';

const SECOND = 1000;
const START_MS = Date.UTC(2026, 10, 24, 12, 0, 0);

/** What a second of an edge is like; tests bend it. */
export interface Mood {
  /** Requests a second. */
  rate: number;
  medianMs: number;
  errorShare: number;
  plaintext: boolean;
  deniedPerMinute: number;
  handshakeFailuresPerMinute: number;
}

export interface TrafficEdge {
  readonly source: string;
  readonly destination: string;
  readonly mood: Mood;
}

export const CALM: Mood = {
  rate: 5,
  medianMs: 8,
  errorShare: 0.002,
  plaintext: false,
  deniedPerMinute: 0,
  handshakeFailuresPerMinute: 0,
};

export class Traffic {
  readonly #table = new EdgeTable({ maxEdges: 500 }, START_MS);
  readonly #detector = new Detector(START_MS);
  readonly #edges: TrafficEdge[];
  #random: number;
  #second = 0;
  certificates: CertificateFact[] = [];

  constructor(seed: number, edges: readonly TrafficEdge[]) {
    this.#random = seed >>> 0;
    this.#edges = edges.map(edge => ({ ...edge, mood: { ...edge.mood } }));
  }

  get nowMs(): number {
    return START_MS + this.#second * SECOND;
  }

  mood(destination: string): Mood {
    const edge = this.#edges.find(each => each.destination === destination);
    if (edge === undefined) throw new Error(`no edge to ${destination}`);
    return edge.mood;
  }

  add(edge: TrafficEdge): void {
    this.#edges.push(edge);
  }

  /** Lets `seconds` go by. @returns every finding that was seen, by code and subject, as it was at first */
  run(seconds: number): ReadonlyMap<string, Finding> {
    const seen = new Map<string, Finding>();
    for (const end = this.#second + seconds; this.#second < end; this.#second++) {
      for (const edge of this.#edges) this.#tick(edge);
      if (this.#second % 10 !== 9) continue;
      const { edges } = this.#table.report('n1', this.nowMs);
      for (const finding of this.#detector.evaluate({ nowMs: this.nowMs, edges, certificates: this.certificates })) {
        const key = `${finding.code} ${finding.subject}`;
        if (!seen.has(key)) seen.set(key, finding);
      }
    }
    return seen;
  }

  #tick({ source, destination, mood }: TrafficEdge): void {
    // Traffic of a day swings; this is a wave of ten minutes and noise.
    const swing = 1 + 0.4 * Math.sin((this.#second / 600) * 2 * Math.PI);
    const requests = this.#poisson(mood.rate * swing);
    const tallies = [];
    for (let i = 0; i < requests; i++) {
      const durationMs = mood.medianMs * Math.exp(0.7 * this.#normal());
      tallies.push(tally(1, durationMs, this.#chance(mood.errorShare) ? { status: 503 } : {}));
    }
    const isOpening = this.#chance(0.2);
    this.#add(source, destination, mood, {
      event: isOpening ? 'close' : 'progress',
      // Pods that are replaced let go of their connections.
      ...(isOpening && this.#chance(0.02) ? { reason: 'drain.pod_removed' as const } : {}),
      fresh: news({
        opened: isOpening,
        bytesToServer: 200 * requests,
        bytesToClient: 900 * requests,
        requests: tallies,
      }),
    });
    if (this.#chance(mood.deniedPerMinute / 60)) {
      const refusal = { reason: 'policy.no_allow_match', policy: 'shop/callers', connectMs: undefined } as const;
      this.#add(source, destination, mood, { event: 'refused', fresh: news(), ...refusal });
    }
    if (this.#chance(mood.handshakeFailuresPerMinute / 60)) {
      const refusal = { reason: 'tls.untrusted_root', connectMs: undefined } as const;
      this.#add(source, destination, mood, { event: 'close', fresh: news({ opened: true }), ...refusal });
    }
  }

  #add(source: string, destination: string, mood: Mood, more: Partial<ConnectionRecord>): void {
    const base = record();
    const ends = {
      source: { ...base.source, workload: workload(source) },
      destination: { ...base.destination, workload: workload(destination) },
      service: { namespace: 'shop', name: destination, hostname: `${destination}.shop.svc.cluster.local` },
      ...(mood.plaintext ? { protocol: 'TCP' as const, tls: undefined } : {}),
    };
    this.#table.add(record({ ...ends, ...more }), this.nowMs);
  }

  /** mulberry32. */
  #next(): number {
    this.#random = (this.#random + 0x6d2b79f5) >>> 0;
    let t = this.#random;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  #chance(share: number): boolean {
    return this.#next() < share;
  }

  #normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.#next())) * Math.cos(2 * Math.PI * this.#next());
  }

  #poisson(mean: number): number {
    const limit = Math.exp(-mean);
    let count = 0;
    for (let product = this.#next(); product > limit; product *= this.#next()) count++;
    return count;
  }
}
