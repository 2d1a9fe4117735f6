// The audit as a table: one row a pod, then what is wrong in words with what to do about it, then the count. Fits 80 columns:
// the node's name goes first, then the ends of long names.
import type { AuditReport, FindingReport, PodReport } from '@ambit/cni';
import { cell, columns, wrap } from './columns.ts';
import type { Style } from './style.ts';

const HEADER = ['NODE', 'POD', 'MEMBER', 'RULES', 'LISTENERS', 'CERTIFICATE', 'CANARY', 'FINDING'] as const;
const [NODE_COLUMN, POD_COLUMN] = [0, 1];
const GAP = 2;
const MIN_NAME = 12;
const INDENT = '  ';

/** `width`: of the terminal; Infinity shortens nothing. */
export function auditTable(report: AuditReport, style: Style, width: number): string {
  const findings = Map.groupBy(report.findings, ({ uid }) => uid ?? '');
  const rows = report.pods.map(pod => rowOf(report.node, pod, findings.get(pod.uid) ?? []));
  const lines = fit([HEADER, ...rows], width);
  const [header = '', ...texts] = lines.trimEnd().split('\n');
  const styled = texts.map((text, i) => styleOf(findings.get(report.pods[i]?.uid ?? '') ?? [], style)(text));
  return [
    ...(report.pods.length === 0 ? [] : [style.dim(header), ...styled]),
    ...report.findings.flatMap(finding => details(finding, style, Math.min(width, 100))),
    '',
    summary(report, style),
    '',
  ].join('\n');
}

function rowOf(node: string, pod: PodReport, findings: readonly FindingReport[]): readonly string[] {
  const { member, rules, listeners, certificate, canary } = pod;
  return [
    node,
    pod.pod,
    member === null ? '' : member ? 'yes' : 'no',
    rules === null ? '' : rules === 'drift' ? (member === true ? 'DRIFT' : 'LEFT') : member === true ? 'ok' : 'none',
    listeners === 'gone' ? 'GONE' : (listeners ?? ''),
    certificate === null ? '' : remainingText(certificate.remainingSeconds),
    canary === null ? '' : canary.result === 'ok' ? millisecondsText(canary.seconds) : canary.result,
    // A blank, so that nothing is not shown as unknown.
    findings.length === 0 ? ' ' : findingsText(findings),
  ];
}

function findingsText([first, ...more]: readonly FindingReport[]): string {
  const cause = first?.code.slice(first.code.indexOf('.') + 1) ?? '';
  return more.length === 0 ? cause : `${cause} +${more.length}`;
}

function fit(rows: readonly (readonly string[])[], width: number): string {
  const [header = [], ...rest] = rows;
  const whole = columns(header, rest);
  if (widthOf(whole) <= width) return whole;
  const [narrowHeader = [], ...narrow] = rows.map(row => row.filter((_, i) => i !== NODE_COLUMN));
  const excess = widthOf(columns(narrowHeader, narrow)) - width;
  if (excess <= 0) return columns(narrowHeader, narrow);
  const longest = Math.max(...narrow.map(row => row[POD_COLUMN - 1]?.length ?? 0));
  const room = Math.max(MIN_NAME, longest - excess);
  return columns(
    narrowHeader,
    narrow.map(row => row.map((text, i) => (i === POD_COLUMN - 1 ? shorten(text, room) : text))),
  );
}

function widthOf(lines: string): number {
  return Math.max(...lines.split('\n').map(line => line.length));
}

/** Keeps the end, which tells pods of one workload apart. */
function shorten(text: string, room: number): string {
  return text.length <= room ? text : `…${text.slice(text.length - room + 1)}`;
}

function styleOf(findings: readonly FindingReport[], style: Style): (text: string) => string {
  if (findings.length === 0) return text => text;
  return findings.every(({ repaired }) => repaired) ? style.warn : style.bad;
}

function details(finding: FindingReport, style: Style, width: number): readonly string[] {
  const { code, pod, what, remedy, repaired, repairedAfterSeconds } = finding;
  const title = `${cell(pod)}  [${code}]`;
  const next = repaired ? `repaired ${secondsText(repairedAfterSeconds ?? 0)} after it was seen` : remedy;
  const room = width - INDENT.length;
  return [
    '',
    (repaired ? style.warn : style.bad)(title),
    ...wrap(cell(what), room).map(line => INDENT + line),
    ...wrap(`${repaired ? 'done' : 'next'}  ${cell(next)}`, room - GAP).map(
      (line, i) => `${INDENT}${i === 0 ? '' : '      '}${line}`,
    ),
  ];
}

function summary({ node, pods, findings, ztunnels, hasCanary, lastRun }: AuditReport, style: Style): string {
  const repaired = findings.filter(each => each.repaired).length;
  const count = findings.length === 0 ? 'no finding' : plural(findings.length, 'finding');
  const ofThem = repaired === 0 ? '' : repaired === findings.length ? ' (repaired)' : ` (${repaired} of them repaired)`;
  const canary = ztunnels > 0 && !hasCanary ? ' · this ztunnel has no canaries' : '';
  const looked = lastRun === null ? ' · not looked yet' : '';
  const text = `${cell(node)}: ${plural(pods.length, 'pod')}, ${count}${ofThem}${canary}${looked}`;
  if (findings.length === 0) return style.good(text);
  return repaired === findings.length ? style.warn(text) : style.bad(text);
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

function remainingText(seconds: number): string {
  if (seconds <= 0) return 'EXPIRED';
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

function millisecondsText(seconds: number): string {
  return seconds >= 1 ? secondsText(seconds) : `${Number((seconds * 1000).toPrecision(2))} ms`;
}

function secondsText(seconds: number): string {
  return `${Number(seconds.toPrecision(2))} s`;
}
