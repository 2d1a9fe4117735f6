// The place a command answers to: what it writes, how wide that is, and whether a person sits before it. Passed in, so that a test
// reads what a person would see.
import { type Output, processOutput } from './render/output.ts';

export interface Screen {
  readonly output: Output;
  readonly isTerminal: boolean;
  /** Now: terminals change. */
  width(): number;
  height(): number;
}

/** Where no terminal says otherwise. */
const WIDE = 140;
const HIGH = 24;

export function processScreen(): Screen {
  const { stdout } = process;
  return {
    output: processOutput(),
    isTerminal: stdout.isTTY,
    width: () => (stdout.isTTY ? stdout.columns : Number(process.env['COLUMNS']) || WIDE),
    height: () => (stdout.isTTY ? stdout.rows : HIGH),
  };
}
