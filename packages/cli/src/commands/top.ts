// `ambit top`: who talks to whom, live. Asks every second and shows what changed; q quits, s changes the order, / filters.
// Not a terminal: one table and the end.
import { setTimeout as delay } from 'node:timers/promises';
import type { EdgeReport, Finding } from '@ambit/insight';
import { askEdges, askFindings, ztunnelsOf } from '../admin-endpoints.ts';
import { AdminError } from '../mesh-from-admin.ts';
import { findingFoot } from '../render/findings.ts';
import { cut } from '../render/fitted-table.ts';
import type { Output } from '../render/output.ts';
import { trafficTable } from '../render/traffic.ts';
import { processScreen, type Screen } from '../screen.ts';
import { GROUPS, inOrder, type Order, ORDERS, reportSince, type TrafficRow, trafficRows } from '../traffic.ts';
import { joinFindings } from './findings.ts';
import type { TrafficFlags } from './stat.ts';
import { oneOf, withProblems } from './with-ztunnels.ts';

const PERIOD_MS = 1000;
const ENTER = '\u001B[?1049h\u001B[?25l';
const LEAVE = '\u001B[?25h\u001B[?1049l';
const HOME = '\u001B[H';
const REST_OF_LINE = '\u001B[K';
const REST_OF_SCREEN = '\u001B[J';
const MAX_FINDINGS = 3;
const MAX_FILTER = 60;

interface View {
  order: Order;
  filter: string;
  isTyping: boolean;
  scroll: number;
  rows: readonly TrafficRow[];
  findings: readonly Finding[];
  /** What stands in the last line when something is wrong. */
  note: string;
}

/** @returns the exit status: 0, 2 wrong usage, 3 no ztunnel answers */
export async function top(flags: TrafficFlags, screen: Screen = processScreen()): Promise<number> {
  return withProblems(screen.output, async () => {
    const group = oneOf(GROUPS, flags.by, '--by');
    const order = oneOf(ORDERS, flags.sort, '--sort');
    const bases = ztunnelsOf(flags);
    let before = await reportsOf(bases, screen.output);
    const view: View = { order, filter: '', isTyping: false, scroll: 0, rows: [], findings: [], note: '' };
    const look = async (output: Output): Promise<void> => {
      const now = await reportsOf(bases, output);
      const pairs = [...now].flatMap(([base, report]) => {
        const earlier = before.get(base);
        return earlier === undefined ? [] : [{ report, earlier }];
      });
      const seconds = Math.max(0.001, ...pairs.map(({ report, earlier }) => (report.nowMs - earlier.nowMs) / 1000));
      view.rows = trafficRows(
        pairs.map(({ report, earlier }) => reportSince(report, earlier)),
        seconds,
        flags,
        group,
      );
      view.findings = joinFindings((await askFindings(bases, silent(output))).map(({ value }) => value.findings));
      before = now;
    };
    if (screen.isTerminal && process.stdin.isTTY) return live(view, look, screen);
    await delay(PERIOD_MS);
    await look(screen.output);
    screen.output.answer(`${bodyOf(view, screen, view.rows.length).join('\n')}\n`);
    return 0;
  });
}

/** Until q, Ctrl-C or a signal; the terminal is left as it was found. */
async function live(view: View, look: (output: Output) => Promise<void>, screen: Screen): Promise<number> {
  const { output } = screen;
  const stop = new AbortController();
  const draw = (): void => output.answer(frame(view, screen));
  const onKey = (keys: string): void => {
    if (isEnd(keys, view)) stop.abort();
    else {
      press(keys, view);
      draw();
    }
  };
  const onSignal = (): void => stop.abort();
  const { stdin, stdout } = process;
  const remarks: Output = {
    ...output,
    remark: text => {
      view.note = text.trim();
    },
  };
  output.answer(ENTER);
  stdin.setRawMode(true).setEncoding('utf8').on('data', onKey);
  stdout.on('resize', draw);
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal).on('SIGHUP', onSignal);
  try {
    view.note = 'measuring';
    draw();
    while (!stop.signal.aborted) {
      await delay(PERIOD_MS, undefined, { signal: stop.signal }).catch(() => undefined);
      if (stop.signal.aborted) break;
      view.note = '';
      try {
        await look(remarks);
      } catch (error) {
        // It may come back; what it said last stays.
        if (!(error instanceof AdminError)) throw error;
        view.note = error.message;
      }
      draw();
    }
  } finally {
    process.off('SIGTERM', onSignal).off('SIGINT', onSignal).off('SIGHUP', onSignal);
    stdout.off('resize', draw);
    stdin.off('data', onKey).setRawMode(false).pause();
    output.answer(LEAVE);
  }
  return 0;
}

function isEnd(keys: string, { isTyping }: View): boolean {
  return keys.includes('\u0003') || (keys === 'q' && !isTyping);
}

function press(keys: string, view: View): void {
  if (view.isTyping) {
    if (keys === '\r') view.isTyping = false;
    else if (keys === '\u001B') [view.isTyping, view.filter] = [false, ''];
    else if (keys === '\u007F') view.filter = view.filter.slice(0, -1);
    else view.filter = (view.filter + keys.replace(/\p{Cc}/gu, '')).slice(0, MAX_FILTER);
    view.scroll = 0;
  } else if (keys === '/') view.isTyping = true;
  else if (keys === 's') view.order = ORDERS[(ORDERS.indexOf(view.order) + 1) % ORDERS.length] ?? view.order;
  else if (keys === '\u001B[A') view.scroll = Math.max(0, view.scroll - 1);
  else if (keys === '\u001B[B') view.scroll++;
}

/** The whole screen, line over line, so that nothing flickers. */
function frame(view: View, screen: Screen): string {
  const foot = view.isTyping
    ? `filter: ${view.filter}_   enter done   esc none`
    : `q quit   s order: ${view.order}   / filter${view.filter === '' ? '' : `: ${view.filter}`}   ${view.note}`;
  const room = Math.max(1, screen.height() - 2 - Math.min(view.findings.length, MAX_FINDINGS) - 1);
  const lines = [...bodyOf(view, screen, room), '', screen.output.style.dim(cut(foot, screen.width()))];
  return `${HOME}${lines.slice(0, screen.height()).join(`${REST_OF_LINE}\r\n`)}${REST_OF_LINE}${REST_OF_SCREEN}`;
}

function bodyOf(view: View, screen: Screen, room: number): readonly string[] {
  const { style } = screen.output;
  const wanted = inOrder(view.rows, view.order).filter(({ from, to }) => `${from} ${to}`.includes(view.filter));
  view.scroll = Math.min(view.scroll, Math.max(0, wanted.length - room));
  const rows = wanted.slice(view.scroll, view.scroll + room);
  const table = rows.length === 0 ? ['No traffic at the moment.'] : trafficTable(rows, style, screen.width());
  const findings = findingFoot(view.findings.slice(0, MAX_FINDINGS), style, screen.width());
  return findings.length === 0 ? table : [...table, '', ...findings];
}

async function reportsOf(bases: readonly string[], output: Output): Promise<ReadonlyMap<string, EdgeReport>> {
  return new Map((await askEdges(bases, output)).map(({ base, value }) => [base, value]));
}

/** Whoever does not answer was named when it was asked for its edges. */
function silent(output: Output): Output {
  return { ...output, remark: () => undefined };
}
