// Address resources -> workloads and services of the mesh. Strict where a guess could misroute (unknown protocols, modes,
// scopes, malformed addresses: the resource is refused), tolerant for telemetry and visibility, with the wire's own
// defaults, all as istio.workload's consumers agree. Nothing here says whether a mesh makes sense; routing does.
import { type AddressOwner, createService, createWorkload, ipFamily, maxPrefixLength } from '@ambit/mesh';
import type {
  ApplicationTunnel,
  HealthPolicy,
  HealthStatus,
  IpFamilies,
  LoadBalancer,
  LoadBalancerMode,
  NetworkAddress,
  NetworkCidr,
  NetworkMode,
  RoutingScope,
  Service,
  Workload,
  WorkloadProtocol,
} from '@ambit/mesh';
import {
  type Address as AddressMessage,
  ApplicationTunnel_Protocol as TunnelKind,
  type ApplicationTunnel as ApplicationTunnelMessage,
  IPFamilies,
  type LoadBalancing as LoadBalancingMessage,
  LoadBalancing_HealthPolicy as HealthPolicyNumber,
  LoadBalancing_Mode as ModeNumber,
  LoadBalancing_Scope as ScopeNumber,
  type NetworkAddress as NetworkAddressMessage,
  NetworkMode as NetworkModeNumber,
  type Service as ServiceMessage,
  TunnelProtocol,
  Visibility,
  type Workload as WorkloadMessage,
  WorkloadStatus,
  WorkloadType,
} from '../gen/workload_pb.ts';
import {
  address,
  badResource,
  blockFromBytes,
  gatewayAddress,
  knownEnum,
  optionalGateway,
  port16,
  portMap,
  serviceMap,
} from './decode-value.ts';
import { decodeAddressMessage } from './encoding.ts';

const DEFAULT_TRUST_DOMAIN = 'cluster.local';
const DEFAULT_SERVICE_ACCOUNT = 'default';
const DEFAULT_CLUSTER = 'Kubernetes';
const NO_LOCALITY = Object.freeze({ region: '', zone: '', subzone: '' });

// The legacy protocol has no entry: nothing here speaks it, and plain text instead would be a downgrade.
const PROTOCOLS: ReadonlyMap<number, WorkloadProtocol> = new Map<number, WorkloadProtocol>([
  [TunnelProtocol.NONE, 'TCP'],
  [TunnelProtocol.HBONE, 'HBONE'],
]);
const NETWORK_MODES: ReadonlyMap<number, NetworkMode> = new Map<number, NetworkMode>([
  [NetworkModeNumber.STANDARD, 'Standard'],
  [NetworkModeNumber.HOST_NETWORK, 'HostNetwork'],
]);
const STATUSES: ReadonlyMap<number, HealthStatus> = new Map<number, HealthStatus>([
  [WorkloadStatus.HEALTHY, 'Healthy'],
  [WorkloadStatus.UNHEALTHY, 'Unhealthy'],
]);
const WORKLOAD_TYPES: ReadonlyMap<number, string> = new Map<number, string>([
  [WorkloadType.DEPLOYMENT, 'deployment'],
  [WorkloadType.CRONJOB, 'cronjob'],
  [WorkloadType.POD, 'pod'],
  [WorkloadType.JOB, 'job'],
]);
const TUNNEL_KINDS: ReadonlyMap<number, ApplicationTunnel['protocol']> = new Map<number, ApplicationTunnel['protocol']>(
  [
    [TunnelKind.NONE, 'NONE'],
    [TunnelKind.PROXY, 'PROXY'],
  ],
);
const SCOPES: ReadonlyMap<number, RoutingScope> = new Map<number, RoutingScope>([
  [ScopeNumber.REGION, 'Region'],
  [ScopeNumber.ZONE, 'Zone'],
  [ScopeNumber.SUBZONE, 'Subzone'],
  [ScopeNumber.NODE, 'Node'],
  [ScopeNumber.CLUSTER, 'Cluster'],
  [ScopeNumber.NETWORK, 'Network'],
]);
const MODES: ReadonlyMap<number, LoadBalancerMode> = new Map<number, LoadBalancerMode>([
  [ModeNumber.UNSPECIFIED_MODE, 'Standard'],
  [ModeNumber.STRICT, 'Strict'],
  [ModeNumber.FAILOVER, 'Failover'],
  [ModeNumber.PASSTHROUGH, 'Passthrough'],
]);
const HEALTH_POLICIES: ReadonlyMap<number, HealthPolicy> = new Map<number, HealthPolicy>([
  [HealthPolicyNumber.ONLY_HEALTHY, 'OnlyHealthy'],
  [HealthPolicyNumber.ALLOW_ALL, 'AllowAll'],
]);
const FAMILIES: ReadonlyMap<number, IpFamilies | undefined> = new Map<number, IpFamilies | undefined>([
  [IPFamilies.IPV4_ONLY, 'IPv4'],
  [IPFamilies.IPV6_ONLY, 'IPv6'],
  [IPFamilies.DUAL, 'Dual'],
]);

