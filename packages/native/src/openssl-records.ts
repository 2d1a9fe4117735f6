// The second record layer: OpenSSL's own, behind memory BIOs. It is the oracle of the differential test and a user's
// choice (AMBIT_TLS_RECORDS=openssl). Costs two copies more for each byte, and its state cannot be exported. It updates its
// own key like kind 'own', but never asks the peer for an update by itself: OpenSSL hides the reading sequence number.
import { NativeError } from './errors.ts';
import { Ctrl, openssl, type OpenSsl, type Pointer, SSL_KEY_UPDATE_NONE, SslError, takeErrors } from './openssl.ts';
import {
  Alert,
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
  UPDATE_AFTER_RECORDS,
} from './records.ts';
import type { Slab } from './slab.ts';
import { TlsError } from './tls-error.ts';

const ALERT_REASON_OFFSET = 1000;

/** SSL_R_* of records that OpenSSL refuses; anything else is DECODE_ERROR. */
const REASONS: ReadonlyMap<number, RecordFault> = new Map([
  [281, RecordFault.BAD_RECORD_MAC], // decryption failed or bad record mac
  [146, RecordFault.RECORD_OVERFLOW], // data length too long
  [150, RecordFault.RECORD_OVERFLOW], // encrypted length too long
  [198, RecordFault.RECORD_OVERFLOW], // packet length too long
  [244, RecordFault.UNEXPECTED_MESSAGE], // unexpected message
  [245, RecordFault.UNEXPECTED_MESSAGE], // unexpected record
  [182, RecordFault.UNEXPECTED_MESSAGE], // not on record boundary
  [443, RecordFault.UNEXPECTED_MESSAGE], // bad record type
  [122, RecordFault.ILLEGAL_PARAMETER], // bad key update
]);

export class OpenSslRecords implements RecordLayer {
  readonly kind = 'openssl';
  #lib: OpenSsl = openssl();
  #ssl: Pointer;
  #in: Pointer;
  #out: Pointer;
  readonly #updateAfter: number;
  readonly #maxRecords: number;
  #sealedRecords = 0;
  #queued: 'none' | 'own' | 'request' = 'none';
  // OpenSSL would send the answer to the peer's request in front of the next data, in the same output.
  #answerDue = false;
  #isWriteClosed = false;
  #isReadClosed = false;
  #fault: RecordFault | 0 = 0;
  #opened: Opened = 'control';
  #alertDescription = -1;

