// What the xDS server shows of itself, as plain data: for the admin port and `ambit get`.
import type { TypeStatus } from './session.ts';

export interface XdsNack {
  /** ISO time. */
  readonly time: string;
  /** The nonce of the refused response. */
  readonly version: string;
  /** What the client said, cut to 1024 characters. */
  readonly message: string;
}

export interface XdsTypeStatus extends TypeStatus {
  readonly lastNack: XdsNack | undefined;
  readonly bytesSent: number;
}

export interface XdsClientStatus {
  readonly node: string;
  readonly nodeName: string;
  readonly address: string;
  /** ISO time. */
  readonly since: string;
  /** The proven identity, as a SPIFFE id; undefined for a caller from loopback. */
  readonly identity: string | undefined;
  readonly types: readonly XdsTypeStatus[];
  /** How often this node id was dropped for taking no bytes, as far as it is remembered. */
  readonly dropped: number;
}

export interface XdsCounters {
  /** Streams that got as far as their first request. */
  readonly accepted: number;
  /** Streams ended before it: not proven, too many, too fast, no node. */
  readonly refused: number;
  /** Clients dropped because they took no bytes. */
  readonly dropped: number;
  readonly nacks: number;
  /** Requests for types that are not served. */
  readonly unknownTypes: number;
  readonly pushes: number;
}

export interface XdsStatus {
  /** Whether there is a state to serve; until then clients are turned away with `unavailable`. */
  readonly isSynced: boolean;
  readonly addresses: number;
  readonly authorizations: number;
  readonly counters: XdsCounters;
  /** Ordered by node id. */
  readonly clients: readonly XdsClientStatus[];
}
