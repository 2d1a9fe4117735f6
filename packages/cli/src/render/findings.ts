// Findings for people: what and since when, on what grounds, what next.
import type { Finding } from '@ambit/insight';
import { cell, wrap } from './columns.ts';
import { cut } from './fitted-table.ts';
import type { Style } from './style.ts';
import { duration } from './units.ts';

const LABEL = '            ';

/** Each finding with its evidence. */
export function findingLines(findings: readonly Finding[], nowMs: number, style: Style, width: number): string {
  if (findings.length === 0) return 'No findings: traffic is as it was and as it should be.\n';
  const blocks = findings.map(finding => {
    const { severity, text, code, sinceMs, evidence, next } = finding;
    const since = `since ${duration(Math.max(0, nowMs - sinceMs))}`;
    const facts = Object.entries(evidence).map(([name, value]) => `${name} ${value}`);
    const row = (label: string, what: string): string[] =>
      wrap(cell(what), width - LABEL.length).map(
        (line, index) => (index === 0 ? `  ${label}`.padEnd(LABEL.length) : LABEL) + line,
      );
    return [
      ...wrap(`${severity.toUpperCase()}: ${cell(text)}`, width).map(line => paintOf(finding, style)(line)),
      style.dim(`${' '.repeat(2)}${since}  [${code}]`),
      ...(facts.length === 0 ? [] : row('evidence', facts.join(' · '))),
      ...row('next', next),
    ].join('\n');
  });
  return `${blocks.join('\n\n')}\n`;
}

/** One line each, for the foot of a table. */
export function findingFoot(findings: readonly Finding[], style: Style, width: number): readonly string[] {
  return findings.map(finding => {
    const { severity, text, code } = finding;
    return paintOf(finding, style)(cut(`${severity}: ${cell(text)}  [${code}]`, width));
  });
}

function paintOf({ severity }: Finding, style: Style): (text: string) => string {
  return severity === 'critical' ? style.bad : severity === 'warning' ? style.warn : text => text;
}
