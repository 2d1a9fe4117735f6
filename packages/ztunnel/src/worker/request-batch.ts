// Single requests on their way to the main thread, while somebody reads them. Those of one connection that travel together
// share one description of it, which is then made and cloned once.
import type { ConnectionRecord, Engine, L7Request, RequestRecord } from '@ambit/proxy';
import { type ConnectionFacts, contextOf } from './connection-facts.ts';
import { RecordBatch } from './record-batch.ts';

export class RequestBatch {
  readonly #engine: Engine;
  readonly #batch: RecordBatch<RequestRecord>;
  /** Of the batch that is being filled. */
  #contexts = new Map<string, ConnectionRecord>();

  constructor(engine: Engine, send: (requests: readonly RequestRecord[]) => void) {
    this.#engine = engine;
    this.#batch = new RecordBatch(engine, requests => {
      this.#contexts = new Map();
      send(requests);
    });
  }

  get dropped(): number {
    return this.#batch.dropped;
  }

  add(facts: ConnectionFacts, request: L7Request): void {
    let connection = this.#contexts.get(facts.id);
    if (connection === undefined) {
      connection = contextOf(facts);
      this.#contexts.set(facts.id, connection);
    }
    const wallClock = performance.timeOrigin + performance.now();
    const startedAtMs = wallClock - (this.#engine.nowMs - request.startMs);
    this.#batch.add({ connection, request, startedAtMs });
  }

  flush(): void {
    this.#batch.flush();
  }

  acknowledge(): void {
    this.#batch.acknowledge();
  }
}
