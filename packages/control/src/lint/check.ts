// What a check is: a function from what is known to findings. Checks are independent of each other and of the
// translation's own diagnostics, and never repeat those.
import type { Diagnostic, Severity } from '../diagnostic.ts';
import { type KubeObject, refOf } from '../objects/types.ts';
import type { Known } from './known.ts';

export type Check = (known: Known) => Iterable<Diagnostic>;

/** @param what `[code, path, message, remedy]`; an empty path is the object itself */
export function finding(
  object: KubeObject,
  severity: Severity,
  ...[code, path, message, remedy]: readonly [code: string, path: string, message: string, remedy: string]
): Diagnostic {
  return { code, severity, message, remedy, ref: refOf(object), path: path === '' ? undefined : path };
}

/** `shop/cart`, or a name without a namespace. */
export function nameOf({ metadata: { namespace, name } }: KubeObject): string {
  return namespace === '' ? name : `${namespace}/${name}`;
}
