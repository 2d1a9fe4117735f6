// `ambit tap`: connections and requests of all ztunnels as they happen, one line each. Nothing is kept, nothing is decided here.
import { parseDurationMs } from '@ambit/mesh';
import { type ZtunnelFlags, ztunnelsOf } from '../admin-endpoints.ts';
import { followRecords } from '../record-stream.ts';
import { tapLine, type TapEvent } from '../render/tap-line.ts';
import { processScreen, type Screen } from '../screen.ts';
import { oneOf, UsageError, withProblems } from './with-ztunnels.ts';

export interface TapFlags extends ZtunnelFlags {
  readonly from?: string;
  readonly to?: string;
  readonly namespace?: string;
  readonly denied?: boolean;
  readonly failed?: boolean;
  readonly l7?: boolean;
  readonly output: string;
  /** End after as many events. */
  readonly count?: string;
  /** End after this time. */
  readonly for?: string;
}

/** @returns the exit status: 0, 2 wrong usage, 3 no ztunnel answers */
export async function tap(flags: TapFlags, screen: Screen = processScreen()): Promise<number> {
  const { output } = screen;
  return withProblems(output, async () => {
    const format = oneOf(['table', 'json'], flags.output, '--output');
    const limit = flags.count === undefined ? Number.POSITIVE_INFINITY : countOf(flags.count);
    const forMs = flags.for === undefined ? undefined : timeOf(flags.for);
    const stop = new AbortController();
    const end = (): void => stop.abort();
    const timer = forMs === undefined ? undefined : setTimeout(end, forMs);
    process.on('SIGINT', end).on('SIGTERM', end);
    let count = 0;
    const onLine = (line: string): void => {
      const event = readEvent(line);
      if (stop.signal.aborted || event === undefined) return;
      output.answer(format === 'json' ? `${line}\n` : `${tapLine(event, output.style, screen.width())}\n`);
      if (event.kind !== 'dropped' && ++count >= limit) end();
    };
    try {
      await followRecords(ztunnelsOf(flags), {
        query: queryOf(flags),
        signal: stop.signal,
        onLine,
        onNote: text => output.remark(`${text}\n`),
      });
    } finally {
      clearTimeout(timer);
      process.off('SIGINT', end).off('SIGTERM', end);
    }
    return 0;
  });
}

function queryOf(flags: TapFlags): URLSearchParams {
  const query = new URLSearchParams();
  for (const name of ['from', 'to', 'namespace'] as const) {
    const value = flags[name];
    if (value === '') throw new UsageError(`--${name} is empty`, 'leave it out to see all');
    if (value !== undefined) query.set(name, value);
  }
  for (const name of ['denied', 'failed', 'l7'] as const) if (flags[name] === true) query.set(name, 'true');
  return query;
}

/** Undefined for a kind that is not known: a newer ztunnel may tell more. */
function readEvent(line: string): TapEvent | undefined {
  try {
    const event = JSON.parse(line) as TapEvent;
    return ['connection', 'request', 'dropped'].includes(event.kind) ? event : undefined;
  } catch {
    return undefined;
  }
}

function countOf(text: string): number {
  const count = Number(text);
  if (Number.isSafeInteger(count) && count > 0) return count;
  throw new UsageError(`--count cannot be "${text.slice(0, 40)}"`, 'a whole number above 0');
}

function timeOf(text: string): number {
  const ms = parseDurationMs(text);
  if (ms !== undefined && ms > 0 && ms < 2 ** 31) return ms;
  throw new UsageError(`--for cannot be "${text.slice(0, 40)}"`, 'a time such as 10s or 5m');
}
