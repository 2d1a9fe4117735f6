// The registry as text: OpenMetrics 1.0 or Prometheus' text format 0.0.4, in pieces, so that nobody holds all of it at once.
// Samples are the same in both; OpenMetrics names a family of counters without `_total`, tells units, writes bucket limits
// as floats and ends with `# EOF`. Families without a series are left out. No timestamps, no exemplars.
import type { MetricRegistry } from './metric-registry.ts';
import type { Column, MetricShape, Row } from './metric-table.ts';

export type TextFormat = 'openmetrics' | 'prometheus';

export const CONTENT_TYPES = {
  openmetrics: 'application/openmetrics-text;charset=utf-8;version=1.0.0',
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
} as const satisfies Record<TextFormat, string>;

const PIECE_BYTES = 64 * 1024;
/** Most that UTF-8 needs for one unit of a string. */
const BYTES_PER_UNIT = 3;

/**
 * Text as bytes. Strings are written straight into it, and always into the same memory: to join them first takes twice the
 * time, and so does fresh memory for each piece.
 */
class Piece {
  #bytes = Buffer.allocUnsafeSlow(PIECE_BYTES);
  #used = 0;

  hasRoom(units: number): boolean {
    return this.#used + units * BYTES_PER_UNIT <= this.#bytes.length;
  }

  put(text: string): void {
    this.#used += this.#bytes.write(text, this.#used);
  }

  /** For short texts that come again and again: a loop costs less than a call into the engine. */
  putBytes(bytes: Uint8Array): void {
    const target = this.#bytes;
    let at = this.#used;
    for (let index = 0; index < bytes.length; index++) target[at++] = bytes[index] ?? 0;
    this.#used = at;
  }

  /** The number and the end of its line. */
  putNumber(value: number): void {
    if (value >= 0 && value < MAX_SMALL && Number.isInteger(value)) this.#putSmall(value | 0);
    else this.put(formatNumber(value));
    this.#bytes[this.#used++] = NEWLINE;
  }

  #putSmall(value: number): void {
    const target = this.#bytes;
    let end = this.#used + 1;
    for (let limit = 10; limit <= value; limit *= 10) end++;
    this.#used = end;
    let rest = value;
    do {
      const next = (rest / 10) | 0;
      target[--end] = DIGIT_ZERO + rest - next * 10;
      rest = next;
    } while (rest > 0);
  }

  /** What was put; good until the next `put`. */
  take(): Uint8Array {
    const bytes = this.#bytes.subarray(0, this.#used);
    this.#used = 0;
    return bytes;
  }

  /** Room for so much in an empty piece. */
  grow(units: number): void {
    if (!this.hasRoom(units)) this.#bytes = Buffer.allocUnsafeSlow(units * BYTES_PER_UNIT);
  }
}

const NEWLINE = 0x0a;
const DIGIT_ZERO = 0x30;
/** Below it integers fit the engine's fast arithmetic. */
const MAX_SMALL = 2 ** 30;
const EOF = '# EOF\n';
const CLOSING = Buffer.from('} ');
/** Longest number, bucket limit and punctuation of a line. */
const NUMBER_UNITS = 64;

interface SeriesWriter {
  /** Most lines a series has, and what each of them takes beside the labels. */
  readonly lines: number;
  readonly overhead: number;
  series(piece: Piece, row: Row): void;
}

/**
 * Pieces of about 64 KiB; each is good until the next one is asked for. Numbers may move between two of them, never within
 * one series.
 */
export function* exposition(registry: MetricRegistry, format: TextFormat): Generator<Uint8Array, void, undefined> {
  const piece = new Piece();
  for (const table of registry.read()) {
    for (const column of table.columns) {
      const write = seriesWriter(column, format);
      let isHeaded = false;
      for (const row of table.rows()) {
        if (Number.isNaN(row.values[column.offset] ?? Number.NaN)) continue;
        const head = isHeaded ? '' : header(column.shape, format);
        isHeaded = true;
        const units = head.length + write.lines * (row.labels.length + write.overhead);
        if (!piece.hasRoom(units)) {
          yield piece.take();
          piece.grow(units);
        }
        piece.put(head);
        write.series(piece, row);
      }
    }
  }
  if (format === 'openmetrics') {
    if (!piece.hasRoom(EOF.length)) yield piece.take();
    piece.put(EOF);
  }
  yield piece.take();
}

function header(shape: MetricShape, format: TextFormat): string {
  const { name, help, type, unit } = shape;
  const shown = format === 'prometheus' && type === 'counter' ? `${name}_total` : name;
  const units = format === 'openmetrics' && unit !== undefined ? `# UNIT ${shown} ${unit}\n` : '';
  return `# HELP ${shown} ${escapeHelp(help)}\n# TYPE ${shown} ${type}\n${units}`;
}

function escapeHelp(help: string): string {
  return help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function seriesWriter({ shape, offset }: Column, format: TextFormat): SeriesWriter {
  if (shape.type === 'histogram') return histogramWriter(shape.name, shape.bounds, offset, format);
  const name = shape.type === 'counter' ? `${shape.name}_total` : shape.name;
  const bare = Buffer.from(`${name} `);
  const opening = Buffer.from(`${name}{`);
  return {
    lines: 1,
    overhead: name.length + NUMBER_UNITS,
    series(piece, { labels, values }) {
      if (labels === '') piece.putBytes(bare);
      else {
        piece.putBytes(opening);
        piece.put(labels);
        piece.putBytes(CLOSING);
      }
      piece.putNumber(values[offset] ?? Number.NaN);
    },
  };
}

function histogramWriter(name: string, bounds: readonly number[], offset: number, format: TextFormat): SeriesWriter {
  const limits = [...bounds.map(bound => formatBound(bound, format)), '+Inf'];
  return {
    lines: limits.length + 2,
    overhead: name.length + '_bucket'.length + NUMBER_UNITS,
    series(piece, { labels, values }) {
      const opening = `${name}_bucket{${labels}${labels === '' ? '' : ','}le="`;
      let count = 0;
      for (const [index, limit] of limits.entries()) {
        count += values[offset + index] ?? 0;
        piece.put(opening);
        piece.put(`${limit}"} ${formatNumber(count)}\n`);
      }
      const set = labels === '' ? '' : `{${labels}}`;
      piece.put(`${name}_sum${set} ${formatNumber(values[offset + limits.length] ?? 0)}\n`);
      piece.put(`${name}_count${set} ${formatNumber(count)}\n`);
    },
  };
}

/** OpenMetrics wants the canonical form of a float, so that a limit is the same label everywhere. */
function formatBound(bound: number, format: TextFormat): string {
  return format === 'openmetrics' && Number.isInteger(bound) ? `${bound}.0` : String(bound);
}

function formatNumber(value: number): string {
  if (value === Infinity) return '+Inf';
  return value === -Infinity ? '-Inf' : String(value);
}