/** The bytes of an Address resource. @throws xds.bad_resource */
export function decodeAddress(bytes: Uint8Array): AddressOwner {
  let message: AddressMessage;
  try {
    message = decodeAddressMessage(bytes);
  } catch (cause) {
    throw badResource('address', 'not an istio.workload.Address message', cause);
  }
  return meshAddress(message);
}

/** @throws xds.bad_resource */
export function meshAddress({ type }: AddressMessage): AddressOwner {
  switch (type.case) {
    case 'workload':
      return { kind: 'workload', workload: meshWorkload(type.value) };
    case 'service':
      return { kind: 'service', service: meshService(type.value) };
    case undefined:
      throw badResource('address', 'neither a workload nor a service');
  }
}

/** @throws xds.bad_resource */
export function meshWorkload(message: WorkloadMessage): Workload {
  const { locality } = message;
  return createWorkload({
    uid: message.uid,
    name: message.name,
    namespace: message.namespace,
    serviceAccount: message.serviceAccount || DEFAULT_SERVICE_ACCOUNT,
    trustDomain: message.trustDomain || DEFAULT_TRUST_DOMAIN,
    clusterId: message.clusterId || DEFAULT_CLUSTER,
    workloadIps: message.addresses.map((bytes, index) => address(`workload.addresses[${index}]`, bytes)),
    protocol: knownEnum('workload.tunnel_protocol', message.tunnelProtocol, PROTOCOLS),
    networkMode: knownEnum('workload.network_mode', message.networkMode, NETWORK_MODES),
    network: message.network,
    node: message.node,
    hostname: message.hostname,
    workloadName: message.workloadName,
    workloadType: WORKLOAD_TYPES.get(message.workloadType) ?? 'deployment',
    canonicalName: message.canonicalName,
    canonicalRevision: message.canonicalRevision,
    nativeTunnel: message.nativeTunnel,
    applicationTunnel: applicationTunnel(message.applicationTunnel),
    authorizationPolicies: message.authorizationPolicies,
    status: knownEnum('workload.status', message.status, STATUSES),
    locality:
      locality === undefined
        ? NO_LOCALITY
        : { region: locality.region, zone: locality.zone, subzone: locality.subzone },
    capacity: message.capacity ?? 1,
    waypoint: optionalGateway('workload.waypoint', message.waypoint),
    networkGateway: optionalGateway('workload.network_gateway', message.networkGateway),
    services: serviceMap('workload.services', message.services),
  });
}

/** @throws xds.bad_resource */
export function meshService(message: ServiceMessage): Service {
  const vips: NetworkAddress[] = [];
  const cidrVips: NetworkCidr[] = [];
  for (const [index, item] of message.addresses.entries()) {
    const cidr = serviceBlock(`service.addresses[${index}]`, item);
    if (cidr.length === maxPrefixLength(cidr.ip)) vips.push({ network: item.network, ip: cidr.ip });
    else cidrVips.push({ network: item.network, cidr });
  }
  return createService({
    name: message.name,
    namespace: message.namespace,
    hostname: message.hostname,
    vips,
    cidrVips,
    ports: portMap(message.ports),
    subjectAltNames: message.subjectAltNames,
    waypoint: optionalGateway('service.waypoint', message.waypoint),
    weightedWaypoints: message.weightedWaypoints.map(({ destination, weight }, index) => {
      const field = `service.weighted_waypoints[${index}].destination`;
      if (destination === undefined) throw badResource(field, 'missing');
      return { destination: gatewayAddress(field, destination), weight };
    }),
    loadBalancer: message.loadBalancing === undefined ? undefined : loadBalancer(message.loadBalancing),
    ipFamilies:
      message.ipFamilies === IPFamilies.AUTOMATIC
        ? undefined
        : knownEnum('service.ip_families', message.ipFamilies, FAMILIES),
    canonical: message.canonical,
    // A namespace-only service that a newer control plane describes in a new way stays reachable, as upstream.
    visibility: message.visibility === Visibility.NAMESPACE ? 'Namespace' : 'Public',
  });
}

function serviceBlock(field: string, message: NetworkAddressMessage): NetworkCidr['cidr'] {
  const ip = address(field, message.address);
  if (message.length === undefined) return { ip, length: maxPrefixLength(ip) };
  const cidr = blockFromBytes(message.address, message.length);
  if (cidr === undefined)
    throw badResource(`${field}.length`, `${message.length} is no prefix length of ${ipFamily(ip)}`);
  return cidr;
}

function applicationTunnel(message: ApplicationTunnelMessage | undefined): ApplicationTunnel | undefined {
  if (message === undefined) return undefined;
  const port = port16(message.port);
  return {
    protocol: knownEnum('workload.application_tunnel.protocol', message.protocol, TUNNEL_KINDS),
    port: port === 0 ? undefined : port,
  };
}

function loadBalancer(message: LoadBalancingMessage): LoadBalancer {
  return {
    routingPreferences: message.routingPreference.map((scope, index) =>
      knownEnum(`service.load_balancing.routing_preference[${index}]`, scope, SCOPES),
    ),
    mode: knownEnum('service.load_balancing.mode', message.mode, MODES),
    healthPolicy: knownEnum('service.load_balancing.health_policy', message.healthPolicy, HEALTH_POLICIES),
  };
}
