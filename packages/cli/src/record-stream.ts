// `/records` of several ztunnels as one stream of lines. One that goes away is asked again until it is back, which is told once.
import { setTimeout as delay } from 'node:timers/promises';
import { AdminError } from './mesh-from-admin.ts';

export interface RecordStreamOptions {
  readonly query: URLSearchParams;
  readonly signal: AbortSignal;
  /** A line of JSON, as it came. */
  readonly onLine: (line: string) => void;
  readonly onNote: (text: string) => void;
}

const RETRY_MS = 1000;
/** A line is a few kilobytes; whatever is longer is no record. */
const MAX_LINE = 1 << 20;

/** Ends with the signal. @throws AdminError when no ztunnel answers at first, or one refuses the question */
export async function followRecords(bases: readonly string[], options: RecordStreamOptions): Promise<void> {
  const opened = await Promise.all(bases.map(async base => tryOpen(base, options)));
  const failures = opened.filter(each => each instanceof AdminError);
  const [failure] = failures;
  if (failure !== undefined && failures.length === bases.length && !options.signal.aborted) throw failure;
  for (const { message } of failures) options.onNote(`warning: ${message}; it is asked again`);
  await Promise.all(bases.map(async (base, index) => follow(base, opened[index], options)));
}

async function follow(
  base: string,
  first: Response | AdminError | undefined,
  options: RecordStreamOptions,
): Promise<void> {
  const { signal, onNote } = options;
  let [next, isGone] = [first, first instanceof AdminError];
  while (!signal.aborted) {
    if (next instanceof Response) {
      if (isGone && next !== first) onNote(`${base} is back`);
      isGone = false;
      await readLines(next, options);
      if (signal.aborted) return;
      onNote(`${base} ended; waiting for it to come back, what happens meanwhile is not shown`);
      isGone = true;
    }
    await delay(RETRY_MS, undefined, { signal }).catch(() => undefined);
    if (!signal.aborted) next = await tryOpen(base, options);
  }
}

async function tryOpen(base: string, { query, signal }: RecordStreamOptions): Promise<Response | AdminError> {
  if (!URL.canParse('/records', base)) {
    return new AdminError('cli.unreachable', `"${base}" is no address`, 'write it as http://127.0.0.1:15000');
  }
  const url = new URL('/records', base);
  url.search = query.toString();
  try {
    const response = await fetch(url, { signal, redirect: 'error' });
    if (response.ok) return response;
    const why = (await response.text()).slice(0, 200).trim();
    return new AdminError(
      'cli.bad_answer',
      `${url.origin} refuses: ${why}`,
      'check --ztunnel, and that it is an Ambit ztunnel',
    );
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    const next = 'is ztunnel running, and is its admin port (15000) forwarded? name it with --ztunnel URL';
    return new AdminError('cli.unreachable', `cannot reach ${url.origin}: ${cause}`, next, error);
  }
}

/** Until the other side ends, breaks off, or sends what is no line. */
async function readLines(response: Response, { onLine }: RecordStreamOptions): Promise<void> {
  const decoder = new TextDecoder();
  let rest = '';
  try {
    // A fetch body yields bytes; the library types leave that open.
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line !== '') onLine(line);
      if (rest.length > MAX_LINE) return;
    }
  } catch {
    // A broken connection is an end; `follow` tells of it.
  }
}
