// ServiceEntry and WorkloadEntry (networking.istio.io). Names of fields and enums are those of the API; integers and
// enums may also be written as proto JSON allows.
import type { Fields } from './fields.ts';
import type { EntryPort, ServiceEntryObject, WorkloadEntryObject, WorkloadEntrySpec } from './types.ts';

type Body<T> = Omit<T, 'kind' | 'metadata'>;

const ENTRY_FIELDS = ['address', 'ports', 'labels', 'network', 'locality', 'weight', 'serviceAccount'];
const SERVICE_FIELDS = [
  'hosts',
  'addresses',
  'ports',
  'location',
  'resolution',
  'endpoints',
  'workloadSelector',
  'exportTo',
  'subjectAltNames',
];
const LOCATIONS = ['MESH_EXTERNAL', 'MESH_INTERNAL'] as const;
const RESOLUTIONS = ['NONE', 'STATIC', 'DNS', 'DNS_ROUND_ROBIN', 'DYNAMIC_DNS'] as const;
const MAX_UINT32 = 0xffff_ffff;

export function readWorkloadEntry(object: Fields): Body<WorkloadEntryObject> {
  const spec = object.requiredChild('spec');
  return { spec: spec === undefined ? EMPTY_ENTRY : readEntrySpec(spec) };
}

const EMPTY_ENTRY: WorkloadEntrySpec = {
  address: '',
  ports: {},
  labels: {},
  network: '',
  locality: '',
  weight: 0,
  serviceAccount: '',
};

function readEntrySpec(spec: Fields): WorkloadEntrySpec {
  spec.only(ENTRY_FIELDS);
  return {
    address: spec.text('address'),
    ports: spec.integers('ports', 1, 65535),
    labels: spec.labels('labels'),
    network: spec.text('network'),
    locality: spec.text('locality'),
    weight: spec.integer('weight', 0, MAX_UINT32) ?? 0,
    serviceAccount: spec.text('serviceAccount'),
  };
}

export function readServiceEntry(object: Fields): Body<ServiceEntryObject> {
  const spec = object.requiredChild('spec');
  const status = object.child('status');
  const addresses = (status?.children('addresses') ?? []).map(address => ({
    value: address.text('value'),
    host: address.text('host'),
  }));
  return { spec: spec === undefined ? EMPTY_SERVICE : readServiceSpec(spec), status: { addresses } };
}

const EMPTY_SERVICE: ServiceEntryObject['spec'] = {
  hosts: [],
  addresses: [],
  ports: [],
  location: 'MESH_EXTERNAL',
  resolution: 'NONE',
  endpoints: [],
  workloadSelector: undefined,
  subjectAltNames: [],
};

function readServiceSpec(spec: Fields): ServiceEntryObject['spec'] {
  spec.only(SERVICE_FIELDS);
  const hosts = spec.texts('hosts');
  if (hosts.length === 0) spec.missing('hosts', 'at least one host name');
  const selector = spec.child('workloadSelector');
  selector?.only(['labels']);
  return {
    hosts,
    addresses: spec.texts('addresses'),
    ports: spec.children('ports').map(readEntryPort),
    location: spec.choice('location', LOCATIONS, 'MESH_EXTERNAL', LOCATIONS),
    resolution: spec.choice('resolution', RESOLUTIONS, 'NONE', RESOLUTIONS),
    endpoints: spec.children('endpoints').map(readEntrySpec),
    workloadSelector: selector?.labels('labels'),
    subjectAltNames: spec.texts('subjectAltNames'),
  };
}

function readEntryPort(port: Fields): EntryPort {
  port.only(['number', 'name', 'protocol', 'targetPort']);
  return {
    number: port.requiredPort('number'),
    name: port.requiredText('name'),
    protocol: port.text('protocol'),
    targetPort: port.integer('targetPort', 0, 65535) ?? 0,
  };
}
