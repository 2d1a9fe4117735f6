// For end-to-end tests: they change networks, so outside a sandbox they must not run.
import type { TestContext } from 'node:test';
import { insideSandbox } from './sandbox.ts';

const REASON = 'not inside a sandbox: npm run test:e2e makes one';

/** Value for the `skip` option of a test: false inside a sandbox, else the reason that is printed. */
export function sandboxSkip(): string | false {
  return insideSandbox() ? false : REASON;
}

/** Skips the running test outside a sandbox. @returns whether the test may go on */
export function requireSandbox(t: Pick<TestContext, 'skip'>): boolean {
  const reason = sandboxSkip();
  if (reason !== false) t.skip(reason);
  return reason === false;
}
