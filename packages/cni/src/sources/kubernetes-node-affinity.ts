// Whether a pod template may run on a node, by its node selector and its required node affinity, as the scheduler judges
// it. Pure. https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/. Taints play no part.
import { isObject, listAt, mapAt, textAt, textsAt, at } from '@ambit/kube';
import { labelOf, requirementHolds } from '../pod/label-selector.ts';

export interface NodeFacts {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Whether the template names nodes at all. @param spec of a pod */
export function choosesNodes(spec: unknown): boolean {
  return Object.keys(mapAt(spec, 'nodeSelector')).length > 0 || requiredOf(spec) !== undefined;
}

/** @param spec of a pod */
export function mayRunOn(spec: unknown, node: NodeFacts): boolean {
  const isSelected = Object.entries(mapAt(spec, 'nodeSelector')).every(
    ([key, value]) => labelOf(node.labels, key) === value,
  );
  const required = requiredOf(spec);
  if (!isSelected || required === undefined) return isSelected;
  return listAt(required, 'nodeSelectorTerms').some(term => termHolds(term, node));
}

function requiredOf(spec: unknown): unknown {
  const required = at(spec, 'affinity', 'nodeAffinity', 'requiredDuringSchedulingIgnoredDuringExecution');
  return isObject(required) ? required : undefined;
}

/** All of its requirements; a term without any selects nothing. */
function termHolds(term: unknown, node: NodeFacts): boolean {
  const expressions = listAt(term, 'matchExpressions');
  const fields = listAt(term, 'matchFields');
  if (expressions.length + fields.length === 0) return false;
  return (
    expressions.every(each => nodeRequirementHolds(each, labelOf(node.labels, textAt(each, 'key')))) &&
    // The node's name is the only field there is.
    fields.every(each => textAt(each, 'key') === 'metadata.name' && nodeRequirementHolds(each, node.name))
  );
}

/** As of labels, and two operators more. */
function nodeRequirementHolds(requirement: unknown, value: string | undefined): boolean {
  const values = textsAt(requirement, 'values');
  const operator = textAt(requirement, 'operator');
  switch (operator) {
    case 'In':
    case 'NotIn':
    case 'Exists':
    case 'DoesNotExist':
      return requirementHolds({ operator, values }, value);
    case 'Gt':
      return integer(value) > integer(values[0]);
    case 'Lt':
      return integer(value) < integer(values[0]);
    default:
      return false;
  }
}

/** What is no integer compares as neither greater nor less. */
function integer(text: string | undefined): number {
  return text !== undefined && /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN;
}
