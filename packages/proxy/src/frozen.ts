// A live tunnel as plain data and file-descriptor numbers: what one worker (or, later, one process) hands to another.
// Nothing here refers to an object of the old owner; after the hand-over the old owner holds nothing of the tunnel.
import type { RecordState } from '@ambit/native';
import type { FrameReaderState, HpackEncoderState, HpackState } from './h2/index.ts';

/** One stream and the TCP connection it is spliced with. Byte arrays are owned by this value. */
export interface FrozenStream {
  readonly id: number;
  /** Descriptor of the pod's or application's TCP connection; undefined while the owner has not dialled yet. */
  readonly fd: number | undefined;
  readonly phase: 'requested' | 'dialing' | 'open';
  readonly sendWindow: number;
  readonly receiveWindow: number;
  readonly uncreditedBytes: number;
  /** How many of the first pending bytes are our own (`prepend`). */
  readonly prependedBytes: number;
  /** Bytes received from the tunnel that the TCP side has not taken yet. */
  readonly pending: readonly Uint8Array[];
  readonly localEnded: boolean;
  readonly remoteEnded: boolean;
  readonly bytesFromTunnel: number;
  readonly bytesToTunnel: number;
  /** The owner's own facts about the connection (its record so far, its route); plain data. */
  readonly context: unknown;
}

export interface FrozenTunnel {
  readonly role: 'client' | 'server';
  readonly fd: number;
  readonly records: RecordState;
  /** TLS bytes received but not decrypted: at most one partial record. */
  readonly unopened: Uint8Array;
  /** TLS bytes sealed but not yet sent. */
  readonly unsent: Uint8Array;
  readonly reader: FrameReaderState;
  readonly decoder: HpackState;
  readonly encoder: HpackEncoderState;
  readonly peerInitialWindow: number;
  readonly peerMaxStreams: number;
  readonly state: 'open' | 'draining';
  readonly sendWindow: number;
  readonly receiveWindow: number;
  readonly uncreditedBytes: number;
  readonly withheldBytes: number;
  /** The stream whose DATA frame is half read, 0 for none, and what of that frame no stream has taken yet. */
  readonly currentStreamId: number;
  readonly currentUnusedBytes: number;
  /** The peer has acknowledged our SETTINGS. */
  readonly settingsAcknowledged: boolean;
  readonly nextStreamId: number;
  readonly highestPeerStreamId: number;
  readonly goawaySent: 'no' | 'warned' | 'final';
  readonly goawayReceived: boolean;
  readonly streamsOpened: number;
  readonly streams: readonly FrozenStream[];
  /** The owner's facts about the tunnel (pod uid, pool key, identities, TLS parameters); plain data. */
  readonly context: unknown;
}
