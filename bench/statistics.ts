// Medians and paired ratios. A pair is two candidates in the same round, minutes apart: what the machine does to one it
// mostly does to the other, which is why ratios are worth more than the figures themselves. Pure.
import type { Figures, MetricName } from './metrics.ts';
import type { CandidateName, RowName } from './options.ts';

export interface Sample {
  readonly round: number;
  readonly candidate: CandidateName;
  readonly row: RowName;
  readonly figures: Figures;
}

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly count: number;
}

/** Undefined for an empty list. */
export function spread(values: readonly number[]): Spread | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const [min, max] = [sorted[0], sorted.at(-1)];
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  if (min === undefined || max === undefined || low === undefined || high === undefined) return undefined;
  return { median: (low + high) / 2, min, max, count: sorted.length };
}

export function figureOf(samples: readonly Sample[], candidate: CandidateName, metric: MetricName): Spread | undefined {
  return spread([...byRound(samples, candidate, metric).values()]);
}

/** Spread of `candidate / base` over the rounds that have both. */
export function ratioOf(
  samples: readonly Sample[],
  candidate: CandidateName,
  base: CandidateName,
  metric: MetricName,
): Spread | undefined {
  const ours = byRound(samples, candidate, metric);
  const theirs = byRound(samples, base, metric);
  const ratios: number[] = [];
  for (const [round, value] of ours) {
    const other = theirs.get(round);
    if (other !== undefined && other > 0) ratios.push(value / other);
  }
  return spread(ratios);
}

function byRound(samples: readonly Sample[], candidate: CandidateName, metric: MetricName): Map<number, number> {
  const values = new Map<number, number>();
  for (const sample of samples) {
    const value = sample.figures[metric];
    if (sample.candidate === candidate && value !== undefined && Number.isFinite(value))
      values.set(sample.round, value);
  }
  return values;
}
