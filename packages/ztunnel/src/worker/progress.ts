// Tells of live connections while they live: within a second that one has opened, later every five seconds what it has
// carried since. Nothing is told of a connection at rest, and nothing ticks in a worker without connections.
import type { Engine } from '@ambit/proxy';
import { type ConnectionFacts, hasNews, type RecordOutcome } from './connection-facts.ts';

const TICK_MS = 1000;
/** Ticks between two words on a connection that carries bytes; upstream's reporting interval is 5 s. */
const TICKS_A_WORD = 5;

/** A connection as far as it can be told of now. */
export interface Reportable {
  /** undefined: it is not a connection that records tell of. */
  readonly facts: ConnectionFacts | undefined;
  /** undefined: it does not carry anything yet, or any more. */
  progress(): RecordOutcome | undefined;
}

export interface ProgressDeps {
  readonly engine: Engine;
  readonly live: () => Iterable<Reportable>;
  readonly emit: (facts: ConnectionFacts, outcome: RecordOutcome) => void;
}

export class Progress {
  readonly #deps: ProgressDeps;
  #isArmed = false;
  #tick = 0;

  constructor(deps: ProgressDeps) {
    this.#deps = deps;
  }

  /** There is a connection: look until there is none. */
  watch(): void {
    if (!this.#isArmed) this.#arm();
  }

  /** Tells all there is to tell, now. */
  tellAll(): void {
    for (const connection of this.#deps.live()) this.#tell(connection);
  }

  #arm(): void {
    const { engine } = this.#deps;
    this.#isArmed = true;
    engine.timers.at(engine.nowMs + TICK_MS, () => this.#onTick());
  }

  #onTick(): void {
    this.#tick++;
    const isWordDue = this.#tick % TICKS_A_WORD === 0;
    let any = false;
    for (const connection of this.#deps.live()) {
      any = true;
      if (isWordDue || connection.facts?.told.opened === false) this.#tell(connection);
    }
    this.#isArmed = false;
    if (any) this.#arm();
  }

  #tell(connection: Reportable): void {
    const { facts } = connection;
    const outcome = connection.progress();
    if (facts !== undefined && outcome !== undefined && hasNews(facts, outcome)) this.#deps.emit(facts, outcome);
  }
}
