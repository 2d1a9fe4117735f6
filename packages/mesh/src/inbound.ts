// What to do with a connection that arrives at a workload: through the tunnel (15008) or in plain text (15006). The
// target is always the address the connection was made to; the authority only says which port and for whom. Fails closed.
import { formatSocketAddress, type Ip, isLoopback, loopbackLike, type SocketAddress } from './address.ts';
import { parseHboneAuthority } from './authority.ts';
import { isGatewayFor, waypointsOf } from './gateway-resolution.ts';
import type { SpiffeId } from './identity.ts';
import type {
  DeliverRoute,
  HboneAuthority,
  InboundDenial,
  InboundPlan,
  InboundRoute,
  ServiceCandidate,
} from './inbound-route.ts';
import { authorize, compilePolicies, policiesFor } from './rbac.ts';
import type { ReasonCode } from './reasons.ts';
import { type Service, summarizeService } from './service.ts';
import { type Step, step } from './step.ts';
import type { MeshView, PodKey } from './view.ts';
import type { PortMap, Workload } from './workload.ts';

/** What both inbound listeners know of their pod. */
export interface InboundContext {
  readonly pod: PodKey;
  /** The pod's workload; undefined while the mesh does not know it. */
  readonly self: Workload | undefined;
  /** The configured network of this node (`NETWORK`). */
  readonly network: string;
  readonly illegalPorts: ReadonlySet<number>;
  /** Whether the application should see the client's address (`ENABLE_ORIG_SRC`, and never for the proxy's own pod). */
  readonly preserveSource: boolean;
  /** `LOCALHOST_APP_TUNNEL`: reach a PROXY tunnel on the loopback address. Default true. */
  readonly localhostAppTunnel?: boolean;
}

export interface InboundInput extends InboundContext {
  /** The address the tunnel's TCP connection was made to. */
  readonly connected: SocketAddress;
  /** `:authority` of the CONNECT as received. */
  readonly authority: string;
}

export interface PassthroughInput extends InboundContext {
  /** Where the plain connection was going before it was redirected. */
  readonly destination: SocketAddress;
}

/** Who connects, for authorization. */
export interface InboundClient {
  readonly source: SocketAddress;
  readonly identity: SpiffeId | undefined;
}

type Refusal = InboundDenial & { readonly status: 400 | 503 };

/** Steps S2 to S5: everything but authorization. */
export function resolveInbound(view: MeshView, input: InboundInput): InboundRoute {
  const { self, connected } = input;
  const authority = parseHboneAuthority(input.authority);
  if (authority === undefined) {
    const error = `no valid authority pseudo header: ${printable(input.authority)}`;
    return refuse(400, 'hbone.no_authority', error, [step('S2', 'the authority is neither ip:port nor hostname:port')]);
  }
  if (self === undefined) return unknownSelf('S3', input.pod);
  const accepted = acceptDestination(view, self, connected, authority, input.network);
  if (accepted === undefined) {
    const asked = authority.kind === 'address' ? authority.address.ip : authority.hostname;
    const text = `${asked} is neither this workload nor anything it is the waypoint of`;
    return refuse(400, 'hbone.ip_mismatch', `ip mismatch: ${connected.ip} != ${asked}`, [step('S4', text)]);
  }
  return nextHop(view, input, self, authority, [step('S4', accepted)]);
}

/** A tunnelled connection with its verdict. Compiles the workload's policies: for explaining, not for the data path. */
export function planInbound(view: MeshView, input: InboundInput & InboundClient): InboundPlan {
  return withVerdict(view, input.self, resolveInbound(view, input), input);
}

/** Steps P1 and P2 of a plain connection: it goes where it was going, and is subject to the same policies. */
export function resolvePassthrough(view: MeshView, input: PassthroughInput): InboundRoute {
  const { destination, self } = input;
  if (input.illegalPorts.has(destination.port)) return selfCall('P1', destination.port, []);
  if (self === undefined) return unknownSelf('P2', input.pod);
  return {
    kind: 'deliver',
    target: destination,
    dial: destination,
    bindSource: input.preserveSource ? 'client' : 'none',
    proxyProtocol: undefined,
    candidateServices: servicesOf(view, self),
    steps: [step('P3', `plain connection to ${formatSocketAddress(destination)}, without an identity`)],
  };
}

