// A service: names, addresses and rules for choosing among its endpoints (xDS `istio.workload.Service`, local YAML,
// config_dump). Plain data. Endpoints mostly come from the workloads themselves (`Workload.services`); a local file may
// add some here.
import type { Cidr, Ip } from './address.ts';
import type { GatewayAddress, WeightedWaypoint } from './gateway.ts';
import type { HealthStatus, PortMap } from './workload.ts';

export type RoutingScope = 'Region' | 'Zone' | 'Subzone' | 'Node' | 'Cluster' | 'Network';
export type LoadBalancerMode = 'Standard' | 'Strict' | 'Failover' | 'Passthrough';
export type HealthPolicy = 'OnlyHealthy' | 'AllowAll';
export type IpFamilies = 'Dual' | 'IPv4' | 'IPv6';
export type Visibility = 'Public' | 'Namespace';

export interface NetworkAddress {
  readonly network: string;
  readonly ip: Ip;
}

export interface NetworkCidr {
  readonly network: string;
  readonly cidr: Cidr;
}

export interface LoadBalancer {
  /** Compared with the client in this order; a longer run of equal scopes is a better endpoint. */
  readonly routingPreferences: readonly RoutingScope[];
  readonly mode: LoadBalancerMode;
  readonly healthPolicy: HealthPolicy;
}

/** An endpoint declared by the service itself. */
export interface Endpoint {
  readonly workloadUid: string;
  readonly port: PortMap;
  readonly status: HealthStatus;
}

export interface Service {
  readonly name: string;
  readonly namespace: string;
  readonly hostname: string;
  readonly vips: readonly NetworkAddress[];
  readonly cidrVips: readonly NetworkCidr[];
  readonly ports: PortMap;
  /** By workload uid. */
  readonly endpoints: ReadonlyMap<string, Endpoint>;
  /** Further SPIFFE ids an endpoint may present. */
  readonly subjectAltNames: readonly string[];
  readonly waypoint: GatewayAddress | undefined;
  readonly weightedWaypoints: readonly WeightedWaypoint[];
  readonly loadBalancer: LoadBalancer | undefined;
  /** Undefined does not restrict. */
  readonly ipFamilies: IpFamilies | undefined;
  readonly canonical: boolean;
  readonly visibility: Visibility;
}

/** What records, metrics and logs need to know of a service. */
export interface ServiceSummary {
  readonly namespace: string;
  readonly name: string;
  readonly hostname: string;
}

export type ServiceFields = Pick<Service, 'name' | 'namespace' | 'hostname'> & Partial<Service>;

const NO_PORTS: PortMap = new Map();
const NO_ENDPOINTS: ReadonlyMap<string, Endpoint> = new Map();

/** A complete service from the fields that are known; the rest is empty, public, not canonical. */
export function createService(fields: ServiceFields): Service {
  return {
    name: fields.name,
    namespace: fields.namespace,
    hostname: fields.hostname,
    vips: fields.vips ?? [],
    cidrVips: fields.cidrVips ?? [],
    ports: fields.ports ?? NO_PORTS,
    endpoints: fields.endpoints ?? NO_ENDPOINTS,
    subjectAltNames: fields.subjectAltNames ?? [],
    waypoint: fields.waypoint,
    weightedWaypoints: fields.weightedWaypoints ?? [],
    loadBalancer: fields.loadBalancer,
    ipFamilies: fields.ipFamilies,
    canonical: fields.canonical ?? false,
    visibility: fields.visibility ?? 'Public',
  };
}

/** Primary key of a service, and the key under which workloads name it: `namespace/hostname`. */
export function serviceKey(service: Pick<Service, 'namespace' | 'hostname'>): string {
  return `${service.namespace}/${service.hostname}`;
}

export function summarizeService(service: Service): ServiceSummary {
  return { namespace: service.namespace, name: service.name, hostname: service.hostname };
}
