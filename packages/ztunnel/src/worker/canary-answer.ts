// The line that the far end of a canary sends: whom each side proved to be and how the tunnel is protected.
import type { CanaryAnswer } from '@ambit/mesh';
import type { InboundPeer } from './inbound-tunnel.ts';

export interface CanaryPod {
  readonly identity: string;
  readonly notAfter: Date | undefined;
  /** `namespace/name` */
  readonly name: string;
}

export function canaryAnswer(peer: InboundPeer, pod: CanaryPod): Buffer {
  const answer: CanaryAnswer = {
    canary: 1,
    peer: peer.identity,
    local: pod.identity,
    group: peer.tls.group,
    cipher: peer.tls.suite,
    notAfter: pod.notAfter?.toISOString() ?? '',
    workload: pod.name,
  };
  return Buffer.from(`${JSON.stringify(answer)}\n`);
}
