// The child's half of HelperProcess: answers each request with what `handle` returns, ends with its parent.
import { flushCompileCache } from 'node:module';
import { errorText, ZtunnelError, type ZtunnelErrorCode } from '../errors.ts';
import type { HelperAnswer } from './helper-process.ts';

interface HelperRequest {
  readonly id: number;
  readonly payload: unknown;
}

/** Serves until the parent closes the channel or dies. Errors without a code of ours get `failureCode`. */
export function serveHelper(failureCode: ZtunnelErrorCode, handle: (payload: unknown) => Promise<unknown>): void {
  process.on('message', (request: HelperRequest) => void answer(request));
  process.on('disconnect', () => process.exit(0));
  // Ctrl-C reaches the whole process group; the parent still needs us while it drains.
  process.on('SIGINT', () => undefined);

  async function answer({ id, payload }: HelperRequest): Promise<void> {
    let result: HelperAnswer;
    try {
      result = { id, kind: 'ok', value: await handle(payload) };
    } catch (thrown) {
      const code = thrown instanceof ZtunnelError ? thrown.code : failureCode;
      result = { id, kind: 'failed', code, message: errorText(thrown) };
    }
    // After the answer, because the parent ends us by a signal: what was compiled would be lost, and compiled each time.
    process.send?.(result, () => flushCompileCache());
  }
}
