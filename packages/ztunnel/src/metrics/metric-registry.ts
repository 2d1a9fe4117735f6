// All metrics of the process, in the order in which they are shown. Holds tables, asks for the numbers that are only looked
// up when somebody reads, and lets idle series go.
import { MetricTable, type TableOptions, type TableShape } from './metric-table.ts';

export interface RegistryOptions extends TableOptions {}

export class MetricRegistry {
  readonly #options: RegistryOptions;
  readonly #tables: MetricTable[] = [];
  readonly #lookUps: (() => void)[] = [];

  constructor(options: RegistryOptions) {
    this.#options = options;
  }

  /** A table whose series expire when idle. */
  table(shape: TableShape): MetricTable {
    return this.#add(shape, this.#options);
  }

  /** A table of few series, all ours, that are there as long as the process. */
  lasting(shape: TableShape): MetricTable {
    return this.#add(shape, { ...this.#options, idleMs: Infinity });
  }

  /** Registers what brings numbers up to date before they are read. It must not throw. */
  onRead(lookUp: () => void): void {
    this.#lookUps.push(lookUp);
  }

  /** The tables, brought up to date. */
  read(): readonly MetricTable[] {
    for (const lookUp of this.#lookUps) lookUp();
    return this.#tables;
  }

  /** Series sets that had no room of their own, since the start. */
  get overflowed(): number {
    return this.#tables.reduce((sum, table) => sum + table.overflowed, 0);
  }

  /** See `MetricTable.refused`. */
  get refused(): number {
    return this.#tables.reduce((sum, table) => sum + table.refused, 0);
  }

  /** Sets of labels there are. */
  get size(): number {
    return this.#tables.reduce((sum, table) => sum + table.size, 0);
  }

  /** Lets idle series go; returns how many sets of labels. */
  sweep(): number {
    return this.#tables.reduce((sum, table) => sum + table.sweep(), 0);
  }

  #add(shape: TableShape, options: TableOptions): MetricTable {
    const table = new MetricTable(shape, options);
    this.#tables.push(table);
    return table;
  }
}
