// Objects from files and directories, kept up to date while they are edited. A file that cannot be used as a whole keeps its
// last good state as a whole (half of an edit could be half of a policy), and says so in `status.problems` with file, line
// and column until it is right again; a file that never was good gives nothing. Files that are gone take their objects
// with them, except that those of a directory which is missing as a whole or cannot be looked into stay.
//
// States: new -> started -> closed. Changes are told by the operating system (inotify); file systems of other machines do
// not tell. Writers that take their time should write beside and rename; a file that was emptied counts as being written.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { resolve, sep } from 'node:path';
import type { Diagnostic } from '../diagnostic.ts';
import { ControlError } from '../errors.ts';
import type { Log } from '@ambit/log';
import { type CutText, cutText, findField, MAX_FILE_BYTES } from '../objects/index.ts';
import { formatRef, type ObjectRef, type Place } from '../objects/types.ts';
import { DirectoryWatches } from './directory-watches.ts';
import { changesBetween, type FileState, mergeFiles, nextState, type Winner } from './file-state.ts';
import { listFiles, type Unlistable } from './list-files.ts';
import { readTexts } from './read-texts.ts';
import type { ChangeSink, Source, SourceStatus } from './source.ts';

export interface FileSourceOptions {
  /** Directories, which are read recursively (*.yaml, *.yml, *.json; hidden ones not), and single files. */
  readonly paths: readonly string[];
  readonly log: Log;
  /** Quiet time after a change before the files are read, so that a save of several files is one change. Default 100. */
  readonly debounceMs?: number;
}

export interface FileSource extends Source {
  /**
   * Where an object that is in force was written, or one of its fields (`spec.rules[0].to`); undefined for objects of
   * others. A field's place is looked up in the file, synchronously; it is the object's when the file has changed since.
   */
  placeOf(ref: ObjectRef, path?: string): Place | undefined;
}

export function createFileSource(options: FileSourceOptions): FileSource {
  return new WatchedFiles(options);
}

/** A change is not put off longer than this by the changes after it. */
const MAX_DEBOUNCE_MS = 1000;
/** How often to look at what nobody tells about: a path that is missing, a directory that cannot be watched. */
const RETRY_MS = 2000;
const MAX_PROBLEMS = 1000;

class WatchedFiles implements FileSource {
  readonly #paths: readonly string[];
  readonly #log: Log;
  readonly #debounceMs: number;
  readonly #watches = new DirectoryWatches(() => this.#noteEvent());
  readonly #closing = new AbortController();
  #sink: ChangeSink | undefined;
  #states: ReadonlyMap<string, FileState> = new Map();
  #winners: ReadonlyMap<string, Winner> = new Map();
  #problems: readonly Diagnostic[] = [];
  #isSynced = false;
  /** There is something that no event would tell about. */
  #mustLookAgain = false;
  #timer: NodeJS.Timeout | undefined;
  #firstEventAt: number | undefined;
  #scanning: Promise<void> | undefined;
  /** Texts that fields were looked up in, by hash; for one synchronous run of look-ups, the collector has the rest. */
  readonly #cuts = new Map<string, WeakRef<{ readonly cut: CutText }>>();

  constructor({ paths, log, debounceMs = 100 }: FileSourceOptions) {
    this.#paths = paths;
    this.#log = log.scope('files');
    this.#debounceMs = debounceMs;
  }

  get status(): SourceStatus {
    return { name: `files ${this.#paths.join(' ')}`, isSynced: this.#isSynced, problems: this.#problems };
  }

  /** @throws ControlError config.no_such_path, config.unreadable_path when a path is not there at the start */
  async start(sink: ChangeSink): Promise<void> {
    if (this.#sink !== undefined) throw new TypeError('a source is started once');
    this.#sink = sink;
    try {
      this.#scanning = this.#scan(true);
      await this.#scanning;
    } catch (error) {
      await this.close();
      throw error;
    } finally {
      this.#scanning = undefined;
    }
    this.#isSynced = !this.#closing.signal.aborted;
    this.#resume();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#timer);
    this.#watches.close();
    await this.#scanning?.catch(() => undefined); // its failure is thrown where it was started
  }

  placeOf(ref: ObjectRef, path?: string): Place | undefined {
    const winner = this.#winners.get(formatRef(ref));
    if (winner === undefined || path === undefined) return winner?.place;
    const cut = this.#cutOf(winner);
    return cut === undefined ? winner.place : findField(cut, winner.place, path);
  }

  #cutOf({ place: { file }, goodHash }: Winner): CutText | undefined {
    if (goodHash === undefined) return undefined;
    const known = this.#cuts.get(goodHash)?.deref();
    if (known !== undefined) return known.cut;
    try {
      const bytes = readFileSync(file);
      if (hashOf(bytes) !== goodHash) return undefined;
      const cut = cutText(bytes.toString('utf8'));
      this.#cuts.set(goodHash, new WeakRef({ cut }));
      return cut;
    } catch {
      return undefined;
    }
  }

  #noteEvent(): void {
    this.#firstEventAt ??= performance.now();
    this.#resume();
  }

