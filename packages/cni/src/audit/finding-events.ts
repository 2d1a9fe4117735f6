// What becomes of the audit's findings where people look at a pod: a Warning with what is wrong and what to do when one is found, a
// Normal when it was repaired or is gone. Pure. What concerns the node is no pod's, and is told by `ambit audit` only.
import type { PodEvent } from '../sources/pod-events.ts';
import type { FindingCode } from './audit-types.ts';
import type { LedgerEvent } from './ledger.ts';

export function findingEvent({ kind, finding, afterMs }: LedgerEvent): PodEvent | undefined {
  const { uid, pod, code, what, remedy } = finding;
  const [namespace, name] = pod.split('/');
  if (uid === undefined || namespace === undefined || name === undefined) return undefined;
  const about = { uid, namespace, name };
  const reason = reasonOf(code);
  const after = `${(afterMs / 1000).toFixed(1)} s`;
  switch (kind) {
    case 'found':
      return { ...about, type: 'Warning', reason, message: `${what}; ${remedy}  [${code}]` };
    case 'repaired':
      return {
        ...about,
        type: 'Normal',
        reason: `${reason}Repaired`,
        message: `${what}: repaired after ${after}  [${code}]`,
      };
    case 'cleared':
      return { ...about, type: 'Normal', reason: `${reason}Gone`, message: `${what}: gone after ${after}  [${code}]` };
  }
}

/** `audit.rules_drift` is `MeshRulesDrift`. */
function reasonOf(code: FindingCode): string {
  const words = code.slice('audit.'.length).split('_');
  return `Mesh${words.map(word => word.charAt(0).toUpperCase() + word.slice(1)).join('')}`;
}
