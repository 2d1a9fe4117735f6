// Live records for whoever watches: one line of JSON each, filtered here so that little is sent. A watcher that does not
// read loses lines, which it is told; nothing else waits for it. Watchers are few and bounded.
import { matchesRecord, matchesRequest, type RecordFilter } from '@ambit/insight';
import type { ConnectionRecord, RequestRecord } from '@ambit/proxy';

const MAX_WATCHERS = 8;
/** Lines kept for a watcher that is behind. */
const MAX_LINES = 5000;
/** Of all of them: a record with long names takes ten times what others do. */
const MAX_CHARS = 4 << 20;
/** An empty line now and then shows either side that the other is there. */
const BEAT_MS = 5000;

interface Watcher {
  readonly filter: RecordFilter;
  lines: string[];
  chars: number;
  dropped: number;
  wake: () => void;
}

export interface RecordFeedDeps {
  /** Whether anybody watches at all, and whether anybody watches requests. */
  readonly onInterest: (interest: { readonly connections: boolean; readonly requests: boolean }) => void;
}

export class RecordFeed {
  readonly #deps: RecordFeedDeps;
  readonly #watchers = new Set<Watcher>();

  constructor(deps: RecordFeedDeps) {
    this.#deps = deps;
  }

  get isFull(): boolean {
    return this.#watchers.size >= MAX_WATCHERS;
  }

  addRecords(records: readonly ConnectionRecord[]): void {
    for (const watcher of this.#watchers) {
      for (const record of records) {
        if (matchesRecord(watcher.filter, record)) push(watcher, JSON.stringify({ kind: 'connection', ...record }));
      }
    }
  }

  addRequests(requests: readonly RequestRecord[]): void {
    for (const watcher of this.#watchers) {
      for (const each of requests) {
        if (matchesRequest(watcher.filter, each)) push(watcher, JSON.stringify(requestLine(each)));
      }
    }
  }

  /** Lines for as long as the reader takes them; ends with `signal`. */
  async *watch(filter: RecordFilter, signal: AbortSignal): AsyncIterable<string> {
    const watcher: Watcher = { filter, lines: [], chars: 0, dropped: 0, wake: () => undefined };
    this.#watchers.add(watcher);
    this.#tellInterest();
    const onAbort = (): void => watcher.wake();
    signal.addEventListener('abort', onAbort);
    try {
      // At once, so that whoever waits for the answer's head has it.
      yield '\n';
      while (!signal.aborted) {
        yield takeLines(watcher);
        if (watcher.lines.length === 0) await nextLine(watcher);
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#watchers.delete(watcher);
      this.#tellInterest();
    }
  }

  #tellInterest(): void {
    const requests = [...this.#watchers].some(({ filter }) => filter.requests);
    this.#deps.onInterest({ connections: this.#watchers.size > 0, requests });
  }
}

/** A request beside what identifies its connection; the whole record would be ten times as long. */
function requestLine({ connection, request, startedAtMs }: RequestRecord): object {
  const { id, direction, source, destination, service, traceId, tls } = connection;
  return {
    kind: 'request',
    startedAtMs,
    connection: { id, direction, source, destination, service, traceId, tls },
    request,
  };
}

function push(watcher: Watcher, line: string): void {
  if (watcher.lines.length >= MAX_LINES || watcher.chars + line.length > MAX_CHARS) {
    watcher.dropped++;
    return;
  }
  watcher.lines.push(line);
  watcher.chars += line.length;
  watcher.wake();
}

function takeLines(watcher: Watcher): string {
  const { lines, dropped } = watcher;
  if (lines.length === 0) return '\n';
  watcher.lines = [];
  watcher.chars = 0;
  watcher.dropped = 0;
  const note = dropped === 0 ? '' : `${JSON.stringify({ kind: 'dropped', count: dropped })}\n`;
  return `${lines.join('\n')}\n${note}`;
}

async function nextLine(watcher: Watcher): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, BEAT_MS);
  watcher.wake = resolve;
  await promise;
  watcher.wake = () => undefined;
  clearTimeout(timer);
}
