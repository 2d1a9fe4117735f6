// A text that must not turn up in logs or dumps: whoever prints, serializes or inspects the object sees that there is one,
// and no more.
import { inspect } from 'node:util';

export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** The text itself, for the wire only. */
  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return '(secret)';
  }

  toJSON(): string {
    return '(secret)';
  }

  [inspect.custom](): string {
    return '(secret)';
  }
}
