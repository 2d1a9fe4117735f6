// When to stop: SIGTERM, SIGINT or a request starts the graceful drain, a second SIGINT ends the waiting (as upstream). Handlers
// are removed again, so that a process that embeds the proxy gets its signals back.

/** Where signals come from: `process`, or a test. */
export interface SignalSource {
  on(signal: 'SIGTERM' | 'SIGINT', listener: () => void): unknown;
  removeListener(signal: 'SIGTERM' | 'SIGINT', listener: () => void): unknown;
}

export class Shutdown {
  /** Resolves with the cause of the drain. */
  readonly requested: Promise<string>;
  /** Resolves when somebody does not want to wait for the drain. */
  readonly insisted: Promise<void>;
  readonly #request: (cause: string) => void;
  readonly #source: SignalSource;
  readonly #onTerm: () => void;
  readonly #onInt: () => void;

  constructor(source: SignalSource) {
    const requested = Promise.withResolvers<string>();
    const insisted = Promise.withResolvers<void>();
    this.requested = requested.promise;
    this.insisted = insisted.promise;
    this.#request = requested.resolve;
    this.#source = source;
    let interrupts = 0;
    this.#onTerm = () => requested.resolve('SIGTERM');
    this.#onInt = () => {
      interrupts++;
      requested.resolve('SIGINT');
      if (interrupts > 1) insisted.resolve();
    };
    source.on('SIGTERM', this.#onTerm);
    source.on('SIGINT', this.#onInt);
  }

  /** Starts the graceful drain without a signal. */
  request(cause: string): void {
    this.#request(cause);
  }

  close(): void {
    this.#source.removeListener('SIGTERM', this.#onTerm);
    this.#source.removeListener('SIGINT', this.#onInt);
  }
}
