// Test support: short ways to write objects, and to read what a model made of them. Used by tests only.
import {
  addressToJson,
  decodeAddressMessage,
  type Json,
  type ServiceMessage,
  type WorkloadMessage,
} from '@ambit/wire/resources';
import { EMPTY_METADATA } from '../objects/metadata.ts';
import {
  type EndpointSliceObject,
  type GatewayListener,
  type GatewayObject,
  type KubeObject,
  type Labels,
  type Metadata,
  type ObjectChange,
  type PodObject,
  refOf,
  type ServiceEntryObject,
  type ServiceObject,
  type WorkloadEntryObject,
  type WorkloadEntrySpec,
} from '../objects/types.ts';
import { DEFAULT_SETTINGS, type MeshSettings } from '../settings.ts';
import { MeshModel } from './mesh-model.ts';

export function meta(name: string, inNamespace: string, more: Partial<Metadata> = {}): Metadata {
  return { ...EMPTY_METADATA, name, namespace: inNamespace, ...more };
}

export function namespace(name: string, labels: Labels = {}, annotations: Labels = {}): KubeObject {
  return { kind: 'Namespace', metadata: meta(name, '', { labels, annotations }) };
}

export function node(name: string, labels: Labels = {}): KubeObject {
  return { kind: 'Node', metadata: meta(name, '', { labels }) };
}

export function pod(
  name: string,
  labels: Labels = {},
  more: {
    readonly metadata?: Partial<Metadata>;
    readonly spec?: Partial<PodObject['spec']>;
    readonly status?: Partial<PodObject['status']>;
    readonly in?: string;
  } = {},
): PodObject {
  return {
    kind: 'Pod',
    metadata: meta(name, more.in ?? 'a', { labels, ...more.metadata }),
    spec: { serviceAccountName: 'sa', nodeName: 'n1', hostNetwork: false, ports: [], ...more.spec },
    status: { phase: 'Running', podIPs: ['10.0.0.1'], isReady: true, ...more.status },
  };
}

export function service(
  name: string,
  selector: Labels = {},
  more: {
    readonly metadata?: Partial<Metadata>;
    readonly spec?: Partial<ServiceObject['spec']>;
    readonly in?: string;
  } = {},
): ServiceObject {
  return {
    kind: 'Service',
    metadata: meta(name, more.in ?? 'a', more.metadata),
    spec: {
      type: 'ClusterIP',
      clusterIPs: ['10.96.0.1'],
      ports: [{ name: 'http', port: 80, targetPort: 8080, protocol: 'TCP', appProtocol: '' }],
      selector,
      ipFamilies: [],
      internalTrafficPolicy: '',
      trafficDistribution: '',
      publishNotReadyAddresses: false,
      ...more.spec,
    },
  };
}

export function slice(
  name: string,
  serviceName: string,
  endpoints: EndpointSliceObject['endpoints'],
  more: { readonly addressType?: string; readonly ports?: EndpointSliceObject['ports']; readonly in?: string } = {},
): EndpointSliceObject {
  return {
    kind: 'EndpointSlice',
    metadata: meta(name, more.in ?? 'a', { labels: { 'kubernetes.io/service-name': serviceName } }),
    addressType: more.addressType ?? 'IPv4',
    endpoints,
    ports: more.ports ?? [{ name: 'http', port: 9090, protocol: 'TCP' }],
  };
}

export function podEndpoint(name: string, uid = '', inNamespace = 'a'): EndpointSliceObject['endpoints'][number] {
  return {
    addresses: ['10.9.9.9'],
    ready: true,
    nodeName: '',
    targetRef: { kind: 'Pod', namespace: inNamespace, name, uid },
  };
}

export function addressEndpoint(...addresses: string[]): EndpointSliceObject['endpoints'][number] {
  return { addresses, ready: undefined, nodeName: '', targetRef: undefined };
}

export function endpoint(address: string, more: Partial<WorkloadEntrySpec> = {}): WorkloadEntrySpec {
  return { address, ports: {}, labels: {}, network: '', locality: '', weight: 0, serviceAccount: '', ...more };
}

