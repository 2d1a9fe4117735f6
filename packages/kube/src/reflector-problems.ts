// What a reflector says about what stands in its way: which verb on which resource where, and what to do about it.
import type { KubeProblem } from './problem.ts';
import { errorText } from '@ambit/log';
import { KubeError } from './errors.ts';
import { codeOf, refusalOf } from './refusal.ts';
import { qualifiedName, type ResourceType } from './resource-type.ts';

interface Scope {
  readonly type: ResourceType;
  readonly namespace: string | undefined;
}

/** 403. The message has verb, resource and namespace, which is what a Role must name. */
export function forbidden(scope: Scope, verb: string, body: unknown): KubeProblem {
  const kind = scope.namespace === undefined || !scope.type.isNamespaced ? 'ClusterRole' : 'Role';
  return {
    code: 'kube.forbidden',
    severity: 'error',
    message: `may not ${verb} ${describe(scope)}: ${refusalOf(403, body).message}`,
    remedy: `allow the verbs list and watch on ${qualifiedName(scope.type)} in a ${kind}; until then none of them is seen`,
  };
}

/** Any other answer that is no success. */
export function refused(scope: Scope, verb: string, status: number, body: unknown): KubeProblem {
  return {
    code: codeOf(status),
    severity: 'error',
    message: `cannot ${verb} ${describe(scope)}: ${refusalOf(status, body).message}`,
    remedy:
      status === 401
        ? 'check the credentials: token or client certificate may have expired'
        : 'none if it passes: it is tried again; what was seen last stays in force',
  };
}

/** Success, by its status, and something else than a list. */
export function noList(scope: Scope): KubeProblem {
  return {
    code: 'kube.failed',
    severity: 'error',
    message: `cannot list ${describe(scope)}: the answer is no list`,
    remedy: 'see what answers at that address: a proxy, or another server; what was seen last stays in force',
  };
}

/** No answer. */
export function thrown(scope: Scope, error: unknown): KubeProblem {
  return {
    code: error instanceof KubeError ? error.code : 'kube.failed',
    severity: 'error',
    message: `cannot follow ${describe(scope)}: ${errorText(error)}`,
    remedy:
      (error instanceof KubeError ? error.next : undefined) ??
      'none if it passes: it is tried again; what was seen last stays in force',
  };
}

function describe({ type, namespace }: Scope): string {
  return `${qualifiedName(type)} ${namespace === undefined ? 'in all namespaces' : `in namespace ${namespace}`}`;
}
