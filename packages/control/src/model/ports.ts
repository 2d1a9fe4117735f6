// Ports: what protocol a service port speaks by its name, and which port of a workload answers for it.
import { AppProtocol } from '@ambit/wire/resources';
import type { ContainerPort, ServiceEntryObject, ServiceObject, ServicePort } from '../objects/types.ts';

/** A service port as its workloads need it. */
export interface BoundPort {
  readonly servicePort: number;
  /** 0: only a workload that knows `targetName` has it. */
  readonly targetPort: number;
  readonly name: string;
  /** A Kubernetes Service's named target port; empty when the target is a number. */
  readonly targetName: string;
}

export interface PortPair {
  readonly servicePort: number;
  readonly targetPort: number;
}

export function portsOfService(service: ServiceObject): BoundPort[] {
  return service.spec.ports.map(port => ({
    servicePort: port.port,
    targetPort: typeof port.targetPort === 'string' ? 0 : (port.targetPort ?? port.port),
    name: port.name,
    targetName: typeof port.targetPort === 'string' ? port.targetPort : '',
  }));
}

export function portsOfServiceEntry(entry: ServiceEntryObject): BoundPort[] {
  return entry.spec.ports.map(port => ({
    servicePort: port.number,
    targetPort: port.targetPort === 0 ? port.number : port.targetPort,
    name: port.name,
    targetName: '',
  }));
}

/** Ports on a pod. A named target that the pod does not have leaves the port out, for this pod. */
export function portsOnPod(
  ports: readonly BoundPort[],
  isServiceEntry: boolean,
  containers: readonly ContainerPort[],
): PortPair[] {
  const pairs: PortPair[] = [];
  for (const { servicePort, targetPort, name, targetName } of ports) {
    if (targetName !== '') {
      const found = containerPort(containers, targetName);
      if (found !== undefined) pairs.push({ servicePort, targetPort: found });
      continue;
    }
    const byName = isServiceEntry && name !== '' ? containerPort(containers, name) : undefined;
    pairs.push({ servicePort, targetPort: byName ?? targetPort });
  }
  return pairs;
}

/** Ports on a WorkloadEntry or an endpoint of a ServiceEntry, which names its own ports. */
export function portsOnEntry(ports: readonly BoundPort[], own: Readonly<Record<string, number>>): PortPair[] {
  const pairs: PortPair[] = [];
  for (const { servicePort, targetPort, name, targetName } of ports) {
    const named = own[targetName === '' ? name : targetName];
    if (targetName !== '' && named === undefined) continue;
    pairs.push({ servicePort, targetPort: named ?? targetPort });
  }
  return pairs;
}

function containerPort(containers: readonly ContainerPort[], name: string): number | undefined {
  return containers.find(port => port.protocol === 'TCP' && port.name === name)?.containerPort;
}

const BY_NAME: ReadonlyMap<string, AppProtocol> = new Map([
  ['http', AppProtocol.HTTP11],
  ['http2', AppProtocol.HTTP2],
  ['grpc', AppProtocol.GRPC],
  ['tls', AppProtocol.TLS],
  ['https', AppProtocol.TLS],
  ['tcp', AppProtocol.TCP],
]);
const BY_STANDARD_NAME: ReadonlyMap<string, AppProtocol> = new Map([
  ['kubernetes.io/h2c', AppProtocol.HTTP2],
  ['kubernetes.io/ws', AppProtocol.HTTP11],
  ['kubernetes.io/wss', AppProtocol.TLS],
]);
/** Protocols where the server speaks first: sniffing for HTTP would hang. */
const SERVER_FIRST: ReadonlySet<number> = new Set([25, 53, 3306, 27017]);

/** Upstream's protocol selection: `appProtocol`, else the name up to its first dash. */
export function appProtocolOfService(port: ServicePort): AppProtocol {
  if (port.protocol === 'UDP') return AppProtocol.UNKNOWN;
  const text = port.appProtocol === '' ? port.name : port.appProtocol;
  if (text === '') return SERVER_FIRST.has(port.port) ? AppProtocol.TCP : AppProtocol.UNKNOWN;
  return BY_STANDARD_NAME.get(text) ?? protocolNamed(text);
}

/** ServiceEntry ports say their protocol; `GRPC-WEB` and the like are no protocol of ours. */
export function appProtocolOfEntry(protocol: string): AppProtocol {
  return BY_NAME.get(protocol.toLowerCase()) ?? AppProtocol.UNKNOWN;
}

function protocolNamed(text: string): AppProtocol {
  const name = text.toLowerCase();
  if (name.startsWith('grpc-web')) return AppProtocol.UNKNOWN;
  const dash = name.indexOf('-');
  return BY_NAME.get(dash < 0 ? name : name.slice(0, dash)) ?? AppProtocol.UNKNOWN;
}
