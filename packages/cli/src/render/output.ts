// Where a command writes: the answer, and what is said beside it. Passed in, so that a test reads what a person would see.
import { type Style, styleFor } from './style.ts';

export interface Output {
  readonly style: Style;
  answer(text: string): void;
  remark(text: string): void;
}

export function processOutput(): Output {
  return {
    style: styleFor(process.stdout, process.env),
    answer(text: string): void {
      process.stdout.write(text);
    },
    remark(text: string): void {
      process.stderr.write(text);
    },
  };
}
