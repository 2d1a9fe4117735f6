// What both node proxies of a bed have counted of requests, for tests that compare it with what clients and servers counted:
// the metrics and the edges, each summed by reporter, and latency histograms beside a client's own figures.
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import type { EdgeReport } from '@ambit/insight';
import type { Testbed, ZtunnelProcess } from '@ambit/testbed';

/** More requests, for a run by hand: 100 000 a protocol. */
export const IS_LONG = (process.env['AMBIT_TEST_LONG'] ?? '') !== '';
const PATIENCE_MS = 30_000;
const BOUNDS_MS = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000,
];

/** At the source's node, and at the destination's. */
export interface AtEnds<T> {
  readonly source: T;
  readonly destination: T;
}

export interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export class RequestCounts {
  readonly #bed: Testbed;
  readonly #ztunnels: AtEnds<ZtunnelProcess>;

  constructor(bed: Testbed, ztunnels: AtEnds<ZtunnelProcess>) {
    this.#bed = bed;
    this.#ztunnels = ztunnels;
  }

  /** Samples of one metric at one end. A label that is not there is ''. */
  async series(
    end: keyof AtEnds<unknown>,
    name: string,
    labels: Readonly<Record<string, string>> = {},
  ): Promise<Series[]> {
    const text = await this.#ask(end, '15020/metrics', name);
    return text.split('\n').flatMap(line => {
      if (!line.startsWith(name)) return [];
      const found = readSeries(line);
      const wanted = Object.entries(labels);
      return found.name === name && wanted.every(([label, value]) => (found.labels[label] ?? '') === value)
        ? [found]
        : [];
    });
  }

  /** Sums at both ends, each of the series that the end reports itself. */
  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<AtEnds<number>> {
    return this.#both(async end => sum(await this.series(end, name, { reporter: end, ...labels })));
  }

  /** Sums of series that have no reporter. */
  async own(name: string, labels: Readonly<Record<string, string>> = {}): Promise<AtEnds<number>> {
    return this.#both(async end => sum(await this.series(end, name, labels)));
  }

  /** Requests of the edges to a port. */
  async edges(port: number): Promise<AtEnds<number>> {
    return this.#both(async end => {
      const { edges } = JSON.parse(await this.#ask(end, '15000/edges')) as EdgeReport;
      return edges
        .filter(edge => edge.port === port && edge.reporter === end)
        .reduce((total, { totals }) => total + totals.requests, 0);
    });
  }

  /**
   * Waits until a count is what it must be at both ends, and looks once more, so that it is not on its way past it.
   * @throws AssertionError when it never is
   */
  async agree(what: string, count: () => Promise<AtEnds<number>>, expected: number): Promise<void> {
    const wanted = { source: expected, destination: expected };
    const deadline = performance.now() + PATIENCE_MS;
    for (let seen = await count(); ; seen = await count()) {
      if (seen.source === expected && seen.destination === expected) break;
      if (performance.now() > deadline) assert.deepEqual(seen, wanted, what);
      await delay(100);
    }
    assert.deepEqual(await count(), wanted, what);
  }

  /** All latencies so far, of HTTP and gRPC. */
  async latencies(): Promise<AtEnds<Latencies>> {
    return this.#both(async end => {
      const name = 'istio_request_duration_milliseconds_bucket';
      const counts = new Map<number, number>();
      for (const { labels, value } of await this.series(end, name, { reporter: end })) {
        const bucket = labels['le'] === '+Inf' ? BOUNDS_MS.length : bucketOf(Number(labels['le']));
        counts.set(bucket, (counts.get(bucket) ?? 0) + value);
      }
      return new Latencies(counts);
    });
  }

  async #both<T>(of: (end: 'source' | 'destination') => Promise<T>): Promise<AtEnds<T>> {
    const [source, destination] = await Promise.all([of('source'), of('destination')]);
    return { source, destination };
  }

  /** Lines that begin with a word; all of them may be more than a test's pipe keeps. */
  async #ask(end: keyof AtEnds<unknown>, url: string, word = ''): Promise<string> {
    const { processes } = this.#bed.node(this.#ztunnels[end].node.name);
    // Not bash: with a socket as its input it reads its owner's start-up files, whatever those do.
    const script =
      'file=$(mktemp) && curl -sSf -m 20 -o "$file" "localhost:$1"; code=$?; grep "^$2" "$file"; rm "$file"; exit $code';
    const { code, stdout, stderr } = await processes.run('sh', ['-c', script, 'sh', url, word], {
      timeoutMs: 25_000,
    });
    assert.equal(code, 0, stderr);
    return stdout;
  }
}

/** Cumulative counts by bucket. */
export class Latencies {
  readonly #counts: ReadonlyMap<number, number>;

  constructor(counts: ReadonlyMap<number, number>) {
    this.#counts = counts;
  }

  /** The bucket that a share of the requests since `earlier` does not exceed. */
  bucketOf(share: number, earlier: Latencies): number {
    const fresh = [...this.#counts].map(
      ([bucket, count]) => [bucket, count - (earlier.#counts.get(bucket) ?? 0)] as const,
    );
    const total = Math.max(...fresh.map(([, count]) => count));
    assert.ok(total > 0, 'no latencies');
    return Math.min(...fresh.flatMap(([bucket, count]) => (count >= total * share ? [bucket] : [])));
  }
}

/** Which bucket of the histograms a latency is in. */
export function bucketOf(ms: number): number {
  const index = BOUNDS_MS.findIndex(bound => ms <= bound);
  return index < 0 ? BOUNDS_MS.length : index;
}

/** The latency that a share of the requests does not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN;
}

function sum(series: readonly Series[]): number {
  return series.reduce((total, { value }) => total + value, 0);
}

function readSeries(line: string): Series {
  const end = line.lastIndexOf(' ');
  const brace = line.indexOf('{');
  const labels = [...line.slice(0, end).matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)].map(([, key = '', value = '']) => [
    key,
    value,
  ]);
  return {
    name: line.slice(0, brace < 0 ? end : brace),
    labels: Object.fromEntries(labels) as Record<string, string>,
    value: Number(line.slice(end + 1)),
  };
}
