// Finds what is wrong from edges and certificates, again and again: what a rule still suspects lives on, and what it no
// longer suspects is over after a while, so that nothing flickers. Pure: whoever asks says what time it is. Bounded in
// findings and in what it remembers.
import type { Edge } from '../edge-shape.ts';
import { EDGE_RULES } from './edge-rules.ts';
import { edgeName, pastOf } from './edge-past.ts';
import type { Finding, Suspicion } from './finding.ts';

const MINUTE_MS = 60_000;
/** How long a new process takes every edge for an old one. */
const LEARNING_MS = 15 * MINUTE_MS;
/** A finding that is suspected no more is over after this. */
const LINGER_MS = 2 * MINUTE_MS;
/** News of this kind is said for this long. */
const NEWS_MS = 5 * MINUTE_MS;
const MAX_FINDINGS = 100;
const MAX_KNOWN = 5000;
/** More new edges at a time are told as one. */
const MAX_NEW_EDGES = 5;
const FAN_OUT_LEAST = 20;
const FAN_OUT_TIMES = 3;
const FAN_OUT_RECENT_MS = 5 * MINUTE_MS;
/** A certificate is renewed at half its life: past this share something keeps it from being. */
const OVERDUE_SHARE = 0.75;

export interface CertificateFact {
  readonly identity: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export interface DetectInput {
  readonly nowMs: number;
  readonly edges: readonly Edge[];
  readonly certificates: readonly CertificateFact[];
}

export class Detector {
  readonly #startedMs: number;
  readonly #findings = new Map<string, Finding>();
  /** Edges known before now -> when they were first seen. */
  readonly #known = new Map<string, number>();
  /** Most destinations a source had in an earlier look, old looks fading. */
  readonly #usualFanOut = new Map<string, number>();

  constructor(nowMs: number) {
    this.#startedMs = nowMs;
  }

  /** Call it about every ten seconds. @returns what holds now, the gravest first */
  evaluate(input: DetectInput): readonly Finding[] {
    const { nowMs, edges } = input;
    const suspicions = [
      ...edges.flatMap(edge => {
        const past = pastOf(edge, nowMs);
        return EDGE_RULES.flatMap(rule => rule(edge, past) ?? []);
      }),
      ...this.#newEdges(edges, nowMs),
      ...this.#fanOut(edges, nowMs),
      ...input.certificates.flatMap(certificate => expiring(certificate, nowMs) ?? []),
    ];
    for (const suspicion of suspicions) this.#note(suspicion, nowMs);
    for (const [key, { lastMs }] of this.#findings) if (nowMs - lastMs > LINGER_MS) this.#findings.delete(key);
    const rank = { critical: 0, warning: 1, info: 2 };
    return [...this.#findings.values()].sort((a, b) => rank[a.severity] - rank[b.severity] || a.sinceMs - b.sinceMs);
  }

  #note(suspicion: Suspicion, nowMs: number): void {
    const key = `${suspicion.code} ${suspicion.subject}`;
    const known = this.#findings.get(key);
    // Both ends of an edge may suspect the same.
    if (known === undefined && this.#findings.size >= MAX_FINDINGS) return;
    this.#findings.set(key, { ...suspicion, sinceMs: known?.sinceMs ?? nowMs, lastMs: nowMs });
  }

  #newEdges(edges: readonly Edge[], nowMs: number): Suspicion[] {
    const isLearning = nowMs - this.#startedMs < LEARNING_MS;
    const fresh: Edge[] = [];
    for (const edge of edges) {
      // Whoever the mesh does not know comes from anywhere; edges between workloads are what is stable.
      if (edge.source.namespace === undefined || edge.destination.namespace === undefined || edge.totals.opened === 0)
        continue;
      const name = edgeName(edge);
      const since = this.#known.get(name);
      if (since === undefined) {
        this.#known.set(name, isLearning ? Number.NEGATIVE_INFINITY : nowMs);
        if (this.#known.size > MAX_KNOWN) forgetFirst(this.#known);
        if (!isLearning) fresh.push(edge);
      } else if (nowMs - since < NEWS_MS && !fresh.some(each => edgeName(each) === name)) fresh.push(edge);
    }
    if (fresh.length > MAX_NEW_EDGES) {
      const names = fresh.slice(0, MAX_NEW_EDGES).map(edgeName).join(', ');
      return [
        newEdge(
          `${fresh.length} edges`,
          `${fresh.length} edges were never seen before, among them ${names}`,
          'ambit top',
        ),
      ];
    }
    return fresh.map(edge =>
      newEdge(
        edgeName(edge),
        `${edge.source.name} talks to ${edge.destination.name}:${edge.port}, which it never did since this proxy started`,
        `ambit why ${edge.source.name} ${edge.destination.name}:${edge.port}`,
      ),
    );
  }

  #fanOut(edges: readonly Edge[], nowMs: number): Suspicion[] {
    const reached = new Map<string, Set<string>>();
    for (const { source, destination, port, lastSeenMs, reporter } of edges) {
      if (reporter !== 'source' || nowMs - lastSeenMs > FAN_OUT_RECENT_MS) continue;
      const destinations = reached.get(source.name) ?? new Set();
      destinations.add(`${destination.name}:${port}`);
      reached.set(source.name, destinations);
    }
    const isLearning = nowMs - this.#startedMs < LEARNING_MS;
    return [...reached].flatMap(([source, { size }]) => {
      const usual = this.#usualFanOut.get(source) ?? 0;
      const isMany = !isLearning && size > FAN_OUT_LEAST && size > FAN_OUT_TIMES * usual;
      // What is suspected does not become usual by going on.
      if (!isMany && size > usual) {
        this.#usualFanOut.delete(source);
        this.#usualFanOut.set(source, size);
        if (this.#usualFanOut.size > MAX_KNOWN) forgetFirst(this.#usualFanOut);
      }
      if (!isMany) return [];
      return [
        {
          code: 'detect.fan_out',
          subject: source,
          severity: 'warning',
          text: `${source} reached ${size} destinations within five minutes; at most ${usual} before`,
          next: `ambit top --from ${source}`,
          evidence: { destinations: size, usual },
        } satisfies Suspicion,
      ];
    });
  }
}

function newEdge(subject: string, text: string, next: string): Suspicion {
  return { code: 'detect.new_edge', subject, severity: 'info', text, next, evidence: {} };
}

function expiring({ identity, notBeforeMs, notAfterMs }: CertificateFact, nowMs: number): Suspicion | undefined {
  const share = (nowMs - notBeforeMs) / (notAfterMs - notBeforeMs);
  if (!(share > OVERDUE_SHARE)) return undefined;
  const leftMinutes = Math.round((notAfterMs - nowMs) / MINUTE_MS);
  const left = leftMinutes > 0 ? `runs out in ${leftMinutes} min` : 'has run out';
  return {
    code: 'detect.certificate_expiring',
    subject: identity,
    severity: 'critical',
    text: `the certificate of ${identity} ${left} and should have been renewed long ago`,
    next: 'ambit get certificates, and the log of ztunnel about the authority',
    evidence: { leftMinutes, notAfter: new Date(notAfterMs).toISOString() },
  };
}

function forgetFirst(map: Map<string, number>): void {
  const [first] = map.keys();
  if (first !== undefined) map.delete(first);
}
