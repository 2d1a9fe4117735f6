// What the benchmark reports, as a table: which row of loads a figure comes from, its unit, which direction is better, and
// the figure that Ambit is to reach. Pure data.
import type { CandidateName, RowName } from './options.ts';

export type MetricName = keyof typeof METRICS;

export interface Metric {
  readonly row: RowName;
  readonly title: string;
  readonly unit: string;
  readonly better: 'lower' | 'higher';
  readonly target?: Target;
}

/** `ratio` is against the Rust ztunnel in the same round, `value` is absolute. */
export interface Target {
  readonly of: 'ratio' | 'value';
  readonly limit: number;
  /** Whose figure; default `ambit`. */
  readonly candidate?: CandidateName;
}

const CPU_REQUESTS = 'CPU-ms per 1 000';
const CPU_BYTES = 'CPU-s per GB';
const ratio = (limit: number): Target => ({ of: 'ratio', limit });
const cpu = (row: RowName, title: string, unit: string, limit?: number): Metric => ({
  row,
  title,
  unit,
  better: 'lower',
  ...(limit === undefined ? {} : { target: ratio(limit) }),
});
const rate = (row: RowName, title: string, unit: string, limit?: number): Metric => ({
  row,
  title,
  unit,
  better: 'higher',
  ...(limit === undefined ? {} : { target: ratio(limit) }),
});

const reading = (title: string, limit: number): Metric => ({
  row: 'reading',
  title,
  unit: 'read / not read',
  better: 'lower',
  target: { of: 'value', limit },
});

export const METRICS = {
  keepalive64Cpu: cpu('keepalive64', 'keep-alive, 64 connections: CPU', CPU_REQUESTS, 0.6),
  keepalive64Rate: rate('keepalive64', 'keep-alive, 64 connections', 'requests/s'),
  keepalive1Cpu: cpu('keepalive1', 'keep-alive, 1 connection: CPU', CPU_REQUESTS, 1.05),
  keepalive1P50: cpu('keepalive1', 'keep-alive, 1 connection: p50', 'ms'),
  keepalive1P99: cpu('keepalive1', 'keep-alive, 1 connection: p99', 'ms', 1.5),
  connectCpu: cpu('connect', 'connection per request: CPU', CPU_REQUESTS, 0.6),
  connectRate: rate('connect', 'connection per request', 'requests/s'),
  handshakesCpu: cpu('handshakes', 'new TLS sessions, server side: CPU', CPU_REQUESTS),
  handshakesRate: rate('handshakes', 'new TLS sessions (the generator is the limit)', 'sessions/s'),
  bulk1Cpu: cpu('bulk1', '1 bulk stream to the server: CPU', CPU_BYTES, 1),
  bulk1Rate: rate('bulk1', '1 bulk stream to the server', 'Gbit/s'),
  bulk1rCpu: cpu('bulk1r', '1 bulk stream to the client: CPU', CPU_BYTES, 1),
  bulk1rRate: rate('bulk1r', '1 bulk stream to the client', 'Gbit/s'),
  bulk8Cpu: cpu('bulk8', '8 bulk streams to the server: CPU', CPU_BYTES, 1),
  bulk8Rate: rate('bulk8', '8 bulk streams to the server', 'Gbit/s'),
  bulk8rCpu: cpu('bulk8r', '8 bulk streams to the client: CPU', CPU_BYTES, 1),
  bulk8rRate: rate('bulk8r', '8 bulk streams to the client', 'Gbit/s'),
  besideRate: rate('beside', '16 request connections beside 4 bulk streams', 'requests/s', 8),
  besideP99: cpu('beside', 'the same: p99', 'ms'),
  besideBulk: rate('beside', 'the same: bulk', 'Gbit/s'),
  readingRequests: reading('reading requests, 64 connections: CPU', 1.12),
  readingBulk: reading('looking at 1 bulk stream: CPU', 1.03),
  memoryFresh: {
    row: 'memory',
    title: 'memory of one fresh proxy',
    unit: 'MB',
    better: 'lower',
    target: { of: 'value', limit: 90, candidate: 'ambit-1' },
  },
  memoryIdle: {
    row: 'memory',
    title: 'memory per idle connection, both proxies',
    unit: 'KB',
    better: 'lower',
    target: { of: 'value', limit: 9 },
  },
  memoryAfter: {
    row: 'memory',
    title: 'memory after they closed, relative to fresh',
    unit: '×',
    better: 'lower',
    target: { of: 'value', limit: 1.1 },
  },
} as const satisfies Record<string, Metric>;

export type Figures = Partial<Record<MetricName, number>>;
