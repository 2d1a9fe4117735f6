export { type CertificateFact, type DetectInput, Detector } from './detect/detector.ts';
export type { Finding, FindingCode } from './detect/finding.ts';
export { addCounts, countsSince, type GrowingCounts, latencyAt, LATENCY_BOUNDS_MS, noCounts } from './counts.ts';
export type { Edge, EdgeCounts, EdgeEnd, EdgeEvent, EdgeMinute, EdgeReport, Reporter } from './edge-shape.ts';
export { mergeReports, type MergedEdge } from './merge-edges.ts';
export { EdgeTable, type EdgeTableLimits } from './edge-table.ts';
export {
  type FilterReading,
  isDenied,
  matchesRecord,
  matchesRequest,
  readRecordFilter,
  type RecordFilter,
} from './record-filter.ts';
