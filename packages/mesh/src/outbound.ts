// Where an outbound connection goes: the whole decision tree from "a pod dialled this address" to the hops that may be
// dialled, best first. Pure: the same view and input give the same route. An address the mesh does not know passes
// through in plain text, as upstream has it.
import { isCanary, routeCanary } from './canary.ts';
import { formatSocketAddress, type Ip, isLoopback, type SocketAddress } from './address.ts';
import { formatGatewayDestination, type GatewayAddress } from './gateway.ts';
import { isOwnWaypoint, resolveGateway } from './gateway-resolution.ts';
import { denial, HopBuilder, type HopTiers } from './hops.ts';
import { pickHop } from './pick.ts';
import type { CompiledRouteInput, Denial, DenyRoute, Hop, HopGroup, OutboundRoute, Plan } from './route.ts';
import { findUpstream, type Upstream } from './selection.ts';
import { type Service, serviceKey, summarizeService } from './service.ts';
import { type Step, step } from './step.ts';
import type { AddressOwner, MeshView, PodKey } from './view.ts';
import type { Workload } from './workload.ts';

/** Where mesh proxies accept tunnels. */
export const HBONE_PORT = 15008;

export interface OutboundInput extends CompiledRouteInput {
  /** The pod that dials, as the node knows it. */
  readonly pod: PodKey;
  /** Its workload; undefined while the mesh does not know it. */
  readonly self: Workload | undefined;
  /** The configured network of this node (`NETWORK`). */
  readonly network: string;
  /** The proxy's own ports. */
  readonly illegalPorts: ReadonlySet<number>;
  /** Default 15008. */
  readonly hbonePort?: number;
}

export function resolveOutbound(view: MeshView, input: OutboundInput): OutboundRoute {
  const { destination, self } = input;
  if (isLoopback(destination.ip) && input.illegalPorts.has(destination.port)) {
    const text = `${formatSocketAddress(destination)} is a port of the proxy itself`;
    return refuse([step('O1', text)], denial('route.loop', 'attempted recursive call to ourselves'));
  }
  if (self === undefined) {
    const { serviceAccount, namespace, name } = input.pod;
    const error = `failed to fetch information about local workload: ${serviceAccount}.${namespace} (${name})`;
    return refuse(
      [step('O2', `pod ${namespace}/${name} is not known to the mesh`)],
      denial('identity.unknown_source', error),
    );
  }
  if (isCanary(destination)) return routeCanary(self, input.source, destination, input.hbonePort ?? HBONE_PORT);
  return new OutboundResolver(view, input, self).resolve();
}

/** Route and draw in one, for explaining a connection. */
export function planOutbound(view: MeshView, input: OutboundInput, random: () => number): Plan {
  const route = resolveOutbound(view, input);
  if (route.kind !== 'hops') return route;
  const picked = pickHop(route, random);
  if (picked.kind === 'deny') return refuse(route.steps, picked);
  const group = route.groups.find(candidate => candidate.tiers.some(tier => tier.includes(picked)));
  const hops = (group?.tiers ?? []).reduce((sum, tier) => sum + tier.length, 0);
  return {
    kind: 'hop',
    hop: picked,
    alternatives: Math.max(0, hops - 1),
    steps: [...route.steps, step('pick', describeHop(picked))],
  };
}

class OutboundResolver {
  readonly #view: MeshView;
  readonly #destination: SocketAddress;
  readonly #sourceIp: Ip;
  readonly #network: string;
  readonly #self: Workload;
  readonly #hops: HopBuilder;
  readonly #steps: Step[] = [];

