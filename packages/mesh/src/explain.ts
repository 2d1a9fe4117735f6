// Whether one workload could talk to a destination, and why: the real planners asked at both ends (outbound at the client,
// inbound and policies at whatever would be dialled), for every different kind of endpoint. For people and CI, not the data
// path. It tells what the configuration says, not what the network does: nothing is dialled.
import { formatSocketAddress, type Ip, type SocketAddress } from './address.ts';
import { findDestination, findSource, shortName, type Destination } from './explain-names.ts';
import { explainHop, type HopExplanation } from './explain-hop.ts';
import { formatGatewayDestination } from './gateway.ts';
import { waypointsOf } from './gateway-resolution.ts';
import { resolveOutbound } from './outbound.ts';
import type { ReasonCode } from './reasons.ts';
import { reasonOf } from './reasons.ts';
import type { Hop, OutboundRoute } from './route.ts';
import type { Service } from './service.ts';
import { type Step, step } from './step.ts';
import type { AddressOwner, MeshView } from './view.ts';
import { type Workload, workloadSpiffeText } from './workload.ts';

export interface ExplainQuestion {
  /** `namespace/workload`, an IP address, or a uid. */
  readonly source: string;
  /** `namespace/service[:port]`, `namespace/workload[:port]`, `hostname[:port]` or `ip[:port]`. */
  readonly destination: string;
  /** Where addresses are looked up: the network of the client's node. */
  readonly network: string;
}

/** `plaintext`: it goes through, and nothing encrypts it. `unknown`: the question cannot be answered as it stands. */
export type ExplainVerdict = 'allowed' | 'denied' | 'plaintext' | 'unknown';

export type ExplainReason = ReasonCode | 'explain.unknown_name' | 'explain.port_needed';

export interface ExplainedSource {
  /** `namespace/name`. */
  readonly name: string;
  readonly node: string;
  /** SPIFFE id; undefined for a workload outside the mesh. */
  readonly identity: string | undefined;
  readonly ip: string;
}

export interface ExplainedDestination {
  readonly kind: 'service' | 'workload' | 'address';
  /** `namespace/name`, or the address when it belongs to nothing in the mesh. */
  readonly name: string;
  /** `ip:port` as the client dials it. */
  readonly address: string;
  /** Of a service; 1 for a workload, 0 for an unknown address. */
  readonly endpoints: number;
  readonly healthy: number;
}

export interface ConnectionExplanation {
  readonly verdict: ExplainVerdict;
  /** Undefined when it is allowed. */
  readonly reason: ExplainReason | undefined;
  /** One sentence. */
  readonly summary: string;
  readonly source: ExplainedSource | undefined;
  readonly destination: ExplainedDestination | undefined;
  /** References to its waypoints; empty when it has none. */
  readonly waypoints: readonly string[];
  /**
   * What could be dialled, one entry for each different outcome, most preferred first. The verdict is that of the worst:
   * a connection that only some endpoints accept is not allowed.
   */
  readonly hops: readonly HopExplanation[];
  readonly steps: readonly Step[];
  /** What to do or look at next. */
  readonly next: string;
  /** Names or ports to choose from, when the question was not clear. */
  readonly choices: readonly string[];
}

const PROXY_PORTS: ReadonlySet<number> = new Set([15001, 15006, 15008, 15080]);

export function explainConnection(view: MeshView, question: ExplainQuestion): ConnectionExplanation {
  const source = findSource(view, question.network, question.source);
  if (source.kind === 'unknown') return unclear('explain.unknown_name', source.problem, source.nearest);
  const destination = findDestination(view, question.destination);
  if (destination.kind === 'unknown') return unclear('explain.unknown_name', destination.problem, destination.nearest);
  return new Explainer(view, question.network, source.value).explain(destination.value);
}

class Explainer {
  readonly #view: MeshView;
  readonly #network: string;
  readonly #client: Workload;

  constructor(view: MeshView, network: string, client: Workload) {
    this.#view = view;
    this.#network = network;
    this.#client = client;
  }

