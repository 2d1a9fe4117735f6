// What outbound routing answers: plain data that survives structured cloning, because the main thread decides and a data
// worker keeps the answer. A worker draws a hop from it (`pickHop`) for every connection without asking again.
import type { IpFamily, SocketAddress } from './address.ts';
import type { ReasonCode } from './reasons.ts';
import type { ServiceSummary } from './service.ts';
import type { Step } from './step.ts';
import type { WorkloadSummary } from './workload.ts';

export type HopProtocol = 'TCP' | 'HBONE' | 'DOUBLEHBONE';

/** An endpoint that has a name and no address: resolve it when dialling, then call `resolveHop`. */
export interface DialByName {
  readonly hostname: string;
  readonly port: number;
  /** Wanted family; another one is better than none. */
  readonly family: IpFamily;
  /** For HBONE straight to the workload: the authority is the resolved address with this port. */
  readonly authorityPort: number | undefined;
}

/** One thing that may be dialled. */
export interface Hop {
  readonly kind: 'hop';
  /** Relative share within its tier, greater than 0. */
  readonly weight: number;
  readonly protocol: HopProtocol;
  readonly dial: SocketAddress | DialByName;
  /** `:authority` of the CONNECT, of both tunnels for DOUBLEHBONE. Undefined for TCP and for DialByName.authorityPort. */
  readonly authority: string | undefined;
  /** SPIFFE texts of which the (outer) TLS peer must present one. Empty for HBONE always fails; TCP has none. */
  readonly upstreamIdentities: readonly string[];
  /** The same for the inner TLS session; DOUBLEHBONE only. */
  readonly finalIdentities: readonly string[] | undefined;
  /** The next hop (waypoint or gateway if any), for records. */
  readonly workload: WorkloadSummary | undefined;
  /** The service the client addressed, also behind a waypoint; goes into `Forwarded: host=`. */
  readonly service: ServiceSummary | undefined;
  readonly originalDestination: SocketAddress;
}

export interface Denial {
  readonly kind: 'deny';
  readonly reason: ReasonCode;
  /** Upstream's wording, for the access log. */
  readonly error: string;
}

/** Hops in order of preference: a later tier is for when every hop of the earlier ones failed to connect. */
export interface HopGroup {
  /** Share of connections among the groups. */
  readonly weight: number;
  readonly tiers: readonly (readonly Hop[])[];
  /** Set, with no tiers, when this group's waypoint cannot be used: its share of connections is refused. */
  readonly deny: Denial | undefined;
}

export interface PassthroughRoute {
  readonly kind: 'passthrough';
  /** Plain TCP, to where the client was going. */
  readonly destination: SocketAddress;
  /** Set when a service with PASSTHROUGH load balancing was addressed. */
  readonly service: ServiceSummary | undefined;
  readonly steps: readonly Step[];
}

export interface DenyRoute extends Denial {
  readonly steps: readonly Step[];
}

export interface HopsRoute {
  readonly kind: 'hops';
  /** At least one; several only for weighted waypoints. */
  readonly groups: readonly HopGroup[];
  readonly steps: readonly Step[];
}

export type OutboundRoute = PassthroughRoute | DenyRoute | HopsRoute;

/** One connection's decision. */
export type Plan =
  | PassthroughRoute
  | DenyRoute
  | {
      readonly kind: 'hop';
      readonly hop: Hop;
      /** How many further hops could be tried if this one fails. */
      readonly alternatives: number;
      readonly steps: readonly Step[];
    };

/** What a worker sends to the main thread to ask for a route. Plain data. */
export interface CompiledRouteInput {
  /** The client as the proxy sees it. Only the address matters, and only to tell a waypoint's own traffic. */
  readonly source: SocketAddress;
  /** Where the client was going. */
  readonly destination: SocketAddress;
}
