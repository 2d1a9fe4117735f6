// The answer of `ambit why` for people: verdict, the plan, what was seen, what next.
import type { WhyAnswer } from '../why-answer.ts';
import { evidence, headline, indented, row } from './explain.ts';
import type { Style } from './style.ts';
import { bytes, duration } from './units.ts';

export function renderWhy(answer: WhyAnswer, nowMs: number, style: Style): string {
  const { plan, disagreement, page } = answer;
  const lines = [...headline(answer, style), ...evidence(plan)];
  if (plan.source !== undefined) {
    for (const [index, text] of seenRows(answer, nowMs).entries()) lines.push(...row(index === 0 ? 'seen' : '', text));
    if (disagreement !== undefined) lines.push(...row('note', disagreement));
  }
  lines.push('', ...indented('next: ', answer.next, 0));
  if (page !== undefined && answer.verdict !== 'allowed') lines.push(style.dim(`more: ${page}`));
  return `${lines.join('\n')}\n`;
}

function seenRows({ seen }: WhyAnswer, nowMs: number): readonly string[] {
  const { counts, last, failures, minutes, tls } = seen;
  if (last === undefined) return [`nothing since these ztunnels count`];
  const when = ago(nowMs - last.atMs);
  const { opened, denied, failed } = counts;
  const attempts = opened + denied + failed;
  if (attempts === 0) return [`nothing new in ${minutes} min · the last was ${when} and ${endOf(last.reason)}`];
  const kinds = [
    [opened, 'opened'],
    [denied, 'denied'],
    [failed, 'failed'],
  ] as const;
  const there = kinds.filter(([count]) => count > 0);
  const how =
    there.length === 1 && there[0] !== undefined
      ? `${there[0][0]} ${attempts === 1 ? 'attempt' : 'attempts'} in ${minutes} min, ${attempts === 1 ? '' : 'all '}${there[0][1]}`
      : `in ${minutes} min ${there.map(([count, what]) => `${count} ${what}`).join(', ')}`;
  const rows = [`${how}, the last ${when}, ${endOf(last.reason)}`];
  if (opened > 0) {
    const protection = tls === undefined ? 'plaintext' : `mTLS ${tls.version}, ${tls.group}, ${tls.suite}`;
    const requests =
      counts.requests > 0
        ? ` · ${counts.requests} ${counts.requests === 1 ? 'request' : 'requests'}, ${counts.requestErrors} failed`
        : '';
    rows.push(
      `${protection} · ${bytes(counts.bytesToServer)} sent, ${bytes(counts.bytesToClient)} received${requests}`,
    );
  }
  for (const { reason, atMs, policy, error } of failures.slice(0, 2)) {
    const by =
      policy === undefined || reason?.startsWith('policy.') !== true
        ? error === undefined
          ? ''
          : ` · ${error}`
        : ` · policy ${policy}`;
    rows.push(`${reason ?? ''} ${ago(nowMs - atMs)}${by}`);
  }
  return rows;
}

function endOf(reason: string | undefined): string {
  return reason === undefined ? 'without fault' : `with ${reason}`;
}

function ago(ms: number): string {
  return ms < 1000 ? 'just now' : `${duration(Math.round(ms / 1000) * 1000)} ago`;
}
