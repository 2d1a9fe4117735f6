// One line about what a command waits for, from the second second on: on a terminal only, on standard error, and gone before
// anything else is printed.
import type { Output } from './output.ts';

const PERIOD_MS = 1_000;

/** Waits for `work`, and says so. @returns, @throws what it does */
export async function whileWaiting<T>(output: Output, what: string, work: Promise<T>): Promise<T> {
  if (!process.stderr.isTTY) return work;
  const startedAt = performance.now();
  let isShown = false;
  const timer = setInterval(() => {
    const seconds = Math.round((performance.now() - startedAt) / 1000);
    output.remark(`\r\u001B[K  wait   ${what.slice(0, 60)}  ${seconds} s`);
    isShown = true;
  }, PERIOD_MS);
  try {
    return await work;
  } finally {
    clearInterval(timer);
    if (isShown) output.remark('\r\u001B[K');
  }
}
