// The interface between a TLS 1.3 connection and its bytes after the handshake: seal, open, control output, export.
// Two implementations: own-records.ts (state is plain data, can be handed over) and openssl-records.ts (the oracle).
// Buffers belong to the caller and records are made and read in place. RFC 8446 sections 4.6, 5 and 6.

/** Bytes before the content of a record. */
export const RECORD_HEADER_BYTES = 5;
/** What a sealed record has more than its content: header, inner content type, AEAD tag. */
export const RECORD_OVERHEAD_BYTES = 22;
/** Largest content of one record (RFC 8446 section 5.1). */
export const MAX_RECORD_CONTENT_BYTES = 16384;
/** Largest whole record on the wire, header included (RFC 8446 section 5.2). */
export const MAX_RECORD_BYTES = RECORD_HEADER_BYTES + MAX_RECORD_CONTENT_BYTES + 256;
/** `takeOutput` needs at least this much room: one key update or one alert. */
export const MIN_OUTPUT_BYTES = 64;

/**
 * Why a record was refused or could not be made; `seal`, `open` and `sealAlert` return these negated. A fault of
 * `open` is final: the layer repeats it, and the connection must end after the alert `alertOf(fault)`.
 */
export const RecordFault = {
  /** A record or message of a type that has no place here. */
  UNEXPECTED_MESSAGE: 1,
  /** The record is not what the peer sealed with this key at this sequence number. */
  BAD_RECORD_MAC: 2,
  /** Longer than TLS allows. */
  RECORD_OVERFLOW: 3,
  /** Lengths that contradict each other. */
  DECODE_ERROR: 4,
  /** A field outside its allowed values. */
  ILLEGAL_PARAMETER: 5,
  /** This key has protected as many records as it may, and the key update was not sent or not answered. */
  EXHAUSTED: 6,
  /** Sealing after close_notify or a fatal alert was sent. */
  CLOSED: 7,
  /** Kind 'openssl' only: `takeOutput` must be called before the next `seal`. */
  OUTPUT_PENDING: 8,
} as const;
export type RecordFault = (typeof RecordFault)[keyof typeof RecordFault];

/** Alert descriptions of TLS 1.3 (RFC 8446 section 6, IANA names). */
export const Alert = {
  close_notify: 0,
  unexpected_message: 10,
  bad_record_mac: 20,
  record_overflow: 22,
  handshake_failure: 40,
  bad_certificate: 42,
  unsupported_certificate: 43,
  certificate_revoked: 44,
  certificate_expired: 45,
  certificate_unknown: 46,
  illegal_parameter: 47,
  unknown_ca: 48,
  access_denied: 49,
  decode_error: 50,
  decrypt_error: 51,
  protocol_version: 70,
  insufficient_security: 71,
  internal_error: 80,
  inappropriate_fallback: 86,
  user_canceled: 90,
  missing_extension: 109,
  unsupported_extension: 110,
  unrecognized_name: 112,
  bad_certificate_status_response: 113,
  unknown_psk_identity: 115,
  certificate_required: 116,
  no_application_protocol: 120,
} as const;

const ALERT_NAMES: ReadonlyMap<number, string> = new Map(Object.entries(Alert).map(([name, value]) => [value, name]));

/** IANA's name of an alert description, or `alert_N`. */
export function alertName(description: number): string {
  return ALERT_NAMES.get(description) ?? `alert_${description}`;
}

export const AlertLevel = { warning: 1, fatal: 2 } as const;

/** The alert that RFC 8446 asks for after this fault. */
export function alertOf(fault: RecordFault): number {
  switch (fault) {
    case RecordFault.UNEXPECTED_MESSAGE:
      return Alert.unexpected_message;
    case RecordFault.BAD_RECORD_MAC:
      return Alert.bad_record_mac;
    case RecordFault.RECORD_OVERFLOW:
      return Alert.record_overflow;
    case RecordFault.DECODE_ERROR:
      return Alert.decode_error;
    case RecordFault.ILLEGAL_PARAMETER:
      return Alert.illegal_parameter;
    case RecordFault.EXHAUSTED:
    case RecordFault.CLOSED:
    case RecordFault.OUTPUT_PENDING:
      return Alert.internal_error;
  }
}

const FAULT_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(RecordFault).map(([name, value]) => [value, name]),
);

/** Name of a fault for logs; accepts the negated result of a call as well. */
export function faultName(fault: number): string {
  return FAULT_NAMES.get(Math.abs(fault)) ?? `fault ${fault}`;
}

