// Workloads of this machine as the Kubernetes objects that a control plane reads: one JSON object a document, which is YAML
// too. Pure. A workload is a Pod, and a headless Service of its own name unless somebody gave that name to a service with
// an address; a service with an address selects by a label of its own.
import { REDIRECTION_ANNOTATION, type RedirectionStatus } from '@ambit/cni';
import type { Workload } from './workload.ts';

export const NODE_NAME = 'local';
/** Where ztunnel's account and the mesh-wide policies are. */
export const ROOT_NAMESPACE = 'istio-system';
export const MODE_LABEL = 'istio.io/dataplane-mode';
const SERVICE_LABEL = 'service.ambit.mesh/';

/** A service with addresses, over all workloads that named it. */
export interface LocalService {
  readonly namespace: string;
  readonly name: string;
  readonly ips: readonly string[];
  readonly ports: readonly { readonly port: number; readonly targetPort: number }[];
}

/** What a pod of this machine looks like to a control plane, wherever it comes from. */
export interface PodFacts {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ips: readonly string[];
  readonly createdAt: string;
  readonly status: RedirectionStatus;
}

export function podLabels(workload: Workload): Record<string, string> {
  const { name, version, isMember, services } = workload;
  return {
    app: name,
    ...(version === undefined ? {} : { version }),
    [MODE_LABEL]: isMember ? 'ambient' : 'none',
    ...Object.fromEntries(services.map(service => [`${SERVICE_LABEL}${service.name}`, 'true'])),
  };
}

export function workloadIps({ ip4, ip6 }: Pick<Workload, 'ip4' | 'ip6'>): readonly string[] {
  return ip6 === undefined ? [ip4] : [ip4, ip6];
}

/** All objects of this machine, in an order that depends on nothing but them. */
export function renderObjects(
  pods: readonly PodFacts[],
  headless: readonly { readonly namespace: string; readonly name: string }[],
  services: readonly LocalService[],
): string {
  const namespaces = new Set([ROOT_NAMESPACE, ...pods.map(({ namespace }) => namespace)]);
  const taken = new Set(services.map(({ namespace, name }) => `${namespace}/${name}`));
  const objects = [
    ...Array.from(namespaces, name => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })),
    { apiVersion: 'v1', kind: 'Node', metadata: { name: NODE_NAME } },
    ...pods.map(renderPod),
    ...headless.filter(({ namespace, name }) => !taken.has(`${namespace}/${name}`)).map(renderHeadless),
    ...services.map(renderService),
  ];
  return `${objects.map(object => JSON.stringify(object)).join('\n---\n')}\n`;
}

function renderPod(pod: PodFacts): object {
  const { name, namespace, uid, labels, ips, serviceAccount, createdAt, status } = pod;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      uid,
      labels,
      creationTimestamp: createdAt,
      annotations: status === undefined ? {} : { [REDIRECTION_ANNOTATION]: status },
    },
    spec: { serviceAccountName: serviceAccount, nodeName: NODE_NAME, containers: [{ name: 'main', image: 'local' }] },
    status: {
      phase: 'Running',
      podIP: ips[0],
      podIPs: ips.map(ip => ({ ip })),
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  };
}

function renderHeadless({ namespace, name }: { readonly namespace: string; readonly name: string }): object {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace },
    spec: { clusterIP: 'None', clusterIPs: ['None'], selector: { app: name }, ports: [] },
  };
}

function renderService({ namespace, name, ips, ports }: LocalService): object {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace },
    spec: {
      clusterIP: ips[0],
      clusterIPs: ips,
      selector: { [`${SERVICE_LABEL}${name}`]: 'true' },
      ports: ports.map(({ port, targetPort }) => ({ name: `tcp-${port}`, port, targetPort, protocol: 'TCP' })),
    },
  };
}
