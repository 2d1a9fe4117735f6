// The nearest known name to a misspelt one, for hints in diagnostics. Levenshtein distance over bounded input; a name
// that is nothing like any candidate gets no hint, because a wrong hint costs more than none.

const MAX_NAME_LENGTH = 64;

/** The candidate that `name` most likely meant, or undefined if none is near. */
export function nearestName(name: string, candidates: readonly string[]): string | undefined {
  const given = name.slice(0, MAX_NAME_LENGTH).toLowerCase();
  // A third of the letters may be wrong, at least one and at most three.
  const tolerance = Math.min(3, Math.max(1, Math.floor(given.length / 3)));
  let nearest: string | undefined;
  let nearestDistance = tolerance + 1;
  for (const candidate of candidates) {
    const distance = distanceBetween(given, candidate.slice(0, MAX_NAME_LENGTH).toLowerCase());
    if (distance < nearestDistance) {
      nearest = candidate;
      nearestDistance = distance;
    }
  }
  return nearest;
}

function distanceBetween(a: string, b: string): number {
  const row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    let diagonal = i - 1;
    row[0] = i;
    for (let j = 1; j <= b.length; j++) {
      const above = row[j] ?? 0;
      const cost = a[i - 1] === b[j - 1] ? diagonal : 1 + Math.min(diagonal, above, row[j - 1] ?? 0);
      diagonal = above;
      row[j] = cost;
    }
  }
  return row[b.length] ?? 0;
}
