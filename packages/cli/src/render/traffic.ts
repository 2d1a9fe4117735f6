// The table of `ambit top` and `ambit stat`.
import type { TrafficRow } from '../traffic.ts';
import { type Column, fittedTable } from './fitted-table.ts';
import type { Style } from './style.ts';
import { bytes, digits, duration, percent, UNKNOWN } from './units.ts';

export function trafficTable(rows: readonly TrafficRow[], style: Style, width: number): readonly string[] {
  return fittedTable(columnsOf(style), rows, width);
}

function columnsOf(style: Style): readonly Column<TrafficRow>[] {
  return [
    { title: 'FROM', text: row => row.from, least: 8 },
    { title: 'TO', text: row => row.to, least: 10 },
    {
      title: 'SECURITY',
      text: row => (row.security === 'none' ? UNKNOWN : row.security),
      paint: ({ security }, text) =>
        security === 'mTLS'
          ? style.good(text)
          : security === 'denied'
            ? style.bad(text)
            : security === 'none'
              ? text
              : style.warn(text),
    },
    { title: 'CIPHER', text: cipherOf, drop: 8 },
    { title: 'RATE', text: rateOf, isNumber: true },
    {
      title: 'ERR',
      text: row => percent(row.errorShare),
      isNumber: true,
      paint: (row, text) => ((row.errorShare ?? 0) > 0 ? style.bad(text) : text),
    },
    { title: 'P50', text: row => duration(row.p50Ms), isNumber: true, drop: 3 },
    { title: 'P95', text: row => duration(row.p95Ms), isNumber: true, drop: 9 },
    { title: 'P99', text: row => duration(row.p99Ms), isNumber: true },
    { title: 'SENT', text: ({ counts, seconds }) => perSecond(counts.bytesToServer, seconds), isNumber: true, drop: 5 },
    { title: 'RECV', text: ({ counts, seconds }) => perSecond(counts.bytesToClient, seconds), isNumber: true, drop: 4 },
    { title: 'NOTE', text: noteOf, drop: 7 },
  ];
}

function perSecond(count: number, seconds: number): string {
  return count === 0 ? UNKNOWN : `${bytes(count / seconds)}/s`;
}

function rateOf({ counts, seconds }: TrafficRow): string {
  if (counts.requests > 0) return `${digits(counts.requests / seconds)} req/s`;
  const attempts = counts.opened + counts.denied + counts.failed;
  return attempts === 0 ? UNKNOWN : `${digits(attempts / seconds)} conn/s`;
}

/** `ML-KEM AES-128`. */
function cipherOf({ tls }: TrafficRow): string {
  if (tls === undefined) return UNKNOWN;
  const group = tls.group.includes('MLKEM') ? 'ML-KEM' : tls.group;
  const suite = /AES_(\d+)/.exec(tls.suite);
  return `${group} ${suite === null ? tls.suite.replace(/^TLS_/, '') : `AES-${suite[1] ?? ''}`}`;
}

function noteOf({ errorShare, reasons, protocols }: TrafficRow): string {
  if ((errorShare ?? 0) > 0 && reasons[0] !== undefined) return reasons[0];
  return protocols.filter(name => name !== 'unknown').join(', ');
}
