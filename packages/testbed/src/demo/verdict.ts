// The demo's answer: edges with what was measured on them, the proof of the wire, and what is wrong, as one document.
// Pure. A finding is a sentence with a code; without findings the exit status is 0. Who edits the objects decides who may
// talk, so from then on a denial that is missing, or new, is no finding; encryption always counts.
import type { Finding as Detected } from '@ambit/insight';
import type { Edge } from './edges.ts';
import type { TrafficSummary } from './edge-traffic.ts';
import { FAULT_TEXT, type FaultState } from './fault.ts';
import type { WireCounts } from './wire-judge.ts';
import type { WireState } from './wire-watch.ts';

export type Expectation = 'encrypted' | 'denied' | 'plaintext';

export interface Finding {
  readonly code: string;
  readonly text: string;
}

export interface DemoRow {
  readonly edge: Edge;
  /** As the proxies measured; undefined while they told nothing of this edge. */
  readonly traffic: TrafficSummary | undefined;
  /** As the shop comes. */
  readonly expected: Expectation | undefined;
  /** As the objects in force have it; the same until somebody edits them. */
  readonly configured: Expectation | undefined;
}

export interface Expected {
  readonly source: string;
  readonly destination: string;
  readonly want: Expectation;
  /** What the objects in force say; undefined: nothing of this pair. */
  readonly configured: Expectation | undefined;
}

/** The control plane and the objects it reads. */
export interface ControlState {
  /** `https://10.61.0.1:15012`. */
  readonly url: string;
  /** Where the objects are, for people. */
  readonly objects: string;
  readonly workloads: number;
  readonly services: number;
  readonly policies: number;
  /** Whether the objects ever said other than the shop comes with. */
  readonly isEdited: boolean;
  /** What is wrong with the objects. */
  readonly problems: readonly string[];
  /** Why it does not answer; undefined when it does. */
  readonly failure: string | undefined;
}

export interface DemoState {
  readonly rows: readonly DemoRow[];
  /** Undefined when frames could not be captured here. */
  readonly wire: WireState | undefined;
  readonly control: ControlState;
  readonly droppedRecords: number;
  /** Undefined while none was made. */
  readonly fault: FaultState | undefined;
  /** What the detector finds wrong now. */
  readonly detected: readonly Detected[];
}

/** Share of packets that may be left unjudged because the kernel dropped frames of the capture. */
const MAX_UNJUDGED = 0.01;

const NO_EDGE: Omit<Edge, 'source' | 'destination'> = {
  sourceIdentity: undefined,
  destinationIdentity: undefined,
  tunnel: undefined,
  tls: undefined,
  now: undefined,
  encryptedConnections: 0,
  plaintextConnections: 0,
  denied: 0,
  failed: 0,
  policy: undefined,
  reason: undefined,
  bytes: 0,
};
const ORDER: readonly (Expectation | undefined)[] = ['encrypted', 'denied', undefined, 'plaintext'];

/** Expected edges, seen or not, and unexpected ones that were seen; the most important first. */
export function makeRows(
  edges: readonly Edge[],
  expected: readonly Expected[],
  trafficOf: (source: string, destination: string) => TrafficSummary | undefined,
): DemoRow[] {
  const isSame = (edge: { source: string; destination: string }, other: Expected): boolean =>
    edge.source === other.source && edge.destination === other.destination;
  const unseen = expected.filter(item => !edges.some(edge => isSame(edge, item)));
  const all = [...edges, ...unseen.map(({ source, destination }) => ({ ...NO_EDGE, source, destination }))];
  const rank = ({ edge, expected: want }: DemoRow): number => {
    const at = expected.findIndex(item => isSame(edge, item));
    return ORDER.indexOf(want) * 100 + (at < 0 ? 99 : at);
  };
  return all
    .map(edge => {
      const { want, configured } = expected.find(item => isSame(edge, item)) ?? {};
      return { edge, traffic: trafficOf(edge.source, edge.destination), expected: want, configured };
    })
    .toSorted((a, b) => rank(a) - rank(b));
}

export function isEncrypted(edge: Edge): boolean {
  return edge.encryptedConnections > 0 && edge.plaintextConnections === 0 && edge.tls !== undefined;
}

export function findings({ rows, wire, control, fault }: DemoState): Finding[] {
  return [
    ...rows.flatMap(control.isEdited ? encryptionFindings : rowFindings),
    ...(fault === undefined || fault.finding !== undefined || control.isEdited
      ? []
      : [{ code: 'demo.fault_not_found', text: `the detector did not find that ${FAULT_TEXT}` }]),
    ...(wire === undefined ? [] : wireFindings(wire)),
    ...(control.failure === undefined
      ? []
      : [{ code: 'demo.no_control_plane', text: `the control plane does not answer: ${control.failure}` }]),
  ];
}

/** What no edit of the objects excuses. */
function encryptionFindings({ edge, expected }: DemoRow): Finding[] {
  if (edge.plaintextConnections === 0 || expected === 'plaintext' || expected === undefined) return [];
  return [{ code: 'demo.not_encrypted', text: `${edge.source} to ${edge.destination} was not encrypted` }];
}

