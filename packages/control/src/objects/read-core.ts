// Kubernetes' own kinds: Pod, Service, EndpointSlice (the others are metadata only). Only fields that the mesh uses are
// looked at, so what Kubernetes adds in later versions does not matter. Defaults are those of the API server, because
// objects in files have not been through one.
import { type Fields, isRawObject } from './fields.ts';
import type {
  ContainerPort,
  EndpointSliceObject,
  PodObject,
  ServiceObject,
  ServicePort,
  SliceEndpoint,
} from './types.ts';

type Body<T> = Omit<T, 'kind' | 'metadata'>;

export function readPod(object: Fields): Body<PodObject> {
  const spec = object.child('spec');
  const status = object.child('status');
  return {
    spec: {
      serviceAccountName: spec?.text('serviceAccountName', 'default') ?? 'default',
      nodeName: spec?.text('nodeName') ?? '',
      hostNetwork: spec?.flag('hostNetwork') ?? false,
      ports: spec === undefined ? [] : readContainerPorts(spec),
    },
    status: {
      phase: status?.text('phase') ?? '',
      podIPs: status === undefined ? [] : readPodIps(status),
      isReady: status !== undefined && isReady(status),
    },
  };
}

function readContainerPorts(spec: Fields): readonly ContainerPort[] {
  const ports: ContainerPort[] = [];
  for (const container of spec.children('containers')) addPorts(container, ports);
  if (spec.has('initContainers')) {
    for (const container of spec.children('initContainers')) {
      // Only these stay beside the main containers (KEP-753); the others have ended before the pod is reachable.
      if (container.raw('restartPolicy') === 'Always') addPorts(container, ports);
    }
  }
  return ports;
}

function addPorts(container: Fields, ports: ContainerPort[]): void {
  for (const port of container.children('ports')) {
    ports.push({
      name: port.text('name'),
      containerPort: port.requiredPort('containerPort'),
      protocol: port.text('protocol', 'TCP'),
    });
  }
}

function readPodIps(status: Fields): readonly string[] {
  const ips: string[] = [];
  for (const entry of status.children('podIPs')) ips.push(entry.requiredText('ip'));
  if (ips.length > 0) return ips;
  const only = status.text('podIP');
  return only === '' ? [] : [only];
}

function isReady(status: Fields): boolean {
  const conditions = status.raw('conditions');
  if (!Array.isArray(conditions)) return false;
  return conditions.some(item => isRawObject(item) && item['type'] === 'Ready' && item['status'] === 'True');
}

export function readService(object: Fields): Body<ServiceObject> {
  const spec = object.child('spec');
  if (spec === undefined) {
    object.missing('spec', 'ports and a selector');
    return { spec: EMPTY_SERVICE };
  }
  const clusterIP = spec.text('clusterIP');
  const clusterIPs = spec.texts('clusterIPs');
  return {
    spec: {
      type: spec.text('type', 'ClusterIP'),
      clusterIPs: clusterIPs.length > 0 || clusterIP === '' ? clusterIPs : [clusterIP],
      ports: spec.children('ports').map(readServicePort),
      selector: spec.labels('selector'),
      ipFamilies: spec.texts('ipFamilies'),
      internalTrafficPolicy: spec.text('internalTrafficPolicy'),
      trafficDistribution: spec.text('trafficDistribution'),
      publishNotReadyAddresses: spec.flag('publishNotReadyAddresses') ?? false,
    },
  };
}

const EMPTY_SERVICE: ServiceObject['spec'] = {
  type: 'ClusterIP',
  clusterIPs: [],
  ports: [],
  selector: {},
  ipFamilies: [],
  internalTrafficPolicy: '',
  trafficDistribution: '',
  publishNotReadyAddresses: false,
};

function readServicePort(port: Fields): ServicePort {
  const target = port.raw('targetPort');
  // Text that is all digits is a name to Kubernetes and never found; no name of a port may be without a letter.
  const isName = typeof target === 'string' && !/^\d*$/.test(target);
  return {
    name: port.text('name'),
    port: port.requiredPort('port'),
    // 0 is how the API writes "not set" in some clients.
    targetPort: isName ? target : port.integer('targetPort', 0, 65535) || undefined,
    protocol: port.text('protocol', 'TCP'),
    appProtocol: port.text('appProtocol'),
  };
}

export function readEndpointSlice(object: Fields): Body<EndpointSliceObject> {
  return {
    addressType: object.requiredText('addressType'),
    endpoints: object.children('endpoints').map(readSliceEndpoint),
    ports: object.children('ports').map(port => ({
      name: port.text('name'),
      port: port.integer('port', 0, 65535) ?? 0,
      protocol: port.text('protocol', 'TCP'),
    })),
  };
}

function readSliceEndpoint(endpoint: Fields): SliceEndpoint {
  const target = endpoint.child('targetRef');
  return {
    addresses: endpoint.texts('addresses'),
    ready: endpoint.child('conditions')?.flag('ready'),
    nodeName: endpoint.text('nodeName'),
    targetRef:
      target === undefined
        ? undefined
        : {
            kind: target.text('kind'),
            namespace: target.text('namespace'),
            name: target.text('name'),
            uid: target.text('uid'),
          },
  };
}
