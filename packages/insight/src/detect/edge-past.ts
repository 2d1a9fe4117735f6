// An edge's present beside its own recent past. The present is the minute under way and the last whole one, so that what
// begins is seen within seconds and does not vanish at the turn of a minute; the past is what was before.
import { addCounts, type GrowingCounts, noCounts } from '../counts.ts';
import type { Edge } from '../edge-shape.ts';

const MINUTE_MS = 60_000;

export interface EdgePast {
  /** The minute under way and the last whole one. */
  readonly present: GrowingCounts;
  /** The last whole minute and the one before, each alone; undefined when it had no traffic. */
  readonly lastWhole: GrowingCounts | undefined;
  readonly secondLastWhole: GrowingCounts | undefined;
  /** All minutes before the present, and before the two whole ones. */
  readonly past: GrowingCounts;
  readonly earlier: GrowingCounts;
  /** Minutes from the first of the past to the present, quiet ones among them. */
  readonly pastMinutes: number;
  readonly earlierMinutes: number;
}

export function pastOf(edge: Edge, nowMs: number): EdgePast {
  const current = Math.floor(nowMs / MINUTE_MS);
  const [present, past, earlier] = [noCounts(), noCounts(), noCounts()];
  let lastWhole: GrowingCounts | undefined;
  let secondLastWhole: GrowingCounts | undefined;
  let first = current;
  for (const { minute, counts } of edge.minutes) {
    first = Math.min(first, minute);
    if (minute >= current - 1) addCounts(present, counts);
    else addCounts(past, counts);
    if (minute === current - 1) lastWhole = copy(counts);
    else if (minute === current - 2) secondLastWhole = copy(counts);
    else if (minute < current - 2) addCounts(earlier, counts);
  }
  return {
    present,
    lastWhole,
    secondLastWhole,
    past,
    earlier,
    pastMinutes: Math.max(0, current - 1 - first),
    earlierMinutes: Math.max(0, current - 2 - first),
  };
}

function copy(counts: Edge['totals']): GrowingCounts {
  const same = noCounts();
  addCounts(same, counts);
  return same;
}

/** `shop/web -> shop/cart:80`. */
export function edgeName({ source, destination, service, port }: Edge): string {
  const [label] = (service ?? '').split('.');
  const target =
    label === undefined || label === '' || destination.name.endsWith(`/${label}`) ? destination.name : service;
  return `${source.name} -> ${target}:${port}`;
}
