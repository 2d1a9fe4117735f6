// How a list of rules differs from the one that was programmed, in words for an operator; pure. Rules are compared as
// texts. Bounded: whoever is root in a pod can add any number of rules.
import type { Drift } from './redirect-plan.ts';

/** Beyond this many actual rules only the number is told. */
const MAX_COMPARED = 400;
/** Differences told of one chain. */
const MAX_TOLD = 4;

/** @param chain how the chain is named in the sentences, such as `istio-output of table istio-ambient-nat` */
export function ruleDrift(chain: string, expected: readonly string[], actual: readonly string[]): readonly Drift[] {
  if (expected.length === actual.length && expected.every((rule, i) => rule === actual[i])) return [];
  return sentences(chain, expected, actual).map(what => ({ part: 'rules', what }));
}

function sentences(chain: string, expected: readonly string[], actual: readonly string[]): readonly string[] {
  const total = expected.length;
  if (actual.length > MAX_COMPARED) return [`${chain} has ${actual.length} rules instead of ${total}`];
  if (actual.length === 0) return [`${chain} is empty instead of ${total} rules`];
  if (sameItems(expected, actual)) return [`the rules in ${chain} are in another order`];
  const told = gaps(expected, actual).flatMap(gap => gapSentences(chain, total, gap));
  if (told.length <= MAX_TOLD) return told;
  return [...told.slice(0, MAX_TOLD), `${chain} differs in ${told.length - MAX_TOLD} more places`];
}

function sameItems(a: readonly string[], b: readonly string[]): boolean {
  const sorted = b.toSorted();
  return a.length === b.length && a.toSorted().every((item, i) => item === sorted[i]);
}

/** A stretch between rules that are as they should be. */
interface Gap {
  /** Index of the first expected rule of the stretch, or of the rule after it when none is missing. */
  readonly at: number;
  readonly missing: number;
  readonly extra: number;
}

function gapSentences(chain: string, total: number, { at, missing, extra }: Gap): readonly string[] {
  const changed = Math.min(missing, extra);
  const rules = (first: number, count: number) =>
    count === 1
      ? `rule ${first + 1} of ${total} in ${chain} is`
      : `rules ${first + 1} to ${first + count} of ${total} in ${chain} are`;
  const told: string[] = [];
  if (changed > 0) told.push(`${rules(at, changed)} changed`);
  if (missing > changed) told.push(`${rules(at + changed, missing - changed)} missing`);
  if (extra > changed) {
    const next = at + missing;
    const what = extra - changed === 1 ? 'an extra rule' : `${extra - changed} extra rules`;
    told.push(
      next < total ? `${what} before rule ${next + 1} of ${total} in ${chain}` : `${what} at the end of ${chain}`,
    );
  }
  return told;
}

/** The stretches outside a longest common subsequence. */
function gaps(expected: readonly string[], actual: readonly string[]): Gap[] {
  const lengths = commonLengths(expected, actual);
  const found: Gap[] = [];
  let i = 0;
  let j = 0;
  let missing = 0;
  let extra = 0;
  const close = () => {
    if (missing + extra > 0) found.push({ at: i - missing, missing, extra });
    missing = 0;
    extra = 0;
  };
  while (i < expected.length || j < actual.length) {
    if (i < expected.length && j < actual.length && expected[i] === actual[j]) {
      close();
      i++;
      j++;
    } else if (
      j >= actual.length ||
      (i < expected.length && lengthAt(lengths, i + 1, j) >= lengthAt(lengths, i, j + 1))
    ) {
      i++;
      missing++;
    } else {
      j++;
      extra++;
    }
  }
  close();
  return found;
}

/** Length of the longest common subsequence of the rests from (i, j) on. */
function commonLengths(a: readonly string[], b: readonly string[]): readonly (readonly number[])[] {
  const rows: number[][] = Array.from({ length: a.length + 1 }, () => Array.from({ length: b.length + 1 }, () => 0));
  for (let i = a.length - 1; i >= 0; i--) {
    const row = rows[i];
    for (let j = b.length - 1; row !== undefined && j >= 0; j--) {
      row[j] =
        a[i] === b[j] ? 1 + lengthAt(rows, i + 1, j + 1) : Math.max(lengthAt(rows, i + 1, j), lengthAt(rows, i, j + 1));
    }
  }
  return rows;
}

function lengthAt(rows: readonly (readonly number[])[], i: number, j: number): number {
  return rows[i]?.[j] ?? 0;
}
