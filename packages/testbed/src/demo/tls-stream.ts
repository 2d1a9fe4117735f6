// Judges one direction of one TCP connection, segment by segment: is it an unbroken sequence of TLS records as TLS 1.3
// sends them (RFC 8446 5)? Record types are checked, and their order: a hello first, encrypted records after it. It
// cannot tell encrypted content from any other content inside a record; markers are searched for elsewhere. Memory is
// bounded: a few segments that came early are kept, after that the stream is judged anew from the next record boundary.
const HEADER_BYTES = 5;
/** 2^14 and what TLS 1.3 allows encryption to add. */
const MAX_FRAGMENT_BYTES = 16_640;
const MAX_EARLY_SEGMENTS = 64;

/** `unknown`: bytes before it were missed by the capture, and no record boundary has been found since. */
export type Judgement = 'tls' | 'plaintext' | 'unknown';

const CHANGE_CIPHER_SPEC = 20;
const ALERT = 21;
const HANDSHAKE = 22;
const APPLICATION_DATA = 23;

export class TlsStream {
  /** Sequence number of the next byte; undefined until the first segment. */
  #next: number | undefined;
  readonly #early = new Map<number, Uint8Array>();
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerBytes = 0;
  #fragmentLeft = 0;
  #records = 0;
  #isEncrypted = false;
  #isPlaintext = false;
  #isLost = false;

  /** Complete and begun records so far. */
  get records(): number {
    return this.#records;
  }

  /** Takes note of a SYN: its sequence number precedes the first byte. */
  begin(sequence: number): void {
    this.#next = (sequence + 1) >>> 0;
    this.#early.clear();
    this.#headerBytes = this.#fragmentLeft = this.#records = 0;
    this.#isEncrypted = this.#isPlaintext = this.#isLost = false;
  }

  /** Judges a segment with payload. Once plaintext, always plaintext. */
  segment(sequence: number, payload: Uint8Array): Judgement {
    if (this.#next === undefined) {
      // Seen from the middle: only a boundary can tell.
      this.#next = sequence;
      this.#isLost = true;
    }
    const ahead = (sequence - this.#next) | 0;
    if (ahead > 0) {
      this.#early.set(sequence, payload.slice());
      if (this.#early.size <= MAX_EARLY_SEGMENTS) return this.#judgement();
      this.#skipGap();
      return this.#judgement();
    }
    // What was sent twice was judged once.
    if (-ahead < payload.length) this.#accept(payload.subarray(-ahead));
    this.#acceptEarly();
    return this.#judgement();
  }

  #judgement(): Judgement {
    if (this.#isPlaintext) return 'plaintext';
    return this.#isLost ? 'unknown' : 'tls';
  }

  #acceptEarly(): void {
    for (let isMoving = true; isMoving; ) {
      isMoving = false;
      for (const [sequence, payload] of this.#early) {
        const ahead = (sequence - (this.#next ?? 0)) | 0;
        if (ahead > 0) continue;
        this.#early.delete(sequence);
        if (-ahead < payload.length) this.#accept(payload.subarray(-ahead));
        isMoving = true;
      }
    }
  }

  #skipGap(): void {
    let nearest: number | undefined;
    const next = this.#next ?? 0;
    for (const sequence of this.#early.keys()) {
      if (nearest === undefined || ((sequence - next) | 0) < ((nearest - next) | 0)) nearest = sequence;
    }
    this.#next = nearest ?? next;
    this.#isLost = true;
    this.#headerBytes = this.#fragmentLeft = 0;
    this.#acceptEarly();
  }

  #accept(bytes: Uint8Array): void {
    this.#next = ((this.#next ?? 0) + bytes.length) >>> 0;
    if (this.#isPlaintext) return;
    if (this.#isLost) {
      if (!startsWithEncryptedRecord(bytes)) return;
      this.#isLost = false;
      this.#isEncrypted = true;
      this.#records = Math.max(1, this.#records);
    }
    let at = 0;
    while (at < bytes.length) {
      if (this.#fragmentLeft > 0) {
        const skipped = Math.min(this.#fragmentLeft, bytes.length - at);
        this.#fragmentLeft -= skipped;
        at += skipped;
        continue;
      }
      this.#header[this.#headerBytes++] = bytes[at++] ?? 0;
      if (!this.#isHeaderSoFarValid()) {
        this.#isPlaintext = true;
        return;
      }
      if (this.#headerBytes === HEADER_BYTES) this.#beginRecord();
    }
  }

  /** Checked byte by byte: a wrong one is told with the segment that carries it. */
  #isHeaderSoFarValid(): boolean {
    const [type = 0, major = 0, minor = 0] = this.#header;
    switch (this.#headerBytes) {
      case 1:
        return this.#isTypeExpected(type);
      case 2:
        return major === 3;
      case 3:
        return minor === 3 || (minor === 1 && this.#records === 0);
      case HEADER_BYTES:
        return isLengthValid(type, this.#length());
      default:
        return true;
    }
  }

  #isTypeExpected(type: number): boolean {
    if (this.#records === 0) return type === HANDSHAKE || type === ALERT;
    if (type === APPLICATION_DATA) return true;
    // A second hello, the middlebox disguise and a failed handshake's alert come before encryption, never after.
    return !this.#isEncrypted && (type === CHANGE_CIPHER_SPEC || type === HANDSHAKE || type === ALERT);
  }

  #length(): number {
    return ((this.#header[3] ?? 0) << 8) | (this.#header[4] ?? 0);
  }

  #beginRecord(): void {
    if (this.#header[0] === APPLICATION_DATA) this.#isEncrypted = true;
    this.#records++;
    this.#fragmentLeft = this.#length();
    this.#headerBytes = 0;
  }
}

function isLengthValid(type: number, length: number): boolean {
  switch (type) {
    case CHANGE_CIPHER_SPEC:
      return length === 1;
    case ALERT:
      return length === 2;
    case APPLICATION_DATA:
      // At least the content type's byte and the tag.
      return length >= 17 && length <= MAX_FRAGMENT_BYTES;
    default:
      return length >= 4 && length <= MAX_FRAGMENT_BYTES;
  }
}

function startsWithEncryptedRecord(bytes: Uint8Array): boolean {
  const [type, major, minor, high = 0, low = 0] = bytes;
  if (bytes.length < HEADER_BYTES) return false;
  return type === APPLICATION_DATA && major === 3 && minor === 3 && isLengthValid(type, (high << 8) | low);
}
