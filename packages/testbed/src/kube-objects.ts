// What a bed consists of, as the Kubernetes objects a control plane reads: pure rendering to JSON, one object a document,
// which is YAML too. Pods have the status that a kubelet would report.
import type { Service } from '@ambit/mesh';
import type { Pod } from './pod.ts';
import type { NodeNet } from './topology.ts';

/** A service and how it finds its pods. */
export interface ServiceFacts {
  readonly service: Service;
  readonly endpoints: { readonly app: string } | { readonly pods: readonly Pod[] };
}

export interface ObjectFacts {
  readonly nodes: readonly NodeNet[];
  readonly pods: readonly Pod[];
  readonly services: readonly ServiceFacts[];
}

type Labels = Readonly<Record<string, string>>;

export function renderObjects({ nodes, pods, services }: ObjectFacts): string {
  const namespaces = new Set(['istio-system', ...pods.map(pod => pod.namespace), ...services.map(namespaceOf)]);
  const objects = [
    ...Array.from(namespaces, name => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })),
    ...nodes.map(({ name }) => ({ apiVersion: 'v1', kind: 'Node', metadata: { name } })),
    ...pods.map(renderPod),
    ...services.flatMap(renderService),
  ];
  return `${objects.map(object => JSON.stringify(object)).join('\n---\n')}\n`;
}

function namespaceOf({ service }: ServiceFacts): string {
  return service.namespace;
}

function renderPod(pod: Pod): object {
  const { name, namespace, uid, app, enrolled } = pod;
  const annotations: Labels = enrolled ? { 'ambient.istio.io/redirection': 'enabled' } : {};
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, uid, labels: { app }, annotations },
    spec: {
      serviceAccountName: pod.serviceAccount,
      nodeName: pod.node.name,
      containers: [{ name: 'app', image: 'app' }],
    },
    status: {
      phase: 'Running',
      podIP: pod.ip4,
      podIPs: [{ ip: pod.ip4 }, { ip: pod.ip6 }],
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  };
}

function renderService({ service, endpoints }: ServiceFacts): object[] {
  const { name, namespace, vips } = service;
  const ports = [...service.ports].map(([port, targetPort]) => ({
    name: `tcp-${port}`,
    port,
    targetPort,
    protocol: 'TCP',
  }));
  const addresses = vips.length === 0 ? ['None'] : vips.map(({ ip }) => ip);
  const selector = 'app' in endpoints ? { selector: { app: endpoints.app } } : {};
  const spec = { clusterIP: addresses[0], clusterIPs: addresses, ports, ...selector };
  const object = { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace }, spec };
  return 'app' in endpoints ? [object] : [object, renderSlice(service, endpoints.pods)];
}

/** For a service whose pods were named one by one. */
function renderSlice({ name, namespace, ports }: Service, pods: readonly Pod[]): object {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${name}-pods`, namespace, labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    endpoints: pods.map(pod => ({
      addresses: [pod.ip4],
      conditions: { ready: true },
      nodeName: pod.node.name,
      targetRef: { kind: 'Pod', name: pod.name, namespace: pod.namespace, uid: pod.uid },
    })),
    ports: [...ports].map(([port, target]) => ({ name: `tcp-${port}`, port: target, protocol: 'TCP' })),
  };
}
