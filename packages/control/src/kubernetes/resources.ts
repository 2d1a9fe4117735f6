// The resources of the API server that the mesh is made of, with the versions of each that our reader understands.
// Which one is asked for is discovery's business.
import type { ResourceType } from '@ambit/kube';
import type { Kind } from '../objects/types.ts';

/** Finished pods keep their object for a long time, hold no address, and are many where jobs run. */
const LIVE_PODS = 'status.phase!=Succeeded,status.phase!=Failed';

const ISTIO_NETWORKING = ['v1', 'v1beta1', 'v1alpha3'] as const;
const ISTIO_SECURITY = ['v1', 'v1beta1'] as const;
const GATEWAY_API = ['v1', 'v1beta1'] as const;

export const RESOURCE_TYPES: readonly ResourceType<Kind>[] = [
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

function istio(group: string, versions: ResourceType['versions'], kind: Kind, plural: string): ResourceType<Kind> {
  return { kind, group, versions, plural, isNamespaced: true };
}
