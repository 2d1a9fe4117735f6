// Objects from the text of a file: YAML with several documents, JSON, and lists of both. Every problem has the line and
// column of the node it is about. Pure, never throws, bounded in size, number and depth.
import type { Diagnostic } from '../diagnostic.ts';
import { isRawObject, type PathStep } from './fields.ts';
import { type ObjectProblem, readObject } from './read-object.ts';
import { formatRef, type KubeObject, type Place, refOf } from './types.ts';
import { type Position, readDocuments, type TextDocument } from './yaml-text.ts';

export const MAX_FILE_BYTES = 16 << 20;
export const MAX_DOCUMENTS = 100_000;

export interface PlacedObject {
  readonly object: KubeObject;
  /** Where the object begins. */
  readonly place: Place;
  /** Where one of its fields is, given as in a diagnostic (`spec.rules[0].to`), or the nearest that exists. */
  fieldPlace(path: string): Place;
}

export interface ReadObjects {
  readonly objects: readonly PlacedObject[];
  /** In the order of the text. `info` for kinds that are not read, `warning` for unknown fields, else `error`. */
  readonly diagnostics: readonly Diagnostic[];
}

/** @param file name for places and messages; nothing is opened */
export function readObjects(text: string, file: string): ReadObjects {
  const reading = new Reading(file);
  if (Buffer.byteLength(text) > MAX_FILE_BYTES) {
    reading.refuse(
      'config.too_large',
      `${file} is larger than ${MAX_FILE_BYTES >> 20} MiB`,
      START,
      'cut it in several',
    );
    return reading.result();
  }
  let count = 0;
  for (const document of readDocuments(text)) {
    if (++count > MAX_DOCUMENTS) {
      const message = `more than ${MAX_DOCUMENTS} documents; the rest is not read`;
      reading.refuse('config.too_many_documents', message, START, 'cut the file in several');
      break;
    }
    reading.add(document);
  }
  return reading.result();
}

const START: Position = { line: 1, column: 1 };
type ValueDocument = Extract<TextDocument, { kind: 'value' }>;

class Reading {
  readonly #file: string;
  readonly #objects: PlacedObject[] = [];
  readonly #diagnostics: Diagnostic[] = [];
  readonly #places = new Map<string, Place>();

  constructor(file: string) {
    this.#file = file;
  }

  add(document: TextDocument): void {
    if (document.kind === 'error') {
      this.refuse('config.yaml_syntax', document.message, document.at, 'correct the YAML');
    } else if (document.value !== null && document.value !== undefined) {
      this.#addValue(document, document.value, []);
    }
  }

  refuse(code: string, message: string, at: Position, remedy: string): void {
    this.#diagnostics.push({ code, severity: 'error', message, remedy, place: this.#place(at) });
  }

  result(): ReadObjects {
    return { objects: this.#objects, diagnostics: this.#diagnostics };
  }

  /** `List`, and `PodList` and its like, are their items; lists do not nest, as in Kubernetes. */
  #addValue(document: ValueDocument, value: unknown, steps: readonly PathStep[]): void {
    const kind = isRawObject(value) ? value['kind'] : undefined;
    const items = isRawObject(value) ? value['items'] : undefined;
    if (steps.length > 0 || typeof kind !== 'string' || !kind.endsWith('List') || !Array.isArray(items)) {
      this.#addObject(document, value, steps);
      return;
    }
    const version = isRawObject(value) ? value['apiVersion'] : undefined;
    const hint =
      kind === 'List' || typeof version !== 'string' ? undefined : { apiVersion: version, kind: kind.slice(0, -4) };
    for (const [index, item] of (items as readonly unknown[]).entries()) {
      this.#addObject(document, item, ['items', index], hint);
    }
  }

  #addObject(
    document: ValueDocument,
    value: unknown,
    base: readonly PathStep[],
    hint?: { readonly apiVersion: string; readonly kind: string },
  ): void {
    const result = readObject(value, hint);
    for (const problem of result.problems) this.#report(problem, document.locate([...base, ...problem.steps]));
    if (!('object' in result)) return;
    const { object } = result;
    const place = this.#place(document.locate(base));
    const key = formatRef(refOf(object));
    const earlier = this.#places.get(key);
    if (earlier !== undefined) {
      this.#diagnostics.push(duplicate(object, place, earlier));
      return;
    }
    this.#places.set(key, place);
    const fieldPlace = (path: string): Place => this.#place(document.locate([...base, ...parsePath(path)]));
    this.#objects.push({ object, place, fieldPlace });
  }

  #report(problem: ObjectProblem, at: Position): void {
    const { code, severity, message, remedy, ref, path } = problem;
    this.#diagnostics.push({ code, severity, message, remedy, ref, path, place: this.#place(at) });
  }

  #place({ line, column }: Position): Place {
    return { file: this.#file, line, column };
  }
}

/** Two objects of one name: the first is used. Both places are named. */
export function duplicate(object: KubeObject, place: Place, earlier: Place): Diagnostic {
  const ref = refOf(object);
  return {
    code: 'config.duplicate',
    severity: 'error',
    message: `${formatRef(ref)} is already at ${earlier.file}:${earlier.line}:${earlier.column}, which is the one used`,
    remedy: 'rename or remove one of the two',
    ref,
    place,
  };
}

/** `spec.rules[0].to`, `metadata.labels["istio.io/rev"]` -> its steps. A bare key with a dot in it cannot be told apart. */
export function parsePath(path: string): readonly PathStep[] {
  const steps: PathStep[] = [];
  for (const [, quoted, index, key] of path.matchAll(/\["([^"]*)"\]|\[(\d+)\]|([^.[\]]+)/g)) {
    if (index !== undefined) steps.push(Number(index));
    else steps.push(quoted ?? key ?? '');
  }
  return steps;
}
