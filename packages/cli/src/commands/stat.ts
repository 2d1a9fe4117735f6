// `ambit stat`: traffic in one table, of the last whole minutes or measured now.
import { setTimeout as delay } from 'node:timers/promises';
import { parseDurationMs } from '@ambit/mesh';
import { type Answered, askEdges, type ZtunnelFlags, ztunnelsOf } from '../admin-endpoints.ts';
import type { EdgeReport } from '@ambit/insight';
import { trafficTable } from '../render/traffic.ts';
import { processScreen, type Screen } from '../screen.ts';
import {
  GROUPS,
  inOrder,
  ORDERS,
  reportOfMinutes,
  reportSince,
  type TrafficFilter,
  type TrafficRow,
  trafficRows,
} from '../traffic.ts';
import { oneOf, UsageError, withProblems } from './with-ztunnels.ts';

export interface TrafficFlags extends ZtunnelFlags, TrafficFilter {
  readonly by: string;
  readonly sort: string;
}

export interface StatFlags extends TrafficFlags {
  readonly output: string;
  /** Such as `5m`; default that. */
  readonly window?: string;
  /** Such as `2s`: measure instead. */
  readonly interval?: string;
}

/** Proxies keep 15 minutes, the present one among them. */
const MAX_MINUTES = 14;
const MAX_INTERVAL_MS = 3_600_000;

/** @returns the exit status: 0, 2 wrong usage, 3 no ztunnel answers */
export async function stat(flags: StatFlags, screen: Screen = processScreen()): Promise<number> {
  const { output } = screen;
  return withProblems(output, async () => {
    const format = oneOf(['table', 'json'], flags.output, '--output');
    const group = oneOf(GROUPS, flags.by, '--by');
    const order = oneOf(ORDERS, flags.sort, '--sort');
    if (flags.window !== undefined && flags.interval !== undefined) {
      throw new UsageError('--window and --interval exclude each other', 'choose what was, or what is measured now');
    }
    const bases = ztunnelsOf(flags);
    const { reports, seconds } =
      flags.interval === undefined
        ? lastMinutes(minutesOf(flags.window ?? '5m'), await askEdges(bases, output))
        : await measured(bases, intervalOf(flags.interval), screen);
    const rows = inOrder(trafficRows(reports, seconds, flags, group), order);
    if (format === 'json') output.answer(`${JSON.stringify({ seconds, rows: rows.map(jsonRow) }, undefined, 2)}\n`);
    else if (rows.length > 0) output.answer(`${trafficTable(rows, output.style, screen.width()).join('\n')}\n`);
    else {
      const what = flags.interval === undefined ? 'the last whole minutes' : `these ${flags.interval}`;
      output.answer(
        `No traffic in ${what}.\n\nnext: see it live with ambit top, or measure with ambit stat --interval 10s\n`,
      );
    }
    return 0;
  });
}

interface Measured {
  readonly reports: readonly EdgeReport[];
  readonly seconds: number;
}

function lastMinutes(minutes: number, answers: readonly Answered<EdgeReport>[]): Measured {
  return { reports: answers.map(({ value }) => reportOfMinutes(value, minutes)), seconds: minutes * 60 };
}

async function measured(bases: readonly string[], ms: number, { output }: Screen): Promise<Measured> {
  const before = new Map((await askEdges(bases, output)).map(({ base, value }) => [base, value]));
  await delay(ms);
  const pairs = (await askEdges([...before.keys()], output)).flatMap(({ base, value }) => {
    const earlier = before.get(base);
    return earlier === undefined ? [] : [{ now: value, earlier }];
  });
  const times = pairs.map(({ now, earlier }) => now.nowMs - earlier.nowMs);
  return {
    reports: pairs.map(({ now, earlier }) => reportSince(now, earlier)),
    seconds: Math.max(ms, ...times) / 1000,
  };
}

/** Durations in seconds, as everywhere in JSON. */
export function jsonRow({ p50Ms, p95Ms, p99Ms, ...row }: TrafficRow): object {
  const seconds = (ms: number | undefined): number | undefined => (ms === undefined ? undefined : ms / 1000);
  return { ...row, p50: seconds(p50Ms), p95: seconds(p95Ms), p99: seconds(p99Ms) };
}

function minutesOf(text: string): number {
  const minutes = (parseDurationMs(text) ?? Number.NaN) / 60_000;
  if (Number.isInteger(minutes) && minutes >= 1 && minutes <= MAX_MINUTES) return minutes;
  throw new UsageError(
    `--window cannot be "${text.slice(0, 40)}"`,
    `whole minutes from 1m to ${MAX_MINUTES}m; shorter: --interval 10s`,
  );
}

function intervalOf(text: string): number {
  const ms = parseDurationMs(text);
  if (ms !== undefined && ms >= 100 && ms <= MAX_INTERVAL_MS) return ms;
  throw new UsageError(`--interval cannot be "${text.slice(0, 40)}"`, 'a time from 100ms to 1h, such as 2s');
}
