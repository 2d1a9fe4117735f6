// What workers say of themselves (`stats`) -> metrics: upstream's gauge of open sockets and counts of revocations, and our own
// of connections, tunnels, memory and losses. A worker that replaces another counts from 0; the sums here do not go back.
import type { WorkerStats } from '../supervisor.ts';
import type { MetricRegistry } from './metric-registry.ts';
import type { MetricShape, MetricTable } from './metric-table.ts';

interface WorkerFigure {
  readonly stat: string;
  readonly shape: MetricShape;
  /** From the unit of the statistic. */
  readonly scale?: number;
}

const GAUGES: readonly WorkerFigure[] = [
  { stat: 'connections', shape: gauge('ambit_connections', 'Connections under way.') },
  { stat: 'tunnels', shape: gauge('ambit_tunnels', 'HBONE tunnels that are open, of both roles.') },
  { stat: 'poolEntries', shape: gauge('ambit_tunnel_pool_entries', 'Destinations that the pool keeps tunnels to.') },
  { stat: 'cachedRoutes', shape: gauge('ambit_cached_routes', 'Routes kept.') },
  { stat: 'l7Reading', shape: gauge('ambit_l7_connections', 'Connections whose plaintext is read.') },
];

const COUNTERS: readonly WorkerFigure[] = [
  {
    stat: 'cpuMicros',
    shape: { ...counter('ambit_worker_cpu_seconds', 'Processor time of data workers.'), unit: 'seconds' },
    scale: 1e-6,
  },
  { stat: 'droppedRecords', shape: counter('ambit_records_dropped', 'Connection records lost, with all they tell.') },
  { stat: 'droppedRequests', shape: counter('ambit_request_records_dropped', 'Records of single requests lost.') },
  { stat: 'acceptPausesNoFds', shape: counter('ambit_accept_pauses', 'Pauses for want of file descriptors.') },
];

const GAVE_UP = 'l7GaveUp';
const REPORTERS = [
  ['source', 'acceptedSource', 'revokedSource'],
  ['destination', 'acceptedDestination', 'revokedDestination'],
] as const;

export function addWorkerMetrics(registry: MetricRegistry, stats: () => ReadonlyMap<number, WorkerStats>): void {
  const metrics = new WorkerMetrics(registry);
  registry.onRead(() => metrics.read(stats()));
}

class WorkerMetrics {
  readonly #sockets: MetricTable;
  readonly #rejections: MetricTable;
  readonly #workers: MetricTable;
  readonly #buffered: MetricTable;
  readonly #gaveUp: MetricTable;
  /** By worker: what was read last. */
  readonly #last = new Map<number, WorkerStats>();

  constructor(registry: MetricRegistry) {
    this.#sockets = registry.lasting({
      labels: ['reporter'],
      metrics: [gauge('istio_tcp_sockets_open', 'The current number of open TCP sockets (unstable).')],
    });
    this.#rejections = registry.lasting({
      labels: ['reporter'],
      metrics: [
        counter(
          'istio_crl_policy_rejections',
          'Tunnels refused or cut because a certificate of the peer is revoked (unstable).',
        ),
      ],
    });
    this.#workers = registry.lasting({
      labels: ['worker'],
      metrics: [...GAUGES, ...COUNTERS].map(({ shape }) => shape),
    });
    this.#buffered = registry.lasting({
      labels: [],
      metrics: [{ ...gauge('ambit_buffered_bytes', 'Bytes in buffers of connections, all workers.'), unit: 'bytes' }],
    });
    this.#gaveUp = registry.lasting({
      labels: ['reason'],
      metrics: [counter('ambit_l7_given_up', 'Connections whose plaintext is read no further, by reason.')],
    });
  }

  read(all: ReadonlyMap<number, WorkerStats>): void {
    if (all.size === 0) return;
    const sockets = { source: 0, destination: 0 };
    let buffered = 0;
    for (const [worker, stats] of all) {
      for (const [reporter, accepted] of REPORTERS) sockets[reporter] += stats[accepted] ?? 0;
      // The budget is one for all workers.
      buffered = Math.max(buffered, stats['bufferedBytes'] ?? 0);
      this.#readWorker(worker, stats);
    }
    for (const [reporter] of REPORTERS) this.#sockets.set(this.#sockets.row([reporter]), 0, sockets[reporter]);
    this.#buffered.set(this.#buffered.row([]), 0, buffered);
  }

  #readWorker(worker: number, stats: WorkerStats): void {
    const before = this.#last.get(worker);
    this.#last.set(worker, stats);
    const row = this.#workers.row([String(worker)]);
    for (const [index, { stat }] of GAUGES.entries()) this.#workers.set(row, index, stats[stat] ?? 0);
    for (const [index, { stat, scale = 1 }] of COUNTERS.entries()) {
      this.#workers.add(row, GAUGES.length + index, grown(stat, stats, before) * scale);
    }
    for (const [reporter, , revoked] of REPORTERS) {
      const rejections = grown(revoked, stats, before);
      if (rejections > 0) this.#rejections.add(this.#rejections.row([reporter]), 0, rejections);
    }
    for (const stat of Object.keys(stats)) {
      if (!stat.startsWith(GAVE_UP)) continue;
      const given = grown(stat, stats, before);
      if (given > 0) this.#gaveUp.add(this.#gaveUp.row([stat.slice(GAVE_UP.length).toLowerCase()]), 0, given);
    }
  }
}

/** A smaller number than before is another worker's, and all new. */
function grown(stat: string, now: WorkerStats, before: WorkerStats | undefined): number {
  const value = now[stat] ?? 0;
  const former = before?.[stat] ?? 0;
  return value >= former ? value - former : value;
}

function gauge(name: string, help: string): { name: string; help: string; type: 'gauge' } {
  return { name, help, type: 'gauge' };
}

function counter(name: string, help: string): { name: string; help: string; type: 'counter' } {
  return { name, help, type: 'counter' };
}
