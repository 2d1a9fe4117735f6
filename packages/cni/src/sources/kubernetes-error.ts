// What the API client throws, as this package says it.
import { KubeError } from '@ambit/kube';
import { errorText } from '@ambit/log';
import { CniError } from '../errors.ts';

export function kubernetesError(what: string, cause: unknown): CniError {
  if (cause instanceof CniError) return cause;
  const code = cause instanceof KubeError ? `  [${cause.code}]` : '';
  const next = cause instanceof KubeError ? cause.next : undefined;
  const options = next === undefined ? { cause } : { cause, next };
  return new CniError('cni.kubernetes', `${what}: ${errorText(cause)}${code}`, options);
}
