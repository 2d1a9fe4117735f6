// AuthorizationPolicy and PeerAuthentication (security.istio.io). Strict where a slip would widen access: an empty `from`
// or source, which upstream's admission refuses too, is an error here, because "no condition" means "everybody".
import { type Fields, show } from './fields.ts';
import { readTargetRefs } from './read-gateway.ts';
import type {
  AuthorizationPolicyObject,
  MtlsMode,
  PeerAuthenticationObject,
  PolicyCondition,
  PolicyOperation,
  PolicyRule,
  PolicySource,
  WorkloadSelector,
} from './types.ts';

type Body<T> = Omit<T, 'kind' | 'metadata'>;

const POLICY_FIELDS = ['selector', 'targetRef', 'targetRefs', 'rules', 'action', 'provider'];
const ACTIONS = ['ALLOW', 'DENY', 'AUDIT', 'CUSTOM'] as const;
const MODES = ['UNSET', 'DISABLE', 'PERMISSIVE', 'STRICT'] as const;
const SOURCE_FIELDS = [
  'principals',
  'notPrincipals',
  'requestPrincipals',
  'notRequestPrincipals',
  'namespaces',
  'notNamespaces',
  'serviceAccounts',
  'notServiceAccounts',
  'ipBlocks',
  'notIpBlocks',
  'remoteIpBlocks',
  'notRemoteIpBlocks',
  'trustDomains',
  'notTrustDomains',
] as const;
const OPERATION_FIELDS = [
  'hosts',
  'notHosts',
  'ports',
  'notPorts',
  'methods',
  'notMethods',
  'paths',
  'notPaths',
] as const;

export function readAuthorizationPolicy(object: Fields): Body<AuthorizationPolicyObject> {
  // A policy without a spec is a policy: it denies everything in its namespace.
  const spec = object.child('spec');
  if (spec === undefined) return { spec: { action: 'ALLOW', selector: undefined, targetRefs: [], rules: [] } };
  spec.only(POLICY_FIELDS);
  return {
    spec: {
      action: spec.choice('action', ACTIONS, 'ALLOW', ACTIONS),
      selector: readSelector(spec),
      targetRefs: readTargetRefs(spec),
      rules: spec.children('rules').map(readRule),
    },
  };
}

/** `selector.matchLabels`. */
function readSelector(spec: Fields): WorkloadSelector {
  const selector = spec.child('selector');
  selector?.only(['matchLabels']);
  return selector?.labels('matchLabels');
}

function readRule(rule: Fields): PolicyRule {
  rule.only(['from', 'to', 'when']);
  const read = <T>(key: string, inner: string, body: (fields: Fields) => T | undefined): T[] => {
    const entries = rule.children(key);
    if (entries.length === 0 && rule.has(key)) refuseEmpty(rule, key);
    return entries.flatMap(entry => {
      entry.only([inner]);
      const fields = entry.requiredChild(inner);
      const value = fields === undefined ? undefined : body(fields);
      return value === undefined ? [] : [value];
    });
  };
  return {
    from: read('from', 'source', readSource),
    to: read('to', 'operation', readOperation),
    when: rule.children('when').map(readCondition),
  };
}

function refuseEmpty(fields: Fields, key: string): void {
  fields.problem([key], `${key} is empty, which reads as "no condition"`, `say what ${key} must be, or leave it out`);
}

function readSource(fields: Fields): PolicySource | undefined {
  fields.only(SOURCE_FIELDS);
  const source = readLists(fields, SOURCE_FIELDS);
  return isEmpty(source) ? refuseNothing(fields, SOURCE_FIELDS) : source;
}

function readOperation(fields: Fields): PolicyOperation | undefined {
  fields.only(OPERATION_FIELDS);
  const operation = { ...readLists(fields, OPERATION_FIELDS), ports: readPorts(fields, 'ports') };
  const whole = { ...operation, notPorts: readPorts(fields, 'notPorts') };
  return isEmpty(whole) ? refuseNothing(fields, OPERATION_FIELDS) : whole;
}

function refuseNothing(fields: Fields, known: readonly string[]): undefined {
  // Keys that are there but wrong have been told already.
  if (known.some(key => fields.has(key) && !isEmptyList(fields.raw(key)))) return undefined;
  fields.problem([], 'nothing is asked for, so nothing can match', `give at least one of ${known.join(', ')}`);
  return undefined;
}

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}

function isEmpty(lists: object): boolean {
  return Object.values(lists).every(isEmptyList);
}

function readLists<K extends string>(fields: Fields, keys: readonly K[]): Record<K, readonly string[]> {
  const lists: Partial<Record<K, readonly string[]>> = {};
  for (const key of keys) lists[key] = key === 'ports' || key === 'notPorts' ? [] : readValues(fields, key);
  // Every key has just been set.
  return lists as Record<K, readonly string[]>;
}

/** An empty string matches nothing that exists, and is refused by upstream. */
function readValues(fields: Fields, key: string): readonly string[] {
  const values = fields.texts(key);
  const empty = values.indexOf('');
  if (empty >= 0) fields.problem([key, empty], `${key} has an empty value`, 'write the value, or take the entry away');
  return values;
}

/** Strings in the API. A number is understood, as the meaning is clear, but an API server will refuse it. */
function readPorts(fields: Fields, key: string): readonly string[] {
  const raw = fields.raw(key);
  if (!Array.isArray(raw) || !raw.some(item => typeof item === 'number')) return readValues(fields, key);
  const ports: string[] = [];
  for (const [index, item] of (raw as readonly unknown[]).entries()) {
    if (typeof item === 'string') ports.push(item);
    else if (typeof item === 'number' && Number.isInteger(item)) {
      ports.push(String(item));
      const message = `port ${item} is a number here; Kubernetes takes only a string`;
      fields.warn('config.unquoted', [key, index], message, `put it in quotes: "${item}"`);
    } else fields.problem([key, index], `${key} must be ports in quotes, not ${show(item)}`, 'write "8080"');
  }
  return ports;
}

function readCondition(condition: Fields): PolicyCondition {
  condition.only(['key', 'values', 'notValues']);
  const result = {
    key: condition.requiredText('key'),
    values: readValues(condition, 'values'),
    notValues: readValues(condition, 'notValues'),
  };
  if (!condition.has('values') && !condition.has('notValues')) condition.missing('values', 'what the key may be');
  return result;
}

export function readPeerAuthentication(object: Fields): Body<PeerAuthenticationObject> {
  const spec = object.child('spec');
  if (spec === undefined) return { spec: { selector: undefined, mtls: 'UNSET', portLevelMtls: {} } };
  spec.only(['selector', 'mtls', 'portLevelMtls']);
  return {
    spec: { selector: readSelector(spec), mtls: readMode(spec.child('mtls')), portLevelMtls: readPortLevels(spec) },
  };
}

function readMode(mtls: Fields | undefined): MtlsMode {
  mtls?.only(['mode']);
  return mtls?.choice('mode', MODES, 'UNSET', MODES) ?? 'UNSET';
}

function readPortLevels(spec: Fields): Readonly<Record<string, MtlsMode>> {
  const ports = spec.child('portLevelMtls');
  const levels: Record<string, MtlsMode> = {};
  for (const port of ports?.keys() ?? []) {
    if (!/^[1-9]\d{0,4}$/.test(port) || Number(port) > 65535) {
      ports?.problem([port], `${show(port)} is no port`, 'use a port number of the workload, 1 to 65535');
    } else levels[port] = readMode(ports?.child(port));
  }
  return levels;
}
