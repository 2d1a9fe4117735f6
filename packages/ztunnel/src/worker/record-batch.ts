// Records, of connections above all, on their way to the main thread. They travel in batches, because what many records
// share (the summaries of workloads and services) is then cloned once for all of them. Telemetry fails open: past the bound
// records are dropped and counted, what they tell of is not touched.
import type { Engine } from '@ambit/proxy';

const BATCH_RECORDS = 256;
const BATCH_MS = 100;
/** Records the main thread may be behind by before they are dropped. */
const MAX_UNACKED_BATCHES = 64;

export class RecordBatch<Fact> {
  readonly #engine: Engine;
  readonly #send: (records: readonly Fact[]) => void;
  #records: Fact[] = [];
  #isArmed = false;
  #unacked = 0;
  dropped = 0;

  constructor(engine: Engine, send: (records: readonly Fact[]) => void) {
    this.#engine = engine;
    this.#send = send;
  }

  add(record: Fact): void {
    if (this.#unacked >= MAX_UNACKED_BATCHES) {
      this.dropped++;
      return;
    }
    this.#records.push(record);
    if (this.#records.length >= BATCH_RECORDS) this.flush();
    else if (!this.#isArmed) {
      this.#isArmed = true;
      this.#engine.timers.at(this.#engine.nowMs + BATCH_MS, () => {
        this.#isArmed = false;
        this.flush();
      });
    }
  }

  flush(): void {
    if (this.#records.length === 0) return;
    const records = this.#records;
    this.#records = [];
    this.#unacked++;
    this.#send(records);
  }

  /** The main thread has taken a batch. */
  acknowledge(): void {
    if (this.#unacked > 0) this.#unacked--;
  }
}
