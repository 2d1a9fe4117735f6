// Names of labels, annotations and classes that the translation reads (Kubernetes, Gateway API and Istio ambient).

export const LABEL = {
  network: 'topology.istio.io/network',
  region: 'topology.kubernetes.io/region',
  zone: 'topology.kubernetes.io/zone',
  subzone: 'topology.istio.io/subzone',
  serviceName: 'kubernetes.io/service-name',
  namespaceName: 'kubernetes.io/metadata.name',
  revision: 'istio.io/rev',
  tunnel: 'networking.istio.io/tunnel',
  autoAllocate: 'networking.istio.io/enable-autoallocate-ip',
  gatewayName: 'gateway.networking.k8s.io/gateway-name',
  gatewayManaged: 'gateway.istio.io/managed',
  waypointFor: 'istio.io/waypoint-for',
  useWaypoint: 'istio.io/use-waypoint',
  useWaypointNamespace: 'istio.io/use-waypoint-namespace',
  canary: 'istio.io/use-waypoint-canary',
  canaryNamespace: 'istio.io/use-waypoint-canary-namespace',
  ingressUseWaypoint: 'istio.io/ingress-use-waypoint',
  workloadName: 'service.istio.io/workload-name',
} as const;

export const ANNOTATION = {
  redirection: 'ambient.istio.io/redirection',
  inboundBinding: 'ambient.istio.io/waypoint-inbound-binding',
  canaryWeight: 'istio.io/use-waypoint-canary-weight',
  trafficDistribution: 'networking.istio.io/traffic-distribution',
  autoRegistrationGroup: 'istio.io/autoRegistrationGroup',
  gatewayServiceAccount: 'gateway.istio.io/service-account',
} as const;

/** Class of a Gateway that stands for the gateway of another network. */
export const REMOTE_GATEWAY_CLASS = 'istio-remote';
/** Where waypoints and network gateways take HBONE. */
export const HBONE_PORT = 15008;
