// The shape of the local configuration file (Istio ztunnel's LOCAL_XDS_PATH format) and its translation into mesh
// types. Unknown keys are errors. Defaults are the file format's own (`serviceAccount` and `trustDomain` are empty, not
// `default` and `cluster.local`). Imported only when there is a file to read: the validation library is not small.
import {
  createMatch,
  createService,
  createWorkload,
  type GatewayAddress,
  type Ip,
  parseCidr,
  parseGatewayDestination,
  parseIp,
  type PortMap,
  type Service,
  type StringMatch,
  type Workload,
} from '@ambit/mesh';
import { z } from 'zod';

/** Where a text of the file must become something else, `parse` says what; undefined is an issue named `expected`. */
function parsed<T>(parse: (text: string) => T | undefined, expected: string): z.ZodType<T, string> {
  return z.string().transform((text, context): T => {
    const value = parse(text);
    if (value !== undefined) return value;
    context.addIssue({ code: 'custom', message: `expected ${expected}, got ${JSON.stringify(text)}` });
    return z.NEVER;
  });
}

const port = z.int().min(0).max(65535);
const ip = parsed(parseIp, 'an IP address');
const cidr = parsed(parseCidr, 'an address block such as 10.0.0.0/24');

/** `{80: 8080}`; YAML keys arrive as text. */
const portMap = z.record(z.string(), port).transform((record, context): PortMap => {
  const map = new Map<number, number>();
  for (const [key, target] of Object.entries(record)) {
    const from = /^\d{1,5}$/.test(key) ? Number(key) : Number.NaN;
    if (from <= 65535) map.set(from, target);
    else context.addIssue({ code: 'custom', message: `expected a port, got ${JSON.stringify(key)}`, path: [key] });
  }
  return map;
});

const gateway: z.ZodType<GatewayAddress> = z.strictObject({
  destination: parsed(parseGatewayDestination, 'network/ip or namespace/hostname'),
  hboneMtlsPort: port,
});

const workload = z
  .strictObject({
    uid: z.string().default(''),
    name: z.string().default(''),
    namespace: z.string(),
    serviceAccount: z.string().default(''),
    trustDomain: z.string().default(''),
    clusterId: z.string().default(''),
    workloadIps: z.array(ip),
    protocol: z.enum(['TCP', 'HBONE']).default('TCP'),
    networkMode: z.enum(['Standard', 'HostNetwork']).default('Standard'),
    network: z.string().default(''),
    node: z.string().default(''),
    hostname: z.string().default(''),
    workloadName: z.string().default(''),
    workloadType: z.string().default(''),
    canonicalName: z.string().default(''),
    canonicalRevision: z.string().default(''),
    nativeTunnel: z.boolean().default(false),
    applicationTunnel: z
      .strictObject({
        protocol: z.enum(['NONE', 'PROXY']),
        port: port.nullish().transform(value => value ?? undefined),
      })
      .nullish()
      .transform(value => value ?? undefined),
    authorizationPolicies: z.array(z.string()).default([]),
    status: z.enum(['Healthy', 'Unhealthy']).default('Healthy'),
    locality: z
      .strictObject({ region: z.string(), zone: z.string(), subzone: z.string() })
      .default({ region: '', zone: '', subzone: '' }),
    capacity: z.int().min(0).max(0xffff_ffff).default(1),
    waypoint: gateway.nullish().transform(value => value ?? undefined),
    networkGateway: gateway.nullish().transform(value => value ?? undefined),
    services: z.record(z.string().includes('/', { error: 'expected namespace/hostname' }), portMap),
  })
  .transform((fields): Workload => createWorkload({ ...fields, services: new Map(Object.entries(fields.services)) }));

/** Produced by the YAML tags (`!Exact foo`) as well as by the plain form `{Exact: foo}`, which JSON needs. */
const stringMatch: z.ZodType<StringMatch> = z
  .union([
    z.strictObject({ Exact: z.string() }),
    z.strictObject({ Prefix: z.string() }),
    z.strictObject({ Suffix: z.string() }),
    z.strictObject({ Presence: z.unknown() }),
  ])
  .transform((match): StringMatch => {
    if ('Exact' in match) return { kind: 'exact', value: match.Exact };
    if ('Prefix' in match) return { kind: 'prefix', value: match.Prefix };
    return 'Suffix' in match ? { kind: 'suffix', value: match.Suffix } : { kind: 'presence' };
  });

