// Turns chosen upstreams into hops: what to dial, what to ask for and which identities to accept. One builder serves one
// routing question and shares what its hops have in common, since the whole answer is cloned to a worker.
import { formatIpPort, formatSocketAddress, type Ip, ipFamily, type SocketAddress } from './address.ts';
import { formatGatewayDestination, type GatewayAddress } from './gateway.ts';
import { resolveGateway } from './gateway-resolution.ts';
import { parseSpiffeId } from './identity.ts';
import type { Denial, DialByName, Hop } from './route.ts';
import { chooseAddress, type Upstream } from './selection.ts';
import { type Service, type ServiceSummary, serviceKey, summarizeService } from './service.ts';
import { LATER_TIER_LIMIT, limitTier } from './tier-limit.ts';
import type { MeshView } from './view.ts';
import { describeWorkload, summarizeWorkload, type Workload, workloadSpiffeText } from './workload.ts';

/** Tiers that an upstream behind a gateway or waypoint turns into: best first, weights relative. */
export type HopTiers = readonly (readonly Hop[])[];

export interface HopContext {
  readonly view: MeshView;
  readonly client: Workload;
  readonly destination: SocketAddress;
  /** Where mesh proxies listen for HBONE. */
  readonly hbonePort: number;
}

export function denial(reason: Denial['reason'], error: string): Denial {
  return { kind: 'deny', reason, error };
}

export function noValidDestination(workload: Workload): Denial {
  return denial('route.no_address', `no valid routing destination for workload: ${describeWorkload(workload)}`);
}

export class HopBuilder {
  readonly #context: HopContext;
  readonly #authority: string;
  readonly #identities = new Map<Service | undefined, Map<string, readonly string[]>>();
  readonly #services = new Map<Service, ServiceSummary>();
  readonly #gateways = new Map<string, HopTiers | Denial>();

  constructor(context: HopContext) {
    this.#context = context;
    this.#authority = formatSocketAddress(context.destination);
  }

  /** Straight to the workload, in the tunnel if it speaks it. */
  direct(upstream: Upstream, intended: Service | undefined): Hop | Denial {
    const { workload, port } = upstream;
    const { destination, hbonePort } = this.#context;
    const isTunnelled = workload.protocol === 'HBONE';
    const dialPort = isTunnelled ? hbonePort : port;
    const dial = this.#dial(upstream, destination.ip, dialPort, isTunnelled ? port : undefined);
    if (dial === undefined) return noValidDestination(workload);
    const authority = isTunnelled && 'ip' in dial ? formatIpPort(dial.ip, port) : undefined;
    const identities = isTunnelled ? this.#accepted(upstream) : [];
    return this.#hop(upstream, isTunnelled ? 'HBONE' : 'TCP', dial, authority, identities, undefined, intended);
  }

  /** To a waypoint, which is asked for the client's original destination. Always in the tunnel. */
  waypoint(upstream: Upstream, familyTarget: Ip, intended: Service | undefined): Hop | Denial {
    const dial = this.#dial(upstream, familyTarget, upstream.port, undefined);
    if (dial === undefined) return noValidDestination(upstream.workload);
    return this.#hop(upstream, 'HBONE', dial, this.#authority, this.#accepted(upstream), undefined, intended);
  }

  /**
   * To another network: a tunnel to that network's gateway, and inside it one to whatever endpoint the gateway picks, of
   * which only the service's own identities are acceptable.
   */
  throughGateway(finalHop: Upstream, intended: Service): HopTiers | Denial {
    const gateway = finalHop.workload.networkGateway;
    if (gateway === undefined) return noValidDestination(finalHop.workload);
    const via = `${formatGatewayDestination(gateway.destination)} ${gateway.hboneMtlsPort}`;
    const key = finalHop.service === undefined ? via : `${via} ${serviceKey(finalHop.service)}`;
    const known = this.#gateways.get(key);
    if (known !== undefined) return known;
    const built = this.#gatewayHops(gateway, finalHop.service, intended);
    this.#gateways.set(key, built);
    return built;
  }

  #gatewayHops(gateway: GatewayAddress, finalService: Service | undefined, intended: Service): HopTiers | Denial {
    const { view, client, destination } = this.#context;
    const resolved = resolveGateway(view, gateway, 'standard', client, destination.ip);
    if (resolved === undefined) {
      const name = formatGatewayDestination(gateway.destination);
      return denial('route.gateway_unavailable', `unknown network gateway: gateway ${name} not found`);
    }
    const authority = `${intended.hostname}:${destination.port}`;
    const finalIdentities = this.#serviceIdentities(finalService);
    const tiers: Hop[][] = [];
    for (const tier of resolved.selection.tiers) {
      const hops: Hop[] = [];
      for (const upstream of limitTier(tier, LATER_TIER_LIMIT, client.uid)) {
        const dial = this.#dial(upstream, resolved.familyTarget, upstream.port, undefined);
        if (dial === undefined) continue;
        const outer = this.#accepted(upstream);
        hops.push(this.#hop(upstream, 'DOUBLEHBONE', dial, authority, outer, finalIdentities, intended));
      }
      if (hops.length > 0) tiers.push(hops);
    }
    if (tiers.length > 0) return tiers;
    const [first] = resolved.selection.tiers[0] ?? [];
    return noValidDestination(first?.workload ?? client);
  }

  #hop(
    upstream: Upstream,
    protocol: Hop['protocol'],
    dial: Hop['dial'],
    authority: string | undefined,
    upstreamIdentities: readonly string[],
    finalIdentities: readonly string[] | undefined,
    intended: Service | undefined,
  ): Hop {
    return {
      kind: 'hop',
      weight: upstream.weight,
      protocol,
      dial,
      authority,
      upstreamIdentities,
      finalIdentities,
      workload: summarizeWorkload(upstream.workload),
      service: this.#summary(intended),
      originalDestination: this.#context.destination,
    };
  }

  #dial(
    upstream: Upstream,
    familyTarget: Ip,
    port: number,
    authorityPort: number | undefined,
  ): SocketAddress | DialByName | undefined {
    const choice = chooseAddress(upstream.workload, upstream.service?.ipFamilies, familyTarget);
    switch (choice.kind) {
      case 'ip':
        return { ip: choice.ip, port };
      case 'name':
        return { hostname: choice.hostname, port, family: ipFamily(familyTarget), authorityPort };
      case 'none':
        return undefined;
    }
  }

  #accepted(upstream: Upstream): readonly string[] {
    const own = workloadSpiffeText(upstream.workload);
    let ofService = this.#identities.get(upstream.service);
    if (ofService === undefined) {
      ofService = new Map();
      this.#identities.set(upstream.service, ofService);
    }
    let accepted = ofService.get(own);
    if (accepted === undefined) {
      accepted = [...new Set([...this.#serviceIdentities(upstream.service), own])];
      ofService.set(own, accepted);
    }
    return accepted;
  }

  #serviceIdentities(service: Service | undefined): readonly string[] {
    return (service?.subjectAltNames ?? []).filter(name => parseSpiffeId(name) !== undefined);
  }

  #summary(service: Service | undefined): ServiceSummary | undefined {
    if (service === undefined) return undefined;
    let summary = this.#services.get(service);
    if (summary === undefined) {
      summary = summarizeService(service);
      this.#services.set(service, summary);
    }
    return summary;
  }
}