  explain(destination: Destination): ConnectionExplanation {
    const owner = this.#owner(destination);
    const port = destination.port ?? onlyPort(owner);
    if (port === undefined) {
      const ports = portChoices(this.#view, owner);
      const what = owner === undefined ? 'an address' : nameOf(owner);
      return unclear('explain.port_needed', `${what} needs a port`, ports.map(String));
    }
    const ip = destination.kind === 'address' ? destination.ip : this.#addressOf(destination);
    if (ip === undefined) {
      const name = owner === undefined ? '' : nameOf(owner);
      return unclear('explain.unknown_name', `${name} has no address on this network`, []);
    }
    return this.#answer({ ip, port }, owner);
  }

  #answer(address: SocketAddress, owner: AddressOwner | undefined): ConnectionExplanation {
    const client = this.#client;
    // Workloads without an address (host network aside) are not in the mesh as clients; any source address does.
    const sourceIp =
      client.workloadIps.find(ip => ip.includes(':') === address.ip.includes(':')) ?? client.workloadIps[0];
    const clientSource: SocketAddress = { ip: sourceIp ?? address.ip, port: 0 };
    const isMember = this.#isMember;
    const route = isMember ? this.#route(clientSource, address) : this.#outside(address, owner);
    const hops = this.#hops(route, clientSource, address, owner);
    const decided = decide(route, hops, client, owner);
    return {
      ...decided,
      source: {
        name: shortName(client),
        node: client.node,
        identity: isMember ? workloadSpiffeText(client) : undefined,
        ip: sourceIp ?? '',
      },
      destination: this.#describe(address, owner),
      waypoints: waypointsOf(ownerObject(owner) ?? { waypoint: undefined }).map(gateway =>
        formatGatewayDestination(gateway.destination),
      ),
      hops,
      steps: route.steps,
      choices: [],
    };
  }

  #route(source: SocketAddress, destination: SocketAddress): OutboundRoute {
    const { name, namespace, serviceAccount } = this.#client;
    return resolveOutbound(this.#view, {
      source,
      destination,
      pod: { name, namespace, serviceAccount },
      self: this.#client,
      network: this.#network,
      illegalPorts: PROXY_PORTS,
    });
  }

  /** A client outside the mesh: nothing of ours routes it, so waypoints and gateways play no part. */
  #outside(destination: SocketAddress, owner: AddressOwner | undefined): OutboundRoute {
    const text = `${shortName(this.#client)} is not in the mesh, so its connections are plain TCP`;
    const steps = [step('O1', text)];
    if (owner?.kind === 'service' && this.#directTargets(owner.service, destination.port).length === 0) {
      return { kind: 'deny', reason: 'route.no_healthy_endpoint', error: 'no healthy endpoint', steps };
    }
    return { kind: 'passthrough', destination, service: undefined, steps };
  }

  /** Where the node's own load balancing may take a plain connection to a service. */
  #directTargets(service: Service, port: number): readonly SocketAddress[] {
    return this.#view.endpoints(service).flatMap(({ workload, ports, isHealthy }) => {
      const target = ports.get(port) ?? service.ports.get(port) ?? 0;
      const [ip] = workload.workloadIps;
      return isHealthy && ip !== undefined && target !== 0 ? [{ ip, port: target }] : [];
    });
  }

  /** Hops of one outcome are told once. */
  #hops(
    route: OutboundRoute,
    source: SocketAddress,
    address: SocketAddress,
    owner: AddressOwner | undefined,
  ): readonly HopExplanation[] {
    const isMember = this.#isMember;
    const base = { view: this.#view, client: this.#client, source, network: this.#network, isMember };
    if (route.kind === 'deny') return [];
    const targets =
      !isMember && owner?.kind === 'service' ? this.#directTargets(owner.service, address.port) : [address];
    const explained =
      route.kind === 'passthrough'
        ? targets.map(target => explainHop({ ...base, hop: undefined, address: target }))
        : allHops(route).map(hop => explainHop({ ...base, hop, address }));
    const told = new Map<string, HopExplanation>();
    for (const explanation of explained) {
      const key = outcomeKey(explanation);
      const known = told.get(key);
      told.set(key, known === undefined ? explanation : { ...known, alike: known.alike + 1 });
    }
    return [...told.values()];
  }

  get #isMember(): boolean {
    return this.#client.protocol === 'HBONE';
  }

  #owner(destination: Destination): AddressOwner | undefined {
    if (destination.kind !== 'address') return destination;
    return this.#view.findAddress(this.#network, destination.ip, this.#client.namespace);
  }

  /** A service's address on our network; a headless one and a workload are reached at a workload's own. */
  #addressOf(destination: Exclude<Destination, { kind: 'address' }>): Ip | undefined {
    if (destination.kind === 'workload') return destination.workload.workloadIps[0];
    const { vips } = destination.service;
    const vip = vips.find(({ network }) => network === this.#network) ?? vips[0];
    return vip?.ip ?? this.#view.endpoints(destination.service)[0]?.workload.workloadIps[0];
  }

  #describe(address: SocketAddress, owner: AddressOwner | undefined): ExplainedDestination {
    const text = formatSocketAddress(address);
    if (owner === undefined) return { kind: 'address', name: text, address: text, endpoints: 0, healthy: 0 };
    const common = { kind: owner.kind, name: nameOf(owner), address: text };
    if (owner.kind === 'workload') {
      return { ...common, endpoints: 1, healthy: Number(owner.workload.status === 'Healthy') };
    }
    const endpoints = this.#view.endpoints(owner.service);
    return { ...common, endpoints: endpoints.length, healthy: endpoints.filter(({ isHealthy }) => isHealthy).length };
  }
}

type Decided = Pick<ConnectionExplanation, 'verdict' | 'reason' | 'summary' | 'next'>;

