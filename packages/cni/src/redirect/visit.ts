// Work inside a pod's namespace with errors that say whose fault it was: the way in, or what was done there.
import type { NetNs } from '@ambit/native';
import { CniError, type CniErrorCode } from '../errors.ts';

/**
 * Runs `f`, which does not wait for anything, inside the namespace. @throws CniError enrol.netns_gone when there is no way
 * in; what `f` throws, which must be a CniError (see `orThrow`)
 */
export function visit<T>(netns: NetNs, f: () => T): T {
  try {
    return netns.run(f);
  } catch (error) {
    if (error instanceof CniError) throw error;
    throw new CniError('enrol.netns_gone', `the pod's network namespace cannot be entered: ${textOf(error)}`, {
      next: 'a pod that is ending needs nothing; otherwise see whether the agent may use setns (CAP_SYS_ADMIN)',
      cause: error,
    });
  }
}

/** Runs `f` and turns whatever it throws into a CniError of the given code; `what` begins its sentence. */
export function orThrow<T>(code: CniErrorCode, what: string, f: () => T): T {
  try {
    return f();
  } catch (error) {
    if (error instanceof CniError) throw error;
    throw new CniError(code, `${what}: ${textOf(error)}`, { cause: error });
  }
}

export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
