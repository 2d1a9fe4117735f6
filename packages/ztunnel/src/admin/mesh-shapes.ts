// Workloads, services and policies as upstream's config_dump shows them: field names, which fields are left out when they
// say nothing, and texts for addresses (observability.md section 10). Pure.
import {
  formatGatewayDestination,
  type GatewayAddress,
  type IpMatch,
  type Match,
  type Policy,
  type PortMap,
  type Service,
  type ServiceEndpoint,
  type StringMatch,
  formatCidr,
  type Workload,
} from '@ambit/mesh';

export type Shape = Readonly<Record<string, unknown>>;

export function workloadShape(workload: Workload): Shape {
  const { locality } = workload;
  const hasLocality = locality.region !== '' || locality.zone !== '' || locality.subzone !== '';
  return {
    applicationTunnel:
      workload.applicationTunnel === undefined
        ? undefined
        : { port: workload.applicationTunnel.port ?? null, protocol: workload.applicationTunnel.protocol },
    authorizationPolicies: unlessEmpty(workload.authorizationPolicies),
    canonicalName: unlessBlank(workload.canonicalName),
    canonicalRevision: unlessBlank(workload.canonicalRevision),
    capacity: workload.capacity,
    clusterId: workload.clusterId,
    hostname: unlessBlank(workload.hostname),
    locality: hasLocality ? locality : undefined,
    name: workload.name,
    namespace: workload.namespace,
    nativeTunnel: workload.nativeTunnel || undefined,
    network: unlessBlank(workload.network),
    networkGateway: gatewayShape(workload.networkGateway),
    networkMode: workload.networkMode,
    node: unlessBlank(workload.node),
    protocol: workload.protocol,
    serviceAccount: unlessBlank(workload.serviceAccount),
    services: unlessEmpty([...workload.services.keys()]),
    status: workload.status,
    trustDomain: unlessBlank(workload.trustDomain),
    uid: unlessBlank(workload.uid),
    waypoint: gatewayShape(workload.waypoint),
    workloadIps: workload.workloadIps,
    workloadName: unlessBlank(workload.workloadName),
    workloadType: unlessBlank(workload.workloadType),
  };
}

/** `endpoints` as MeshView gives them: those that workloads contribute and those that the service declares. */
export function serviceShape(service: Service, endpoints: readonly ServiceEndpoint[]): Shape {
  const { loadBalancer, weightedWaypoints } = service;
  return {
    canonical: service.canonical,
    cidrVips: unlessEmpty(service.cidrVips.map(({ network, cidr }) => ({ cidr: formatCidr(cidr), network }))),
    endpoints: Object.fromEntries(
      endpoints.map(({ workload, ports, isHealthy }) => [
        workload.uid,
        { port: portsShape(ports), status: isHealthy ? 'Healthy' : 'Unhealthy', workloadUid: workload.uid },
      ]),
    ),
    hostname: service.hostname,
    ipFamilies: service.ipFamilies,
    loadBalancer,
    name: service.name,
    namespace: service.namespace,
    ports: portsShape(service.ports),
    subjectAltNames: service.subjectAltNames,
    vips: service.vips.map(({ network, ip }) => `${network}/${ip}`),
    visibility: service.visibility,
    waypoint: gatewayShape(service.waypoint),
    weightedWaypoints: unlessEmpty(
      weightedWaypoints.map(({ destination, weight }) => ({ destination: gatewayShape(destination), weight })),
    ),
  };
}

export function policyShape(policy: Policy): Shape {
  return {
    action: policy.action,
    dryRun: policy.dryRun,
    name: policy.name,
    namespace: policy.namespace,
    rules: policy.rules.map(rule => rule.map(clause => clause.map(matchShape))),
    scope: policy.scope,
  };
}

function matchShape(match: Match): Shape {
  return {
    destinationIps: unlessEmpty(match.destinationIps.map(ipShape)),
    destinationPorts: unlessEmpty(match.destinationPorts),
    namespaces: unlessEmpty(match.namespaces.map(stringShape)),
    notDestinationIps: unlessEmpty(match.notDestinationIps.map(ipShape)),
    notDestinationPorts: unlessEmpty(match.notDestinationPorts),
    notNamespaces: unlessEmpty(match.notNamespaces.map(stringShape)),
    notPrincipals: unlessEmpty(match.notPrincipals.map(stringShape)),
    notServiceAccounts: unlessEmpty(match.notServiceAccounts),
    notSourceIps: unlessEmpty(match.notSourceIps.map(ipShape)),
    principals: unlessEmpty(match.principals.map(stringShape)),
    serviceAccounts: unlessEmpty(match.serviceAccounts),
    sourceIps: unlessEmpty(match.sourceIps.map(ipShape)),
  };
}

function stringShape(match: StringMatch): Shape {
  switch (match.kind) {
    case 'exact':
      return { Exact: match.value };
    case 'prefix':
      return { Prefix: match.value };
    case 'suffix':
      return { Suffix: match.value };
    case 'presence':
      return { Presence: [] };
    case 'invalid':
      // Not upstream's: it drops what it cannot read.
      return { Invalid: match.text };
  }
}

function ipShape(match: IpMatch): string | Shape {
  return 'kind' in match ? { Invalid: match.text } : formatCidr(match);
}

function gatewayShape(gateway: GatewayAddress | undefined): Shape | undefined {
  if (gateway === undefined) return undefined;
  return { destination: formatGatewayDestination(gateway.destination), hboneMtlsPort: gateway.hboneMtlsPort };
}

function portsShape(ports: PortMap): Shape {
  return Object.fromEntries(ports);
}

function unlessBlank(text: string): string | undefined {
  return text === '' ? undefined : text;
}

function unlessEmpty<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length === 0 ? undefined : list;
}
