export type { ConnectionRecord, RecordPeer, RecordTls } from './connection-record.ts';
export type { FrozenStream, FrozenTunnel } from './frozen.ts';
