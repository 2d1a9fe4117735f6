// The TLS 1.3 record layer of our own: framing, inner types, alerts, key updates and usage limits around OpenSSL's
// AES-GCM. After the handshake the whole connection is this object's plain data, so it can be exported and continued
// elsewhere. Nothing is configurable but the limits. RFC 8446 sections 4.6, 5 and 6.
import { NativeError } from './errors.ts';
import { cipherSizes } from './key-schedule.ts';
import { PostHandshake, PostHandshakeResult } from './post-handshake.ts';
import { RecordCipher } from './record-cipher.ts';
import {
  Alert,
  type CipherName,
  MAX_RECORD_CONTENT_BYTES,
  MAX_RECORDS_PER_KEY,
  MIN_OUTPUT_BYTES,
  type Opened,
  RECORD_HEADER_BYTES,
  RECORD_OVERHEAD_BYTES,
  RecordFault,
  type RecordLayer,
  type RecordOptions,
  type RecordState,
  type TlsRole,
  UPDATE_AFTER_RECORDS,
} from './records.ts';
import type { Slab } from './slab.ts';

const ContentType = { alert: 21, handshake: 22, application_data: 23 } as const;
const TAG_BYTES = 16;
/** Inner type and tag: the smallest protected payload. */
const MIN_PAYLOAD_BYTES = 1 + TAG_BYTES;
const MAX_PAYLOAD_BYTES = MAX_RECORD_CONTENT_BYTES + 256;
/** Records in a row that bring no data: a peer that sends more of them only wants to cost us time. */
const MAX_IDLE_RECORDS = 64;
const KEY_UPDATE_MESSAGE_BYTES = 5;

export interface OwnRecordSecrets {
  readonly role: TlsRole;
  readonly cipher: CipherName;
  readonly readSecret: Uint8Array;
  readonly writeSecret: Uint8Array;
}

/** A record layer at the start of a connection: both sequence numbers are 0. Copies the secrets. */
export function createOwnRecords(secrets: OwnRecordSecrets, options: RecordOptions = {}): RecordLayer {
  return new OwnRecords({
    format: 1,
    ...secrets,
    readSequence: 0n,
    writeSequence: 0n,
    partialHeader: new Uint8Array(0),
    partialRemaining: 0,
    pendingUpdate: 'none',
    peerUpdateAsked: false,
    idleRecords: 0,
    readClosed: false,
    writeClosed: false,
    updateAfterRecords: options.updateAfterRecords ?? UPDATE_AFTER_RECORDS,
    maxRecordsPerKey: options.maxRecordsPerKey ?? MAX_RECORDS_PER_KEY,
  });
}

/**
 * Continues an exported connection. Copies the secrets; the caller wipes the state. Two layers from one state would
 * use nonces twice: import each state once. @throws native.argument when the state contradicts itself
 */
export function importRecordLayer(state: RecordState): RecordLayer {
  return new OwnRecords(state);
}

class OwnRecords implements RecordLayer {
  readonly kind = 'own';
  readonly #role: TlsRole;
  readonly #read: RecordCipher;
  readonly #write: RecordCipher;
  readonly #postHandshake: PostHandshake;
  readonly #updateAfter: number;
  readonly #maxRecords: number;
  #pendingUpdate: 'none' | 'own' | 'request';
  #peerUpdateAsked: boolean;
  #idleRecords: number;
  #readClosed: boolean;
  #writeClosed: boolean;
  #fault: RecordFault | 0 = 0;
  #opened: Opened = 'control';
  #alertDescription = -1;

  constructor(state: RecordState) {
    checkState(state);
    this.#role = state.role;
    this.#updateAfter = state.updateAfterRecords;
    this.#maxRecords = state.maxRecordsPerKey;
    this.#pendingUpdate = state.pendingUpdate;
    this.#peerUpdateAsked = state.peerUpdateAsked;
    this.#idleRecords = state.idleRecords;
    this.#readClosed = state.readClosed;
    this.#writeClosed = state.writeClosed;
    this.#postHandshake = new PostHandshake(state.role, state.partialHeader, state.partialRemaining);
    this.#read = new RecordCipher(state.cipher, state.readSecret, Number(state.readSequence), 'open');
    try {
      this.#write = new RecordCipher(state.cipher, state.writeSecret, Number(state.writeSequence), 'seal');
    } catch (error) {
      this.#read.close();
      throw error;
    }
  }

  get opened(): Opened {
    return this.#opened;
  }

  get alertDescription(): number {
    return this.#alertDescription;
  }

  get wantsOutput(): boolean {
    return this.#pendingUpdate !== 'none' && !this.#writeClosed;
  }

