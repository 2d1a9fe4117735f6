// A watched local configuration file. The directory is watched, not the file, so that an atomic rename (and the
// symlink swap of a Kubernetes volume) is seen. A version that cannot be read keeps the last good mesh and is
// reported once; the next version gets its own chance.
import { createHash } from 'node:crypto';
import { type FSWatcher, watch } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorText, ZtunnelError } from '../errors.ts';
import type { LocalMesh } from './reader.ts';

export interface FileSourceDeps {
  /** Text and file name -> mesh, or config.invalid. */
  readonly read: (text: string, source: string) => Promise<LocalMesh>;
  readonly onMesh: (mesh: LocalMesh) => void;
  /** Once for each version of the file that cannot be used. */
  readonly onError: (error: ZtunnelError) => void;
}

export interface FileSourceOptions {
  readonly path: string;
  /** Quiet time after the last event of the directory before the file is read. */
  readonly debounceMs?: number;
  /** How often a file that has vanished is looked for. */
  readonly retryMs?: number;
}

export class FileSource {
  readonly #deps: FileSourceDeps;
  readonly #path: string;
  readonly #debounceMs: number;
  readonly #retryMs: number;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #seen: string | undefined;
  #reading = false;
  #isAgainWanted = false;
  #isStopped = false;

  constructor(deps: FileSourceDeps, options: FileSourceOptions) {
    this.#deps = deps;
    this.#path = options.path;
    this.#debounceMs = options.debounceMs ?? 50;
    this.#retryMs = options.retryMs ?? 1000;
  }

  /** The first version; there is nothing to fall back to, so it must be good. @throws config.invalid */
  async start(): Promise<LocalMesh> {
    // Watching first: a change between reading and watching would be missed otherwise.
    this.#watch();
    try {
      const text = await this.#read();
      this.#seen = digest(text);
      return await this.#deps.read(text, this.#path);
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  /** No callback runs afterwards. */
  stop(): void {
    this.#isStopped = true;
    this.#watcher?.close();
    clearTimeout(this.#timer);
  }

  #watch(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    try {
      this.#watcher = watch(dirname(this.#path), { persistent: false }, () => this.#schedule(this.#debounceMs));
      this.#watcher.on('error', () => this.#schedule(this.#retryMs));
    } catch {
      // The directory itself is missing; reading the file reports that, and the retry after it watches again.
      this.#watcher = undefined;
    }
  }

  #schedule(delayMs: number): void {
    if (this.#isStopped) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#reload(), delayMs).unref();
  }

  async #reload(): Promise<void> {
    if (this.#reading) {
      this.#isAgainWanted = true;
      return;
    }
    this.#reading = true;
    try {
      await this.#reloadOnce();
    } finally {
      this.#reading = false;
      if (this.#isAgainWanted) this.#schedule(this.#debounceMs);
      this.#isAgainWanted = false;
    }
  }

  async #reloadOnce(): Promise<void> {
    let version = 'unreadable';
    try {
      const text = await this.#read();
      version = digest(text);
      if (version === this.#seen) return;
      const mesh = await this.#deps.read(text, this.#path);
      this.#seen = version;
      if (!this.#isStopped) this.#deps.onMesh(mesh);
    } catch (thrown) {
      if (version === 'unreadable') {
        // The directory may be a new one under the old name: look again until the file is back.
        this.#watch();
        this.#schedule(this.#retryMs);
      }
      if (version === this.#seen || this.#isStopped) return;
      this.#seen = version;
      this.#deps.onError(toError(thrown));
    }
  }

  async #read(): Promise<string> {
    try {
      return await readFile(this.#path, 'utf8');
    } catch (cause) {
      throw new ZtunnelError('config.invalid', `cannot read ${this.#path}: ${errorText(cause)}`, { cause });
    }
  }
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64');
}

function toError(thrown: unknown): ZtunnelError {
  if (thrown instanceof ZtunnelError) return thrown;
  return new ZtunnelError('config.invalid', errorText(thrown), { cause: thrown });
}
