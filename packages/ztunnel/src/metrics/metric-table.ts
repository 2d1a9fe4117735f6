// Metrics that share their labels, as one table: a row for each set of label values, the numbers of all metrics beside each
// other in it. A connection's five series cost one look-up and one text that way.
//
// Bounded: past `maxSeries` lines of one metric new sets go to overflow rows, in which labels without a bound of their own
// read `overflow` and the others keep their values, so that sums stay right. What is idle for `idleMs`, and not held, is
// shown no longer. A set that comes back continues where it stopped while it is remembered (`LastValues`); one that is
// forgotten begins at 0, which Prometheus takes for the reset that it is.
import { cleanLabel, labelKey, type LabelValue, writeLabels } from './label-text.ts';
import { LastValues } from './last-values.ts';
import { type RowBlock, RowBlocks } from './row-blocks.ts';

interface ShapeBase {
  /** Without `_total`. Ends in the unit, where there is one. */
  readonly name: string;
  readonly help: string;
  /** Base unit as OpenMetrics names it, such as `seconds`. */
  readonly unit?: string;
}

export type MetricShape =
  | (ShapeBase & { readonly type: 'counter' | 'gauge' })
  /** `bounds` are the upper limits of all buckets but the last. */
  | (ShapeBase & { readonly type: 'histogram'; readonly bounds: readonly number[] });

/** A metric and where in a row its numbers are: one, or for histograms each bucket's count and then the sum. */
export interface Column {
  readonly shape: MetricShape;
  readonly offset: number;
  /** Which of the table's metrics it is. */
  readonly metric: number;
}

/** One set of label values. Do not keep it across turns of the event loop without `hold`: it may be gone by then. */
export interface Row {
  readonly key: string;
  /** The text of `writeLabels` as bytes. */
  readonly labels: Uint8Array;
  /** NaN for metrics without a series here. */
  readonly values: number[];
  /** Seconds since the table was made. */
  touched: number;
  holds: number;
  readonly block: RowBlock;
}

export interface TableShape {
  readonly labels: readonly string[];
  /** Those of `labels` that can have few values only. */
  readonly bounded?: readonly string[];
  readonly metrics: readonly MetricShape[];
}

export interface TableOptions {
  /** Lines that one metric may have, histograms with all their buckets. */
  readonly maxSeries: number;
  readonly idleMs: number;
  /** Milliseconds. */
  readonly now: () => number;
}

/** Overflow rows that keep their bounded labels; beyond them there is one for everything. */
const MAX_OVERFLOW_ROWS = 512;
const OVERFLOW = 'overflow';

export class MetricTable {
  readonly columns: readonly Column[];
  readonly #names: readonly string[];
  readonly #isBounded: readonly boolean[];
  readonly #options: TableOptions;
  readonly #width: number;
  readonly #maxRows: number;
  readonly #startedMs: number;
  readonly #rows = new Map<string, Row>();
  readonly #blocks: RowBlocks;
  readonly #last: LastValues;
  #overflowed = 0;
  #refused = 0;

  constructor(shape: TableShape, options: TableOptions) {
    this.#names = shape.labels;
    this.#isBounded = shape.labels.map(label => shape.bounded?.includes(label) === true);
    this.#options = options;
    this.#startedMs = options.now();
    let width = 0;
    let lines = 1;
    this.columns = shape.metrics.map((metric, index) => {
      const column = { shape: metric, offset: width, metric: index };
      width += metric.type === 'histogram' ? metric.bounds.length + 2 : 1;
      if (metric.type === 'histogram') lines = Math.max(lines, metric.bounds.length + 3);
      return column;
    });
    this.#width = width;
    this.#maxRows = Math.max(1, Math.floor(options.maxSeries / lines));
    this.#blocks = new RowBlocks(shape.metrics.length);
    this.#last = new LastValues(width);
  }

  /** Rows there are, overflow rows included. */
  get size(): number {
    return this.#rows.size;
  }

  /** How often a set of labels had no room of its own. */
  get overflowed(): number {
    return this.#overflowed;
  }

  /** Numbers that could be none: below 0 for what only grows, not finite. Left out. */
  get refused(): number {
    return this.#refused;
  }

  rows(): Iterable<Row> {
    return this.#rows.values();
  }

  /** All rows, in the order in which they are shown. */
  blocks(): Iterable<RowBlock> {
    return this.#blocks;
  }

  /** The row of these label values, one for each label in their order; made when it is new. */
  row(values: readonly LabelValue[]): Row {
    return this.#rows.get(labelKey(values)) ?? this.#rowOf(values.map(value => cleanLabel(value ?? '')));
  }