/** A plain connection with its verdict. */
export function planPassthrough(
  view: MeshView,
  input: PassthroughInput & { readonly source: SocketAddress },
): InboundPlan {
  return withVerdict(view, input.self, resolvePassthrough(view, input), { source: input.source, identity: undefined });
}

/**
 * The service to report: the one the client named, or else the first that has this port. Never used for routing or
 * policy, since the client's word is not proof.
 */
export function guessService(
  route: DeliverRoute,
  forwardedHost: string | undefined,
  port: number,
): ServiceCandidate | undefined {
  const named =
    forwardedHost === undefined
      ? undefined
      : route.candidateServices.find(candidate => candidate.hostname === forwardedHost);
  return named ?? route.candidateServices.find(candidate => candidate.targetPorts.includes(port));
}

/** S4: why the destination is acceptable, or undefined. */
function acceptDestination(
  view: MeshView,
  self: Workload,
  connected: SocketAddress,
  authority: HboneAuthority,
  network: string,
): string | undefined {
  if (authority.kind === 'hostname') return `asked for ${authority.hostname} by name`;
  const { ip } = authority.address;
  if (ip === connected.ip) return `asked for ${ip}, which is this workload`;
  if (self.applicationTunnel !== undefined) return `asked for ${ip}, which is left to the application tunnel`;
  const owner = view.findAddress(network, ip, undefined);
  if (owner === undefined) return undefined;
  const target = owner.kind === 'workload' ? owner.workload : owner.service;
  const isWaypoint = waypointsOf(target).some(gateway => isGatewayFor(view, gateway, self.uid, connected.ip));
  return isWaypoint ? `asked for ${ip}, whose waypoint this workload is` : undefined;
}

/** S5: port, application tunnel and what to dial. */
function nextHop(
  view: MeshView,
  input: InboundInput,
  self: Workload,
  authority: HboneAuthority,
  steps: Step[],
): InboundRoute {
  const service =
    authority.kind === 'hostname' ? view.serviceByHostname(authority.hostname, self.namespace) : undefined;
  let { port } = authority.kind === 'address' ? authority.address : authority;
  if (authority.kind === 'hostname') {
    if (service === undefined) {
      const error = `no service or workload for hostname: ${authority.hostname}`;
      return refuse(503, 'route.unknown_host', error, steps);
    }
    const mapped = view.endpointPorts(service, self.uid)?.get(port) ?? service.ports.get(port) ?? 0;
    if (mapped === 0) {
      const error = `requested service ${service.hostname}:${port} found, but cannot resolve port`;
      return refuse(503, 'route.no_port', error, steps);
    }
    steps.push(step('S5', `port ${port} of ${service.namespace}/${service.name} is port ${mapped} here`));
    port = mapped;
  }
  if (input.illegalPorts.has(port)) return selfCall('S5', port, steps);

  const tunnel = self.applicationTunnel;
  const target = { ip: input.connected.ip, port: tunnel?.port ?? port };
  const candidateServices = service === undefined ? servicesOf(view, self) : [candidateOf(view, service, self)];
  if (tunnel?.protocol !== 'PROXY') {
    steps.push(step('S5', `deliver to ${formatSocketAddress(target)}`));
    const bindSource = input.preserveSource ? 'client' : 'none';
    return {
      kind: 'deliver',
      target,
      dial: target,
      bindSource,
      proxyProtocol: undefined,
      candidateServices,
      steps,
    };
  }
  const asked = authority.kind === 'address' ? authority.address : vipTarget(service, authority.port, input.network);
  if (asked === undefined) {
    const error = `requested service ${service?.hostname ?? ''} found, but has no IP addresses`;
    return refuse(503, 'route.no_vip', error, steps);
  }
  const useLoopback = input.localhostAppTunnel ?? true;
  const dial = useLoopback ? { ip: loopbackLike(target.ip), port: target.port } : target;
  const described = `${formatSocketAddress(dial)} with a PROXY header for ${formatSocketAddress(asked)}`;
  steps.push(step('S5', `application tunnel: deliver to ${described}`));
  return {
    kind: 'deliver',
    target,
    dial,
    bindSource: useLoopback ? 'loopback' : input.preserveSource ? 'client' : 'none',
    proxyProtocol: { target: asked },
    candidateServices,
    steps,
  };
}

