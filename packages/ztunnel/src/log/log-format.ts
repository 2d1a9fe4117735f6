// One log line as text, in upstream's two formats: tab-separated plain (strings quoted, other values bare) and JSON.
// Pure. No value can start a new line: control characters are escaped even where upstream leaves them as they are.
import type { Level } from './log-filter.ts';

/** A text that the plain format shows without quotes (addresses, counters with units). */
export class Bare {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export type FieldValue = string | number | boolean | Bare;
/** Key and value; a value of undefined leaves the field out. Order is kept. */
export type Fields = readonly (readonly [key: string, value: FieldValue | undefined])[];

export interface LogLine {
  readonly level: Level;
  /** Milliseconds since the Unix epoch, fractional. */
  readonly timeMs: number;
  readonly scope: string;
  readonly message: string;
  readonly fields: Fields;
}

/** RFC 3339 in UTC with microseconds. */
export function formatTime(timeMs: number): string {
  const micros = Math.round(timeMs * 1000);
  const wholeMs = Math.floor(micros / 1000);
  const date = new Date(wholeMs);
  if (Number.isNaN(date.getTime())) return '1970-01-01T00:00:00.000000Z';
  return `${date.toISOString().slice(0, -1)}${String(micros - wholeMs * 1000).padStart(3, '0')}Z`;
}

/** `time<TAB>level<TAB>scope<TAB>message<TAB>k=v k="v"`, without the line end. */
export function formatPlain(line: LogLine): string {
  let fields = '';
  for (const [key, value] of line.fields) {
    if (value === undefined) continue;
    fields += `${fields === '' ? '' : ' '}${key}=${plainValue(value)}`;
  }
  const scope = line.scope.startsWith('ztunnel::') ? line.scope.slice('ztunnel::'.length) : line.scope;
  return `${formatTime(line.timeMs)}\t${line.level}\t${scope}\t${escapeControls(line.message)}\t${fields}`;
}

/** One JSON object, without the line end. */
export function formatJson(line: LogLine): string {
  let text = `{"level":"${line.level}","time":"${formatTime(line.timeMs)}","scope":${JSON.stringify(line.scope)}`;
  text += `,"message":${JSON.stringify(line.message)}`;
  for (const [key, value] of line.fields) {
    if (value === undefined) continue;
    text += `,${JSON.stringify(key)}:${JSON.stringify(value instanceof Bare ? value.text : value)}`;
  }
  return `${text}}`;
}

function plainValue(value: FieldValue): string {
  if (typeof value === 'string') return quote(value);
  return value instanceof Bare ? escapeControls(value.text) : String(value);
}

// oxlint-disable-next-line no-control-regex -- control characters are the point
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;
// oxlint-disable-next-line no-control-regex -- control characters are the point
const QUOTED = /["\\\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;
const NAMED: Readonly<Record<string, string>> = {
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\0': '\\0',
  '"': '\\"',
  '\\': '\\\\',
};

function escapeOne(character: string): string {
  return NAMED[character] ?? `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}

function escapeControls(text: string): string {
  return text.replace(CONTROLS, escapeOne);
}

/** As Rust's debug form of a string, which upstream's plain format uses. */
function quote(text: string): string {
  return `"${text.replace(QUOTED, escapeOne)}"`;
}