  /** Sets the timer for what there is to do: after events, or for what has to be looked at again. */
  #resume(): void {
    if (this.#closing.signal.aborted || this.#scanning !== undefined || !this.#isSynced) return;
    clearTimeout(this.#timer);
    if (this.#firstEventAt !== undefined) {
      const left = this.#firstEventAt + MAX_DEBOUNCE_MS - performance.now();
      this.#timer = setTimeout(() => this.#rescan(), Math.max(0, Math.min(this.#debounceMs, left)));
    } else if (this.#mustLookAgain) {
      this.#timer = setTimeout(() => this.#rescan(), RETRY_MS);
    }
  }

  #rescan(): void {
    this.#firstEventAt = undefined;
    // What throws in here is a sink's fault or ours, and nobody could carry on from it.
    this.#scanning = this.#scan(false).finally(() => {
      this.#scanning = undefined;
      this.#resume();
    });
  }

  async #scan(isFirst: boolean): Promise<void> {
    const { files, failures } = await this.#list(isFirst);
    const kept = [...this.#states.keys()].filter(file => failures.some(failure => isHidden(file, failure)));
    const states = await this.#readAll([...files, ...kept.filter(file => !files.has(file))], new Set(kept));
    if (this.#closing.signal.aborted) return;
    const { winners, duplicates } = mergeFiles(states.values());
    const changes = changesBetween(this.#winners, winners);
    const problems = [
      ...failures.map(toProblem),
      ...[...states.values()].flatMap(state => state.problems),
      ...duplicates,
    ];
    this.#problems = limit(problems);
    this.#report(states, changes.length);
    this.#states = states;
    this.#winners = winners;
    this.#cuts.clear();
    if (changes.length > 0) this.#sink?.(changes);
  }

  async #list(isFirst: boolean): Promise<{ files: ReadonlySet<string>; failures: readonly Unlistable[] }> {
    const files = new Map<string, string>();
    const failures: Unlistable[] = [];
    this.#watches.begin();
    for (const path of this.#paths) {
      const listing = await listFiles(path, (directory, name) => {
        if (!this.#closing.signal.aborted) this.#watches.want(directory, name);
      });
      for (const file of listing.files) {
        // Two paths may lead to one file.
        if (!files.has(resolve(file))) files.set(resolve(file), file);
      }
      failures.push(...listing.failures);
      const missing = listing.failures.find(failure => failure.path === path);
      if (isFirst && missing !== undefined) throw toError(missing);
    }
    this.#watches.end();
    this.#mustLookAgain = failures.length > 0 || this.#watches.failed.length > 0;
    return { files: new Set(files.values()), failures };
  }

  /** The new states, in the order of the files. `kept` are not read: they cannot be. */
  async #readAll(files: readonly string[], kept: ReadonlySet<string>): Promise<Map<string, FileState>> {
    const states = new Map<string, FileState>();
    const changed: { readonly file: string; readonly hash: string; readonly text: string }[] = [];
    for (const file of files) {
      const last = this.#states.get(file);
      const version = kept.has(file) ? undefined : await readVersion(file);
      if (this.#closing.signal.aborted) return states;
      if (version === 'gone') continue;
      // A place in the order, also for those that are still to be read.
      const old: FileState = last ?? {
        file,
        hash: '',
        goodHash: undefined,
        objects: [],
        problems: [],
        isBroken: false,
      };
      states.set(file, old);
      if (version === undefined || version.hash === last?.hash) continue;
      if ('text' in version && !(version.text === '' && old.objects.length > 0)) changed.push({ file, ...version });
      else {
        const problem = 'text' in version ? emptied(file) : version.problem;
        states.set(file, nextState(file, version.hash, { objects: [], diagnostics: [problem] }, last));
      }
    }
    const results = await readTexts(changed, this.#closing.signal);
    for (const [index, { file, hash }] of changed.entries()) {
      const result = results[index];
      if (result !== undefined) states.set(file, nextState(file, hash, result, this.#states.get(file)));
    }
    return states;
  }

  #report(states: ReadonlyMap<string, FileState>, changes: number): void {
    for (const [file, { hash, isBroken, problems }] of states) {
      const last = this.#states.get(file);
      if (last?.hash === hash) continue;
      const first = problems.find(({ severity, code }) => severity === 'error' && code !== 'config.duplicate');
      if (first !== undefined) {
        const { code, message, place } = first;
        const at = `${file}:${place?.line ?? 1}:${place?.column ?? 1}`;
        this.#log.warn('A file cannot be used; what it said before stays', { at, code, reason: message });
      } else if (last?.isBroken === true && !isBroken) this.#log.info('A file can be used again', { file });
    }
    if (changes > 0) this.#log.info('Files changed', { objects: changes });
    else this.#log.debug('Files say what they said');
  }
}

type Version =
  | { readonly hash: string; readonly text: string }
  | { readonly hash: string; readonly problem: Diagnostic };

async function readVersion(file: string): Promise<Version | 'gone'> {
  const refuse = (code: string, message: string, remedy: string): Version => {
    const place = { file, line: 1, column: 1 };
    const problem = { code, severity: 'error', message, remedy, place } as const;
    return { hash: `${code} ${message}`, problem };
  };
  try {
    const { size } = await stat(file);
    if (size > MAX_FILE_BYTES) {
      return refuse('config.too_large', `${file} is larger than ${MAX_FILE_BYTES >> 20} MiB`, 'cut it in several');
    }
    const bytes = await readFile(file);
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    return { hash: hashOf(bytes), text: text.decode(bytes) };
  } catch (error) {
    if (error instanceof TypeError) return refuse('config.not_utf8', `${file} is not UTF-8`, 'save it as UTF-8');
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 'gone';
    return refuse('config.unreadable', `${file} cannot be read: ${String(error)}`, 'let the control plane read it');
  }
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('base64url');
}

/** What a shell's `>` does before anything is written. */
function emptied(file: string): Diagnostic {
  return {
    code: 'config.emptied',
    severity: 'error',
    message: `${file} is empty now; its objects stay until it says something`,
    remedy: 'delete the file if its objects are to go',
    place: { file, line: 1, column: 1 },
  };
}

/** Whether nobody can say what became of the file. A file that is not there itself is simply gone. */
function isHidden(file: string, { path, errno }: Unlistable): boolean {
  // As people write paths: `./a`, `a/`, `.`.
  const [own, failed] = [resolve(file), resolve(path)];
  if (own === failed) return errno !== 'ENOENT';
  return own.startsWith(failed.endsWith(sep) ? failed : failed + sep);
}

function toError({ path, errno, message }: Unlistable): ControlError {
  return errno === 'ENOENT'
    ? new ControlError('config.no_such_path', `${path}: ${message}`, { next: 'name a directory or file of YAML' })
    : new ControlError('config.unreadable_path', `${path}: ${message}`, { next: 'let the control plane read it' });
}

function toProblem(failure: Unlistable): Diagnostic {
  const { code, message } = toError(failure);
  const remedy =
    failure.errno === 'ENOENT'
      ? 'put it back, or start without it'
      : 'make it readable again; what it said before stays in force';
  return { code, severity: 'error', message, remedy, place: { file: failure.path, line: 1, column: 1 } };
}

function limit(problems: readonly Diagnostic[]): readonly Diagnostic[] {
  if (problems.length <= MAX_PROBLEMS) return problems;
  const message = `${problems.length - MAX_PROBLEMS} more problems are not listed`;
  const rest = {
    code: 'config.more_problems',
    severity: 'error',
    message,
    remedy: 'correct the others first',
  } as const;
  return [...problems.slice(0, MAX_PROBLEMS), rest];
}