export function workloadEntry(
  name: string,
  spec: WorkloadEntrySpec,
  more: { readonly metadata?: Partial<Metadata>; readonly in?: string } = {},
): WorkloadEntryObject {
  return { kind: 'WorkloadEntry', metadata: meta(name, more.in ?? 'a', more.metadata), spec };
}

export function serviceEntry(
  name: string,
  hosts: readonly string[],
  more: {
    readonly metadata?: Partial<Metadata>;
    readonly spec?: Partial<ServiceEntryObject['spec']>;
    readonly status?: ServiceEntryObject['status'];
    readonly in?: string;
  } = {},
): ServiceEntryObject {
  return {
    kind: 'ServiceEntry',
    metadata: meta(name, more.in ?? 'a', more.metadata),
    spec: {
      hosts,
      addresses: [],
      ports: [{ number: 443, name: 'https', protocol: 'HTTPS', targetPort: 0 }],
      location: 'MESH_EXTERNAL',
      resolution: 'STATIC',
      endpoints: [],
      workloadSelector: undefined,
      subjectAltNames: [],
      ...more.spec,
    },
    status: more.status ?? { addresses: [] },
  };
}

export function tunnelListener(
  allowedRoutes: GatewayListener['allowedRoutes'] = { from: 'Same', selector: undefined },
): GatewayListener {
  return { name: 'mesh', port: 15008, protocol: 'HBONE', tlsMode: '', allowedRoutes };
}

export function gateway(
  name: string,
  more: {
    readonly metadata?: Partial<Metadata>;
    readonly listeners?: readonly GatewayListener[];
    readonly addresses?: GatewayObject['status']['addresses'];
    readonly gatewayClassName?: string;
    readonly in?: string;
  } = {},
): GatewayObject {
  return {
    kind: 'Gateway',
    metadata: meta(name, more.in ?? 'a', more.metadata),
    spec: {
      gatewayClassName: more.gatewayClassName ?? 'istio-waypoint',
      listeners: more.listeners ?? [tunnelListener()],
    },
    status: { addresses: more.addresses ?? [{ type: 'IPAddress', value: '10.96.1.1' }] },
  };
}

export function gatewayClass(name: string, metadata: Partial<Metadata> = {}): KubeObject {
  return { kind: 'GatewayClass', metadata: meta(name, '', metadata), spec: { controllerName: 'x' } };
}

export function put(object: KubeObject): ObjectChange {
  return { ref: refOf(object), object };
}

export function gone(object: KubeObject): ObjectChange {
  return { ref: refOf(object), object: undefined };
}

export function modelOf(objects: readonly KubeObject[], settings: Partial<MeshSettings> = {}): MeshModel {
  const model = new MeshModel({ ...DEFAULT_SETTINGS, ...settings });
  model.apply(objects.map(put));
  return model;
}

/** The workload, decoded. @throws when there is none of that name, so that a test fails by name */
export function workloadIn(model: MeshModel, uid: string): WorkloadMessage {
  const { type } = decodeAddressMessage(bytesOf(model, uid));
  if (type.case !== 'workload') throw new TypeError(`${uid} is no workload`);
  return type.value;
}

export function podIn(model: MeshModel, name: string, inNamespace = 'a'): WorkloadMessage {
  return workloadIn(model, `Kubernetes//Pod/${inNamespace}/${name}`);
}

export function serviceIn(model: MeshModel, key: string): ServiceMessage {
  const { type } = decodeAddressMessage(bytesOf(model, key));
  if (type.case !== 'service') throw new TypeError(`${key} is no service`);
  return type.value;
}

export function jsonIn(model: MeshModel, name: string): Json {
  return addressToJson(decodeAddressMessage(bytesOf(model, name)));
}

export function codesOf(model: MeshModel): string[] {
  return model.diagnostics().map(({ code }) => code);
}

/** `service:target` of each port a workload has for a service. */
export function portsFor(workload: WorkloadMessage, key: string): string[] {
  return (workload.services[key]?.ports ?? []).map(port => `${port.servicePort}:${port.targetPort}`);
}

function bytesOf(model: MeshModel, name: string): Uint8Array {
  const resource = model.address(name);
  if (resource === undefined) {
    throw new RangeError(`no ${name} among ${[...model.addresses()].map(one => one.name).join(', ')}`);
  }
  return resource.value;
}
