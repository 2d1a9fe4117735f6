// The client half of handing tunnels over: a pooled tunnel of a pod as plain data, and back. The server half is in
// InboundTunnel. Tunnels that still shake hands and plain splices stay with their worker.
import { type FrozenTunnel, type PooledTunnel, type PoolTarget, Tunnel, type TunnelPeer } from '@ambit/proxy';
import { OutboundConnection } from './outbound-connection.ts';
import type { PodProxy } from './pod-proxy.ts';

/** Context of a frozen client tunnel. Plain data. */
export interface FrozenOutbound {
  readonly pod: string;
  readonly target: PoolTarget;
  readonly peer: TunnelPeer;
}

export function freezePooled(pod: PodProxy, pooled: PooledTunnel): FrozenTunnel {
  const context: FrozenOutbound = { pod: pod.info.uid, target: pooled.target, peer: pooled.peer };
  const frozen = pooled.tunnel.freeze(context);
  pod.pool.release(pooled);
  return frozen;
}

export function thawOutbound(pod: PodProxy, frozen: FrozenTunnel, context: FrozenOutbound): void {
  const { engine, settings } = pod.deps;
  pod.pool.adopt(context.target, context.peer, events =>
    Tunnel.thaw(engine, frozen, settings.clientTunnel, events, (stream, streamContext) =>
      OutboundConnection.thaw(pod, stream, streamContext),
    ),
  );
}
