// Something that is not as it was or not as it should be: what, since when, on what grounds, and what to do next. Plain JSON,
// and an API: codes are never renamed.

export type FindingCode =
  | 'detect.denied_surge'
  | 'detect.plaintext_returned'
  | 'detect.handshake_failures'
  | 'detect.certificate_expiring'
  | 'detect.latency_shift'
  | 'detect.error_shift'
  | 'detect.new_edge'
  | 'detect.fan_out';

export interface Finding {
  readonly code: FindingCode;
  /** What it is about: `shop/web -> shop/cart`, a workload, an identity. One finding a code and subject. */
  readonly subject: string;
  readonly severity: 'info' | 'warning' | 'critical';
  /** One sentence with the numbers that matter. */
  readonly text: string;
  /** The command or the place to look at. */
  readonly next: string;
  readonly evidence: Readonly<Record<string, number | string>>;
  readonly sinceMs: number;
  readonly lastMs: number;
}

/** As a rule finds it; how long it has been so is the detector's to know. */
export type Suspicion = Omit<Finding, 'sinceMs' | 'lastMs'>;
