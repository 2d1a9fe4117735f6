// The process itself, under the names that Prometheus' clients have agreed on. Read when somebody looks.
import { openFdCount, openFileLimit } from '@ambit/native';
import type { MetricRegistry } from './metric-registry.ts';
import type { MetricShape } from './metric-table.ts';

interface Reading {
  readonly shape: MetricShape;
  readonly read: (memory: NodeJS.MemoryUsage) => number;
}

const STARTED_SECONDS = performance.timeOrigin / 1000;

const READINGS: readonly Reading[] = [
  { shape: gauge('process_open_fds', 'Number of open file descriptors'), read: openFdCount },
  { shape: gauge('process_max_fds', 'Maximum number of file descriptors'), read: () => openFileLimit().soft },
  {
    shape: { ...gauge('process_cpu_seconds', 'Processor time of all threads.'), type: 'counter', unit: 'seconds' },
    read: () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1e6;
    },
  },
  {
    shape: { ...gauge('process_resident_memory_bytes', 'Resident memory.'), unit: 'bytes' },
    read: memory => memory.rss,
  },
  {
    shape: {
      ...gauge('process_start_time_seconds', 'When the process started, since the Unix epoch.'),
      unit: 'seconds',
    },
    read: () => STARTED_SECONDS,
  },
  {
    shape: { ...gauge('nodejs_heap_size_total_bytes', 'Heap of the main thread.'), unit: 'bytes' },
    read: memory => memory.heapTotal,
  },
  {
    shape: { ...gauge('nodejs_heap_size_used_bytes', 'Used heap of the main thread.'), unit: 'bytes' },
    read: memory => memory.heapUsed,
  },
  {
    shape: { ...gauge('nodejs_external_memory_bytes', 'Memory outside the heap that its objects own.'), unit: 'bytes' },
    read: memory => memory.external,
  },
];

export function addProcessMetrics(registry: MetricRegistry): void {
  const table = registry.lasting({ labels: [], metrics: READINGS.map(({ shape }) => shape) });
  registry.onRead(() => {
    const row = table.row([]);
    const memory = process.memoryUsage();
    for (const [metric, { read }] of READINGS.entries()) table.set(row, metric, readOr(read, memory));
  });
}

/** A process that is out of descriptors cannot list them: nothing is shown then. */
function readOr(read: Reading['read'], memory: NodeJS.MemoryUsage): number {
  try {
    return read(memory);
  } catch {
    return Number.NaN;
  }
}

function gauge(name: string, help: string): { name: string; help: string; type: 'gauge' } {
  return { name, help, type: 'gauge' };
}
