// Whom an inbound request says it comes from, for telemetry about peers that the mesh here does not know. It is what the peer
// says: no proof, nothing is decided by it, and what the mesh knows goes before it (record-enrichment.ts).
import { parseBaggage, type WorkloadSummary } from '@ambit/mesh';

/** A tunnel says the same in all its requests, so most are read once and share one object. */
const MAX_KEPT = 256;
/** Longer ones are read each time. */
const MAX_KEPT_CHARS = 1024;

/** Longest value that is believed to be a name. */
const MAX_VALUE_CHARS = 256;
/** Encoded they pass the header's own check, and would be sent to terminals. */
const CONTROL = /\p{Cc}/gu;

const kept = new Map<string, WorkloadSummary | undefined>();

/** undefined when the headers tell nothing. Neither a pod nor an account can be told this way. */
export function baggageSource(headers: readonly string[]): WorkloadSummary | undefined {
  const [only] = headers;
  if (only === undefined) return undefined;
  if (headers.length > 1 || only.length > MAX_KEPT_CHARS) return summarize(headers);
  if (kept.has(only)) return kept.get(only);
  const summary = summarize(headers);
  if (kept.size >= MAX_KEPT) kept.clear();
  kept.set(only, summary);
  return summary;
}

function summarize(headers: readonly string[]): WorkloadSummary | undefined {
  const told = parseBaggage(headers);
  if (Object.values(told).every(value => value === undefined)) return undefined;
  return {
    uid: '',
    name: '',
    namespace: clean(told.namespace),
    serviceAccount: '',
    trustDomain: '',
    workloadName: clean(told.workloadName),
    workloadType: clean(told.workloadType),
    canonicalName: clean(told.canonicalName),
    canonicalRevision: clean(told.canonicalRevision),
    cluster: clean(told.cluster),
    node: '',
    region: clean(told.region),
    zone: clean(told.zone),
  };
}

function clean(value: string | undefined): string {
  return (value ?? '').slice(0, MAX_VALUE_CHARS).toWellFormed().replace(CONTROL, '\ufffd');
}
