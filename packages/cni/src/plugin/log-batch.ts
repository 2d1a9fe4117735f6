// What Istio's plugin logs, sent to the agent because nobody reads the plugin's own log: `POST /log` on log.sock, a JSON list
// of strings, each a JSON object with `level`, `time`, `msg` and labels. Records that are none are dropped, as upstream does.
import type { Fields, Level } from '@ambit/log';
import { CniError } from '../errors.ts';

export interface PluginLogRecord {
  readonly level: Level;
  readonly message: string;
  readonly fields: Fields;
}

export const LOG_PATH = '/log';
export const MAX_LOG_BYTES = 256 * 1024;

const LEVELS: Readonly<Record<string, Level>> = {
  debug: 'debug',
  info: 'info',
  warn: 'warn',
  warning: 'warn',
  error: 'error',
  fatal: 'error',
};
const MAX_RECORDS = 256;

/** @throws CniError cni.protocol when the body is no list of at most 256 strings */
export function decodeLogBatch(body: string): readonly PluginLogRecord[] {
  const batch = tryParse(body);
  if (!Array.isArray(batch) || batch.length > MAX_RECORDS) {
    throw new CniError('cni.protocol', `not a batch of at most ${MAX_RECORDS} log records`);
  }
  return batch.flatMap((item: unknown) => readRecord(item) ?? []);
}

export function encodeLogBatch(records: readonly PluginLogRecord[], now: Date): string {
  const time = now.toISOString();
  return JSON.stringify(
    records.map(({ level, message, fields }) => JSON.stringify({ ...fields, level, time, msg: message })),
  );
}

function readRecord(item: unknown): PluginLogRecord | undefined {
  const record = typeof item === 'string' ? tryParse(item) : undefined;
  if (typeof record !== 'object' || record === null) return undefined;
  const { level, msg: message, time, ...labels } = record as Readonly<Record<string, unknown>>;
  const known = typeof level === 'string' && Object.hasOwn(LEVELS, level) ? LEVELS[level] : undefined;
  if (known === undefined || typeof message !== 'string' || typeof time !== 'string' || Number.isNaN(Date.parse(time)))
    return undefined;
  const fields = Object.entries(labels).map(([key, value]) => [key, fieldOf(value)] as const);
  return { level: known, message, fields: Object.fromEntries(fields) };
}

function fieldOf(value: unknown): string | number | boolean {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    ? value
    : JSON.stringify(value);
}

function tryParse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the caller says what it wanted instead
  }
}
