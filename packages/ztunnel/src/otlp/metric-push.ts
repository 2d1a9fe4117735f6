// Sends the metrics every so often, in batches of bounded size one after another, so that neither thread is ever busy with
// all of them. A batch that fails ends the round: the next one has newer numbers anyway. A round that is still under way when
// the next is due takes its place.
import type { Cancel, Clock } from '../clock.ts';
import type { MetricRegistry } from '../metrics/metric-registry.ts';
import type { Column, MetricTable, Row } from '../metrics/metric-table.ts';
import type { MetricItem } from './otlp-messages.ts';

export interface MetricPushDeps {
  readonly clock: Clock;
  readonly registry: MetricRegistry;
  /** Brings in what is known and was not told yet. */
  readonly refresh: () => Promise<void>;
  /** Resolves when the collector has taken them. */
  readonly send: (items: readonly MetricItem[], timeMs: number) => Promise<void>;
  /** The first failure of a row, and the success that ends it. */
  readonly onOutcome: (error: Error | undefined) => void;
}

/** Series, counted since the start. */
export interface MetricPushStats {
  readonly exported: number;
  readonly failed: number;
}

/** Histograms count for each bucket. */
const BATCH_NUMBERS = 2000;

export class MetricPush {
  readonly #deps: MetricPushDeps;
  readonly #intervalMs: number;
  readonly #stats = { exported: 0, failed: 0 };
  #isFailing = false;
  #isClosed = false;
  #cancel: Cancel = () => undefined;

  constructor(deps: MetricPushDeps, intervalMs: number) {
    this.#deps = deps;
    this.#intervalMs = intervalMs;
  }

  get stats(): MetricPushStats {
    return this.#stats;
  }

  start(): void {
    this.#cancel = this.#deps.clock.after(this.#intervalMs, () => void this.#next());
  }

  close(): void {
    this.#isClosed = true;
    this.#cancel();
  }

  /** One round now. Never rejects. */
  async push(): Promise<void> {
    const { clock, refresh, registry, send, onOutcome } = this.#deps;
    let under = 0;
    let failure: Error | undefined;
    try {
      await refresh();
      const timeMs = clock.now();
      for (const batch of batches(registry)) {
        if (this.#isClosed) return;
        under = seriesIn(batch);
        await send(batch, timeMs);
        this.#stats.exported += under;
      }
    } catch (error) {
      this.#stats.failed += under;
      failure = error instanceof Error ? error : new Error(String(error));
    }
    const isFailing = failure !== undefined;
    if (isFailing !== this.#isFailing) onOutcome(failure);
    this.#isFailing = isFailing;
  }

  async #next(): Promise<void> {
    const startedAtMs = this.#deps.clock.now();
    await this.push();
    if (this.#isClosed) return;
    const tookMs = this.#deps.clock.now() - startedAtMs;
    const untilNextMs = this.#intervalMs - (tookMs % this.#intervalMs);
    this.#cancel = this.#deps.clock.after(untilNextMs, () => void this.#next());
  }
}

const TEXT = new TextDecoder();

function* batches(registry: MetricRegistry): Generator<readonly MetricItem[]> {
  let batch: MetricItem[] = [];
  let numbers = 0;
  for (const table of registry.read()) {
    const width = table.columns.reduce((sum, column) => sum + widthOf(column), 0);
    let rows: Row[] = [];
    for (const row of table.rows()) {
      rows.push(row);
      numbers += width;
      if (numbers < BATCH_NUMBERS) continue;
      yield [...batch, itemOf(table, rows)];
      [batch, rows, numbers] = [[], [], 0];
    }
    if (rows.length > 0) batch.push(itemOf(table, rows));
  }
  if (batch.length > 0) yield batch;
}

function itemOf({ columns }: MetricTable, rows: readonly Row[]): MetricItem {
  return {
    labels: rows.map(({ labels }) => TEXT.decode(labels)),
    columns: columns.map(column => {
      const { shape, offset } = column;
      return {
        shape,
        values: rows.map(({ values }) =>
          Number.isNaN(values[offset] ?? Number.NaN) ? undefined : values.slice(offset, offset + widthOf(column)),
        ),
      };
    }),
  };
}

function widthOf({ shape }: Column): number {
  return shape.type === 'histogram' ? shape.bounds.length + 2 : 1;
}

function seriesIn(batch: readonly MetricItem[]): number {
  let count = 0;
  for (const { columns } of batch) {
    for (const { values } of columns) for (const each of values) if (each !== undefined) count++;
  }
  return count;
}