function decide(
  route: OutboundRoute,
  hops: readonly HopExplanation[],
  client: Workload,
  owner: AddressOwner | undefined,
): Decided {
  if (route.kind === 'deny') {
    const { sentence, hint } = reasonOf(route.reason);
    return { verdict: 'denied', reason: route.reason, summary: sentence, next: hint };
  }
  const refusedShare = route.kind === 'hops' ? route.groups.find(group => group.deny !== undefined)?.deny : undefined;
  const refused = hops.find(hop => hop.reason !== undefined);
  const reason = refused?.reason ?? refusedShare?.reason;
  if (reason !== undefined) {
    const { sentence, next } = describeRefusal(reason, refused);
    const isPartial = hops.some(hop => hop.reason === undefined);
    return { verdict: 'denied', reason, summary: isPartial ? `some endpoints refuse it: ${sentence}` : sentence, next };
  }
  const plain = hops.find(hop => hop.transport.kind === 'plaintext');
  if (plain === undefined) {
    const viaWaypoint = hops.some(hop => hop.isWaypoint);
    const next = viaWaypoint ? 'what the waypoint and its policies decide is not part of this answer' : 'nothing to do';
    return { verdict: 'allowed', reason: undefined, summary: 'no policy refuses it, and it is encrypted', next };
  }
  const isOutside = client.protocol !== 'HBONE';
  const who = isOutside ? shortName(client) : (plain.workload ?? (owner === undefined ? plain.target : nameOf(owner)));
  return {
    verdict: 'plaintext',
    reason: undefined,
    summary: `no policy refuses it, and nothing encrypts it: ${who} is not in the mesh`,
    next: 'label its namespace istio.io/dataplane-mode=ambient to enrol it, or refuse plain text with a STRICT PeerAuthentication',
  };
}

/** With the names of the policies that decided, where policies did. */
function describeRefusal(
  reason: ReasonCode,
  hop: HopExplanation | undefined,
): { readonly sentence: string; readonly next: string } {
  const { sentence, hint } = reasonOf(reason);
  const enforced = (hop?.policies ?? []).filter(policy => !policy.dryRun);
  const denying = enforced.find(policy => policy.action === 'Deny' && policy.matched && !policy.isPlaceholder);
  const allows = enforced.filter(policy => policy.action === 'Allow').map(({ policy }) => policy);
  const [allow] = allows;
  if (reason === 'policy.denied_by' && denying !== undefined) {
    return { sentence: `policy ${denying.policy} denies it`, next: `change ${denying.policy} if it should be allowed` };
  }
  if (reason === 'policy.no_allow_match' && allow !== undefined) {
    const which = allows.length === 1 ? `policy ${allow}` : `policies ${allows.join(', ')}`;
    return { sentence: `no rule of ${which} allows it`, next: `allow it in ${allow} if it should be` };
  }
  return { sentence, next: hint };
}

function allHops(route: Extract<OutboundRoute, { kind: 'hops' }>): readonly Hop[] {
  return route.groups.flatMap(group => group.tiers.flat());
}

/** Two hops are alike when everything but the endpoint is the same. */
function outcomeKey(hop: HopExplanation): string {
  return JSON.stringify([hop.reason, hop.isWaypoint, hop.transport.kind, hop.transport.mustBe, hop.policies]);
}

function onlyPort(owner: AddressOwner | undefined): number | undefined {
  if (owner?.kind !== 'service' || owner.service.ports.size !== 1) return undefined;
  return [...owner.service.ports.keys()][0];
}

function portChoices(view: MeshView, owner: AddressOwner | undefined): readonly number[] {
  if (owner === undefined) return [];
  if (owner.kind === 'service') return [...owner.service.ports.keys()].toSorted((a, b) => a - b);
  const ports = new Set<number>();
  for (const [key, own] of owner.workload.services) {
    for (const target of [...own.values(), ...(view.serviceByKey(key)?.ports.values() ?? [])]) ports.add(target);
  }
  ports.delete(0);
  return [...ports].toSorted((a, b) => a - b);
}

function ownerObject(owner: AddressOwner | undefined): Workload | Service | undefined {
  return owner?.kind === 'service' ? owner.service : owner?.workload;
}

function nameOf(owner: AddressOwner): string {
  return shortName(owner.kind === 'service' ? owner.service : owner.workload);
}

function unclear(
  reason: Extract<ExplainReason, `explain.${string}`>,
  summary: string,
  choices: readonly string[],
): ConnectionExplanation {
  const next =
    choices.length === 0
      ? 'list what there is with ambit get workloads and ambit get services'
      : reason === 'explain.port_needed'
        ? `add one of its ports: ${choices.map(port => `:${port}`).join(', ')}`
        : `did you mean ${choices.join(' or ')}?`;
  return {
    verdict: 'unknown',
    reason,
    summary,
    source: undefined,
    destination: undefined,
    waypoints: [],
    hops: [],
    steps: [],
    next,
    choices,
  };
}
