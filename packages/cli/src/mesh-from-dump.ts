// A ztunnel's /config_dump (ours or upstream's) -> the mesh that ztunnel knows. Tolerant: unknown keys are ignored, since
// the dump may come from another version; an entry that cannot be read is left out and named. A value of a policy that
// cannot be read is kept as invalid, which lets less through rather than more.
import {
  createMatch,
  createService,
  createWorkload,
  type Endpoint,
  type GatewayAddress,
  type Ip,
  type IpMatch,
  type KeyedPolicy,
  type LoadBalancer,
  type Match,
  MeshState,
  type NetworkAddress,
  type Policy,
  type PortMap,
  parseCidr,
  parseGatewayDestination,
  parseIp,
  policyKey,
  type Service,
  type ServiceAccountMatch,
  type StringMatch,
  type Workload,
} from '@ambit/mesh';
import type { CertificateRow } from './render/inventory.ts';

export interface DumpedMesh {
  readonly mesh: MeshState;
  /** The ztunnel's own network. */
  readonly network: string;
  readonly certificates: readonly CertificateRow[];
  /** What could not be read, for people. */
  readonly problems: readonly string[];
}

type Raw = Readonly<Record<string, unknown>>;

/** Undefined when the document is no dump at all. */
export function meshFromDump(document: unknown): DumpedMesh | undefined {
  if (!isRaw(document) || !Array.isArray(document['workloads']) || !Array.isArray(document['services']))
    return undefined;
  const problems: string[] = [];
  const all = <T>(key: string, read: (raw: Raw) => T | undefined): T[] =>
    list(document[key]).flatMap((entry, index) => {
      const value = isRaw(entry) ? read(entry) : undefined;
      if (value === undefined) problems.push(`${key}[${index}] cannot be read`);
      return value === undefined ? [] : [value];
    });
  const mesh = new MeshState();
  mesh.applyBatch({
    upsertWorkloads: all('workloads', readWorkload),
    upsertServices: all('services', readService),
    upsertPolicies: all('policies', readPolicy),
  });
  const config = isRaw(document['config']) ? document['config'] : {};
  return { mesh, network: text(config['network']), certificates: all('certificates', readCertificate), problems };
}

function readWorkload(raw: Raw): Workload | undefined {
  const uid = text(raw['uid']);
  if (uid === '') return undefined;
  const tunnel = raw['applicationTunnel'];
  const locality = isRaw(raw['locality']) ? raw['locality'] : {};
  return createWorkload({
    uid,
    name: text(raw['name']),
    namespace: text(raw['namespace']),
    serviceAccount: text(raw['serviceAccount']),
    trustDomain: text(raw['trustDomain']),
    clusterId: text(raw['clusterId']),
    workloadIps: ips(raw['workloadIps']),
    protocol: raw['protocol'] === 'HBONE' ? 'HBONE' : 'TCP',
    networkMode: raw['networkMode'] === 'HostNetwork' ? 'HostNetwork' : 'Standard',
    network: text(raw['network']),
    node: text(raw['node']),
    hostname: text(raw['hostname']),
    workloadName: text(raw['workloadName']),
    workloadType: text(raw['workloadType']),
    canonicalName: text(raw['canonicalName']),
    canonicalRevision: text(raw['canonicalRevision']),
    nativeTunnel: raw['nativeTunnel'] === true,
    applicationTunnel: isRaw(tunnel)
      ? {
          protocol: tunnel['protocol'] === 'PROXY' ? 'PROXY' : 'NONE',
          port: typeof tunnel['port'] === 'number' ? tunnel['port'] : undefined,
        }
      : undefined,
    authorizationPolicies: texts(raw['authorizationPolicies']),
    status: raw['status'] === 'Unhealthy' ? 'Unhealthy' : 'Healthy',
    locality: { region: text(locality['region']), zone: text(locality['zone']), subzone: text(locality['subzone']) },
    capacity: typeof raw['capacity'] === 'number' ? raw['capacity'] : 1,
    waypoint: gateway(raw['waypoint']),
    networkGateway: gateway(raw['networkGateway']),
    services: new Map(entries(raw['services']).map(([key, ports]) => [key, portMap(ports)])),
  });
}

function readService(raw: Raw): Service | undefined {
  const hostname = text(raw['hostname']);
  if (hostname === '') return undefined;
  return createService({
    name: text(raw['name']),
    namespace: text(raw['namespace']),
    hostname,
    vips: texts(raw['vips']).flatMap(networkAddress),
    cidrVips: list(raw['cidrVips']).flatMap(entry => {
      const cidr = isRaw(entry) ? parseCidr(text(entry['cidr'])) : undefined;
      return isRaw(entry) && cidr !== undefined ? [{ network: text(entry['network']), cidr }] : [];
    }),
    ports: portMap(raw['ports']),
    endpoints: new Map(entries(raw['endpoints']).map(([uid, endpoint]) => [uid, readEndpoint(uid, endpoint)])),
    subjectAltNames: texts(raw['subjectAltNames']),
    waypoint: gateway(raw['waypoint']),
    weightedWaypoints: list(raw['weightedWaypoints']).flatMap(entry => {
      const destination = isRaw(entry) ? gateway(entry['destination']) : undefined;
      const weight = isRaw(entry) && typeof entry['weight'] === 'number' ? entry['weight'] : 0;
      return destination === undefined ? [] : [{ destination, weight }];
    }),
    loadBalancer: loadBalancer(raw['loadBalancer']),
    ipFamilies: oneOf(raw['ipFamilies'], ['Dual', 'IPv4', 'IPv6']),
    canonical: raw['canonical'] === true,
    visibility: raw['visibility'] === 'Namespace' ? 'Namespace' : 'Public',
  });
}