function rowFindings(row: DemoRow): Finding[] {
  const { edge, expected } = row;
  const name = `${edge.source} to ${edge.destination}`;
  switch (expected) {
    case 'encrypted':
      if (edge.plaintextConnections > 0) return [{ code: 'demo.not_encrypted', text: `${name} was not encrypted` }];
      if (!isEncrypted(edge)) return [{ code: 'demo.not_seen', text: `${name}: no encrypted connection was seen` }];
      if (edge.sourceIdentity === undefined || edge.destinationIdentity === undefined) {
        return [{ code: 'demo.not_verified', text: `${name}: an identity was not verified` }];
      }
      return [];
    case 'denied':
      if (edge.plaintextConnections > 0) return [{ code: 'demo.not_encrypted', text: `${name} was not encrypted` }];
      if (edge.denied === 0) return [{ code: 'demo.not_denied', text: `${name} was never denied by a policy` }];
      if (edge.encryptedConnections > 0) return [{ code: 'demo.not_denied', text: `${name} was let through` }];
      return [];
    case 'plaintext':
      return edge.plaintextConnections > 0 ? [] : [{ code: 'demo.not_seen', text: `${name}: no connection was seen` }];
    case undefined:
      return [{ code: 'demo.unexpected', text: `${name}: nobody should talk here` }];
  }
}

function wireFindings({ betweenNodes, control }: WireState): Finding[] {
  const found: Finding[] = [];
  if (betweenNodes.readable > 0) {
    const text = `${betweenNodes.readable} readable packets between the nodes; the first: ${betweenNodes.example ?? ''}`;
    found.push({ code: 'demo.wire_readable', text });
  }
  if (betweenNodes.packets === 0) {
    found.push({ code: 'demo.no_proof', text: 'no packet between the nodes was captured' });
  }
  if (betweenNodes.unjudged > betweenNodes.packets * MAX_UNJUDGED) {
    const text = `the capture missed too much: ${betweenNodes.unjudged} packets could not be followed`;
    found.push({ code: 'demo.no_proof', text });
  }
  if (control.markers === 0) {
    const text = 'the capture found no plaintext where plaintext runs, so it proves nothing';
    found.push({ code: 'demo.no_proof', text });
  }
  return found;
}

export interface DocumentFacts {
  readonly mode: string;
  readonly store: string;
  readonly startedAt: string;
  /** From the start of the command to the first edge. */
  readonly firstRowSeconds: number | undefined;
  readonly durationSeconds: number;
}

/** The document of `--output json`: lowerCamel keys, seconds, absent facts are null. */
export function toDocument(state: DemoState, facts: DocumentFacts): Record<string, unknown> {
  const problems = findings(state);
  return {
    ...facts,
    firstRowSeconds: facts.firstRowSeconds ?? null,
    clean: problems.length === 0,
    findings: problems,
    edges: state.rows.map(edgeDocument),
    proof: state.wire === undefined ? null : proofDocument(state.wire),
    control: controlDocument(state.control),
    fault: state.fault === undefined ? null : faultDocument(state.fault),
    detected: state.detected.map(detectedDocument),
    droppedRecords: state.droppedRecords,
  };
}

function controlDocument({ failure, isEdited, ...facts }: ControlState): Record<string, unknown> {
  return { ...facts, edited: isEdited, failure: failure ?? null };
}

function faultDocument({ finding, foundAfterMs }: FaultState): Record<string, unknown> {
  return {
    injected: FAULT_TEXT,
    foundAfterSeconds: seconds(foundAfterMs),
    finding: finding === undefined ? null : detectedDocument(finding),
  };
}

/** Without its times, which are those of the detector's short minutes. */
function detectedDocument({ code, subject, severity, text, next, evidence }: Detected): Record<string, unknown> {
  return { code, subject, severity, text, next, evidence };
}

function edgeDocument({ edge, traffic, expected, configured }: DemoRow): Record<string, unknown> {
  const { tls } = edge;
  return {
    source: edge.source,
    destination: edge.destination,
    sourceIdentity: edge.sourceIdentity ?? null,
    destinationIdentity: edge.destinationIdentity ?? null,
    expected: expected ?? null,
    configured: configured ?? null,
    now: edge.now ?? null,
    encrypted: isEncrypted(edge),
    tunnel: edge.tunnel ?? null,
    tls: tls === undefined ? null : { version: tls.version, group: tls.group, cipher: tls.suite },
    connections: edge.encryptedConnections + edge.plaintextConnections,
    plaintextConnections: edge.plaintextConnections,
    failed: edge.failed,
    denied: edge.denied,
    policy: edge.policy ?? null,
    reason: edge.reason ?? null,
    bytes: Math.max(
      edge.bytes,
      traffic === undefined ? 0 : traffic.totals.bytesToServer + traffic.totals.bytesToClient,
    ),
    bytesPerSecond: traffic === undefined ? null : round(traffic.bytesPerSecond),
    protocols: traffic?.protocols ?? [],
    requests: traffic?.totals.requests ?? null,
    failedRequests: traffic?.totals.requestErrors ?? null,
    statuses: traffic === undefined ? null : statusDocument(traffic.totals.statuses),
    requestsPerSecond: traffic === undefined ? null : round(traffic.requestsPerSecond),
    p50Seconds: seconds(traffic?.p50Ms),
    p99Seconds: seconds(traffic?.p99Ms),
  };
}

/** Since the start, by HTTP status class; classes without a response are absent. */
function statusDocument(statuses: readonly number[]): Record<string, number> {
  return Object.fromEntries(statuses.flatMap((count, i) => (count > 0 ? [[`${i + 1}xx`, count]] : [])));
}

function proofDocument({ betweenNodes, control }: WireState): Record<string, unknown> {
  return {
    packets: betweenNodes.packets,
    plaintextPackets: betweenNodes.readable,
    bytes: betweenNodes.bytes,
    connections: betweenNodes.flows,
    markersFound: betweenNodes.markers,
    unjudgedPackets: betweenNodes.unjudged,
    firstPlaintext: betweenNodes.example ?? null,
    control: detectorDocument(control),
  };
}

/** The same detector on the link of the pod outside the mesh. */
function detectorDocument(control: WireCounts): Record<string, unknown> {
  return { packets: control.packets, plaintextPackets: control.readable, markersFound: control.markers };
}

function seconds(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.round(ms * 1000) / 1_000_000;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
