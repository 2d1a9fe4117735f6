// Ports: what protocol a service port speaks by its name, and which port of a workload answers for it.
import { AppProtocol } from '@ambit/wire/resources';
import type { ContainerPort, ServiceEntryObject, ServiceObject, ServicePort } from '../objects/types.ts';

/**
 * A service port as its workloads need it. Names are known by port number, as in upstream: of two ports with one number
 * (DNS over UDP and TCP) both have the names of the last.
 */
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
  const { ports } = service.spec;
  const known = new Map(ports.map(port => [port.port, port]));
  return ports.map(port => {
    const { name, targetPort } = known.get(port.port) ?? port;
    return {
      servicePort: port.port,
      targetPort: typeof port.targetPort === 'string' ? 0 : (port.targetPort ?? port.port),
      name,
      targetName: typeof targetPort === 'string' ? targetPort : '',
    };
  });
}

export function portsOfServiceEntry(entry: ServiceEntryObject): BoundPort[] {
  const { ports } = entry.spec;
  const known = new Map(ports.map(port => [port.number, port]));
  return ports.map(port => ({
    servicePort: port.number,
    targetPort: port.targetPort === 0 ? port.number : port.targetPort,
    name: (known.get(port.number) ?? port).name,
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
/** Names that upstream knows and the resources cannot express: no guess by number is made for them. */
const INEXPRESSIBLE: ReadonlySet<string> = new Set(['udp', 'http_proxy', 'mongo', 'redis', 'mysql']);

/** Upstream's protocol selection: `appProtocol`, else the name up to its first dash, else well-known numbers. */
export function appProtocolOfService(port: ServicePort): AppProtocol {
  if (port.protocol === 'UDP') return AppProtocol.UNKNOWN;
  const text = port.appProtocol === '' ? port.name : port.appProtocol;
  const standard = port.appProtocol === '' ? undefined : BY_STANDARD_NAME.get(text);
  if (standard !== undefined) return standard;
  const name = text.toLowerCase();
  if (name.startsWith('grpc-web')) return AppProtocol.UNKNOWN;
  const prefix = name.split('-', 1)[0] ?? '';
  const named = BY_NAME.get(prefix);
  if (named !== undefined) return named;
  const isServerFirst = SERVER_FIRST.has(port.port) && !INEXPRESSIBLE.has(prefix);
  return isServerFirst ? AppProtocol.TCP : AppProtocol.UNKNOWN;
}

/** ServiceEntry ports say their protocol; `GRPC-WEB` and the like are no protocol of ours. */
export function appProtocolOfEntry(protocol: string): AppProtocol {
  return BY_NAME.get(protocol.toLowerCase()) ?? AppProtocol.UNKNOWN;
}