  seal(slab: Slab, recordOffset: number, contentLength: number): number {
    this.#checkOpen();
    if (!(contentLength >= 0 && contentLength <= MAX_RECORD_CONTENT_BYTES)) {
      throw new NativeError('native.bounds', `record content of ${contentLength} bytes`);
    }
    if (this.#writeClosed) return -RecordFault.CLOSED;
    return this.#sealAs(slab, recordOffset, contentLength, ContentType.application_data);
  }

  open(slab: Slab, recordOffset: number, recordLength: number): number {
    this.#checkOpen();
    const address = slab.address(recordOffset, recordLength);
    if (this.#fault !== 0) return -this.#fault;
    this.#opened = 'control';
    if (this.#readClosed) return 0;
    const bytes = slab.bytes;
    const payloadLength = recordLength - RECORD_HEADER_BYTES;
    if (recordLength < RECORD_HEADER_BYTES) return this.#refuse(RecordFault.DECODE_ERROR);
    // Nothing but protected records may come now. That includes change_cipher_spec, which is dropped only before the
    // peer's Finished (section 5); OpenSSL has seen the Finished already.
    if (bytes[recordOffset] !== ContentType.application_data) return this.#refuse(RecordFault.UNEXPECTED_MESSAGE);
    const declared = ((bytes[recordOffset + 3] ?? 0) << 8) | (bytes[recordOffset + 4] ?? 0);
    if (declared > MAX_PAYLOAD_BYTES) return this.#refuse(RecordFault.RECORD_OVERFLOW);
    if (declared !== payloadLength || payloadLength < MIN_PAYLOAD_BYTES) return this.#refuse(RecordFault.DECODE_ERROR);
    if (this.#read.sequence >= this.#maxRecords) return this.#refuse(RecordFault.EXHAUSTED);

    const innerLength = payloadLength - TAG_BYTES;
    const content = recordOffset + RECORD_HEADER_BYTES;
    if (!this.#read.open(address, innerLength)) {
      // What was decrypted is unauthenticated; do not leave it to be used by mistake.
      bytes.fill(0, content, content + innerLength);
      return this.#refuse(RecordFault.BAD_RECORD_MAC);
    }
    if (innerLength > MAX_RECORD_CONTENT_BYTES + 1) return this.#refuse(RecordFault.RECORD_OVERFLOW);
    if (this.#read.sequence >= this.#updateAfter && !this.#peerUpdateAsked) {
      this.#peerUpdateAsked = true;
      this.#pendingUpdate = 'request';
    }

    let type = content + innerLength - 1;
    while (type >= content && bytes[type] === 0) type--;
    if (type < content) return this.#refuse(RecordFault.UNEXPECTED_MESSAGE);
    const length = type - content;
    switch (bytes[type]) {
      case ContentType.application_data:
        return this.#openData(length);
      case ContentType.handshake:
        return this.#openHandshake(bytes, content, length);
      case ContentType.alert:
        return this.#openAlert(bytes, content, length);
      default:
        return this.#refuse(RecordFault.UNEXPECTED_MESSAGE);
    }
  }

  takeOutput(slab: Slab, offset: number, capacity: number): number {
    this.#checkOpen();
    if (capacity < MIN_OUTPUT_BYTES) throw new NativeError('native.bounds', `output room of ${capacity} bytes`);
    slab.address(offset, capacity);
    if (!this.wantsOutput) return 0;
    const at = offset + RECORD_HEADER_BYTES;
    const requestsPeer = this.#pendingUpdate === 'request';
    // KeyUpdate { KeyUpdateRequest request_update } after a handshake header of type 24, length 1.
    slab.bytes[at] = 24;
    slab.bytes[at + 1] = 0;
    slab.bytes[at + 2] = 0;
    slab.bytes[at + 3] = 1;
    slab.bytes[at + 4] = requestsPeer ? 1 : 0;
    const sealed = this.#sealAs(slab, offset, KEY_UPDATE_MESSAGE_BYTES, ContentType.handshake);
    if (sealed < 0) return sealed;
    this.#pendingUpdate = 'none';
    this.#write.update();
    return sealed;
  }

  queueKeyUpdate(requestPeer: boolean): void {
    this.#checkOpen();
    if (requestPeer) {
      this.#pendingUpdate = 'request';
      this.#peerUpdateAsked = true;
    } else if (this.#pendingUpdate === 'none') this.#pendingUpdate = 'own';
  }

  sealAlert(slab: Slab, offset: number, level: number, description: number): number {
    this.#checkOpen();
    slab.address(offset, RECORD_OVERHEAD_BYTES + 2);
    if (this.#writeClosed) return -RecordFault.CLOSED;
    slab.bytes[offset + RECORD_HEADER_BYTES] = level;
    slab.bytes[offset + RECORD_HEADER_BYTES + 1] = description;
    const sealed = this.#sealAs(slab, offset, 2, ContentType.alert);
    // user_canceled is the one alert that another one follows (section 6.1).
    if (sealed > 0 && description !== Alert.user_canceled) this.#writeClosed = true;
    return sealed;
  }

  exportState(): RecordState {
    this.#checkOpen();
    if (this.#fault !== 0) throw new NativeError('native.closed', 'a connection that refused a record cannot go on');
    const state: RecordState = {
      format: 1,
      role: this.#role,
      cipher: this.#read.cipher,
      readSecret: this.#read.copySecret(),
      readSequence: BigInt(this.#read.sequence),
      writeSecret: this.#write.copySecret(),
      writeSequence: BigInt(this.#write.sequence),
      partialHeader: this.#postHandshake.copyHeader(),
      partialRemaining: this.#postHandshake.remaining,
      pendingUpdate: this.#pendingUpdate,
      peerUpdateAsked: this.#peerUpdateAsked,
      idleRecords: this.#idleRecords,
      readClosed: this.#readClosed,
      writeClosed: this.#writeClosed,
      updateAfterRecords: this.#updateAfter,
      maxRecordsPerKey: this.#maxRecords,
    };
    this.close();
    return state;
  }

  close(): void {
    this.#read.close();
    this.#write.close();
  }

  #sealAs(slab: Slab, offset: number, contentLength: number, type: number): number {
    const address = slab.address(offset, contentLength + RECORD_OVERHEAD_BYTES);
    if (this.#write.sequence >= this.#maxRecords) return -RecordFault.EXHAUSTED;
    const bytes = slab.bytes;
    const payloadLength = contentLength + MIN_PAYLOAD_BYTES;
    bytes[offset] = ContentType.application_data;
    bytes[offset + 1] = 3;
    bytes[offset + 2] = 3;
    bytes[offset + 3] = payloadLength >> 8;
    bytes[offset + 4] = payloadLength & 0xff;
    bytes[offset + RECORD_HEADER_BYTES + contentLength] = type;
    if (!this.#write.seal(address, contentLength + 1)) return -RecordFault.EXHAUSTED;
    if (this.#write.sequence >= this.#updateAfter && this.#pendingUpdate === 'none') this.#pendingUpdate = 'own';
    return RECORD_HEADER_BYTES + payloadLength;
  }

  #openData(length: number): number {
    if (this.#postHandshake.isPartial) return this.#refuse(RecordFault.UNEXPECTED_MESSAGE);
    if (length > 0) this.#idleRecords = 0;
    else if (++this.#idleRecords > MAX_IDLE_RECORDS) return this.#refuse(RecordFault.UNEXPECTED_MESSAGE);
    this.#opened = 'data';
    return length;
  }

  #openHandshake(bytes: Buffer, content: number, length: number): number {
    if (length === 0 || ++this.#idleRecords > MAX_IDLE_RECORDS) return this.#refuse(RecordFault.UNEXPECTED_MESSAGE);
    const result = this.#postHandshake.read(bytes, content, length);
    if (result < 0) return this.#refuse(-result as RecordFault);
    if (result !== PostHandshakeResult.NONE) {
      this.#read.update();
      this.#peerUpdateAsked = false;
      // Several requests before our answer are answered once (section 4.6.3). A request of ours counts as the answer.
      if (result === PostHandshakeResult.UPDATED_AND_ASKED && this.#pendingUpdate === 'none')
        this.#pendingUpdate = 'own';
    }
    return 0;
  }

  #openAlert(bytes: Buffer, content: number, length: number): number {
    if (this.#postHandshake.isPartial) return this.#refuse(RecordFault.UNEXPECTED_MESSAGE);
    if (length === 0) return this.#refuse(RecordFault.UNEXPECTED_MESSAGE);
    if (length !== 2) return this.#refuse(RecordFault.DECODE_ERROR);
    const description = bytes[content + 1] ?? 0;
    if (description === Alert.user_canceled) {
      // Announces a close_notify and means nothing by itself (section 6.1); counted, so that it cannot be repeated for ever.
      if (++this.#idleRecords > MAX_IDLE_RECORDS) return this.#refuse(RecordFault.UNEXPECTED_MESSAGE);
      return 0;
    }
    // The level is ignored: in TLS 1.3 the description alone decides (section 6).
    this.#readClosed = true;
    this.#alertDescription = description;
    this.#opened = description === Alert.close_notify ? 'close_notify' : 'alert';
    return 0;
  }

  #refuse(fault: RecordFault): number {
    this.#fault = fault;
    return -fault;
  }

  #checkOpen(): void {
    if (!this.#write.isOpen) throw new NativeError('native.closed', 'record layer used after close or export');
  }
}

function checkState(state: RecordState): void {
  const wrong = (what: string): never => {
    throw new NativeError('native.argument', `record state: ${what}`);
  };
  if (state.format !== 1) wrong('unknown format');
  if (state.role !== 'client' && state.role !== 'server') wrong('role');
  if (state.cipher !== 'aes-128-gcm' && state.cipher !== 'aes-256-gcm') wrong('cipher');
  const { secretBytes } = cipherSizes(state.cipher);
  if (state.readSecret.length !== secretBytes || state.writeSecret.length !== secretBytes) wrong('secret length');
  if (!['none', 'own', 'request'].includes(state.pendingUpdate)) wrong('pending update');
  if (!(state.idleRecords >= 0)) wrong('idle records');
  const { updateAfterRecords: update, maxRecordsPerKey: max } = state;
  if (!Number.isInteger(max) || max < 1 || max > MAX_RECORDS_PER_KEY) wrong(`limit of ${max} records`);
  if (!Number.isInteger(update) || update < 1 || update > max) wrong(`key update after ${update} records`);
  for (const sequence of [state.readSequence, state.writeSequence]) {
    if (sequence < 0n || sequence > BigInt(max)) wrong(`sequence number ${sequence}`);
  }
}