  constructor(view: MeshView, input: OutboundInput, self: Workload) {
    this.#view = view;
    this.#destination = input.destination;
    this.#sourceIp = input.source.ip;
    this.#network = input.network;
    this.#self = self;
    this.#hops = new HopBuilder({
      view,
      client: self,
      destination: input.destination,
      hbonePort: input.hbonePort ?? HBONE_PORT,
    });
  }

  resolve(): OutboundRoute {
    const owner = this.#view.findAddress(this.#network, this.#destination.ip, this.#self.namespace);
    this.#note('O3', describeOwner(this.#destination, owner));
    const service = owner?.kind === 'service' ? owner.service : undefined;
    if (service !== undefined) {
      const groups = this.#serviceWaypoints(service);
      if (groups.length > 0) return this.#answer(groups);
    }
    return this.#withoutServiceWaypoint(service);
  }

  /** O3a: the groups of a service's waypoints; none when it has no waypoint. */
  #serviceWaypoints(service: Service): readonly HopGroup[] {
    const weighted = service.weightedWaypoints.filter(entry => entry.weight > 0);
    if (weighted.length > 0) {
      return weighted.map(({ destination, weight }) => this.#waypointGroup(service, destination, weight));
    }
    return service.waypoint === undefined ? [] : [this.#waypointGroup(service, service.waypoint, 1)];
  }

  #waypointGroup(service: Service, gateway: GatewayAddress, weight: number): HopGroup {
    const result = this.#throughWaypoint(gateway, service, upstream =>
      // A waypoint on another network is reached through that network's gateway.
      upstream.workload.network === this.#self.network ? undefined : this.#hops.throughGateway(upstream, service),
    );
    return 'kind' in result ? { weight, tiers: [], deny: result } : { weight, tiers: result, deny: undefined };
  }

  #throughWaypoint(
    gateway: GatewayAddress,
    intended: Service | undefined,
    detour: (upstream: Upstream) => Hop | HopTiers | Denial | undefined,
  ): HopTiers | Denial {
    const name = formatGatewayDestination(gateway.destination);
    const resolved = resolveGateway(this.#view, gateway, 'waypoint', this.#self, this.#destination.ip);
    if (resolved === undefined) {
      this.#note('waypoint', `waypoint ${name} cannot be found or has no usable endpoint`);
      return denial('route.waypoint_unavailable', `unknown waypoint: waypoint ${name} not found`);
    }
    this.#note('waypoint', `waypoint ${name}: ${resolved.selection.summary}`);
    return composeTiers(
      resolved.selection.tiers,
      upstream => detour(upstream) ?? this.#hops.waypoint(upstream, resolved.familyTarget, intended),
    );
  }

  /** O4..O7. */
  #withoutServiceWaypoint(service: Service | undefined): OutboundRoute {
    const { ip, port } = this.#destination;
    const found = findUpstream(this.#view, this.#self.network, ip, port, 'standard', this.#self);
    if (found.kind !== 'found' || found.selection.tiers.length === 0) {
      if (found.kind === 'found') this.#note('O4', found.selection.summary);
      if (service !== undefined && service.loadBalancer?.mode !== 'Passthrough') return this.#noHealthyUpstream();
      const passed = service ?? (found.kind === 'passthrough' ? found.service : undefined);
      this.#note('O4', passed === undefined ? 'plain TCP to where it was going' : 'the service passes connections on');
      return {
        kind: 'passthrough',
        destination: this.#destination,
        service: passed === undefined ? undefined : summarizeService(passed),
        steps: this.#steps,
      };
    }
    this.#note('O4', found.selection.summary);
    const result = composeTiers(found.selection.tiers, upstream => this.#upstreamHops(upstream, service));
    if ('kind' in result) return refuse(this.#steps, result);
    return this.#answer([{ weight: 1, tiers: result, deny: undefined }]);
  }

  #upstreamHops(upstream: Upstream, service: Service | undefined): Hop | HopTiers | Denial {
    const { workload } = upstream;
    if (workload.network !== this.#self.network) {
      if (service === undefined) {
        const error = `no service for target address: ${formatSocketAddress(this.#destination)}`;
        return denial('route.no_service', error);
      }
      return this.#hops.throughGateway(upstream, service);
    }
    if (service === undefined && workload.waypoint !== undefined) {
      if (!isOwnWaypoint(this.#view, workload, this.#self, this.#sourceIp)) {
        return this.#throughWaypoint(workload.waypoint, upstream.service, () => undefined);
      }
      this.#note(
        'O6',
        `the client is the waypoint of ${workload.namespace}/${workload.name}, so it goes straight there`,
      );
    }
    return this.#hops.direct(upstream, upstream.service ?? service);
  }

  #noHealthyUpstream(): DenyRoute {
    const error = `no healthy upstream: ${formatSocketAddress(this.#destination)}`;
    return refuse(this.#steps, denial('route.no_healthy_endpoint', error));
  }

  #answer(groups: readonly HopGroup[]): OutboundRoute {
    const [first] = groups;
    if (first?.deny !== undefined && groups.every(group => group.deny !== undefined)) {
      return refuse(this.#steps, first.deny);
    }
    return { kind: 'hops', groups, steps: this.#steps };
  }

  #note(id: string, text: string): void {
    this.#steps.push(step(id, text));
  }
}

/**
 * Hops for tiers of upstreams. An upstream that cannot be turned into hops is left out as long as another can; the first
 * reason is reported when none can. Upstreams that lead to the very same hops (those behind one gateway) add their weights.
 */
function composeTiers(
  tiers: readonly (readonly Upstream[])[],
  toHops: (upstream: Upstream) => Hop | HopTiers | Denial,
): HopTiers | Denial {
  const composed: Hop[][] = [];
  let firstDenial: Denial | undefined;
  for (const tier of tiers) {
    const direct: Hop[] = [];
    const shares = new Map<HopTiers, number>();
    for (const upstream of tier) {
      const result = toHops(upstream);
      if (!('kind' in result)) shares.set(result, (shares.get(result) ?? 0) + upstream.weight);
      else if (result.kind === 'hop') direct.push(result);
      else firstDenial ??= result;
    }
    const merged: Hop[][] = direct.length > 0 ? [direct] : [];
    for (const [hopTiers, share] of shares) addShare(merged, hopTiers, share);
    composed.push(...merged);
  }
  if (composed.length > 0) return composed;
  return firstDenial ?? denial('route.no_healthy_endpoint', 'no healthy upstream');
}

/** Adds tiers of hops that together have this weight; their later tiers come after every first one. */
function addShare(merged: Hop[][], tiers: HopTiers, share: number): void {
  for (const [index, tier] of tiers.entries()) {
    const total = tier.reduce((sum, hop) => sum + hop.weight, 0);
    const target = (merged[index] ??= []);
    for (const hop of tier) target.push({ ...hop, weight: (share * hop.weight) / total });
  }
}

function refuse(steps: readonly Step[], cause: Denial): DenyRoute {
  return { kind: 'deny', reason: cause.reason, error: cause.error, steps };
}

function describeOwner(destination: SocketAddress, owner: AddressOwner | undefined): string {
  const address = formatSocketAddress(destination);
  switch (owner?.kind) {
    case 'service':
      return `${address} is service ${owner.service.namespace}/${owner.service.name} (${serviceKey(owner.service)})`;
    case 'workload':
      return `${address} is workload ${owner.workload.namespace}/${owner.workload.name}`;
    case undefined:
      return `${address} belongs to nothing in the mesh`;
  }
}

function describeHop(hop: Hop): string {
  const target = 'ip' in hop.dial ? formatSocketAddress(hop.dial) : `${hop.dial.hostname}:${hop.dial.port}`;
  const name = hop.workload === undefined ? target : `${hop.workload.namespace}/${hop.workload.name} at ${target}`;
  switch (hop.protocol) {
    case 'TCP':
      return `plain TCP to ${name}`;
    case 'HBONE':
      return `HBONE to ${name}, which must be ${hop.upstreamIdentities.join(' or ')}`;
    case 'DOUBLEHBONE':
      return `HBONE through gateway ${name}, which must be ${hop.upstreamIdentities.join(' or ')}`;
  }
}
