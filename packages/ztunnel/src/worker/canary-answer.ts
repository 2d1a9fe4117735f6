// The line that the far end of a canary sends: whom each side proved to be and how the tunnel is protected.
import type { CanaryAnswer, CanaryFailure, ReasonCode } from '@ambit/mesh';
import type { InboundPeer } from './inbound-tunnel.ts';

export interface CanaryPod {
  readonly identity: string;
  readonly validity: { readonly from: Date; readonly to: Date } | undefined;
  /** `namespace/name` */
  readonly name: string;
}

/** What the near end says when there is no way to the far one. */
export function canaryFailure(reason: ReasonCode): Buffer {
  const failure: CanaryFailure = { canary: 1, reason };
  return Buffer.from(`${JSON.stringify(failure)}\n`);
}

export function canaryAnswer(peer: InboundPeer, pod: CanaryPod): Buffer {
  const answer: CanaryAnswer = {
    canary: 1,
    peer: peer.identity,
    local: pod.identity,
    group: peer.tls.group,
    cipher: peer.tls.suite,
    notBefore: pod.validity?.from.toISOString() ?? '',
    notAfter: pod.validity?.to.toISOString() ?? '',
    workload: pod.name,
  };
  return Buffer.from(`${JSON.stringify(answer)}\n`);
}
