// Short ways to write policies in tests.
import type { AuthorizationInit, Json } from '@ambit/wire/resources';
import { authorizationToJson, decodeAuthorizationMessage, encodeAuthorization } from '@ambit/wire/resources';
import { EMPTY_METADATA } from '../objects/metadata.ts';
import type {
  AuthorizationPolicyObject,
  Labels,
  Metadata,
  MtlsMode,
  PeerAuthenticationObject,
  PolicyCondition,
  PolicyOperation,
  PolicyRule,
  PolicySource,
} from '../objects/types.ts';

export function metadata(fields: Partial<Metadata> = {}): Metadata {
  return { ...EMPTY_METADATA, name: 'p', namespace: 'shop', ...fields };
}

export function source(lists: Partial<PolicySource>): PolicySource {
  return {
    principals: [],
    notPrincipals: [],
    requestPrincipals: [],
    notRequestPrincipals: [],
    namespaces: [],
    notNamespaces: [],
    serviceAccounts: [],
    notServiceAccounts: [],
    ipBlocks: [],
    notIpBlocks: [],
    remoteIpBlocks: [],
    notRemoteIpBlocks: [],
    trustDomains: [],
    notTrustDomains: [],
    ...lists,
  };
}

export function operation(lists: Partial<PolicyOperation>): PolicyOperation {
  return {
    hosts: [],
    notHosts: [],
    ports: [],
    notPorts: [],
    methods: [],
    notMethods: [],
    paths: [],
    notPaths: [],
    ...lists,
  };
}

export function condition(key: string, values: readonly string[], notValues: readonly string[] = []): PolicyCondition {
  return { key, values, notValues };
}

export function rule(parts: Partial<PolicyRule>): PolicyRule {
  return { from: [], to: [], when: [], ...parts };
}

export function authorizationPolicy(
  action: string,
  rules: readonly PolicyRule[],
  spec: Partial<AuthorizationPolicyObject['spec']> = {},
  meta: Partial<Metadata> = {},
): AuthorizationPolicyObject {
  return {
    kind: 'AuthorizationPolicy',
    metadata: metadata(meta),
    spec: { action, selector: undefined, targetRefs: [], rules, ...spec },
  };
}

export function peerAuthentication(
  name: string,
  mtls: MtlsMode,
  fields: {
    readonly namespace?: string;
    readonly selector?: Labels;
    readonly ports?: Readonly<Record<string, MtlsMode>>;
    readonly creationTime?: number;
    readonly labels?: Labels;
  } = {},
): PeerAuthenticationObject {
  const { namespace = 'shop', selector, ports = {}, creationTime, labels = {} } = fields;
  return {
    kind: 'PeerAuthentication',
    metadata: metadata({ name, namespace, creationTime, labels }),
    spec: { selector, mtls, portLevelMtls: ports },
  };
}

/** As golden files have it; goes through the wire format. */
export function asJson(init: AuthorizationInit | undefined): Json | undefined {
  return init === undefined ? undefined : authorizationToJson(decodeAuthorizationMessage(encodeAuthorization(init)));
}
