// Where things are in a JSON text that is known to be valid. `JSON.parse` tells no positions, and a YAML parser that does
// takes a second for each megabyte: a list of a cluster's pods has one place for each pod. Containers are scanned when they
// are asked for, each once.
import type { PathStep } from './fields.ts';

/** One member of an object or list: where its key (of a list: itself) and its value begin. */
interface Child {
  readonly key: number;
  readonly value: number;
}

export class JsonPlaces {
  readonly #text: string;
  /** By where the container begins; keys of lists are their indices. */
  readonly #children = new Map<number, ReadonlyMap<string, Child>>();

  /** @param text accepted by `JSON.parse` */
  constructor(text: string) {
    this.#text = text;
  }

  /**
   * Offset of the deepest node on the path that exists: a list's item itself; of an object's field the key, or, at the
   * end of the path, the value if it is a scalar other than null (as in YAML documents: a wrong value is pointed at).
   */
  offsetOf(path: readonly PathStep[]): number {
    let node = skipBlanks(this.#text, 0);
    let offset = node;
    for (const [index, step] of path.entries()) {
      const isObject = this.#text[node] === '{';
      if (!isObject && (this.#text[node] !== '[' || typeof step !== 'number')) return offset;
      const child = this.#childrenOf(node).get(String(step));
      if (child === undefined) return offset;
      const isLast = index === path.length - 1;
      offset = isObject && isLast && isScalar(this.#text, child.value) ? child.value : child.key;
      node = child.value;
    }
    return offset;
  }

  #childrenOf(container: number): ReadonlyMap<string, Child> {
    const known = this.#children.get(container);
    if (known !== undefined) return known;
    const children = new Map<string, Child>();
    const text = this.#text;
    const isObject = text[container] === '{';
    let at = skipBlanks(text, container + 1);
    while (text[at] !== '}' && text[at] !== ']' && at < text.length) {
      const key = at;
      if (isObject) at = skipBlanks(text, skipBlanks(text, endOfString(text, at)) + 1);
      // Of a key that is there twice the last counts, as for JSON.parse.
      const name = isObject ? readString(text, key) : String(children.size);
      children.set(name, { key, value: at });
      at = skipBlanks(text, endOfValue(text, at));
      if (text[at] === ',') at = skipBlanks(text, at + 1);
    }
    this.#children.set(container, children);
    return children;
  }
}

function readString(text: string, at: number): string {
  const raw = text.slice(at, endOfString(text, at));
  // A part of a valid text.
  return raw.includes('\\') ? (JSON.parse(raw) as string) : raw.slice(1, -1);
}

function isScalar(text: string, at: number): boolean {
  return text[at] !== '{' && text[at] !== '[' && text[at] !== 'n';
}

function skipBlanks(text: string, at: number): number {
  let next = at;
  for (; next < text.length; next++) {
    const code = text.charCodeAt(next);
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) break;
  }
  return next;
}

/** @param at of the opening quote @returns after the closing one */
function endOfString(text: string, at: number): number {
  for (let end = text.indexOf('"', at + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text[end - 1 - backslashes] === '\\') backslashes++;
    if (backslashes % 2 === 0) return end + 1;
  }
  return text.length;
}

/** @returns after the value that begins at `at` */
function endOfValue(text: string, at: number): number {
  let depth = 0;
  for (let next = at; next < text.length; next++) {
    const code = text.charCodeAt(next);
    if (code === 0x22) next = endOfString(text, next) - 1;
    else if (code === 0x7b || code === 0x5b) depth++;
    else if (code === 0x7d || code === 0x5d) {
      if (depth === 0) return next;
      depth--;
    } else if (code !== 0x2c || depth > 0) continue;
    // A closing bracket or quote at the top ends the value with it, a comma before it.
    if (depth === 0) return code === 0x2c ? next : next + 1;
  }
  return text.length;
}
