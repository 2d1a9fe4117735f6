// What the proxy and its export process say to each other. Plain data. One batch of a signal is under way at a time: the next
// one waits for `done`, so nothing piles up in the channel between them.
import type { Level } from '../log.ts';
import type { MetricShape } from '../metrics/metric-table.ts';
import type { OtlpSettings } from '../config/otlp.ts';

/** A value that OTLP can carry as it is. */
export type Attribute = string | number | boolean;
export type Attributes = Readonly<Record<string, Attribute>>;

export interface LogItem {
  /** Milliseconds since the Unix epoch. */
  readonly timeMs: number;
  readonly level: Level;
  /** The logger's name. */
  readonly scope: string;
  readonly message: string;
  readonly attributes: Attributes;
  readonly traceId: string | undefined;
}

export interface SpanItem {
  readonly name: string;
  readonly kind: 'client' | 'server';
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly traceFlags: number;
  /** Milliseconds since the Unix epoch, with a fraction. */
  readonly startMs: number;
  readonly endMs: number;
  readonly isError: boolean;
  readonly attributes: Attributes;
}

/** Some rows of a table of metrics: labels are said once for all metrics that share them. */
export interface MetricItem {
  /** Of each row, as `labelPairs` reads them. */
  readonly labels: readonly string[];
  readonly columns: readonly {
    readonly shape: MetricShape;
    /**
     * Of each row: one number, or for histograms the count of each bucket and then the sum. undefined: the row has no
     * series of this metric.
     */
    readonly values: readonly (readonly number[] | undefined)[];
  }[];
}

export type ToExporter =
  | { readonly kind: 'start'; readonly settings: OtlpSettings; readonly startedAtMs: number; readonly version: string }
  | { readonly kind: 'logs'; readonly id: number; readonly items: readonly LogItem[] }
  | { readonly kind: 'traces'; readonly id: number; readonly items: readonly SpanItem[] }
  | { readonly kind: 'metrics'; readonly id: number; readonly items: readonly MetricItem[]; readonly timeMs: number };

/** Of one batch: taken by the collector, or why not. */
export interface FromExporter {
  readonly kind: 'done';
  readonly id: number;
  readonly error: string | undefined;
}
