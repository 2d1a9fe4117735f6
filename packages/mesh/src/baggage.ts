// The `baggage` header of a tunnel request or answer: who the other side's workload is, for telemetry only. Proof of
// identity is the certificate; nothing here may ever decide anything. https://www.w3.org/TR/baggage/ in the subset that
// mesh proxies send: no properties, keys of OpenTelemetry's resource conventions.
import type { WorkloadSummary } from './workload.ts';

/** Undefined is unknown; an empty value counts as unknown. */
export interface Baggage {
  readonly cluster: string | undefined;
  readonly namespace: string | undefined;
  /** The type named by the key of the workload's name: deployment, cronjob, pod, job. */
  readonly workloadType: string | undefined;
  readonly workloadName: string | undefined;
  readonly canonicalName: string | undefined;
  readonly canonicalRevision: string | undefined;
  readonly region: string | undefined;
  readonly zone: string | undefined;
}

/** Longer headers are read up to here. */
const LONGEST_HEADER = 8192;
const WORKLOAD_TYPES: ReadonlySet<string> = new Set(['deployment', 'cronjob', 'pod', 'job']);
const VISIBLE_ASCII = /^[\x20-\x7e\t]*$/;

/** The header value; empty when nothing is known. Keys without a value are left out. */
export function formatBaggage(workload: WorkloadSummary): string {
  // Peers accept four types; the name of anything else is still worth telling.
  const type = WORKLOAD_TYPES.has(workload.workloadType) ? workload.workloadType : 'deployment';
  const items: readonly (readonly [string, string])[] = [
    ['k8s.cluster.name', workload.cluster],
    ['k8s.namespace.name', workload.namespace],
    [`k8s.${type}.name`, workload.workloadName],
    ['service.name', workload.canonicalName],
    ['service.version', workload.canonicalRevision],
    ['cloud.region', workload.region],
    ['cloud.availability_zone', workload.zone],
  ];
  return items
    .filter(([, value]) => value !== '')
    .map(([key, value]) => `${key}=${encodeValue(value)}`)
    .join(',');
}

/** Reads all `baggage` lines of a request; later items win. Lines with bytes outside ASCII are ignored. */
export function parseBaggage(headers: readonly string[]): Baggage {
  const found = new Map<string, string>();
  let workloadType: string | undefined;
  let budget = LONGEST_HEADER;
  for (const header of headers) {
    const text = header.slice(0, budget);
    budget -= text.length;
    if (!VISIBLE_ASCII.test(text)) continue;
    for (const item of text.split(',')) {
      const equals = item.indexOf('=');
      if (equals < 0) continue;
      const key = item.slice(0, equals).trim();
      const type = workloadTypeOf(key);
      if (type !== undefined) workloadType = type;
      found.set(type === undefined ? key : 'workload', decodeValue(item.slice(equals + 1)));
    }
  }
  const get = (key: string): string | undefined => {
    const value = found.get(key);
    return value === '' ? undefined : value;
  };
  const workloadName = get('workload');
  return {
    cluster: get('k8s.cluster.name'),
    namespace: get('k8s.namespace.name'),
    workloadType: workloadName === undefined ? undefined : workloadType,
    workloadName,
    canonicalName: get('service.name'),
    canonicalRevision: get('service.version'),
    region: get('cloud.region'),
    zone: get('cloud.availability_zone'),
  };
}

function workloadTypeOf(key: string): string | undefined {
  if (!key.startsWith('k8s.') || !key.endsWith('.name')) return undefined;
  const type = key.slice(4, -5);
  return WORKLOAD_TYPES.has(type) ? type : undefined;
}

/** Kubernetes names need no encoding. Anything that would break the list is percent-encoded, as the standard asks. */
function encodeValue(value: string): string {
  return value.replace(/[^\x21\x23-\x24\x26-\x2b\x2d-\x3a\x3c\x3e-\x5b\x5d-\x7e]/gu, encodeCharacter);
}

function encodeCharacter(character: string): string {
  // A lone surrogate cannot be encoded; it becomes U+FFFD.
  return encodeURIComponent(character.isWellFormed() ? character : '\ufffd');
}

function decodeValue(raw: string): string {
  const semicolon = raw.indexOf(';');
  const value = (semicolon < 0 ? raw : raw.slice(0, semicolon)).trim();
  if (!value.includes('%')) return value;
  try {
    return decodeURIComponent(value);
  } catch {
    // Peers that do not encode may send a bare percent sign: then it means itself.
    return value;
  }
}
