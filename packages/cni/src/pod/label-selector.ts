// Kubernetes label selectors (matchLabels and matchExpressions) and the pairs of them that decide enrolment: read once
// from JSON-like values, then matched without further checks. An empty selector matches everything.
// https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
import { CniError } from '../errors.ts';

export type Labels = Readonly<Record<string, string>>;

export interface LabelRequirement {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values: readonly string[];
}

/** All requirements must hold; matchLabels are read as `In` with one value. */
export type LabelSelector = readonly LabelRequirement[];

/** A pod is a member when both halves of one pair match (Istio's `enablement_selectors`). */
export interface EnablementSelector {
  readonly pod: LabelSelector;
  readonly namespace: LabelSelector;
}

export const DATAPLANE_MODE_LABEL = 'istio.io/dataplane-mode';

/** Those of Istio's chart: labelled pods, and pods of labelled namespaces that do not opt out. */
export const DEFAULT_SELECTORS: readonly EnablementSelector[] = [
  { pod: [{ key: DATAPLANE_MODE_LABEL, operator: 'In', values: ['ambient'] }], namespace: [] },
  {
    pod: [{ key: DATAPLANE_MODE_LABEL, operator: 'NotIn', values: ['none'] }],
    namespace: [{ key: DATAPLANE_MODE_LABEL, operator: 'In', values: ['ambient'] }],
  },
];

const MAX_SELECTORS = 64;
const MAX_REQUIREMENTS = 64;

/** As Kubernetes has it: `NotIn` and `DoesNotExist` hold for a label that is absent. */
export function selectorMatches(selector: LabelSelector, labels: Labels): boolean {
  return selector.every(requirement => requirementHolds(requirement, labelOf(labels, requirement.key)));
}

/** Labels come from other people: only what they themselves say, not what every object has. */
export function labelOf(labels: Labels, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

/** Whether a label's value, undefined where it is absent, is what a requirement wants. */
export function requirementHolds(
  { operator, values }: Pick<LabelRequirement, 'operator' | 'values'>,
  value: string | undefined,
): boolean {
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
  }
}

/** kubectl's way to write a selector; `everything` for an empty one. */
export function selectorText(selector: LabelSelector): string {
  return selector.length === 0 ? 'everything' : selector.map(requirementText).join(',');
}

function requirementText({ key, operator, values }: LabelRequirement): string {
  if (operator === 'Exists') return key;
  if (operator === 'DoesNotExist') return `!${key}`;
  const [only] = values;
  if (values.length === 1 && only !== undefined) return `${key}${operator === 'In' ? '=' : '!='}${only}`;
  return `${key} ${operator === 'In' ? 'in' : 'notin'} (${values.join(',')})`;
}

/**
 * Reads the list that Istio's configuration calls `enablement_selectors`: objects with `podSelector` and
 * `namespaceSelector`, each a LabelSelector or absent. At most 64 pairs with 64 requirements each.
 * @throws CniError cni.config, with the path of what is wrong
 */
export function readSelectors(value: unknown, where = 'enablement_selectors'): readonly EnablementSelector[] {
  return list(value, where, MAX_SELECTORS).map((item, i) => {
    const at = `${where}[${i}]`;
    const pair = record(item, at, ['podSelector', 'namespaceSelector']);
    return {
      pod: readSelector(pair['podSelector'], `${at}.podSelector`),
      namespace: readSelector(pair['namespaceSelector'], `${at}.namespaceSelector`),
    };
  });
}

function readSelector(value: unknown, at: string): LabelSelector {
  if (value === undefined || value === null) return [];
  const selector = record(value, at, ['matchLabels', 'matchExpressions']);
  const labels = Object.entries(record(selector['matchLabels'] ?? {}, `${at}.matchLabels`));
  const expressions = list(selector['matchExpressions'] ?? [], `${at}.matchExpressions`, MAX_REQUIREMENTS);
  if (labels.length > MAX_REQUIREMENTS) throw refused(`${at}.matchLabels`, `has more than ${MAX_REQUIREMENTS} labels`);
  return [
    ...labels.map(([key, label]): LabelRequirement => {
      if (typeof label !== 'string') throw refused(`${at}.matchLabels.${key}`, 'is not a string');
      return { key, operator: 'In', values: [label] };
    }),
    ...expressions.map((expression, i) => readExpression(expression, `${at}.matchExpressions[${i}]`)),
  ];
}

function readExpression(value: unknown, at: string): LabelRequirement {
  const expression = record(value, at, ['key', 'operator', 'values']);
  const { key, operator } = expression;
  if (typeof key !== 'string' || key === '') throw refused(`${at}.key`, 'is not the name of a label');
  const values = list(expression['values'] ?? [], `${at}.values`, MAX_REQUIREMENTS).map(item => {
    if (typeof item !== 'string') throw refused(`${at}.values`, 'holds something else than strings');
    return item;
  });
  switch (operator) {
    case 'In':
    case 'NotIn':
      if (values.length === 0) throw refused(`${at}.values`, `is empty, which ${operator} does not allow`);
      return { key, operator, values };
    case 'Exists':
    case 'DoesNotExist':
      if (values.length > 0) throw refused(`${at}.values`, `is not empty, which ${operator} does not allow`);
      return { key, operator, values };
    default:
      throw refused(`${at}.operator`, 'is none of In, NotIn, Exists, DoesNotExist');
  }
}

function list(value: unknown, at: string, max: number): readonly unknown[] {
  if (!Array.isArray(value)) throw refused(at, 'is not a list');
  if (value.length > max) throw refused(at, `has more than ${max} items`);
  return value;
}

/** A misspelt key would select everything, which is why unknown ones are refused. */
function record(value: unknown, at: string, known?: readonly string[]): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refused(at, 'is not an object');
  const unknownKey = known && Object.keys(value).find(key => !known.includes(key));
  if (unknownKey !== undefined) throw refused(`${at}.${unknownKey}`, 'is not a known field');
  return Object.fromEntries(Object.entries(value));
}

function refused(at: string, what: string): CniError {
  return new CniError('cni.config', `${at} ${what}`, {
    where: at,
    next: 'write label selectors as in Kubernetes: matchLabels, matchExpressions with key, operator, values',
  });
}