  /** Internal to this package: takes ownership of `ssl`, whose handshake is done, and takes it off its socket. */
  constructor(ssl: Pointer, options: RecordOptions = {}) {
    const lib = this.#lib;
    this.#updateAfter = options.updateAfterRecords ?? UPDATE_AFTER_RECORDS;
    this.#maxRecords = options.maxRecordsPerKey ?? MAX_RECORDS_PER_KEY;
    this.#in = lib.bioNew(lib.bioMemory());
    this.#out = lib.bioNew(lib.bioMemory());
    if (this.#in === 0 || this.#out === 0) {
      if (this.#in !== 0) lib.bioFree(this.#in);
      throw new NativeError('native.unsupported', 'no memory for a BIO');
    }
    lib.sslSetReadBio(ssl, this.#in);
    lib.sslSetWriteBio(ssl, this.#out);
    this.#ssl = ssl;
  }

  get opened(): Opened {
    return this.#opened;
  }

  get alertDescription(): number {
    return this.#alertDescription;
  }

  get wantsOutput(): boolean {
    if (this.#ssl === 0) return false;
    return ((this.#queued !== 'none' || this.#answerDue) && !this.#isWriteClosed) || this.#waiting() > 0;
  }

  seal(slab: Slab, recordOffset: number, contentLength: number): number {
    const ssl = this.#connection();
    if (!(contentLength >= 0 && contentLength <= MAX_RECORD_CONTENT_BYTES)) {
      throw new NativeError('native.bounds', `record content of ${contentLength} bytes`);
    }
    const total = contentLength + RECORD_OVERHEAD_BYTES;
    const address = slab.address(recordOffset, total);
    if (this.#isWriteClosed) return -RecordFault.CLOSED;
    if (this.#answerDue || this.#waiting() > 0) return -RecordFault.OUTPUT_PENDING;
    if (contentLength === 0) return 0;
    if (this.#sealedRecords >= this.#maxRecords) return -RecordFault.EXHAUSTED;
    const lib = this.#lib;
    lib.errClearError();
    if (lib.sslWrite(ssl, address + RECORD_HEADER_BYTES, contentLength) !== contentLength) {
      takeErrors(lib);
      return -RecordFault.CLOSED;
    }
    this.#sealedRecords++;
    if (this.#sealedRecords >= this.#updateAfter && this.#queued === 'none') this.#queued = 'own';
    return lib.bioRead(this.#out, address, total);
  }

  open(slab: Slab, recordOffset: number, recordLength: number): number {
    const ssl = this.#connection();
    const address = slab.address(recordOffset, recordLength);
    if (this.#fault !== 0) return -this.#fault;
    this.#opened = 'control';
    if (this.#isReadClosed) return 0;
    const declared = ((slab.bytes[recordOffset + 3] ?? 0) << 8) | (slab.bytes[recordOffset + 4] ?? 0);
    // OpenSSL would wait for the rest of a record; here a record is whole or wrong.
    if (recordLength < RECORD_HEADER_BYTES) return this.#refuse(RecordFault.DECODE_ERROR);
    if (declared > MAX_RECORD_CONTENT_BYTES + 256) return this.#refuse(RecordFault.RECORD_OVERFLOW);
    if (declared !== recordLength - RECORD_HEADER_BYTES) return this.#refuse(RecordFault.DECODE_ERROR);
    const lib = this.#lib;
    if (lib.bioWrite(this.#in, address, recordLength) !== recordLength) return this.#refuse(RecordFault.DECODE_ERROR);
    lib.errClearError();
    const room = Math.max(0, recordLength - RECORD_HEADER_BYTES);
    const result = lib.sslRead(ssl, address + RECORD_HEADER_BYTES, room);
    if (result > 0) {
      this.#opened = 'data';
      return result;
    }
    const error = lib.sslError(ssl, result);
    if (error === SslError.WANT_READ) {
      if (lib.sslKeyUpdateType(ssl) !== SSL_KEY_UPDATE_NONE) this.#answerDue = true;
      return 0;
    }
    if (error === SslError.ZERO_RETURN) return this.#peerClosed(Alert.close_notify);
    const reason = takeErrors(lib).find(entry => entry.fromSsl)?.reason ?? 0;
    if (reason > ALERT_REASON_OFFSET && reason < ALERT_REASON_OFFSET + 256) {
      return this.#peerClosed(reason - ALERT_REASON_OFFSET);
    }
    return this.#refuse(REASONS.get(reason) ?? RecordFault.DECODE_ERROR);
  }

  takeOutput(slab: Slab, offset: number, capacity: number): number {
    const ssl = this.#connection();
    if (capacity < MIN_OUTPUT_BYTES) throw new NativeError('native.bounds', `output room of ${capacity} bytes`);
    const address = slab.address(offset, capacity);
    const lib = this.#lib;
    if ((this.#queued !== 'none' || this.#answerDue) && !this.#isWriteClosed) {
      lib.errClearError();
      // The update itself is written by the state machine, which SSL_do_handshake runs.
      const isSet = lib.sslKeyUpdate(ssl, this.#queued === 'request' ? 1 : 0) === 1 && lib.sslHandshake(ssl) === 1;
      this.#queued = 'none';
      this.#answerDue = false;
      if (!isSet) {
        takeErrors(lib);
        return -RecordFault.EXHAUSTED;
      }
      this.#sealedRecords = 0;
    }
    const waiting = this.#waiting();
    return waiting === 0 ? 0 : lib.bioRead(this.#out, address, Math.min(capacity, waiting));
  }

  queueKeyUpdate(requestPeer: boolean): void {
    this.#connection();
    if (requestPeer) this.#queued = 'request';
    else if (this.#queued === 'none') this.#queued = 'own';
  }

  sealAlert(slab: Slab, offset: number, _level: number, description: number): number {
    const ssl = this.#connection();
    const room = RECORD_OVERHEAD_BYTES + 2;
    const address = slab.address(offset, room);
    if (this.#isWriteClosed) return -RecordFault.CLOSED;
    this.#isWriteClosed = true;
    const lib = this.#lib;
    // After a record it refused, OpenSSL has written its own alert already.
    if (description === Alert.close_notify && this.#fault === 0) {
      if (this.#waiting() > 0) {
        this.#isWriteClosed = false;
        return -RecordFault.OUTPUT_PENDING;
      }
      lib.errClearError();
      lib.sslShutdown(ssl);
      takeErrors(lib);
    }
    const waiting = this.#waiting();
    return waiting === 0 ? 0 : lib.bioRead(this.#out, address, Math.min(room, waiting));
  }

  exportState(): RecordState {
    throw new TlsError('tls.not_exportable', "the record layer 'openssl' keeps its state inside OpenSSL");
  }

  close(): void {
    if (this.#ssl === 0) return;
    // Frees both BIOs too.
    this.#lib.sslFree(this.#ssl);
    this.#lib.errClearError();
    this.#ssl = this.#in = this.#out = 0;
  }

  #waiting(): number {
    return this.#lib.bioCtrl(this.#out, Ctrl.BIO_PENDING, 0, 0);
  }

  #peerClosed(description: number): number {
    this.#isReadClosed = true;
    this.#alertDescription = description;
    this.#opened = description === Alert.close_notify ? 'close_notify' : 'alert';
    return 0;
  }

  #refuse(fault: RecordFault): number {
    this.#fault = fault;
    return -fault;
  }

  #connection(): Pointer {
    if (this.#ssl === 0) throw new NativeError('native.closed', 'record layer used after close');
    return this.#ssl;
  }
}
