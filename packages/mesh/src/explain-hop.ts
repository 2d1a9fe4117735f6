// One thing a connection could be made to, seen from its far end: how it travels, who must answer, and what the policies
// there say, one by one. A waypoint or gateway in between ends the view: what it decides is its own business.
import { formatSocketAddress, type Ip, type SocketAddress } from './address.ts';
import { isGatewayFor, waypointsOf } from './gateway-resolution.ts';
import { formatIpPort } from './address.ts';
import { planInbound, planPassthrough } from './inbound.ts';
import { type AuthorizationRequest, policiesFor } from './rbac.ts';
import { explainPolicies, type PolicyExplanation } from './rbac-explain.ts';
import type { ReasonCode } from './reasons.ts';
import type { Hop } from './route.ts';
import type { Step } from './step.ts';
import type { MeshView } from './view.ts';
import { type Workload, workloadIdentity } from './workload.ts';

export interface HopTransport {
  /** `tunnel-in-tunnel`: to a gateway of another network, and inside it to the workload. */
  readonly kind: 'tunnel' | 'tunnel-in-tunnel' | 'plaintext';
  /** `ip:port` or `hostname:port`. */
  readonly dial: string;
  /** SPIFFE ids of which whoever answers must present one. */
  readonly mustBe: readonly string[];
}

export interface HopExplanation {
  /** `namespace/name` of the workload that is dialled; undefined outside the mesh. */
  readonly workload: string | undefined;
  readonly node: string;
  readonly isWaypoint: boolean;
  readonly transport: HopTransport;
  /** Where it ends at the workload, `ip:port`; what port policies see. */
  readonly target: string;
  /** Why the far end refuses; undefined when it lets it in. */
  readonly reason: ReasonCode | undefined;
  readonly policies: readonly PolicyExplanation[];
  readonly steps: readonly Step[];
  /** How many further endpoints have the same outcome. */
  readonly alike: number;
}

export interface HopQuestion {
  readonly view: MeshView;
  readonly client: Workload;
  readonly source: SocketAddress;
  readonly network: string;
  /** Whether the client's proxy speaks for it, with its identity. */
  readonly isMember: boolean;
  /** Undefined: plain TCP to where the client was going. */
  readonly hop: Hop | undefined;
  readonly address: SocketAddress;
}

const PROXY_PORTS: ReadonlySet<number> = new Set([15001, 15006, 15008, 15080]);

export function explainHop(question: HopQuestion): HopExplanation {
  const { view, hop, address, network } = question;
  const workload =
    hop === undefined ? view.workloadByAddress(network, address.ip) : view.workloadByUid(hop.workload?.uid ?? '');
  const dialled = hop === undefined ? address : hop.dial;
  const dialText = 'ip' in dialled ? formatSocketAddress(dialled) : `${dialled.hostname}:${dialled.port}`;
  const target = targetOf(question, workload);
  const isTunnel = hop !== undefined && hop.protocol !== 'TCP' && question.isMember;
  const common = {
    workload: workload === undefined ? undefined : `${workload.namespace}/${workload.name}`,
    node: workload?.node ?? '',
    isWaypoint: isTunnel && workload !== undefined && isWaypointOf(question, workload),
    transport: {
      kind: !isTunnel ? 'plaintext' : hop.protocol === 'HBONE' ? 'tunnel' : 'tunnel-in-tunnel',
      dial: isTunnel ? dialText : formatSocketAddress(target),
      mustBe: isTunnel ? (hop.finalIdentities ?? hop.upstreamIdentities) : [],
    },
    target: formatSocketAddress(target),
    alike: 0,
  } as const;
  // Outside the mesh nothing checks policies; behind another network's gateway they cannot be seen from here.
  if (workload === undefined || workload.protocol !== 'HBONE' || hop?.protocol === 'DOUBLEHBONE') {
    return { ...common, reason: undefined, policies: [], steps: [] };
  }
  const plan = inboundPlan(question, workload, isTunnel, target);
  const seen = plan.kind === 'deliver' ? plan.target : target;
  const request: AuthorizationRequest = {
    sourceIp: question.source.ip,
    sourcePort: question.source.port,
    identity: isTunnel ? workloadIdentity(question.client) : undefined,
    destinationIp: seen.ip,
    destinationPort: seen.port,
  };
  return {
    ...common,
    target: formatSocketAddress(seen),
    reason: plan.kind === 'deny' ? plan.reason : undefined,
    policies: explainPolicies(policiesFor(view, workload).policies, request),
    steps: plan.steps,
  };
}

function inboundPlan(question: HopQuestion, workload: Workload, isTunnel: boolean, target: SocketAddress) {
  const { view, client, source, hop } = question;
  const { name, namespace, serviceAccount, network } = workload;
  const context = {
    pod: { name, namespace, serviceAccount },
    self: workload,
    network,
    illegalPorts: PROXY_PORTS,
    preserveSource: true,
  };
  if (!isTunnel) return planPassthrough(view, { ...context, destination: target, source });
  return planInbound(view, {
    ...context,
    connected: { ip: target.ip, port: hop !== undefined && 'ip' in hop.dial ? hop.dial.port : target.port },
    // A hop by name gets its authority when the name is resolved; the workload's own address is what that must be.
    authority: hop?.authority ?? formatIpPort(target.ip, target.port),
    source,
    identity: workloadIdentity(client),
  });
}

/** The workload's address and the port that is asked for there. */
function targetOf({ hop, address }: HopQuestion, workload: Workload | undefined): SocketAddress {
  if (hop === undefined) return address;
  const own: Ip | undefined = 'ip' in hop.dial ? hop.dial.ip : workload?.workloadIps[0];
  const ip = own ?? address.ip;
  if (hop.protocol === 'TCP') return { ip, port: hop.dial.port };
  const asked = 'ip' in hop.dial ? hop.authority : String(hop.dial.authorityPort ?? address.port);
  const port = Number(asked?.slice(asked.lastIndexOf(':') + 1));
  return { ip, port };
}

/** Whether the dialled workload is a waypoint of what the client addressed, and not the destination itself. */
function isWaypointOf({ view, network, client, address }: HopQuestion, workload: Workload): boolean {
  const owner = view.findAddress(network, address.ip, client.namespace);
  if (owner === undefined) return false;
  if (owner.kind === 'workload' && owner.workload.uid === workload.uid) return false;
  const gateways = waypointsOf(owner.kind === 'service' ? owner.service : owner.workload);
  const [ip = address.ip] = workload.workloadIps;
  return gateways.some(gateway => isGatewayFor(view, gateway, workload.uid, ip));
}