export type TlsRole = 'client' | 'server';
export type CipherName = 'aes-128-gcm' | 'aes-256-gcm';
export type Opened = 'data' | 'control' | 'close_notify' | 'alert';

/** The block of memory that records lie in; `Slab` (slab.ts). Addresses are checked on every call. */
export type { Slab } from './slab.ts';
import type { Slab } from './slab.ts';

export interface RecordLayer {
  readonly kind: 'own' | 'openssl';

  /**
   * Seals one record in place. The content (0..16384 bytes) already lies at `recordOffset + 5`; header, inner type and
   * tag are written around it. Returns the bytes of the whole record (`contentLength + 22`) or `-RecordFault`
   * (EXHAUSTED, CLOSED). Records must reach the wire in the order of the seal, sealAlert and takeOutput calls.
   * Kind 'openssl' makes no empty records: it returns 0 for an empty content, and nothing is to be sent.
   * @throws native.bounds when the record does not fit its slab, native.closed
   */
  seal(slab: Slab, recordOffset: number, contentLength: number): number;

  /**
   * Opens one whole record (`recordLength` bytes, header included) in place. Returns the content's length, the content
   * being at `recordOffset + 5`, and sets `opened`; or `-RecordFault`, after which the buffer holds nothing of use.
   * 'control' means nothing for the caller except that `wantsOutput` may have become true.
   * After close_notify or an alert everything that follows is ignored ('control').
   * @throws native.bounds, native.closed
   */
  open(slab: Slab, recordOffset: number, recordLength: number): number;

  /** What the last successful `open` found. Only 'data' has content. */
  readonly opened: Opened;
  /** Description of the alert when `opened` is 'alert' or 'close_notify', else -1. */
  readonly alertDescription: number;

  /** True while a key update waits to be sent. Call `takeOutput` and send the bytes; there is no deadline but soon. */
  readonly wantsOutput: boolean;

  /**
   * Writes the waiting control records at `offset` and returns their length (0: nothing waits). `capacity` must be at
   * least MIN_OUTPUT_BYTES. @throws native.bounds, native.closed
   */
  takeOutput(slab: Slab, offset: number, capacity: number): number;

  /** Queues a key update of our sending direction; with `requestPeer` the peer is asked for one of its own. */
  queueKeyUpdate(requestPeer: boolean): void;

  /**
   * Seals an alert record at `offset` and returns its length (24), or `-RecordFault`. Nothing can be sealed afterwards.
   * Kind 'openssl' can only send close_notify, or the alert that OpenSSL itself has decided on; 0 when there is none.
   */
  sealAlert(slab: Slab, offset: number, level: number, description: number): number;

  /**
   * Takes the state out as plain data: this layer is closed afterwards, so that no two owners can ever use the same key
   * and sequence number. The caller wipes or hands over the secrets in it. @throws tls.not_exportable, native.closed
   */
  exportState(): RecordState;

  /** Wipes secrets and frees native memory; idempotent. Later calls throw native.closed. */
  close(): void;
}

/** A record layer as plain, structured-cloneable data. Holds traffic secrets: hand over, then wipe. */
export interface RecordState {
  readonly format: 1;
  readonly role: TlsRole;
  readonly cipher: CipherName;
  readonly readSecret: Uint8Array;
  readonly readSequence: bigint;
  readonly writeSecret: Uint8Array;
  readonly writeSequence: bigint;
  /** Bytes of a post-handshake message whose end has not arrived: what is known of its header, and what is still to come. */
  readonly partialHeader: Uint8Array;
  readonly partialRemaining: number;
  /** A key update not yet sealed: none, ours only, or with a request to the peer. */
  readonly pendingUpdate: 'none' | 'own' | 'request';
  /** The peer was asked to update and has not yet. */
  readonly peerUpdateAsked: boolean;
  /** Records in a row that carried no data. */
  readonly idleRecords: number;
  readonly readClosed: boolean;
  readonly writeClosed: boolean;
  readonly updateAfterRecords: number;
  readonly maxRecordsPerKey: number;
}

export interface RecordOptions {
  /** Records under one key after which an update is queued. Default 2^23, far below AES-GCM's 2^24.5 (RFC 8446 section 5.5). */
  readonly updateAfterRecords?: number;
  /** Records after which the key is refused. Default and upper bound 2^24. */
  readonly maxRecordsPerKey?: number;
}

/** Hard limit of records under one key. */
export const MAX_RECORDS_PER_KEY = 2 ** 24;
/** Default number of records after which a key update is queued. */
export const UPDATE_AFTER_RECORDS = 2 ** 23;
