export {
  type ConnectionRecord,
  type RecordNews,
  type RecordPeer,
  type RecordTls,
  REQUEST_BUCKETS,
  type RequestRecord,
  type RequestTally,
} from './connection-record.ts';
export { beginDial, type Dial, type DialFailure } from './dial.ts';
export { dialReason, errnoText } from './dial-failure.ts';
export { Engine, type Flushable, type Pumpable } from './engine.ts';
export type { FrozenStream, FrozenTunnel } from './frozen.ts';
export type { ConnectRequest, RequestHead } from './h2/index.ts';
export { H2_ERROR } from './h2/index.ts';
export {
  HbonePool,
  type PoolDeps,
  PooledTunnel,
  poolKey,
  type PoolSettings,
  type PoolTarget,
  type PoolWaiter,
  refusePeer,
  type TunnelPeer,
} from './hbone-pool.ts';
export { type DetectingSniffer, openSniffer, thawSniffer } from './l7/detect.ts';
export { MAX_TEMPLATE_SEGMENTS, pathTemplate } from './l7/path-template.ts';
export { PlaintextTap, type TcpSide } from './l7/plaintext-tap.ts';
export { RequestTallies, type TallyLabels } from './l7/request-tallies.ts';
export { COUNTS_ONLY, type L7Options, StreamBudget } from './l7/sniffer-options.ts';
export type { L7GiveUp, L7Listener, L7Messages, L7Protocol, L7Request, L7Sniffer, MovableSniffer } from './l7/types.ts';
export { MemoryBudget } from './memory-budget.ts';
export { PlainSplice, type SpliceOwner } from './plain-splice.ts';
export { type HandshakeLimits, type HandshakeOwner, type SecuredSocket, SecureHandshake } from './secure-handshake.ts';
export { type Timer, Timers } from './timers.ts';
export { Tunnel, type TunnelEvents, type TunnelSettings } from './tunnel.ts';
export { failed, type StreamEnd, type StreamOwner, TunnelStream, UNOWNED } from './tunnel-stream.ts';