/** The address of a service that a PROXY header should carry: our network before others, IPv4 before IPv6. */
function vipTarget(service: Service | undefined, port: number, network: string): SocketAddress | undefined {
  const vips = service?.vips ?? [];
  const local = vips.filter(vip => vip.network === network);
  const best = local.find(vip => !vip.ip.includes(':')) ?? local[0] ?? vips[0];
  return best === undefined ? undefined : { ip: best.ip, port };
}

function servicesOf(view: MeshView, self: Workload): readonly ServiceCandidate[] {
  const candidates: ServiceCandidate[] = [];
  for (const key of self.services.keys()) {
    const service = view.serviceByKey(key);
    if (service !== undefined) candidates.push(candidateOf(view, service, self));
  }
  return candidates;
}

function candidateOf(view: MeshView, service: Service, self: Workload): ServiceCandidate {
  const own: PortMap | undefined = view.endpointPorts(service, self.uid);
  const targetPorts = new Set([...service.ports.values(), ...(own?.values() ?? [])]);
  targetPorts.delete(0);
  return { ...summarizeService(service), targetPorts: [...targetPorts] };
}

function withVerdict(
  view: MeshView,
  self: Workload | undefined,
  route: InboundRoute,
  client: InboundClient,
): InboundPlan {
  // A route that delivers implies a known workload; the second test is for the compiler.
  if (route.kind === 'deny') return route;
  if (self === undefined) return unknownSelf('S3', { name: '', namespace: '', serviceAccount: '' });
  const verdict = authorize(compilePolicies(policiesFor(view, self).policies), {
    sourceIp: client.source.ip,
    sourcePort: client.source.port,
    identity: client.identity,
    destinationIp: route.target.ip,
    destinationPort: route.target.port,
  });
  const steps = [...route.steps, ...verdict.steps];
  if (!verdict.allowed) return { kind: 'deny', status: 401, reason: verdict.reason, error: verdict.error, steps };
  const bindSource = bindSourceFor(route, client.source.ip);
  return { ...route, bindSource, steps, policy: verdict.policy };
}

/** A client that is the workload itself cannot be imitated towards itself. */
function bindSourceFor(route: DeliverRoute, clientIp: Ip): DeliverRoute['bindSource'] {
  return route.bindSource === 'client' && clientIp === route.dial.ip && !isLoopback(clientIp)
    ? 'none'
    : route.bindSource;
}

function selfCall(id: string, port: number, steps: readonly Step[]): Refusal {
  return refuse(503, 'route.illegal_port', 'attempted recursive call to ourselves', [
    ...steps,
    step(id, `port ${port} belongs to the proxy itself`),
  ]);
}

function unknownSelf(id: string, pod: PodKey): Refusal {
  const error = `failed to fetch information about local workload: ${pod.serviceAccount}.${pod.namespace} (${pod.name})`;
  return refuse(503, 'identity.unknown_source', error, [
    step(id, `pod ${pod.namespace}/${pod.name} is not known to the mesh`),
  ]);
}

function refuse(status: 400 | 503, reason: ReasonCode, error: string, steps: readonly Step[]): Refusal {
  return { kind: 'deny', status, reason, error, steps };
}

const LONGEST_ECHO = 120;

/** A peer's text made safe to put into a log line. */
function printable(text: string): string {
  return text.slice(0, LONGEST_ECHO).replace(/[^\x21-\x7e]/g, '?');
}
