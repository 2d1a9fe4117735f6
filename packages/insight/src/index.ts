export { addCounts, countsSince, type GrowingCounts, latencyAt, LATENCY_BOUNDS_MS, noCounts } from './counts.ts';
export type { Edge, EdgeCounts, EdgeEnd, EdgeEvent, EdgeMinute, EdgeReport, Reporter } from './edge-shape.ts';
export { EdgeTable, type EdgeTableLimits } from './edge-table.ts';
