// What tests of metrics share: a clock that stands still, a connection to make records of, and the text as a map of series.
import { parseIp, type Ip, type WorkloadSummary } from '@ambit/mesh';
import type { ConnectionRecord, RecordNews } from '@ambit/proxy';
import { exposition } from './exposition.ts';
import type { TextFormat } from './family-text.ts';
import { MetricRegistry } from './metric-registry.ts';

export interface World {
  readonly registry: MetricRegistry;
  /** Moves the clock. */
  readonly pass: (ms: number) => void;
}

export const HOUR_MS = 3_600_000;

export function makeWorld(maxSeries = 1000): World {
  let nowMs = 0;
  const registry = new MetricRegistry({ maxSeries, idleMs: HOUR_MS, now: () => nowMs });
  return { registry, pass: ms => void (nowMs += ms) };
}

/** The whole text; pieces are copied, since each is good until the next only. */
export function textOf(registry: MetricRegistry, format: TextFormat = 'openmetrics'): string {
  return Buffer.concat(Array.from(exposition(registry, format), piece => Uint8Array.from(piece))).toString();
}

/** Samples by name and labels, as they are written. */
export function samplesOf(text: string): Map<string, number> {
  const samples = new Map<string, number>();
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const end = line.lastIndexOf(' ');
    const name = line.slice(0, end);
    if (samples.has(name)) throw new Error(`twice: ${name}`);
    samples.set(name, Number(line.slice(end + 1)));
  }
  return samples;
}

/** The only sample of a name whose labels have this text. */
export function sample(text: string, name: string, part = ''): number | undefined {
  const found = [...samplesOf(text)].filter(([key]) => key.split('{', 1)[0] === name && key.includes(part));
  if (found.length > 1) throw new Error(`${found.length} samples of ${name} with ${part}`);
  return found[0]?.[1];
}

export const NOTHING: RecordNews = {
  opened: false,
  bytesToServer: 0,
  bytesToClient: 0,
  retransmits: 0,
  untalliedRequests: 0,
};

export function workload(name: string, fields: Partial<WorkloadSummary> = {}): WorkloadSummary {
  return {
    uid: `Kubernetes//Pod/shop/${name}-1`,
    name: `${name}-1`,
    namespace: 'shop',
    serviceAccount: name,
    trustDomain: '',
    workloadName: name,
    workloadType: 'deployment',
    canonicalName: name,
    canonicalRevision: 'v1',
    cluster: 'Kubernetes',
    node: 'n1',
    region: '',
    zone: '',
    ...fields,
  };
}

/** From web to cart through a tunnel, as in the recordings of upstream. */
export function connection(fields: Partial<ConnectionRecord> = {}): ConnectionRecord {
  return {
    event: 'close',
    id: '0-1',
    pod: 'p',
    direction: 'outbound',
    protocol: 'HBONE',
    startedAtMs: 0,
    source: {
      address: { ip: ip('10.77.0.1'), port: 1 },
      workload: workload('web'),
      identity: 'spiffe:///ns/shop/sa/web',
    },
    destination: {
      address: { ip: ip('10.77.0.2'), port: 15008 },
      workload: workload('cart', { canonicalRevision: 'v2' }),
    },
    fresh: NOTHING,
    bytesToServer: 0,
    bytesToClient: 0,
    durationMs: 1,
    ...fields,
  };
}

function ip(text: string): Ip {
  const parsed = parseIp(text);
  if (parsed === undefined) throw new Error(`no address: ${text}`);
  return parsed;
}
