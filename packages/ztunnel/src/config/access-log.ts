// The access log's part of the configuration: which connections, what share of those that ended well, how many lines a second.
import { type AccessFilter, parseAccessFilter } from '../access-log-filter.ts';
import type { EnvReader } from './env-reader.ts';

export interface AccessLogConfig {
  readonly accessLog: {
    /** `AMBIT_ACCESS_LOG_FILTER`; unset: all. */
    readonly matches: AccessFilter;
    /** `AMBIT_ACCESS_LOG_SAMPLE`: share of the connections that ended well, 0 to 1; unset: 1. */
    readonly sample: number;
    /** `AMBIT_ACCESS_LOG_RATE`; unset: Infinity, no limit. */
    readonly linesPerSecond: number;
  };
}

const MAX_RATE = 1_000_000;

/** @throws config.invalid */
export function parseAccessLog(read: EnvReader): AccessLogConfig {
  const text = read.textOr('AMBIT_ACCESS_LOG_FILTER', '');
  const filter = parseAccessFilter(text);
  if (filter.kind === 'error') throw read.invalid('AMBIT_ACCESS_LOG_FILTER', text, filter.why);
  const linesPerSecond = read.integer('AMBIT_ACCESS_LOG_RATE', MAX_RATE);
  if (linesPerSecond === 0) {
    throw read.invalid(
      'AMBIT_ACCESS_LOG_RATE',
      '0',
      'at least one line; RUST_LOG=access=off,info turns the access log off',
    );
  }
  return {
    accessLog: {
      matches: filter.matches,
      sample: parseShare(read, 'AMBIT_ACCESS_LOG_SAMPLE'),
      linesPerSecond: linesPerSecond ?? Number.POSITIVE_INFINITY,
    },
  };
}

function parseShare(read: EnvReader, name: string): number {
  const text = read.text(name);
  if (text === undefined) return 1;
  const share = /^\d{1,3}(?:\.\d{1,9})?$|^\.\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (share >= 0 && share <= 1) return share;
  throw read.invalid(name, text, 'expected a share from 0 to 1, such as 0.1');
}