function readEndpoint(uid: string, raw: unknown): Endpoint {
  const fields = isRaw(raw) ? raw : {};
  const status = fields['status'] === 'Unhealthy' ? 'Unhealthy' : 'Healthy';
  return { workloadUid: uid, port: portMap(fields['port']), status };
}

function loadBalancer(raw: unknown): LoadBalancer | undefined {
  if (!isRaw(raw)) return undefined;
  const scopes = ['Region', 'Zone', 'Subzone', 'Node', 'Cluster', 'Network'] as const;
  return {
    routingPreferences: list(raw['routingPreferences']).flatMap(scope => oneOf(scope, scopes) ?? []),
    mode: oneOf(raw['mode'], ['Standard', 'Strict', 'Failover', 'Passthrough']) ?? 'Standard',
    healthPolicy: raw['healthPolicy'] === 'AllowAll' ? 'AllowAll' : 'OnlyHealthy',
  };
}

function readPolicy(raw: Raw): KeyedPolicy | undefined {
  const scope = oneOf(raw['scope'], ['Global', 'Namespace', 'WorkloadSelector']);
  const action = oneOf(raw['action'], ['Allow', 'Deny']);
  if (scope === undefined || action === undefined) return undefined;
  const policy: Policy = {
    name: text(raw['name']),
    namespace: text(raw['namespace']),
    scope,
    action,
    dryRun: raw['dryRun'] === true,
    rules: list(raw['rules']).map(rule => list(rule).map(clause => list(clause).map(readMatch))),
  };
  return { key: policyKey(policy), policy };
}

function readMatch(raw: unknown): Match {
  const fields = isRaw(raw) ? raw : {};
  const strings = (key: string): StringMatch[] => list(fields[key]).map(stringMatch);
  const blocks = (key: string): IpMatch[] => list(fields[key]).map(block);
  const accounts = (key: string): ServiceAccountMatch[] =>
    list(fields[key]).map(entry => ({
      namespace: isRaw(entry) ? text(entry['namespace']) : '',
      serviceAccount: isRaw(entry) ? text(entry['serviceAccount']) : '',
    }));
  // Outside 0..65535 is an invalid value to the policy itself.
  const ports = (key: string): number[] => list(fields[key]).map(port => (typeof port === 'number' ? port : -1));
  return createMatch({
    namespaces: strings('namespaces'),
    notNamespaces: strings('notNamespaces'),
    principals: strings('principals'),
    notPrincipals: strings('notPrincipals'),
    serviceAccounts: accounts('serviceAccounts'),
    notServiceAccounts: accounts('notServiceAccounts'),
    sourceIps: blocks('sourceIps'),
    notSourceIps: blocks('notSourceIps'),
    destinationIps: blocks('destinationIps'),
    notDestinationIps: blocks('notDestinationIps'),
    destinationPorts: ports('destinationPorts'),
    notDestinationPorts: ports('notDestinationPorts'),
  });
}

function stringMatch(raw: unknown): StringMatch {
  if (raw === 'Presence') return { kind: 'presence' };
  if (isRaw(raw)) {
    if ('Presence' in raw) return { kind: 'presence' };
    for (const [key, kind] of [
      ['Exact', 'exact'],
      ['Prefix', 'prefix'],
      ['Suffix', 'suffix'],
    ] as const) {
      const value = raw[key];
      if (typeof value === 'string') return { kind, value };
    }
  }
  return { kind: 'invalid', text: JSON.stringify(raw) ?? '' };
}

function block(raw: unknown): IpMatch {
  return parseCidr(text(raw)) ?? { kind: 'invalid', text: JSON.stringify(raw) ?? '' };
}

function readCertificate(raw: Raw): CertificateRow {
  const [leaf] = list(raw['certChain']);
  const fields = isRaw(leaf) ? leaf : {};
  return {
    identity: text(raw['identity']),
    serial: text(fields['serialNumber']),
    notBefore: text(fields['validFrom']),
    notAfter: text(fields['expirationTime']),
    node: '',
    state: typeof raw['state'] === 'string' ? raw['state'] : JSON.stringify(raw['state'] ?? ''),
  };
}

function gateway(raw: unknown): GatewayAddress | undefined {
  const destination = isRaw(raw) ? parseGatewayDestination(text(raw['destination'])) : undefined;
  if (!isRaw(raw) || destination === undefined) return undefined;
  return { destination, hboneMtlsPort: typeof raw['hboneMtlsPort'] === 'number' ? raw['hboneMtlsPort'] : 15008 };
}

function networkAddress(value: string): readonly NetworkAddress[] {
  const slash = value.indexOf('/');
  const ip = parseIp(value.slice(slash + 1));
  return slash < 0 || ip === undefined ? [] : [{ network: value.slice(0, slash), ip }];
}

function portMap(raw: unknown): PortMap {
  return new Map(entries(raw).flatMap(([from, to]) => (typeof to === 'number' ? [[Number(from), to] as const] : [])));
}

function ips(raw: unknown): readonly Ip[] {
  return texts(raw).flatMap(value => parseIp(value) ?? []);
}

function oneOf<const T extends string>(value: unknown, choices: readonly T[]): T | undefined {
  return choices.find(choice => choice === value);
}

function texts(raw: unknown): string[] {
  return list(raw).filter(value => typeof value === 'string');
}

function text(raw: unknown): string {
  return typeof raw === 'string' ? raw : '';
}

function list(raw: unknown): readonly unknown[] {
  return Array.isArray(raw) ? raw : [];
}

function entries(raw: unknown): readonly (readonly [string, unknown])[] {
  return isRaw(raw) ? Object.entries(raw) : [];
}

function isRaw(value: unknown): value is Raw {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
