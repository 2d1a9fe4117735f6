// Wakes somebody when anything changes in some directories (inotify, by way of Node). Watches come and go with the
// directories: one that is not there is tried again, since it may be mounted later. Events may be lost (other machines' file
// systems), which is why it also wakes by itself once in a while.
import { type FSWatcher, watch } from 'node:fs';

export interface DirectoryWatchOptions {
  /** How often to wake without an event. Default 60 s. */
  readonly idleMs?: number;
  /** How soon to look again for a directory that is missing. Default 5 s. */
  readonly missingMs?: number;
}

/** States: watching -> closed. */
export class DirectoryWatch implements Disposable {
  readonly #directories: readonly string[];
  readonly #idleMs: number;
  readonly #missingMs: number;
  readonly #watchers = new Map<string, FSWatcher>();
  #isDirty = true;
  #wake: (() => void) | undefined;

  constructor(directories: readonly string[], options: DirectoryWatchOptions = {}) {
    this.#directories = [...new Set(directories)];
    this.#idleMs = options.idleMs ?? 60_000;
    this.#missingMs = options.missingMs ?? 5000;
  }

  /**
   * Resolves when something may have changed since the last time it resolved; at once for the first time. What changes while
   * the caller looks is told by the next call, so nothing is missed.
   */
  async changed(signal: AbortSignal): Promise<void> {
    const isComplete = this.#arm();
    if (!this.#isDirty && !signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, isComplete ? this.#idleMs : this.#missingMs);
      signal.addEventListener('abort', () => resolve(), { once: true });
      this.#wake = resolve;
      await promise;
      clearTimeout(timer);
      this.#wake = undefined;
    }
    this.#isDirty = false;
  }

  [Symbol.dispose](): void {
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  #arm(): boolean {
    for (const directory of this.#directories) {
      if (this.#watchers.has(directory)) continue;
      try {
        const watcher = watch(directory, () => this.#notice());
        watcher.on('error', () => this.#forget(directory));
        // The directory itself may go; its watcher then stays silent for ever.
        watcher.on('change', (_, name) => {
          if (name === null || directory.endsWith(`/${String(name)}`)) this.#forget(directory);
        });
        this.#watchers.set(directory, watcher);
        this.#isDirty = true;
      } catch {
        // Missing, for now: the caller looks at the directory itself and says so.
      }
    }
    return this.#watchers.size === this.#directories.length;
  }

  #forget(directory: string): void {
    this.#watchers.get(directory)?.close();
    this.#watchers.delete(directory);
    this.#notice();
  }

  #notice(): void {
    this.#isDirty = true;
    this.#wake?.();
  }
}
