// One direction of a TLS 1.3 connection: an AES-GCM context inside OpenSSL, the iv, the sequence number and the traffic
// secret they came from. Seals and opens in place with five foreign calls and no allocation. Knows nothing of record
// types; the caller has checked every length and address. RFC 8446 sections 5.2, 5.3 and 7.2.
import { NativeError } from './errors.ts';
import { cipherSizes, nextTrafficSecret, trafficKeys } from './key-schedule.ts';
import { Ctrl, type OpenSsl, openssl } from './openssl.ts';
import { type CipherName, MAX_RECORDS_PER_KEY } from './records.ts';
import { copySecret } from './secret-bytes.ts';
import { Slab } from './slab.ts';

const TAG_BYTES = 16;
const HEADER_BYTES = 5;

// Per thread, shared by all connections: filled and consumed within one synchronous call.
const NONCE = 0;
const OUT_LENGTH = 16;
const KEY = 32;
const scratch = Slab.allocate(64);
const scratchView = new DataView(scratch.bytes.buffer, scratch.bytes.byteOffset, scratch.size);
const nonceAddress = scratch.address(NONCE, 12);
const outLengthAddress = scratch.address(OUT_LENGTH, 4);
const keyAddress = scratch.address(KEY, 32);

export class RecordCipher {
  readonly cipher: CipherName;
  #lib: OpenSsl = openssl();
  #context: number;
  #secret: Buffer;
  #ivHigh = 0;
  #ivMiddle = 0;
  #ivLow = 0;
  // A key protects at most 2^24 records, so the low word of the 64-bit sequence number is all of it.
  #sequence = 0;
  readonly #encrypts: 0 | 1;

  /** Takes a copy of `secret`. @throws native.argument */
  constructor(cipher: CipherName, secret: Uint8Array, sequence: number, direction: 'seal' | 'open') {
    if (secret.length !== cipherSizes(cipher).secretBytes) {
      throw new NativeError('native.argument', `traffic secret of ${secret.length} bytes for ${cipher}`);
    }
    if (!Number.isInteger(sequence) || sequence < 0 || sequence > MAX_RECORDS_PER_KEY) {
      throw new NativeError('native.argument', `record sequence number ${sequence}`);
    }
    this.cipher = cipher;
    this.#encrypts = direction === 'seal' ? 1 : 0;
    this.#context = this.#lib.cipherNew();
    if (this.#context === 0) throw new NativeError('native.unsupported', 'no memory for a cipher context');
    this.#secret = copySecret(secret);
    try {
      this.#install();
    } catch (error) {
      this.close();
      throw error;
    }
    this.#sequence = sequence;
  }

  /** Records under the present key. */
  get sequence(): number {
    return this.#sequence;
  }

  get isOpen(): boolean {
    return this.#context !== 0;
  }

  /**
   * Encrypts `length` bytes after the header at `address` and writes the tag behind them; the header is authenticated.
   * False means OpenSSL failed, after which the bytes must not be sent.
   */
  seal(address: number, length: number): boolean {
    const lib = this.#lib;
    const context = this.#context;
    const content = address + HEADER_BYTES;
    this.#nonce();
    return (
      lib.cipherInit(context, 0, 0, 0, nonceAddress, -1) === 1 &&
      lib.cipherUpdate(context, 0, outLengthAddress, address, HEADER_BYTES) === 1 &&
      lib.cipherUpdate(context, content, outLengthAddress, content, length) === 1 &&
      lib.cipherFinal(context, content + length, outLengthAddress) === 1 &&
      lib.cipherCtrl(context, Ctrl.AEAD_GET_TAG, TAG_BYTES, content + length) === 1
    );
  }

  /** Decrypts `length` bytes after the header at `address`, the tag being behind them. False: not authentic. */
  open(address: number, length: number): boolean {
    const lib = this.#lib;
    const context = this.#context;
    const content = address + HEADER_BYTES;
    this.#nonce();
    return (
      lib.cipherInit(context, 0, 0, 0, nonceAddress, -1) === 1 &&
      lib.cipherUpdate(context, 0, outLengthAddress, address, HEADER_BYTES) === 1 &&
      lib.cipherUpdate(context, content, outLengthAddress, content, length) === 1 &&
      lib.cipherCtrl(context, Ctrl.AEAD_SET_TAG, TAG_BYTES, content + length) === 1 &&
      lib.cipherFinal(context, content + length, outLengthAddress) === 1
    );
  }

  /** Key update: next secret, fresh key and iv, sequence number 0; the old secret is wiped. */
  update(): void {
    const next = nextTrafficSecret(this.cipher, this.#secret);
    this.#secret.fill(0);
    this.#secret = next;
    this.#install();
  }

  /** A copy of the traffic secret, for the hand-over. */
  copySecret(): Uint8Array {
    return copySecret(this.#secret);
  }

  /** Wipes the secret and the iv and frees the context (OpenSSL wipes the key in it); idempotent. */
  close(): void {
    if (this.#context === 0) return;
    this.#lib.cipherFree(this.#context);
    this.#context = 0;
    this.#secret.fill(0);
    this.#ivHigh = this.#ivMiddle = this.#ivLow = 0;
  }

  #install(): void {
    const lib = this.#lib;
    const { key, iv } = trafficKeys(this.cipher, this.#secret);
    this.#ivHigh = iv.readUInt32BE(0);
    this.#ivMiddle = iv.readUInt32BE(4);
    this.#ivLow = iv.readUInt32BE(8);
    this.#sequence = 0;
    scratch.bytes.set(key, KEY);
    const kind = this.cipher === 'aes-256-gcm' ? lib.aes256Gcm : lib.aes128Gcm;
    const isSet = lib.cipherInit(this.#context, kind, 0, keyAddress, 0, this.#encrypts) === 1;
    scratch.bytes.fill(0, KEY, KEY + 32);
    key.fill(0);
    iv.fill(0);
    if (!isSet) throw new NativeError('native.unsupported', `${this.cipher} is not available in this OpenSSL`);
  }

  // RFC 8446 section 5.3: iv xor the sequence number, left-padded with zeros.
  #nonce(): void {
    scratchView.setUint32(NONCE, this.#ivHigh);
    scratchView.setUint32(NONCE + 4, this.#ivMiddle);
    scratchView.setUint32(NONCE + 8, this.#ivLow ^ this.#sequence);
    this.#sequence++;
  }
}
