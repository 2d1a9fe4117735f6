// One family of metrics as text: its head, and the lines of a series. The same in both formats, but that OpenMetrics names a
// family of counters without `_total`, tells units and writes bucket limits as floats.
import type { Column, MetricShape, Row } from './metric-table.ts';
import { mostBytes, type Piece } from './piece.ts';

export type TextFormat = 'openmetrics' | 'prometheus';

/** Longest number and punctuation of a line. */
const NUMBER_BYTES = 64;
const CLOSING = Buffer.from('} ');

export interface FamilyText {
  readonly head: string;
  /** Most bytes of the lines of a series with labels so long. */
  size(labelBytes: number): number;
  /** `piece` must have room. */
  put(piece: Piece, row: Row): void;
}

export function familyText({ shape, offset }: Column, format: TextFormat): FamilyText {
  return shape.type === 'histogram'
    ? histogramText(shape, shape.bounds, offset, format)
    : simpleText(shape, offset, format);
}

/** Whether there is such a series. */
export function hasSeries({ values }: Row, { offset }: Column): boolean {
  return !Number.isNaN(values[offset] ?? Number.NaN);
}

function head(shape: MetricShape, format: TextFormat): string {
  const { name, help, type, unit } = shape;
  const shown = format === 'prometheus' && type === 'counter' ? `${name}_total` : name;
  const units = format === 'openmetrics' && unit !== undefined ? `# UNIT ${shown} ${unit}\n` : '';
  return `# HELP ${shown} ${escapeHelp(help)}\n# TYPE ${shown} ${type}\n${units}`;
}

function escapeHelp(help: string): string {
  return help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function simpleText(shape: MetricShape, offset: number, format: TextFormat): FamilyText {
  const name = shape.type === 'counter' ? `${shape.name}_total` : shape.name;
  const bare = Buffer.from(`${name} `);
  const opening = Buffer.from(`${name}{`);
  return {
    head: head(shape, format),
    size: labelBytes => opening.length + labelBytes + NUMBER_BYTES,
    put(piece, { labels, values }) {
      if (labels.length === 0) piece.putShort(bare);
      else {
        piece.putShort(opening);
        piece.putBytes(labels);
        piece.putShort(CLOSING);
      }
      piece.putNumber(values[offset] ?? Number.NaN);
    },
  };
}

function histogramText(shape: MetricShape, bounds: readonly number[], offset: number, format: TextFormat): FamilyText {
  const { name } = shape;
  const limits = [...bounds.map(bound => formatBound(bound, format)), '+Inf'].map(limit =>
    Buffer.from(`le="${limit}"} `),
  );
  const bucket = Buffer.from(`${name}_bucket{`);
  const sum = Buffer.from(`${name}_sum`);
  const counted = Buffer.from(`${name}_count`);
  const longest = mostBytes(`${name}_bucket{,le=""`) + NUMBER_BYTES;
  const putEnd = (piece: Piece, what: Uint8Array, labels: Uint8Array, value: number): void => {
    piece.putShort(what);
    if (labels.length > 0) {
      piece.putShort(OPENING);
      piece.putBytes(labels);
      piece.putShort(CLOSING);
    } else piece.putShort(SPACE);
    piece.putNumber(value);
  };
  return {
    head: head(shape, format),
    size: labelBytes => (limits.length + 2) * (labelBytes + longest),
    put(piece, { labels, values }) {
      let count = 0;
      for (const [index, limit] of limits.entries()) {
        count += values[offset + index] ?? 0;
        piece.putShort(bucket);
        if (labels.length > 0) {
          piece.putBytes(labels);
          piece.putShort(COMMA);
        }
        piece.putShort(limit);
        piece.putNumber(count);
      }
      putEnd(piece, sum, labels, values[offset + limits.length] ?? 0);
      putEnd(piece, counted, labels, count);
    },
  };
}

const OPENING = Buffer.from('{');
const COMMA = Buffer.from(',');
const SPACE = Buffer.from(' ');

/** OpenMetrics wants the canonical form of a float, so that a limit is the same label everywhere. */
function formatBound(bound: number, format: TextFormat): string {
  return format === 'openmetrics' && Number.isInteger(bound) ? `${bound}.0` : String(bound);
}
