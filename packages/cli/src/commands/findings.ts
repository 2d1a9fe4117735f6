// `ambit findings`: what ztunnels find wrong with the traffic they see, with evidence and the next step.
import type { Finding } from '@ambit/insight';
import { askFindings, type ZtunnelFlags, ztunnelsOf } from '../admin-endpoints.ts';
import { findingLines } from '../render/findings.ts';
import { processScreen, type Screen } from '../screen.ts';
import { oneOf, withProblems } from './with-ztunnels.ts';

export interface FindingsFlags extends ZtunnelFlags {
  readonly output: string;
}

const SEVERITIES = ['critical', 'warning', 'info'] as const;

/** @returns the exit status: 0 nothing that must be looked at, 1 a warning or worse, 2 wrong usage, 3 no ztunnel answers */
export async function findings(flags: FindingsFlags, screen: Screen = processScreen()): Promise<number> {
  const { output } = screen;
  return withProblems(output, async () => {
    const format = oneOf(['table', 'json'], flags.output, '--output');
    const reports = await askFindings(ztunnelsOf(flags), output);
    const all = joinFindings(reports.map(({ value }) => value.findings));
    if (format === 'json') output.answer(`${JSON.stringify(all, undefined, 2)}\n`);
    else output.answer(findingLines(all, Date.now(), output.style, screen.width()));
    return all.some(({ severity }) => severity !== 'info') ? 1 : 0;
  });
}

/** The worst first; one that both ends of an edge have is told once, as whoever saw it first tells it. */
export function joinFindings(lists: readonly (readonly Finding[])[]): readonly Finding[] {
  const known = new Map<string, Finding>();
  for (const finding of lists.flat().toSorted((a, b) => a.sinceMs - b.sinceMs)) {
    const key = `${finding.code} ${finding.subject}`;
    if (!known.has(key)) known.set(key, finding);
  }
  const rank = ({ severity }: Finding): number => SEVERITIES.indexOf(severity);
  return [...known.values()].toSorted((a, b) => rank(a) - rank(b) || b.sinceMs - a.sinceMs);
}
