// Reads one watch to its end: events in order, each applied before the next is read (so a slow reader holds the server
// back), and one of a few ways in which it ended. Never rejects.
import type { KubeStream } from './kube-client.ts';
import { at, textAt } from './json.ts';
import { LineFramer } from './line-framer.ts';

export type WatchEnd =
  /** The server closed it in good order, as it does after `timeoutSeconds`. */
  | { readonly kind: 'ended' }
  | { readonly kind: 'broken'; readonly error: unknown }
  | { readonly kind: 'idle' }
  | { readonly kind: 'oversized' }
  | { readonly kind: 'malformed' }
  /** An event of type ERROR: a Status object. */
  | { readonly kind: 'error'; readonly status: unknown };

export interface WatchReaderOptions {
  readonly maxEventBytes: number;
  /** Without a byte for this long, the connection is given up. */
  readonly idleMs: number;
  readonly onEvent: (type: string, object: unknown) => void;
}

export async function readWatch(
  stream: KubeStream & { kind: 'open' },
  { maxEventBytes, idleMs, onEvent }: WatchReaderOptions,
): Promise<WatchEnd> {
  const framer = new LineFramer(maxEventBytes);
  let end: WatchEnd | undefined;
  const timer = setTimeout(() => {
    end ??= { kind: 'idle' };
    stream.close();
  }, idleMs);
  const onLine = (line: string): void => {
    if (end !== undefined) return; // after an ERROR nothing counts
    const event = parseEvent(line);
    if (event === undefined) end = { kind: 'malformed' };
    else if (event.type === 'ERROR') end = { kind: 'error', status: event.object };
    else onEvent(event.type, event.object);
  };
  try {
    for await (const chunk of stream.chunks) {
      timer.refresh();
      if (!framer.feed(chunk, onLine)) end ??= { kind: 'oversized' };
      if (end !== undefined) return end;
    }
    // In good order, but in the middle of a line: the last event is lost, and the next watch brings it.
    return end ?? { kind: 'ended' };
  } catch (error) {
    return end ?? { kind: 'broken', error };
  } finally {
    clearTimeout(timer);
    stream.close();
  }
}

function parseEvent(line: string): { readonly type: string; readonly object: unknown } | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  const type = textAt(value, 'type');
  return type === '' ? undefined : { type, object: at(value, 'object') };
}
