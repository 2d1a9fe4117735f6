// What the test's API server serves from the start (as every cluster does), and the CRDs that can be added.

export interface ServedResource {
  readonly group: string;
  /** The preferred one first. */
  readonly versions: readonly string[];
  readonly plural: string;
  readonly kind: string;
  readonly isNamespaced: boolean;
  /** Compiled in: items of its lists carry no kind and apiVersion. */
  readonly isBuiltIn: boolean;
}

const builtIn = (group: string, plural: string, kind: string, isNamespaced = true): ServedResource => ({
  group,
  versions: ['v1'],
  plural,
  kind,
  isNamespaced,
  isBuiltIn: true,
});

export const BUILT_IN: readonly ServedResource[] = [
  builtIn('', 'namespaces', 'Namespace', false),
  builtIn('', 'nodes', 'Node', false),
  builtIn('', 'pods', 'Pod'),
  builtIn('', 'services', 'Service'),
  builtIn('', 'serviceaccounts', 'ServiceAccount'),
  builtIn('', 'secrets', 'Secret'),
  builtIn('', 'configmaps', 'ConfigMap'),
  builtIn('', 'events', 'Event'),
  builtIn('apps', 'daemonsets', 'DaemonSet'),
  builtIn('discovery.k8s.io', 'endpointslices', 'EndpointSlice'),
  builtIn('authentication.k8s.io', 'tokenreviews', 'TokenReview', false),
];

const crd = (
  group: string,
  plural: string,
  kind: string,
  versions: readonly string[],
  isNamespaced = true,
): ServedResource => ({
  group,
  versions,
  plural,
  kind,
  isNamespaced,
  isBuiltIn: false,
});

/** Istio's and the Gateway API's, in the versions that they have today. */
export const MESH_CRDS: readonly ServedResource[] = [
  crd('networking.istio.io', 'workloadentries', 'WorkloadEntry', ['v1', 'v1beta1', 'v1alpha3']),
  crd('networking.istio.io', 'serviceentries', 'ServiceEntry', ['v1', 'v1beta1', 'v1alpha3']),
  crd('security.istio.io', 'authorizationpolicies', 'AuthorizationPolicy', ['v1', 'v1beta1']),
  crd('security.istio.io', 'peerauthentications', 'PeerAuthentication', ['v1', 'v1beta1']),
  crd('gateway.networking.k8s.io', 'gateways', 'Gateway', ['v1', 'v1beta1']),
  crd('gateway.networking.k8s.io', 'gatewayclasses', 'GatewayClass', ['v1', 'v1beta1'], false),
  crd('gateway.networking.k8s.io', 'httproutes', 'HTTPRoute', ['v1', 'v1beta1']),
  crd('gateway.networking.k8s.io', 'grpcroutes', 'GRPCRoute', ['v1']),
];
