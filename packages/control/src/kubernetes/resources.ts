// The resources of the API server that the mesh is made of, with the versions of each that our reader understands.
// Which one is asked for is discovery's business.
import type { Kind } from '../objects/types.ts';

export interface ResourceType {
  readonly kind: Kind;
  /** Empty: the core group. */
  readonly group: string;
  /** Readable versions, the preferred one first. */
  readonly versions: readonly [string, ...string[]];
  /** As it stands in paths. */
  readonly plural: string;
  readonly isNamespaced: boolean;
  /** Leaves out what can never matter, so that it need not be sent. */
  readonly fieldSelector?: string;
}

/** Finished pods keep their object for a long time, hold no address, and are many where jobs run. */
const LIVE_PODS = 'status.phase!=Succeeded,status.phase!=Failed';

const ISTIO_NETWORKING = ['v1', 'v1beta1', 'v1alpha3'] as const;
const ISTIO_SECURITY = ['v1', 'v1beta1'] as const;
const GATEWAY_API = ['v1', 'v1beta1'] as const;

export const RESOURCE_TYPES: readonly ResourceType[] = [
  { kind: 'Namespace', group: '', versions: ['v1'], plural: 'namespaces', isNamespaced: false },
  { kind: 'Node', group: '', versions: ['v1'], plural: 'nodes', isNamespaced: false },
  { kind: 'Pod', group: '', versions: ['v1'], plural: 'pods', isNamespaced: true, fieldSelector: LIVE_PODS },
  { kind: 'Service', group: '', versions: ['v1'], plural: 'services', isNamespaced: true },
  { kind: 'EndpointSlice', group: 'discovery.k8s.io', versions: ['v1'], plural: 'endpointslices', isNamespaced: true },
  istio('networking.istio.io', ISTIO_NETWORKING, 'WorkloadEntry', 'workloadentries'),
  istio('networking.istio.io', ISTIO_NETWORKING, 'ServiceEntry', 'serviceentries'),
  istio('security.istio.io', ISTIO_SECURITY, 'AuthorizationPolicy', 'authorizationpolicies'),
  istio('security.istio.io', ISTIO_SECURITY, 'PeerAuthentication', 'peerauthentications'),
  istio('gateway.networking.k8s.io', GATEWAY_API, 'Gateway', 'gateways'),
  { ...istio('gateway.networking.k8s.io', GATEWAY_API, 'GatewayClass', 'gatewayclasses'), isNamespaced: false },
  istio('gateway.networking.k8s.io', GATEWAY_API, 'HTTPRoute', 'httproutes'),
  istio('gateway.networking.k8s.io', ['v1'], 'GRPCRoute', 'grpcroutes'),
];

function istio(group: string, versions: ResourceType['versions'], kind: Kind, plural: string): ResourceType {
  return { kind, group, versions, plural, isNamespaced: true };
}

/** `apiVersion` of objects of a group in a version. */
export function apiVersionOf(group: string, version: string): string {
  return group === '' ? version : `${group}/${version}`;
}

/** Path of the whole collection, or of one namespace's part of it. */
export function collectionPath(type: ResourceType, version: string, namespace: string | undefined): string {
  const root = type.group === '' ? `/api/${version}` : `/apis/${type.group}/${version}`;
  const inside = namespace === undefined || !type.isNamespaced ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
  return `${root}${inside}/${type.plural}`;
}

/** `pods`, or `gateways.gateway.networking.k8s.io`, as in RBAC messages and CRD names. */
export function qualifiedName({ group, plural }: ResourceType): string {
  return group === '' ? plural : `${plural}.${group}`;
}
