// What a revocation list calls a certificate: its issuer's name and its serial number (RFC 5280 section 5.1). As one
// text, so that a set of revoked certificates is a set of texts. Read from the DER itself: texts of names are ambiguous.
import { TlsError } from './tls-error.ts';

const Tag = { INTEGER: 0x02, SEQUENCE: 0x30, VERSION: 0xa0 } as const;

/** `issuer:serial`, both as in DER: base64 of the name, hexadecimal of the number. @throws tls.bad_certificate */
export function certificateKey(der: Uint8Array): string {
  // Certificate ::= SEQUENCE { tbs SEQUENCE { [0] version OPTIONAL, serial, signature algorithm, issuer, ... } ... }
  const outer = element(der, 0, Tag.SEQUENCE);
  const tbs = element(der, outer.start, Tag.SEQUENCE);
  const isVersioned = der[tbs.start] === Tag.VERSION;
  const serial = element(der, isVersioned ? element(der, tbs.start, Tag.VERSION).end : tbs.start, Tag.INTEGER);
  const algorithm = element(der, serial.end, Tag.SEQUENCE);
  const issuer = element(der, algorithm.end, Tag.SEQUENCE);
  return revocationKey(der.subarray(algorithm.end, issuer.end), der.subarray(serial.start, serial.end));
}

/** The same text from the parts of a revocation list: the issuer's encoded name, and the serial's content octets. */
export function revocationKey(issuerDer: Uint8Array, serial: Uint8Array): string {
  // The number counts, not how it is written: DER puts a zero before a leading one bit, readers of it may not.
  let first = 0;
  while (first < serial.length - 1 && serial[first] === 0) first++;
  return `${asBuffer(issuerDer).toString('base64')}:${asBuffer(serial.subarray(first)).toString('hex')}`;
}

interface Element {
  /** Where the content begins. */
  readonly start: number;
  /** One past the content. */
  readonly end: number;
}

function element(der: Uint8Array, at: number, tag: number): Element {
  const first = der[at + 1];
  if (der[at] !== tag || first === undefined) throw broken(at);
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f;
  // A certificate is far below 2^24 bytes, and 0x80 alone (indefinite length) is not DER.
  if (first === 0x80 || lengthBytes > 3) throw broken(at);
  let length = lengthBytes === 0 ? first : 0;
  for (let index = 0; index < lengthBytes; index++) length = length * 256 + (der[at + 2 + index] ?? Number.NaN);
  const start = at + 2 + lengthBytes;
  if (!(start + length <= der.length)) throw broken(at);
  return { start, end: start + length };
}

function broken(at: number): TlsError {
  return new TlsError('tls.bad_certificate', `certificate cannot be parsed at byte ${at}`);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
