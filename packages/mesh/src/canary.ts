// The canary: an address that leads from a pod through the mesh back to the same pod's proxy, so that one connection to it
// proves that the pod's traffic is captured, that its proxy listens on both sides, and that both authenticate each other
// with the pod's own certificate. No application is behind it, no policy applies to it, and only a peer that is the pod
// itself gets an answer.
import { formatSocketAddress, type Ip, ipFamily, type SocketAddress } from './address.ts';
import type { ReasonCode } from './reasons.ts';
import type { DenyRoute, HopsRoute } from './route.ts';
import { step } from './step.ts';
import { describeWorkload, summarizeWorkload, type Workload, workloadSpiffeText } from './workload.ts';

/** Port of the canary; nothing listens on it. */
export const CANARY_PORT = 15009;

/** Link-local and unique-local addresses next to those of the kubelet's probes; nobody has them. */
export const CANARY_ADDRESSES: { readonly ipv4: Ip; readonly ipv6: Ip } = {
  ipv4: '169.254.7.128' as Ip,
  ipv6: 'fd16:9254:7127:1337:ffff:ffff:ffff:fffe' as Ip,
};

/** What the pod's proxy says at the far end: one line of JSON, then the end of the stream. */
export interface CanaryAnswer {
  /** Version of this answer. */
  readonly canary: 1;
  /** SPIFFE ID that the near end proved. */
  readonly peer: string;
  /** SPIFFE ID of the far end. */
  readonly local: string;
  /** Key-exchange group and cipher suite of the tunnel. */
  readonly group: string;
  readonly cipher: string;
  /** Validity of the pod's certificate, RFC 3339. */
  readonly notBefore: string;
  readonly notAfter: string;
  /** `namespace/name` of the pod. */
  readonly workload: string;
}

/** What the near end says when there is no way to the far one. */
export interface CanaryFailure {
  readonly canary: 1;
  readonly reason: ReasonCode;
}

export function isCanary(address: SocketAddress): boolean {
  return address.port === CANARY_PORT && Object.values(CANARY_ADDRESSES).includes(address.ip);
}

/** Whether a CONNECT asks for the canary. */
export function isCanaryAuthority(authority: string): boolean {
  return AUTHORITIES.includes(authority);
}

const AUTHORITIES = Object.values(CANARY_ADDRESSES).map(ip => formatSocketAddress({ ip, port: CANARY_PORT }));

/** From the pod to itself: always in the tunnel, never by a waypoint. `hbonePort`: where the pod's proxy listens. */
export function routeCanary(
  self: Workload,
  source: SocketAddress,
  destination: SocketAddress,
  hbonePort: number,
): HopsRoute | DenyRoute {
  const ip = ownAddress(self, source.ip);
  const identity = workloadSpiffeText(self);
  if (ip === undefined) {
    const error = `no valid routing destination for workload: ${describeWorkload(self)}`;
    return { kind: 'deny', reason: 'route.no_address', error, steps: [step('canary', 'the pod has no address')] };
  }
  return {
    kind: 'hops',
    groups: [
      {
        weight: 1,
        deny: undefined,
        tiers: [
          [
            {
              kind: 'hop',
              weight: 1,
              protocol: 'HBONE',
              dial: { ip, port: hbonePort },
              authority: formatSocketAddress(destination),
              upstreamIdentities: [identity],
              finalIdentities: undefined,
              workload: summarizeWorkload(self),
              service: undefined,
              originalDestination: destination,
            },
          ],
        ],
      },
    ],
    steps: [step('canary', `to this pod's own proxy at ${ip}, which must be ${identity}`)],
  };
}

/** The address the pod speaks from, or else one of its family, or any. */
function ownAddress(self: Workload, source: Ip): Ip | undefined {
  const own = self.workloadIps;
  return own.find(ip => ip === source) ?? own.find(ip => ipFamily(ip) === ipFamily(source)) ?? own[0];
}
