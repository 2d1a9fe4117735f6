// Random W3C trace context for each connection (hbone.md section 4.4). Random bytes are drawn in bulk: one system call
// serves some hundred connections.
import { randomFillSync } from 'node:crypto';

const BYTES_PER_CONTEXT = 24;
const pool = Buffer.alloc(BYTES_PER_CONTEXT * 256);
let used = pool.length;

/** `00-<trace id>-<parent id>-00`. */
export function newTraceparent(): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const trace = pool.toString('hex', used, used + 16);
  const parent = pool.toString('hex', used + 16, used + 24);
  used += BYTES_PER_CONTEXT;
  return `00-${trace}-${parent}-00`;
}

/** The 32 digits both ends log. */
export function traceIdOf(traceparent: string): string {
  return traceparent.slice(3, 35);
}
