// The file of revocation lists (CRL_PATH), watched. What it names is refused at handshakes and cut where established.
//
// Failure modes. A file that is missing names nobody (it may come later; warned once). One that cannot be read keeps the
// last good set and is tried again, and before there was one it keeps the proxy from being ready: a proxy that cannot tell
// the revoked from the others takes no pods over. One that goes away or becomes empty takes nothing back, for that is how
// files look while they are being written. Lists count only if an authority we trust signed them, once one is known; they
// are read again when the roots change. A list past its time still counts; it is reported.
import { createHash } from 'node:crypto';
import { type FSWatcher, watch } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorText, ZtunnelError } from '../errors.ts';
import { HelperProcess } from '../helper/helper-process.ts';
import type { Logger } from '../log.ts';
import type { CrlFacts, CrlRequest } from './crl-reader.ts';

export interface RevocationDeps {
  readonly log: Logger;
  /** The whole set, whenever it changed. */
  readonly onChange: (keys: readonly string[]) => void;
  /** Whether there is a set to go by. */
  readonly onUsable: () => void;
}

export interface RevocationStatus {
  readonly path: string;
  readonly state: 'missing' | 'good' | 'broken';
  readonly revoked: number;
  readonly lists: number;
  readonly unverified: readonly string[];
  /** Times that a version of the file could not be used. */
  readonly failures: number;
}

const DEBOUNCE_MS = 100;
/** A directory's events may be missed (another file system, a replaced directory): look anyway. */
const LOOK_MS = 30_000;
const MAX_BYTES = 16 * 1_048_576;

export class RevocationList {
  readonly #path: string;
  readonly #deps: RevocationDeps;
  readonly #helper = new HelperProcess({
    entry: new URL('./crl-process.ts', import.meta.url),
    idleMs: 1000,
    deadlineMs: 30_000,
    failureCode: 'config.invalid',
  });
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #look: NodeJS.Timeout | undefined;
  #issuersPem = '';
  /** What was taken in last, and what was complained of last. */
  #seen = '';
  #complained = '';
  #reading: Promise<void> = Promise.resolve();
  #isUsable = false;
  #isClosed = false;
  #keys: readonly string[] = [];
  #status: RevocationStatus;

  constructor(path: string, deps: RevocationDeps) {
    this.#path = path;
    this.#deps = deps;
    this.#status = { path, state: 'missing', revoked: 0, lists: 0, unverified: [], failures: 0 };
  }

  get status(): RevocationStatus {
    return this.#status;
  }

  /** Reads the file and goes on watching it. Never rejects. */
  async start(): Promise<void> {
    this.#watch();
    this.#look = setInterval(() => this.#schedule(), LOOK_MS).unref();
    await this.#read();
  }

  /** The authorities that may sign lists, PEM; lists are judged anew when these are others than before. */
  setIssuers(pem: string): void {
    if (pem === this.#issuersPem || this.#isClosed) return;
    this.#issuersPem = pem;
    this.#schedule();
  }

  close(): void {
    this.#isClosed = true;
    this.#watcher?.close();
    clearTimeout(this.#timer);
    clearInterval(this.#look);
    this.#helper.close();
  }

  #watch(): void {
    this.#watcher?.close();
    try {
      this.#watcher = watch(dirname(this.#path), { persistent: false }, () => this.#schedule());
      this.#watcher.on('error', () => (this.#watcher = undefined));
    } catch {
      this.#watcher = undefined; // no such directory yet
    }
  }

  #schedule(): void {
    if (this.#isClosed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#watcher === undefined) this.#watch();
      this.#reading = this.#reading.then(async () => this.#read());
    }, DEBOUNCE_MS).unref();
  }

  async #read(): Promise<void> {
    let digest = 'unreadable';
    try {
      const content = await readBounded(this.#path);
      digest = createHash('sha256')
        .update(content ?? 'missing')
        .update(this.#issuersPem)
        .digest('base64');
      if (digest === this.#seen || this.#isClosed) return;
      if (content === undefined) this.#missing();
      else await this.#take(content);
      this.#seen = digest;
      this.#complained = '';
    } catch (error) {
      if (this.#isClosed) return;
      // Not seen: what stood in the way may be this machine (no memory for the helper, a slow disk) and not the file.
      this.#seen = '';
      if (digest !== this.#complained) this.#broken(error);
      this.#complained = digest;
    }
  }

  #missing(): void {
    this.#deps.log.warn('no revocation list; nobody is revoked', [['path', this.#path]]);
    // A file that goes away takes nothing back: what was revoked stays so until a list says otherwise.
    this.#status = { ...this.#status, state: 'missing' };
    this.#usable();
  }

  async #take(content: Buffer): Promise<void> {
    const request: CrlRequest = { content, issuersPem: this.#issuersPem };
    // The child is our own program and answers with what readCrls returned.
    const facts = (await this.#helper.request(request)) as CrlFacts;
    if (this.#isClosed) return;
    const { keys, lists, unverified, overdue } = facts;
    this.#status = { ...this.#status, state: 'good', revoked: keys.length, lists, unverified };
    for (const issuer of unverified) {
      this.#deps.log.warn('a revocation list is by no authority we trust; left out', [['issuer', issuer]]);
    }
    for (const issuer of overdue) {
      this.#deps.log.warn('a revocation list is past its time; it still counts', [['issuer', issuer]]);
    }
    if (keys.length !== this.#keys.length || keys.some((key, index) => key !== this.#keys[index])) {
      this.#keys = keys;
      this.#deps.log.info('revocation list read', [
        ['revoked', keys.length],
        ['lists', lists],
      ]);
      this.#deps.onChange(keys);
    }
    this.#usable();
  }

  #broken(error: unknown): void {
    this.#status = { ...this.#status, state: 'broken', failures: this.#status.failures + 1 };
    this.#deps.log.error('cannot use the revocation list; the last good one stays in force', [
      ['path', this.#path],
      ['error', errorText(error)],
      ['err.code', error instanceof ZtunnelError ? error.code : 'config.invalid'],
    ]);
  }

  #usable(): void {
    if (this.#isUsable) return;
    this.#isUsable = true;
    this.#deps.onUsable();
  }
}

/** Undefined when there is no such file, or nothing in it. @throws when it cannot be read, or is too large */
async function readBounded(path: string): Promise<Buffer | undefined> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    if (size > MAX_BYTES)
      throw new ZtunnelError('config.invalid', `${path}: ${size} bytes, at most ${MAX_BYTES} are read`);
    const content = await file.readFile();
    return content.length === 0 ? undefined : content;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
