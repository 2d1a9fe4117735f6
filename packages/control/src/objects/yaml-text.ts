// Text -> documents, each with its value and a way back from a path to line and column. Documents are cut apart before
// they are parsed, as kubectl does it, so that a mistake in one does not blur the others, and each is bounded in aliases and
// depth. JSON is read as JSON, which is twenty times as fast.
import { isMap, isNode, isPair, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import type { PathStep } from './fields.ts';
import { JsonPlaces } from './json-places.ts';

const MAX_ALIASES = 100;
/** Deeper than any object of Kubernetes; what nests deeper would only exhaust the stack. */
export const MAX_DEPTH = 64;

export interface Position {
  readonly line: number;
  readonly column: number;
}

export type TextDocument =
  | { readonly kind: 'value'; readonly value: unknown; readonly locate: (path: readonly PathStep[]) => Position }
  | { readonly kind: 'error'; readonly message: string; readonly at: Position };

/** A slice of a file, the line it begins on (from 1), and how many columns of that line are before it. */
export interface Slice {
  readonly text: string;
  readonly line: number;
  readonly indent: number;
}

/** Documents that say nothing (only comments) are left out. Never throws. */
export function* readDocuments(text: string): Generator<TextDocument> {
  for (const slice of cutDocuments(text)) {
    if (/^(?:\s*(?:#.*)?(?:\r?\n|$))*$/.test(slice.text.slice(0, 4096)) && isBlank(slice.text)) continue;
    yield readDocument(slice);
  }
}

function isBlank(text: string): boolean {
  return text.split('\n').every(line => line.trim() === '' || line.trimStart().startsWith('#'));
}

/** At `---` and `...` in column 1: YAML 1.2 section 9.1.2 forbids them there inside of any document. */
export function* cutDocuments(text: string): Generator<Slice> {
  const body = text.startsWith('\uFEFF') ? text.slice(1) : text;
  const marker = /^(?:---|\.\.\.)(?=[ \t\r\n]|$)/gm;
  let start = 0;
  let line = 1;
  let indent = 0;
  for (const match of body.matchAll(marker)) {
    const slice = body.slice(start, match.index);
    yield { text: slice, line, indent };
    line += countLines(slice);
    // What follows the marker on its line is not indented by it, but its columns count from the line's start.
    indent = match[0].length;
    start = match.index + indent;
  }
  yield { text: body.slice(start), line, indent };
}

function countLines(text: string): number {
  let lines = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) lines++;
  return lines;
}

/** One slice. Never throws. */
export function readDocument(slice: Slice): TextDocument {
  if (/^\s*[{[]/.test(slice.text)) {
    const value = parseJson(slice.text);
    if (value !== undefined) return { kind: 'value', value, locate: locateInJson(slice) };
  }
  return parseYaml(slice);
}

/** Undefined for what is not JSON (it may be YAML's flow style), or is nested too deep. */
function parseJson(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return isTooDeep(value, 0) ? undefined : value;
  } catch {
    return undefined;
  }
}

function isTooDeep(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (depth >= MAX_DEPTH) return true;
  return Object.values(value).some(item => isTooDeep(item, depth + 1));
}

function locateInJson(slice: Slice): (path: readonly PathStep[]) => Position {
  const places = new JsonPlaces(slice.text);
  const lines = new LineStarts(slice);
  return path => lines.position(places.offsetOf(path));
}

/** Lines of a slice by offset; found when first asked for. */
class LineStarts {
  readonly #slice: Slice;
  #starts: readonly number[] | undefined;

  constructor(slice: Slice) {
    this.#slice = slice;
  }

  position(offset: number): Position {
    this.#starts ??= [0, ...[...this.#slice.text.matchAll(/\n/g)].map(({ index }) => index + 1)];
    const starts = this.#starts;
    let low = 0;
    for (let high = starts.length; high - low > 1; ) {
      const middle = (low + high) >> 1;
      if ((starts[middle] ?? 0) <= offset) low = middle;
      else high = middle;
    }
    const column = offset - (starts[low] ?? 0) + 1;
    return { line: this.#slice.line + low, column: low === 0 ? column + this.#slice.indent : column };
  }
}

function parseYaml(slice: Slice): TextDocument {
  const lines = new LineCounter();
  const position = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1) + slice.line - 1, column: Math.max(col, 1) + (line > 1 ? 0 : slice.indent) };
  };
  const fail = (message: string, offset: number): TextDocument => ({ kind: 'error', message, at: position(offset) });
  const nested = nestingBeyond(slice.text);
  if (nested !== undefined) return fail(`nested deeper than ${MAX_DEPTH}`, 0);
  try {
    // The parser compares all keys of a map with each other; `firstFlaw` does it in one pass.
    const options = { lineCounter: lines, prettyErrors: false, uniqueKeys: false, logLevel: 'error' } as const;
    const document = parseDocument(slice.text, options);
    const error = document.errors[0] ?? document.warnings[0];
    if (error !== undefined) return fail(firstLine(error.message), error.pos[0]);
    const flaw = firstFlaw(document.contents, 0);
    if (flaw !== undefined) return fail(flaw.message, flaw.offset);
    const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
    const locate = (path: readonly PathStep[]): Position => position(offsetOf(document.contents, path));
    return { kind: 'value', value, locate };
  } catch (thrown) {
    // toJS throws for too many aliases; the parser may run out of stack.
    return fail(thrown instanceof Error ? firstLine(thrown.message) : String(thrown), 0);
  }
}

/** Flow brackets beyond anything plausible, whether or not some are in strings; the parser recurses on each. */
function nestingBeyond(text: string): true | undefined {
  return /[[{](?:\s*[[{]){64}/.test(text) ? true : undefined;
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? text;
}

interface Flaw {
  readonly message: string;
  readonly offset: number;
}

/** A key that is written twice, or nesting that is too deep. */
function firstFlaw(node: unknown, depth: number): Flaw | undefined {
  const offset = startOf(node) ?? 0;
  if (depth > MAX_DEPTH) return { message: `nested deeper than ${MAX_DEPTH}`, offset };
  if (isSeq(node)) return firstOf(node.items, item => firstFlaw(item, depth + 1));
  if (!isMap(node)) return undefined;
  const keys = new Set<string>();
  return firstOf(node.items, pair => {
    if (!isPair(pair)) return undefined;
    if (!isScalar(pair.key)) return { message: 'a key must be a string', offset: startOf(pair.key) ?? offset };
    const key = String(pair.key.value);
    if (keys.has(key)) {
      return { message: `the key ${JSON.stringify(key)} is here twice`, offset: startOf(pair.key) ?? offset };
    }
    keys.add(key);
    return firstFlaw(pair.value, depth + 1);
  });
}

function firstOf<T>(items: readonly T[], find: (item: T) => Flaw | undefined): Flaw | undefined {
  for (const item of items) {
    const flaw = find(item);
    if (flaw !== undefined) return flaw;
  }
  return undefined;
}

/** Of the deepest node on the path that exists. A key for a map's field, as the value may be on a later line. */
function offsetOf(contents: unknown, path: readonly PathStep[]): number {
  let node = contents;
  let offset = startOf(node) ?? 0;
  for (const [index, step] of path.entries()) {
    if (isMap(node)) {
      const pair = node.items.find(item => isScalar(item.key) && String(item.key.value) === String(step));
      if (pair === undefined) return offset;
      const isLast = index === path.length - 1;
      // A wrong value is pointed at itself; whatever is a block is pointed at by its key.
      offset =
        (isLast && isScalar(pair.value) && pair.value.value !== null ? startOf(pair.value) : undefined) ??
        startOf(pair.key) ??
        offset;
      node = pair.value;
    } else if (isSeq(node) && typeof step === 'number') {
      node = node.items[step];
      offset = startOf(node) ?? offset;
    } else {
      return offset;
    }
  }
  return offset;
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? node.range?.[0] : undefined;
}
