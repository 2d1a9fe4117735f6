// The nearest known name to a misspelt one, for error messages. Plain edit distance, bounded input. A name that is nothing
// like any candidate gets no answer: a wrong hint costs more than none, and checks of labels take the answer for a verdict.

const MAX_NAME_LENGTH = 128;

/** The candidate that `name` most likely meant: a third of its letters may be wrong, at least one and at most three. */
export function nearestName(name: string, candidates: Iterable<string>): string | undefined {
  const wanted = name.slice(0, MAX_NAME_LENGTH).toLowerCase();
  let best: string | undefined;
  let bestDistance = Math.min(3, Math.max(1, Math.floor(wanted.length / 3))) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(wanted, candidate.toLowerCase(), bestDistance);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Insertions, deletions and replacements from `a` to `b`; gives up (returns `limit`) once it cannot be below it. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    let rowBest = i;
    for (let j = 1; j <= b.length; j++) {
      const replace = (previous[j - 1] ?? limit) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const cost = Math.min(replace, (previous[j] ?? limit) + 1, (current[j - 1] ?? limit) + 1);
      current.push(cost);
      rowBest = Math.min(rowBest, cost);
    }
    if (rowBest >= limit) return limit;
    previous = current;
  }
  return previous[b.length] ?? limit;
}
