// Collects what the translation of one object has to say, so that the translators can speak in paths and sentences.
import type { Diagnostic, Severity } from '../diagnostic.ts';
import { type KubeObject, refOf } from '../objects/types.ts';

export class Findings {
  readonly #object: KubeObject;
  readonly #list: Diagnostic[] = [];

  constructor(object: KubeObject) {
    this.#object = object;
  }

  /** @param path of the field in the object: `spec.rules[0].to[0].operation.ports[1]` */
  add(severity: Severity, code: string, path: string, message: string, remedy: string): void {
    this.#list.push({ code, severity, message, remedy, ref: refOf(this.#object), path });
  }

  get list(): readonly Diagnostic[] {
    return this.#list;
  }
}
