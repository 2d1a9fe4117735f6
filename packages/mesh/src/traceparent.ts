// The `traceparent` header, https://www.w3.org/TR/trace-context/ version 00, read strictly: exactly 55 characters, lower
// case, no zero ids. It names log lines on both sides of a tunnel; anything malformed is as good as absent.

export interface Traceparent {
  /** 32 lower-case hex digits, not all zero. */
  readonly traceId: string;
  /** 16 lower-case hex digits, not all zero. */
  readonly parentId: string;
  /** 0..255; bit 0 is "sampled". */
  readonly flags: number;
}

const PATTERN = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;
const LENGTH = 55;
const ZERO_TRACE_ID = '0'.repeat(32);
const ZERO_PARENT_ID = '0'.repeat(16);

export function parseTraceparent(text: string): Traceparent | undefined {
  if (text.length !== LENGTH) return undefined;
  const [, version, traceId, parentId, flags] = PATTERN.exec(text) ?? [];
  if (version === undefined || traceId === undefined || parentId === undefined || flags === undefined) return undefined;
  if (version === 'ff' || traceId === ZERO_TRACE_ID || parentId === ZERO_PARENT_ID) return undefined;
  return { traceId, parentId, flags: Number.parseInt(flags, 16) };
}

/** The caller supplies valid ids. */
export function formatTraceparent(trace: Traceparent): string {
  return `00-${trace.traceId}-${trace.parentId}-${trace.flags.toString(16).padStart(2, '0')}`;
}
