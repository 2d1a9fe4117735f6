// The rows of a table in blocks that keep their members, so that what was made of a block (its compressed text) can be used
// again until a number in it changes. Rows that go leave room that new ones fill.
import type { Row } from './metric-table.ts';

/** Enough that compressing a block costs little more than its bytes, few enough that one change spoils little. */
export const BLOCK_ROWS = 256;

export interface RowBlock {
  /** Another array when rows go, so that whoever reads in several turns misses none that stay. */
  rows: Row[];
  /** By metric: grows with each change of a number, and for all of them when rows come or go. */
  readonly versions: number[];
}

export class RowBlocks {
  readonly #metrics: number;
  readonly #blocks = new Set<RowBlock>();
  readonly #withRoom = new Set<RowBlock>();

  constructor(metrics: number) {
    this.#metrics = metrics;
  }

  [Symbol.iterator](): SetIterator<RowBlock> {
    return this.#blocks.values();
  }

  /** A block with room for one more; the caller makes the row and adds it. */
  roomy(): RowBlock {
    for (const block of this.#withRoom) return block;
    const block: RowBlock = { rows: [], versions: Array.from<number>({ length: this.#metrics }).fill(0) };
    this.#blocks.add(block);
    this.#withRoom.add(block);
    return block;
  }

  add(row: Row): void {
    const { block } = row;
    block.rows.push(row);
    changeAll(block);
    if (block.rows.length >= BLOCK_ROWS) this.#withRoom.delete(block);
  }

  remove(row: Row): void {
    const { block } = row;
    block.rows = block.rows.filter(each => each !== row);
    changeAll(block);
    if (block.rows.length > 0) this.#withRoom.add(block);
    else {
      this.#blocks.delete(block);
      this.#withRoom.delete(block);
    }
  }

  clear(): void {
    this.#blocks.clear();
    this.#withRoom.clear();
  }
}

function changeAll({ versions }: RowBlock): void {
  for (let metric = 0; metric < versions.length; metric++) versions[metric] = (versions[metric] ?? 0) + 1;
}
