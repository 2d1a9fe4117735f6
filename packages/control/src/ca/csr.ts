// Certificate requests (RFC 2986) from peers: all that is taken from one is its public key, after the request has proven
// that its sender holds the private one. Names, extensions and attributes are not even read: who somebody is, the
// authenticated call decides.
import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { ControlError } from '../errors.ts';
import { readAll, readOne, Tag } from './der.ts';

/** Larger than any honest request: RSA 4096 with a few names has under 2 KiB. */
export const MAX_CSR_BYTES = 16 * 1024;

const MAX_EXPONENT = 2n ** 64n;

const PEM =
  /^\s*-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END (?:NEW )?CERTIFICATE REQUEST-----\s*$/;

/** By the content of the signature algorithm's object identifier, hexadecimal. */
const HASHES: ReadonlyMap<string, { readonly hash: string; readonly keyType: string }> = new Map([
  ['2a8648ce3d040302', { hash: 'sha256', keyType: 'ec' }],
  ['2a8648ce3d040303', { hash: 'sha384', keyType: 'ec' }],
  ['2a8648ce3d040304', { hash: 'sha512', keyType: 'ec' }],
  ['2a864886f70d01010b', { hash: 'sha256', keyType: 'rsa' }],
  ['2a864886f70d01010c', { hash: 'sha384', keyType: 'rsa' }],
  ['2a864886f70d01010d', { hash: 'sha512', keyType: 'rsa' }],
]);

/**
 * The public key of a request, as SubjectPublicKeyInfo DER that we encoded ourselves.
 * @throws ca.bad_csr when it is too large, malformed or not signed by its key; ca.bad_key for other keys than P-256, P-384
 *   and RSA of 2048 to 4096 bits
 */
export function readCsr(pem: string): Buffer {
  if (pem.length > MAX_CSR_BYTES) throw badCsr(`it has ${pem.length} bytes; the most is ${MAX_CSR_BYTES}`);
  const base64 = PEM.exec(pem)?.[1];
  if (base64 === undefined) throw badCsr('it is not one PEM block CERTIFICATE REQUEST');
  const { info, spki, algorithm, signature } = dissect(Buffer.from(base64, 'base64'));
  const key = importKey(spki);
  checkKey(key);
  const how = HASHES.get(algorithm);
  if (how === undefined || how.keyType !== key.asymmetricKeyType) throw badCsr('its signature algorithm does not fit');
  if (!verify(how.hash, info, key, signature)) throw badCsr('its signature is not by its own key');
  return key.export({ type: 'spki', format: 'der' });
}

interface Request {
  readonly info: Buffer;
  readonly spki: Buffer;
  readonly algorithm: string;
  readonly signature: Buffer;
}

function dissect(der: Buffer): Request {
  try {
    const outer = readOne(der);
    const [info, algorithm, signature, ...rest] = readAll(outer.content, 3);
    const [version, subject, spki, attributes] = readAll(info?.content ?? Buffer.alloc(0), 4);
    const type = readAll(algorithm?.content ?? Buffer.alloc(0), 2)[0];
    if (
      outer.tag !== Tag.sequence ||
      rest.length > 0 ||
      info?.tag !== Tag.sequence ||
      algorithm?.tag !== Tag.sequence ||
      signature?.tag !== Tag.bitString ||
      signature.content[0] !== 0 ||
      version?.tag !== Tag.integer ||
      subject?.tag !== Tag.sequence ||
      spki?.tag !== Tag.sequence ||
      (attributes !== undefined && attributes.tag !== 0xa0) ||
      type?.tag !== Tag.oid
    ) {
      throw new RangeError('not the fields of a request');
    }
    return {
      info: info.whole,
      spki: spki.whole,
      algorithm: type.content.toString('hex'),
      signature: signature.content.subarray(1),
    };
  } catch (cause) {
    throw badCsr('it is not a PKCS #10 request in DER', cause);
  }
}

function importKey(spki: Buffer): KeyObject {
  try {
    return createPublicKey({ key: spki, format: 'der', type: 'spki' });
  } catch (cause) {
    throw new ControlError('ca.bad_key', 'the public key of the request cannot be read', { cause });
  }
}

function checkKey(key: KeyObject): void {
  const { namedCurve, modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === 'ec' && (namedCurve === 'prime256v1' || namedCurve === 'secp384r1')) return;
  // An exponent of 1 makes every signature its own message: such a request proves nothing. One as long as the modulus makes
  // each signature a hundred times as costly to check, for us and for every peer.
  const isFit = publicExponent >= 3n && publicExponent < MAX_EXPONENT && (publicExponent & 1n) === 1n;
  if (key.asymmetricKeyType === 'rsa' && modulusLength >= 2048 && modulusLength <= 4096 && isFit) return;
  const what = namedCurve ?? (modulusLength > 0 ? `${modulusLength} bits` : '');
  throw new ControlError('ca.bad_key', `the key of the request is ${key.asymmetricKeyType ?? 'unknown'} ${what}`, {
    next: 'use P-256, P-384, or RSA of 2048 to 4096 bits',
  });
}

function badCsr(what: string, cause?: unknown): ControlError {
  return new ControlError('ca.bad_csr', `cannot use the certificate request: ${what}`, { cause });
}
