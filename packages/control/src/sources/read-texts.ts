// Texts -> objects, away from the main thread when it takes long: YAML reads at about 0.5 MB a second, and the xDS streams
// and certificate calls of a whole mesh wait on that thread. Places are kept as two numbers an object, no more.
import { Worker } from 'node:worker_threads';
import { errorText } from '@ambit/log';
import type { Diagnostic } from '../diagnostic.ts';
import { readObjects } from '../objects/index.ts';
import type { KubeObject } from '../objects/types.ts';

/** What is read at once without a worker: an edit by hand; 0.1 s at most. */
const INLINE_LENGTH = 64 << 10;

export interface FileText {
  readonly file: string;
  readonly text: string;
}

export interface LocatedObject {
  readonly object: KubeObject;
  readonly line: number;
  readonly column: number;
}

export interface ReadText {
  readonly objects: readonly LocatedObject[];
  readonly diagnostics: readonly Diagnostic[];
}

/** From the worker, in the order of the texts; a text's objects come in pieces, so that taking them in is no long pause. */
export type WorkerMessage =
  | { readonly kind: 'objects'; readonly objects: readonly LocatedObject[] }
  | { readonly kind: 'end'; readonly diagnostics: readonly Diagnostic[] };

/** One result a text, in order. Never rejects: a text that the worker died of has a diagnostic. Aborted: what was read. */
export async function readTexts(texts: readonly FileText[], signal: AbortSignal): Promise<readonly ReadText[]> {
  const length = texts.reduce((sum, { text }) => sum + text.length, 0);
  return length <= INLINE_LENGTH ? texts.map(readText) : readInWorker(texts, signal);
}

export function readText({ file, text }: FileText): ReadText {
  const { objects, diagnostics } = readObjects(text, file);
  return { objects: objects.map(({ object, place: { line, column } }) => ({ object, line, column })), diagnostics };
}

async function readInWorker(texts: readonly FileText[], signal: AbortSignal): Promise<readonly ReadText[]> {
  const results: ReadText[] = [];
  let objects: LocatedObject[] = [];
  let reason = 'its reader was ended';
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const worker = new Worker(new URL('./read-worker.ts', import.meta.url), { workerData: texts });
  worker.on('message', (message: WorkerMessage) => {
    if (message.kind === 'objects') objects.push(...message.objects);
    else {
      results.push({ objects, diagnostics: message.diagnostics });
      objects = [];
    }
  });
  worker.on('error', error => {
    reason = errorText(error);
  });
  // Comes last, after every message.
  worker.on('exit', () => resolve());
  const stop = (): void => void worker.terminate();
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  await ended;
  signal.removeEventListener('abort', stop);
  return [...results, ...texts.slice(results.length).map(({ file }) => unread(file, reason))];
}

function unread(file: string, reason: string): ReadText {
  const place = { file, line: 1, column: 1 };
  const message = `${file} could not be read: ${reason}`;
  const remedy = 'cut it in several files';
  return { objects: [], diagnostics: [{ code: 'config.unreadable', severity: 'error', message, remedy, place }] };
}