  /** Adds to a counter; 0 makes the series appear. */
  add(row: Row, metric: number, amount: number): void {
    const { offset } = this.#column(metric);
    if (this.#isGrowth(amount)) this.#grow(row, metric, offset, amount);
    this.#touch(row);
  }

  /** Sets a gauge, or a counter that somebody else counts: that one never goes back. */
  set(row: Row, metric: number, value: number): void {
    const { shape, offset } = this.#column(metric);
    const before = row.values[offset] ?? Number.NaN;
    if (shape.type !== 'counter') this.#put(row, metric, offset, value);
    else if (!(before > value) && this.#isGrowth(value)) this.#put(row, metric, offset, value);
    this.#touch(row);
  }

  /** Adds observations to a histogram that are sorted into its buckets already, not cumulative; the last is for the rest. */
  merge(row: Row, metric: number, counts: readonly number[], sum: number): void {
    const { shape, offset } = this.#column(metric);
    if (shape.type !== 'histogram') throw new TypeError(`${shape.name} is no histogram`);
    const buckets = shape.bounds.length + 1;
    // All or nothing: a sum without its observations would be a wrong average for ever.
    if (this.#isGrowth(counts.every(isGrowth) ? sum : Number.NaN)) {
      for (let index = 0; index < buckets; index++) this.#grow(row, metric, offset + index, counts[index] ?? 0);
      this.#grow(row, metric, offset + buckets, sum);
    }
    this.#touch(row);
  }

  /** Adds one observation. */
  observe(row: Row, metric: number, value: number): void {
    const { shape } = this.#column(metric);
    if (shape.type !== 'histogram') throw new TypeError(`${shape.name} is no histogram`);
    const found = shape.bounds.findIndex(bound => value <= bound);
    const counts = shape.bounds.map((_, index) => (index === found ? 1 : 0));
    this.merge(row, metric, found < 0 ? [...counts, 1] : counts, value);
  }

  /** Keeps the row however idle it is, until `release`. */
  hold(row: Row): void {
    row.holds++;
  }

  release(row: Row): void {
    row.holds--;
    this.#touch(row);
  }

  /** Forgets everything, for tables that are filled anew at each scrape. */
  clear(): void {
    this.#rows.clear();
    this.#blocks.clear();
  }

  /** Lets idle rows go; returns how many. */
  sweep(): number {
    const idle = this.#options.idleMs / 1000;
    const now = this.#seconds();
    let gone = 0;
    for (const row of this.#rows.values()) {
      if (row.holds > 0 || now - row.touched < idle) continue;
      this.#rows.delete(row.key);
      this.#blocks.remove(row);
      this.#last.keep(row.key, row.values);
      gone++;
    }
    return gone;
  }

  #rowOf(values: readonly string[]): Row {
    const found = this.#rows.get(labelKey(values));
    if (found !== undefined) return found;
    if (this.#rows.size < this.#maxRows) return this.#create(values);
    this.#overflowed++;
    const kept = values.map((value, index) => (value === '' || this.#isBounded[index] === true ? value : OVERFLOW));
    const common = this.#rows.get(labelKey(kept));
    if (common !== undefined) return common;
    if (this.#rows.size < this.#maxRows + MAX_OVERFLOW_ROWS) return this.#create(kept);
    const all = values.map(() => OVERFLOW);
    return this.#rows.get(labelKey(all)) ?? this.#create(all);
  }

  #create(values: readonly string[]): Row {
    const key = labelKey(values);
    const labels = Buffer.from(writeLabels(this.#names, values));
    const numbers = this.#last.take(key) ?? Array.from<number>({ length: this.#width }).fill(Number.NaN);
    // A gauge has no past.
    for (const { shape, offset } of this.columns) if (shape.type === 'gauge') numbers[offset] = Number.NaN;
    const block = this.#blocks.roomy();
    const row: Row = { key, labels, values: numbers, touched: this.#seconds(), holds: 0, block };
    this.#rows.set(key, row);
    this.#blocks.add(row);
    return row;
  }

  #grow(row: Row, metric: number, at: number, amount: number): void {
    const before = row.values[at] ?? Number.NaN;
    this.#put(row, metric, at, before !== before ? amount : before + amount);
  }

  #put(row: Row, metric: number, at: number, value: number): void {
    if (row.values[at] === value) return;
    row.values[at] = value;
    const { versions } = row.block;
    versions[metric] = (versions[metric] ?? 0) + 1;
  }

  #isGrowth(amount: number): boolean {
    if (isGrowth(amount)) return true;
    this.#refused++;
    return false;
  }

  #column(metric: number): Column {
    const column = this.columns[metric];
    if (column === undefined) throw new RangeError(`no metric ${metric} in this table`);
    return column;
  }

  #touch(row: Row): void {
    row.touched = this.#seconds();
  }

  #seconds(): number {
    return Math.floor((this.#options.now() - this.#startedMs) / 1000);
  }
}

function isGrowth(amount: number): boolean {
  return amount >= 0 && amount < Infinity;
}
