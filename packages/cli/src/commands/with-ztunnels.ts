// What commands that ask ztunnels have in common: how they refuse wrong flags and say that nobody answers.
import { nearestName } from '@ambit/mesh';
import { AdminError } from '../mesh-from-admin.ts';
import type { Output } from '../render/output.ts';
import { problemText } from '../render/problem.ts';

/** Wrong usage; commands exit with 2. */
export class UsageError extends Error {
  readonly next: string;

  constructor(message: string, next: string) {
    super(message);
    this.name = 'UsageError';
    this.next = next;
  }
}

/** Runs a command. @returns its status, 2 for wrong usage, 3 when no ztunnel answers */
export async function withProblems(output: Output, command: () => Promise<number>): Promise<number> {
  try {
    return await command();
  } catch (error) {
    if (error instanceof UsageError) {
      output.remark(problemText({ message: error.message, code: 'cli.usage', next: error.next }));
      return 2;
    }
    if (!(error instanceof AdminError)) throw error;
    output.remark(problemText(error));
    return 3;
  }
}

/** One of `choices`. @throws UsageError with the nearest */
export function oneOf<T extends string>(choices: readonly T[], text: string, flag: string): T {
  const choice = choices.find(each => each === text);
  if (choice !== undefined) return choice;
  const nearest = nearestName(text, choices);
  const hint =
    nearest === undefined
      ? `use one of ${choices.join(', ')}`
      : `did you mean ${nearest}? there are ${choices.join(', ')}`;
  throw new UsageError(`${flag} cannot be "${text.slice(0, 40)}"`, hint);
}
