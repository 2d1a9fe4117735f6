// One `from`, `to` or `when` of an AuthorizationPolicy as a match on what a ztunnel can see of a connection. What it cannot
// see (HTTP, tokens, forwarded addresses, trust domains) is named in `unseen`; what that means depends on the action and
// is decided in authorization.ts. Fails closed for ALLOW: see `settle`.
import type { PolicyCondition, PolicyOperation, PolicySource } from '../objects/types.ts';
import {
  type BlockInit,
  type Converted,
  convertList,
  type ListContext,
  type MatchInit,
  readAccount,
  readBlock,
  readPort,
  readText,
} from './values.ts';

export type Action = 'ALLOW' | 'DENY';

export interface Translated {
  /** Empty (no list at all) never matches at a ztunnel. */
  readonly match: MatchInit;
  /** Paths of the attributes that a ztunnel cannot evaluate. */
  readonly unseen: readonly string[];
}

export interface PartContext extends ListContext {
  readonly action: Action;
}

interface Pair<T> {
  readonly positive: Converted<T>;
  readonly negative: Converted<T>;
}

export function translateOperation(operation: PolicyOperation, context: PartContext): Translated {
  const ports = pairOf(operation.ports, operation.notPorts, 'ports', 'notPorts', context, readPort);
  const match = settle([ports], context, {
    ...listed('destinationPorts', ports.positive.values),
    ...listed('notDestinationPorts', ports.negative.values),
  });
  const { hosts, notHosts, methods, notMethods, paths, notPaths } = operation;
  return { match, unseen: present({ hosts, notHosts, methods, notMethods, paths, notPaths }, context.path) };
}

export function translateSource(source: PolicySource, context: PartContext): Translated {
  const principals = pairOf(source.principals, source.notPrincipals, 'principals', 'notPrincipals', context, readText);
  const namespaces = pairOf(source.namespaces, source.notNamespaces, 'namespaces', 'notNamespaces', context, readText);
  const accounts = pairOf(
    source.serviceAccounts,
    source.notServiceAccounts,
    'serviceAccounts',
    'notServiceAccounts',
    context,
    readAccount,
  );
  const blocks = pairOf(source.ipBlocks, source.notIpBlocks, 'ipBlocks', 'notIpBlocks', context, readBlock);
  const match = settle([principals, namespaces, accounts, blocks], context, {
    ...listed('namespaces', namespaces.positive.values),
    ...listed('notNamespaces', namespaces.negative.values),
    ...listed('principals', principals.positive.values),
    ...listed('notPrincipals', principals.negative.values),
    ...listed('sourceIps', blocks.positive.values),
    ...listed('notSourceIps', blocks.negative.values),
    ...listed('serviceAccounts', accounts.positive.values),
    ...listed('notServiceAccounts', accounts.negative.values),
  });
  const { requestPrincipals, notRequestPrincipals, remoteIpBlocks, notRemoteIpBlocks } = source;
  // A ztunnel has no field for trust domains. They count as unseen, not as absent: absent would let every domain in.
  const { trustDomains, notTrustDomains } = source;
  const unseen = present(
    { requestPrincipals, notRequestPrincipals, remoteIpBlocks, notRemoteIpBlocks, trustDomains, notTrustDomains },
    context.path,
  );
  return { match, unseen };
}

export function translateCondition(condition: PolicyCondition, context: PartContext): Translated {
  const pair = <T>(read: Parameters<typeof convertList<T>>[2]): Pair<T> =>
    pairOf(condition.values, condition.notValues, 'values', 'notValues', context, read);
  const seen = (match: MatchInit): Translated => ({ match, unseen: [] });
  switch (condition.key) {
    case 'source.ip': {
      const values = pair(readBlock);
      const lists = {
        ...listed('sourceIps', values.positive.values),
        ...listed('notSourceIps', values.negative.values),
      };
      return seen(settle([values], context, lists));
    }
    case 'destination.ip': {
      const values = pair(readBlock);
      const lists = {
        ...listed('destinationIps', values.positive.values),
        ...listed('notDestinationIps', values.negative.values),
      };
      return seen(settle([values], context, lists));
    }
    case 'source.namespace': {
      const values = pair(readText);
      const lists = {
        ...listed('namespaces', values.positive.values),
        ...listed('notNamespaces', values.negative.values),
      };
      return seen(settle([values], context, lists));
    }
    case 'source.principal': {
      const values = pair(readText);
      const lists = {
        ...listed('principals', values.positive.values),
        ...listed('notPrincipals', values.negative.values),
      };
      return seen(settle([values], context, lists));
    }
    case 'destination.port': {
      const values = pair(readPort);
      const lists = {
        ...listed('destinationPorts', values.positive.values),
        ...listed('notDestinationPorts', values.negative.values),
      };
      return seen(settle([values], context, lists));
    }
    default:
      return { match: {}, unseen: [`${context.path}.key`] };
  }
}

/** Nothing for an empty list: a match says what it asks about by having the list. */
function listed<K extends string, T>(name: K, values: T[]): { readonly [P in K]?: T[] } {
  return values.length === 0 ? {} : ({ [name]: values } as { [P in K]: T[] });
}

/**
 * What unreadable values do. ALLOW: a list of nothing but unreadable values can name nobody, and an exclusion that cannot
 * be read might exclude anybody, so the match never matches. DENY: as upstream, they are left out; but when all that is
 * left of a match is an exclusion nobody can read, it denies everybody, where upstream's empty match would deny nobody.
 */
function settle(pairs: readonly Pair<unknown>[], { action }: PartContext, match: MatchInit): MatchInit {
  const hasBadExclusion = pairs.some(({ negative }) => negative.invalid > 0);
  if (action === 'ALLOW') {
    const namesNobody = pairs.some(({ positive }) => positive.invalid > 0 && positive.values.length === 0);
    return hasBadExclusion || namesNobody ? {} : match;
  }
  const isLeftEmpty = Object.keys(match).length === 0 && pairs.every(({ positive }) => positive.invalid === 0);
  return isLeftEmpty && hasBadExclusion ? { sourceIps: [...EVERY_SOURCE] } : match;
}

/** 0.0.0.0/0 and ::/0. */
const EVERY_SOURCE: readonly BlockInit[] = [
  { address: new Uint8Array(4), length: 0 },
  { address: new Uint8Array(16), length: 0 },
];

function pairOf<T>(
  positive: readonly string[],
  negative: readonly string[],
  name: string,
  notName: string,
  context: PartContext,
  read: Parameters<typeof convertList<T>>[2],
): Pair<T> {
  return {
    positive: convertList(positive, { ...context, path: `${context.path}.${name}` }, read),
    negative: convertList(negative, { ...context, path: `${context.path}.${notName}` }, read),
  };
}

/** Paths of the lists that are not empty. */
function present(lists: Readonly<Record<string, readonly string[]>>, path: string): readonly string[] {
  return Object.entries(lists)
    .filter(([, values]) => values.length > 0)
    .map(([name]) => `${path}.${name}`);
}
