// What can be wrong with one edge, each rule a function of its present and its own recent past. Thresholds are in one place
// and are meant for a person who is woken by them: an edge needs enough traffic, a clear shift, and for slow things two
// minutes of it. The same rules for Prometheus are in deploy/alerts.
import { latencyAt } from '../counts.ts';
import type { Edge, EdgeCounts } from '../edge-shape.ts';
import { type EdgePast, edgeName } from './edge-past.ts';
import type { Suspicion } from './finding.ts';

export const LIMITS = {
  deniedLeast: 10,
  /** Of an edge too young to say what is usual. */
  deniedLeastAtFirst: 20,
  deniedDeviations: 5,
  handshakeLeast: 5,
  handshakeShare: 0.2,
  latencyLeastRequests: 50,
  latencyTimes: 3,
  latencyLeastMs: 50,
  errorLeastRequests: 20,
  errorLeast: 5,
  errorShare: 0.05,
  errorTimes: 5,
  /** Minutes of its own past that an edge needs before it can have shifted. */
  pastMinutes: 4,
} as const;

export type EdgeRule = (edge: Edge, past: EdgePast) => Suspicion | undefined;

const why = (edge: Edge): string => `ambit why ${edge.source.name} ${edge.destination.name}:${edge.port}`;

const deniedSurge: EdgeRule = (edge, { present, past, pastMinutes }) => {
  const usual = pastMinutes === 0 ? 0 : past.denied / pastMinutes;
  // The present is up to two minutes long, and rare events come in clusters by themselves.
  const chance = 2 * usual + LIMITS.deniedDeviations * Math.sqrt(2 * usual);
  const least = pastMinutes < LIMITS.pastMinutes ? LIMITS.deniedLeastAtFirst : LIMITS.deniedLeast;
  if (present.denied < least + chance) return undefined;
  const policy = edge.failures.findLast(failure => failure.policy !== undefined)?.policy;
  return {
    code: 'detect.denied_surge',
    subject: edgeName(edge),
    severity: 'warning',
    text: `${present.denied} connections were denied within two minutes${policy === undefined ? '' : ` by ${policy}`}; ${usual.toFixed(1)} a minute before`,
    next: why(edge),
    evidence: { denied: present.denied, usualPerMinute: round(usual), ...(policy === undefined ? {} : { policy }) },
  };
};

const plaintextReturned: EdgeRule = (edge, { present, past }) => {
  if (present.plaintext === 0 || past.mutualTls === 0 || past.plaintext > 0) return undefined;
  return {
    code: 'detect.plaintext_returned',
    subject: edgeName(edge),
    severity: 'critical',
    text: `${present.plaintext} connections came in plain text where all ${past.mutualTls} before were mutual TLS`,
    next: 'ambit audit',
    evidence: { plaintext: present.plaintext, mutualTlsBefore: past.mutualTls },
  };
};

const handshakeFailures: EdgeRule = (edge, { present }) => {
  const attempts = present.opened + present.failed;
  if (present.handshakeFailed < LIMITS.handshakeLeast || present.handshakeFailed < LIMITS.handshakeShare * attempts) {
    return undefined;
  }
  const reason = edge.failures.findLast(failure => /^(tls|identity)\./.test(failure.reason ?? ''))?.reason ?? 'tls';
  return {
    code: 'detect.handshake_failures',
    subject: edgeName(edge),
    severity: 'critical',
    text: `${present.handshakeFailed} of ${attempts} connections failed in their handshake (${reason})`,
    next: why(edge),
    evidence: { failed: present.handshakeFailed, attempts, reason },
  };
};

const latencyShift: EdgeRule = (edge, { lastWhole, secondLastWhole, earlier, earlierMinutes }) => {
  if (lastWhole === undefined || secondLastWhole === undefined || earlierMinutes < LIMITS.pastMinutes) return undefined;
  const least = Math.min(lastWhole.requests, secondLastWhole.requests, earlier.requests);
  const [last, second, before] = [lastWhole, secondLastWhole, earlier].map(each => latencyAt(each.latencies, 0.95));
  if (least < LIMITS.latencyLeastRequests || last === undefined || second === undefined || before === undefined) {
    return undefined;
  }
  const now = Math.min(last, second);
  if (now < LIMITS.latencyTimes * before || now < before + LIMITS.latencyLeastMs) return undefined;
  return {
    code: 'detect.latency_shift',
    subject: edgeName(edge),
    severity: 'warning',
    text: `95 % of requests took up to ${milliseconds(before)} and take up to ${milliseconds(now)} for two minutes now`,
    next: `ambit tap --to ${edge.destination.name} --l7`,
    evidence: { p95Ms: round(now), p95BeforeMs: round(before), requests: lastWhole.requests },
  };
};

const errorShift: EdgeRule = (edge, { lastWhole, present, past, pastMinutes }) => {
  const [now, before] = [present, past];
  const requests = now.requests + now.opened + now.failed;
  if (requests < LIMITS.errorLeastRequests || lastWhole === undefined || pastMinutes < LIMITS.pastMinutes)
    return undefined;
  const share = errorsOf(now) / requests;
  const attemptsBefore = before.requests + before.opened + before.failed;
  const shareBefore = attemptsBefore === 0 ? 0 : errorsOf(before) / attemptsBefore;
  if (errorsOf(now) < LIMITS.errorLeast || share < LIMITS.errorShare || share < LIMITS.errorTimes * shareBefore)
    return undefined;
  return {
    code: 'detect.error_shift',
    subject: edgeName(edge),
    severity: 'warning',
    text: `${percent(share)} of requests and connections fail; ${percent(shareBefore)} did before`,
    next: `ambit tap --to ${edge.destination.name} --failed --l7`,
    evidence: {
      share: round(share),
      shareBefore: round(shareBefore),
      requestErrors: now.requestErrors,
      failed: now.failed,
    },
  };
};

/** Handshakes have a rule of their own. */
function errorsOf({ requestErrors, failed, handshakeFailed }: EdgeCounts): number {
  return requestErrors + Math.max(0, failed - handshakeFailed);
}

export const EDGE_RULES: readonly EdgeRule[] = [
  deniedSurge,
  plaintextReturned,
  handshakeFailures,
  latencyShift,
  errorShift,
];

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.01 ? 2 : 1)} %`;
}

function milliseconds(ms: number): string {
  return ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
}
