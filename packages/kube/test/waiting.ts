// Waits in a test for something to hold, looked at whenever the watched thing says that it changed. Bounded by the test's
// own timeout.

export class Waiting {
  readonly #checks = new Set<() => void>();

  changed(): void {
    for (const check of this.#checks) check();
  }

  async until(condition: () => boolean): Promise<void> {
    if (condition()) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const check = (): void => {
      if (condition()) resolve();
    };
    this.#checks.add(check);
    await promise;
    this.#checks.delete(check);
  }
}