const strings = z.array(stringMatch).default([]);
const blocks = z.array(cidr).default([]);
const ports = z.array(port).default([]);
const accounts = z.array(z.strictObject({ namespace: z.string(), serviceAccount: z.string() })).default([]);

const match = z
  .strictObject({
    namespaces: strings,
    notNamespaces: strings,
    principals: strings,
    notPrincipals: strings,
    serviceAccounts: accounts,
    notServiceAccounts: accounts,
    sourceIps: blocks,
    notSourceIps: blocks,
    destinationIps: blocks,
    notDestinationIps: blocks,
    destinationPorts: ports,
    notDestinationPorts: ports,
  })
  .transform(lists => createMatch(lists));

// Nothing of a policy has a default: a forgotten scope or action must never widen what it lets through.
const policy = z.strictObject({
  name: z.string(),
  namespace: z.string(),
  scope: z.enum(['Global', 'Namespace', 'WorkloadSelector']),
  action: z.enum(['Allow', 'Deny']),
  dryRun: z.boolean(),
  rules: z.array(z.array(z.array(match))),
});

/** `network/ip`, split at the first slash. */
function parseNetworkIp(text: string): { readonly network: string; readonly ip: Ip } | undefined {
  const slash = text.indexOf('/');
  const address = slash < 0 ? undefined : parseIp(text.slice(slash + 1));
  return address === undefined ? undefined : { network: text.slice(0, slash), ip: address };
}

const endpoint = z.strictObject({
  workloadUid: z.string(),
  port: portMap.default(new Map()),
  status: z.enum(['Healthy', 'Unhealthy']).default('Healthy'),
});

const service = z
  .strictObject({
    name: z.string(),
    namespace: z.string(),
    hostname: z.string(),
    vips: z.array(parsed(parseNetworkIp, 'network/ip')).default([]),
    cidrVips: z.array(z.strictObject({ network: z.string(), cidr })).default([]),
    ports: portMap.default(new Map()),
    endpoints: z.record(z.string(), endpoint).default({}),
    subjectAltNames: z.array(z.string()).default([]),
    waypoint: gateway.nullish().transform(value => value ?? undefined),
    weightedWaypoints: z
      .array(z.strictObject({ destination: gateway, weight: z.int().min(0).max(0xffff_ffff) }))
      .default([]),
    loadBalancer: z
      .strictObject({
        routingPreferences: z.array(z.enum(['Region', 'Zone', 'Subzone', 'Node', 'Cluster', 'Network'])),
        mode: z.enum(['Standard', 'Strict', 'Failover', 'Passthrough']),
        healthPolicy: z.enum(['OnlyHealthy', 'AllowAll']),
      })
      .nullish()
      .transform(value => value ?? undefined),
    ipFamilies: z
      .enum(['Dual', 'IPv4', 'IPv6'])
      .nullish()
      .transform(value => value ?? undefined),
    canonical: z.boolean().default(false),
    visibility: z.enum(['Public', 'Namespace']).default('Public'),
  })
  .transform((fields): Service => createService({ ...fields, endpoints: new Map(Object.entries(fields.endpoints)) }));

/** The whole file. */
export const localConfigSchema = z.strictObject({
  workloads: z.array(workload).default([]),
  policies: z.array(policy).default([]),
  services: z.array(service).default([]),
});

const KEYS_BY_PLACE: Readonly<Record<string, readonly string[]>> = {
  '': shapeKeys(localConfigSchema),
  workloads: shapeKeys(workload),
  policies: shapeKeys(policy),
  'policies.rules': shapeKeys(match),
  services: shapeKeys(service),
  'services.endpoints': shapeKeys(endpoint),
};
const NESTED_KEYS = (
  'destination hboneMtlsPort region zone subzone protocol port weight network cidr namespace serviceAccount ' +
  'routingPreferences mode healthPolicy Exact Prefix Suffix Presence'
).split(' ');

/** The keys that the object at `path` may have; for naming the nearest to an unknown one. */
export function knownKeysAt(path: readonly PropertyKey[]): readonly string[] {
  const keys = path.filter(step => typeof step === 'string');
  // The third is an endpoint's uid, which is data.
  const place = keys.length === 3 && keys[1] === 'endpoints' ? keys.slice(0, 2) : keys;
  return KEYS_BY_PLACE[place.join('.')] ?? NESTED_KEYS;
}

function shapeKeys(schema: z.ZodObject | z.ZodPipe): readonly string[] {
  const object = schema instanceof z.ZodPipe ? schema.in : schema;
  return object instanceof z.ZodObject ? Object.keys(object.shape) : [];
}
