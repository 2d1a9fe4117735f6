// What metrics cost: processor time of a scrape over loopback, read by another thread so that only the answering is counted, and
// of folding one record. `node packages/ztunnel/bench/metrics.ts [label sets ...]`; each set has four series. A quiet mesh
// changed nothing since the scrape before, in a busy one every set moved.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { WorkloadSummary } from '@ambit/mesh';
import type { ConnectionRecord } from '@ambit/proxy';
import { MetricRegistry } from '../src/metrics/metric-registry.ts';
import { connection, NOTHING, workload } from '../src/metrics/metrics-testing.ts';
import { TrafficMetrics } from '../src/metrics/traffic-metrics.ts';
import { serveStats } from '../src/stats/stats-server.ts';

const SCRAPES = 9;
const sets = process.argv.slice(2).map(Number);

const READER = `
  const { parentPort, workerData } = require('node:worker_threads');
  const http = require('node:http');
  parentPort.on('message', headers => {
    http.get({ host: '127.0.0.1', port: workerData, path: '/metrics', headers }, response => {
      let bytes = 0;
      response.on('data', chunk => (bytes += chunk.length));
      response.on('end', () => parentPort.postMessage({ bytes, cpu: process.threadCpuUsage() }));
    });
  });
`;

interface Read {
  readonly bytes: number;
  readonly cpu: NodeJS.CpuUsage;
}

for (const count of sets.length > 0 ? sets : [6250, 62_500]) await measure(count);

async function measure(count: number): Promise<void> {
  const registry = new MetricRegistry({ maxSeries: 1_000_000, idleMs: 3_600_000, now: () => performance.now() });
  const traffic = new TrafficMetrics(registry);
  const records = Array.from({ length: count }, (_, index) => record(index));
  for (const each of records) traffic.fold(each);
  const folding = process.threadCpuUsage();
  for (const each of records) traffic.fold(each);
  const foldUs = sum(process.threadCpuUsage(folding)) / count;
  console.log(`${count} records of different peers: ${foldUs.toFixed(2)} us each to fold`);

  const server = await serveStats({ registry, refresh: async () => undefined }, { port: 0, ipv6: false });
  const reader = new Worker(READER, { eval: true, workerData: server.port });
  let readBefore = 0;
  for (const [what, headers, isBusy] of [
    ['plain', {}, false],
    ['gzip, quiet', { 'accept-encoding': 'gzip' }, false],
    ['gzip, busy', { 'accept-encoding': 'gzip' }, true],
  ] as const) {
    const costs: number[] = [];
    let bytes = 0;
    for (let scrape = 0; scrape < SCRAPES; scrape++) {
      if (isBusy) for (const each of records) traffic.fold(each);
      const before = sum(process.cpuUsage());
      reader.postMessage(headers);
      const [read] = (await once(reader, 'message')) as [Read];
      bytes = read.bytes;
      const readUs = sum(read.cpu);
      costs.push((sum(process.cpuUsage()) - before - (readUs - readBefore)) / 1000);
      readBefore = readUs;
    }
    costs.sort((a, b) => a - b);
    const middle = costs[Math.floor(SCRAPES / 2)] ?? 0;
    const size = (bytes / 1e6).toFixed(1);
    console.log(
      `${count * 4} series, ${what}: ${middle.toFixed(0)} ms (best ${costs[0]?.toFixed(0)}), ${size} MB on the wire`,
    );
  }
  await reader.terminate();
  await server.close();
}

/** Opened, closed, received and sent: four series of a set. */
function record(index: number): ConnectionRecord {
  const { source } = connection();
  const peer: WorkloadSummary = workload(`web-${index}`, { trustDomain: 'cluster.local' });
  return connection({
    source: { ...source, workload: peer, identity: `spiffe://cluster.local/ns/shop/sa/web-${index}` },
    fresh: { ...NOTHING, opened: true, bytesToServer: 1000 + index, bytesToClient: 100_000 + index },
  });
}

function sum({ user, system }: NodeJS.CpuUsage): number {
  return user + system;
}
