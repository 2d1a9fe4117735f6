// Which series live connections stand for, so that a connection at rest keeps its series on show. Knows only connections that
// were told of before they ended; short ones never get here. Bounded: of too many the one told of first is let go, whose
// series then expires as if nobody had it, no more. The same goes for connections whose end was never told.
import type { MetricTable, Row } from './metric-table.ts';

const MAX_HELD = 65_536;

export class HeldRows {
  readonly #table: MetricTable;
  readonly #rows = new Map<string, Row>();

  constructor(table: MetricTable) {
    this.#table = table;
  }

  get size(): number {
    return this.#rows.size;
  }

  /** The connection lives and belongs to this row. */
  hold(connection: string, row: Row): void {
    const held = this.#rows.get(connection);
    if (held === row) return;
    if (held !== undefined) this.#table.release(held);
    else if (this.#rows.size >= MAX_HELD) this.#releaseOldest();
    this.#table.hold(row);
    this.#rows.set(connection, row);
  }

  /** It ended. */
  release(connection: string): void {
    const row = this.#rows.get(connection);
    if (row === undefined) return;
    this.#rows.delete(connection);
    this.#table.release(row);
  }

  /** A worker is gone, and with it all connections whose names begin like this: nobody tells of their ends. */
  releaseAll(prefix: string): void {
    for (const connection of this.#rows.keys()) if (connection.startsWith(prefix)) this.release(connection);
  }

  #releaseOldest(): void {
    for (const oldest of this.#rows.keys()) {
      this.release(oldest);
      return;
    }
  }
}
