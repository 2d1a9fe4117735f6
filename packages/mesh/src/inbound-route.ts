// What inbound routing answers: plain data that survives structured cloning. A worker keeps the answer per (pod,
// connected address, authority) and authorizes every stream against the pod's policies itself.
import type { SocketAddress } from './address.ts';
import type { ReasonCode } from './reasons.ts';
import type { ServiceSummary } from './service.ts';
import type { Step } from './step.ts';

export type HboneAuthority =
  | { readonly kind: 'address'; readonly address: SocketAddress }
  | { readonly kind: 'hostname'; readonly hostname: string; readonly port: number };

/** A service the connection may have been meant for, with every port it may arrive on. */
export interface ServiceCandidate extends ServiceSummary {
  readonly targetPorts: readonly number[];
}

export interface DeliverRoute {
  readonly kind: 'deliver';
  /** The workload's address and final port: what policies, records and metrics see. */
  readonly target: SocketAddress;
  /** What to dial; differs from `target` for an application tunnel on the loopback address. */
  readonly dial: SocketAddress;
  /**
   * Which source to dial from. `client` means the client's address where the listener can do that, and not when the
   * client's address equals the dialled one.
   */
  readonly bindSource: 'client' | 'loopback' | 'none';
  /** Present: write a PROXY v2 header with this destination before the first byte. */
  readonly proxyProtocol: { readonly target: SocketAddress } | undefined;
  readonly candidateServices: readonly ServiceCandidate[];
  readonly steps: readonly Step[];
}

export interface InboundDenial {
  readonly kind: 'deny';
  /** HTTP status for the CONNECT stream. */
  readonly status: 400 | 401 | 503;
  readonly reason: ReasonCode;
  /** Upstream's wording, for the access log. */
  readonly error: string;
  readonly steps: readonly Step[];
}

/** Without authorization, hence never 401. */
export type InboundRoute = DeliverRoute | (InboundDenial & { readonly status: 400 | 503 });

/** With authorization. */
export type InboundPlan = (DeliverRoute & { readonly policy: string | undefined }) | InboundDenial;
