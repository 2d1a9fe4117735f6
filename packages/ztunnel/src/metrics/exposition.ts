// The registry as text: OpenMetrics 1.0 or Prometheus' text format 0.0.4, in pieces, so that nobody holds all of it at once.
// OpenMetrics ends with `# EOF`. Families without a series are left out. No timestamps, no exemplars.
import { familyText, hasSeries, type TextFormat } from './family-text.ts';
import type { MetricRegistry } from './metric-registry.ts';
import { mostBytes, Piece } from './piece.ts';

export const CONTENT_TYPES = {
  openmetrics: 'application/openmetrics-text;charset=utf-8;version=1.0.0',
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
} as const satisfies Record<TextFormat, string>;

export const EOF = '# EOF\n';
const PIECE_BYTES = 64 * 1024;

/**
 * Pieces of about 64 KiB; each is good until the next one is asked for. Numbers may move between two of them, never within
 * one series.
 */
export function* exposition(registry: MetricRegistry, format: TextFormat): Generator<Uint8Array, void, undefined> {
  const piece = new Piece(PIECE_BYTES);
  for (const table of registry.read()) {
    for (const column of table.columns) {
      const text = familyText(column, format);
      let { head } = text;
      for (const block of table.blocks()) {
        for (const row of block.rows) {
          if (!hasSeries(row, column)) continue;
          const size = mostBytes(head) + text.size(row.labels.length);
          if (!piece.hasRoom(size)) {
            yield piece.take();
            piece.grow(size);
          }
          if (head !== '') piece.put(head);
          head = '';
          text.put(piece, row);
        }
      }
    }
  }
  if (format === 'openmetrics') {
    if (!piece.hasRoom(mostBytes(EOF))) yield piece.take();
    piece.put(EOF);
  }
  yield piece.take();
}
