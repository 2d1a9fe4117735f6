// What the control plane would know, as the local file that ztunnel reads (LOCAL_XDS_PATH): pure rendering of mesh values
// to YAML, and an atomic write. One line an object, so that a person can read and grep it. Values go out as JSON, which
// YAML contains; only the tags of string matches (`!Exact "x"`) are YAML's own.
import { randomUUID } from 'node:crypto';
import { rename, rm, writeFile } from 'node:fs/promises';
import {
  formatCidr,
  formatGatewayDestination,
  type GatewayAddress,
  type IpMatch,
  type Match,
  type Policy,
  type PortMap,
  type Service,
  type StringMatch,
  type Workload,
} from '@ambit/mesh';
import { TestbedError } from './errors.ts';

export interface MeshContents {
  readonly workloads: readonly Workload[];
  readonly services: readonly Service[];
  readonly policies: readonly Policy[];
}

/** @throws testbed.argument for values that the file cannot say (invalid matches, host-less endpoints) */
export function renderMeshFile(contents: MeshContents): string {
  return [
    ...list('workloads', contents.workloads.map(renderWorkload)),
    ...list('policies', contents.policies.map(renderPolicy)),
    ...list('services', contents.services.map(renderService)),
    '',
  ].join('\n');
}

/** Readers see the file before or after, never half of it. */
export async function writeMeshFile(path: string, contents: MeshContents): Promise<void> {
  const text = renderMeshFile(contents);
  const beside = `${path}.${randomUUID()}`;
  try {
    await writeFile(beside, text, { mode: 0o644 });
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}

type Fields = Readonly<Record<string, string | undefined>>;

function list(key: string, items: readonly string[]): string[] {
  return items.length === 0 ? [`${key}: []`] : [`${key}:`, ...items.map(item => `- ${item}`)];
}

function renderWorkload(w: Workload): string {
  return mapping({
    uid: json(w.uid),
    name: json(w.name),
    namespace: json(w.namespace),
    serviceAccount: json(w.serviceAccount),
    trustDomain: json(w.trustDomain),
    clusterId: json(w.clusterId),
    workloadIps: json(w.workloadIps),
    protocol: w.protocol,
    networkMode: w.networkMode,
    network: json(w.network),
    node: json(w.node),
    hostname: json(w.hostname),
    workloadName: json(w.workloadName),
    workloadType: json(w.workloadType),
    canonicalName: json(w.canonicalName),
    canonicalRevision: json(w.canonicalRevision),
    nativeTunnel: json(w.nativeTunnel),
    applicationTunnel: w.applicationTunnel && json(w.applicationTunnel),
    authorizationPolicies: json(w.authorizationPolicies),
    status: w.status,
    // All empty means unknown, which the file says by leaving it out.
    locality: w.locality.region === '' ? undefined : json(w.locality),
    capacity: json(w.capacity),
    waypoint: w.waypoint && gateway(w.waypoint),
    networkGateway: w.networkGateway && gateway(w.networkGateway),
    services: `{${[...w.services].map(([key, ports]) => `${json(key)}: ${portMap(ports)}`).join(', ')}}`,
  });
}

function renderService(s: Service): string {
  const endpoints = [...s.endpoints].map(([uid, endpoint]) => {
    const { workloadUid, port, status } = endpoint;
    return `${json(uid)}: ${mapping({ workloadUid: json(workloadUid), port: portMap(port), status })}`;
  });
  return mapping({
    name: json(s.name),
    namespace: json(s.namespace),
    hostname: json(s.hostname),
    vips: json(s.vips.map(vip => `${vip.network}/${vip.ip}`)),
    cidrVips:
      s.cidrVips.length === 0
        ? undefined
        : json(s.cidrVips.map(c => ({ network: c.network, cidr: formatCidr(c.cidr) }))),
    ports: portMap(s.ports),
    endpoints: endpoints.length === 0 ? undefined : `{${endpoints.join(', ')}}`,
    subjectAltNames: s.subjectAltNames.length === 0 ? undefined : json(s.subjectAltNames),
    waypoint: s.waypoint && gateway(s.waypoint),
    weightedWaypoints:
      s.weightedWaypoints.length === 0
        ? undefined
        : `[${s.weightedWaypoints.map(w => mapping({ destination: gateway(w.destination), weight: json(w.weight) })).join(', ')}]`,
    loadBalancer: s.loadBalancer && json(s.loadBalancer),
    ipFamilies: s.ipFamilies,
    canonical: json(s.canonical),
    visibility: s.visibility,
  });
}

function renderPolicy(p: Policy): string {
  const rules = p.rules.map(rule => `[${rule.map(clause => `[${clause.map(renderMatch).join(', ')}]`).join(', ')}]`);
  return mapping({
    name: json(p.name),
    namespace: json(p.namespace),
    scope: p.scope,
    action: p.action,
    dryRun: json(p.dryRun),
    rules: `[${rules.join(', ')}]`,
  });
}

function renderMatch(m: Match): string {
  return mapping({
    namespaces: several(m.namespaces, stringMatch),
    notNamespaces: several(m.notNamespaces, stringMatch),
    principals: several(m.principals, stringMatch),
    notPrincipals: several(m.notPrincipals, stringMatch),
    serviceAccounts: several(m.serviceAccounts, json),
    notServiceAccounts: several(m.notServiceAccounts, json),
    sourceIps: several(m.sourceIps, ipMatch),
    notSourceIps: several(m.notSourceIps, ipMatch),
    destinationIps: several(m.destinationIps, ipMatch),
    notDestinationIps: several(m.notDestinationIps, ipMatch),
    destinationPorts: several(m.destinationPorts, json),
    notDestinationPorts: several(m.notDestinationPorts, json),
  });
}

function stringMatch(match: StringMatch): string {
  switch (match.kind) {
    case 'exact':
      return `!Exact ${json(match.value)}`;
    case 'prefix':
      return `!Prefix ${json(match.value)}`;
    case 'suffix':
      return `!Suffix ${json(match.value)}`;
    case 'presence':
      return '!Presence []';
    case 'invalid':
      throw new TestbedError('testbed.argument', `a policy match of no meaning: ${match.text}`);
  }
}

function ipMatch(match: IpMatch): string {
  if ('kind' in match) throw new TestbedError('testbed.argument', `a policy address of no meaning: ${match.text}`);
  return json(formatCidr(match));
}

function gateway(address: GatewayAddress): string {
  return mapping({
    destination: json(formatGatewayDestination(address.destination)),
    hboneMtlsPort: json(address.hboneMtlsPort),
  });
}

function several<T>(values: readonly T[], render: (value: T) => string): string | undefined {
  return values.length === 0 ? undefined : `[${values.map(value => render(value)).join(', ')}]`;
}

/** Keys are numbers, which JSON cannot say and the reader insists on. */
function portMap(ports: PortMap): string {
  return `{${[...ports].map(([port, target]) => `${port}: ${target}`).join(', ')}}`;
}

function mapping(fields: Fields): string {
  const parts = Object.entries(fields).flatMap(([key, value]) => (value === undefined ? [] : [`${key}: ${value}`]));
  return `{${parts.join(', ')}}`;
}

function json(value: unknown): string {
  return JSON.stringify(value);
}
