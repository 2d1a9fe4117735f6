// Certificates and revocation lists as bytes (RFC 5280), from plain facts and a signer: no clock, no files, no policy.
// Every certificate has key identifiers, a serial of 127 random bits at most and critical names when its subject is empty.
import { createHash, type KeyObject, randomBytes, sign } from 'node:crypto';
import {
  bitString,
  boolean,
  encode,
  explicit,
  integer,
  octetString,
  oid,
  readAll,
  readOne,
  sequence,
  smallInteger,
  Tag,
  time,
} from './der.ts';

/** Whoever signs: an encoded name, a key identifier and a key. */
export interface Issuer {
  /** DER of the subject of its certificate, repeated byte for byte: verifiers compare encodings, not text. */
  readonly name: Buffer;
  readonly keyId: Buffer;
  readonly key: KeyObject;
}

export interface CertificateFields {
  readonly issuer: Issuer;
  /** DER of a Name; `EMPTY_NAME` when the alternative names say who it is. */
  readonly subject: Buffer;
  /** DER of a SubjectPublicKeyInfo. */
  readonly spki: Buffer;
  /** Big-endian, positive. */
  readonly serial: Buffer;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** A CA may sign certificates and lists; a leaf has the names and purposes. */
  readonly role:
    | { readonly kind: 'ca' }
    | { readonly kind: 'leaf'; readonly names: readonly Name[]; readonly usages: readonly ('server' | 'client')[] };
}

export type Name =
  | { readonly kind: 'uri'; readonly text: string }
  | { readonly kind: 'dns'; readonly text: string }
  | { readonly kind: 'ip'; readonly bytes: Uint8Array };

export interface RevokedSerial {
  /** Hexadecimal. */
  readonly serial: string;
  readonly revokedAtMs: number;
}

export const EMPTY_NAME: Buffer = sequence();
const EKU = { server: '1.3.6.1.5.5.7.3.1', client: '1.3.6.1.5.5.7.3.2' };

/** Random, positive, 16 bytes and never the same length short: the top bits are 01. */
export function randomSerial(): Buffer {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes;
}

/** `O=organization, CN=commonName`, as UTF8Strings. */
export function distinguishedName(organization: string, commonName: string): Buffer {
  const part = (type: string, text: string): Buffer =>
    encode(Tag.set, sequence(oid(type), encode(Tag.utf8String, Buffer.from(text, 'utf8'))));
  return sequence(part('2.5.4.10', organization), part('2.5.4.3', commonName));
}

/** SHA-1 of the public key's bits, as RFC 5280 section 4.2.1.2 (1) suggests: a label, not a protection. */
export function keyIdentifier(spki: Buffer): Buffer {
  const bits = readAll(readOne(spki).content, 2)[1];
  return createHash('sha1')
    .update(bits?.content.subarray(1) ?? spki)
    .digest();
}

export function writeCertificate(fields: CertificateFields): Buffer {
  const { issuer, role } = fields;
  const isCa = role.kind === 'ca';
  const extensions = [
    // cA is FALSE by default, and a default is not encoded.
    extension('2.5.29.19', true, isCa ? sequence(boolean(true)) : sequence()),
    // keyCertSign and cRLSign, or digitalSignature and keyEncipherment.
    extension('2.5.29.15', true, isCa ? bitString(Buffer.from([0x06]), 1) : bitString(Buffer.from([0xa0]), 5)),
    extension('2.5.29.14', false, octetString(keyIdentifier(fields.spki))),
    authorityKeyIdentifier(issuer),
  ];
  if (role.kind === 'leaf') {
    extensions.push(extension('2.5.29.37', false, sequence(...role.usages.map(usage => oid(EKU[usage])))));
    extensions.push(
      extension('2.5.29.17', fields.subject.equals(EMPTY_NAME), sequence(...role.names.map(generalName))),
    );
  }
  return signed(
    issuer.key,
    sequence(
      explicit(0, smallInteger(2)),
      integer(fields.serial),
      signatureAlgorithm(issuer.key).identifier,
      issuer.name,
      sequence(time(fields.notBeforeMs), time(fields.notAfterMs)),
      fields.subject,
      fields.spki,
      explicit(3, sequence(...extensions)),
    ),
  );
}

/** A version 2 list with number, key identifier and nextUpdate. */
export function writeCrl(
  issuer: Issuer,
  list: {
    readonly number: number;
    readonly thisUpdateMs: number;
    readonly nextUpdateMs: number;
    readonly revoked: readonly RevokedSerial[];
  },
): Buffer {
  const entries = list.revoked.map(({ serial, revokedAtMs }) =>
    sequence(integer(Buffer.from(serial, 'hex')), time(revokedAtMs)),
  );
  return signed(
    issuer.key,
    sequence(
      smallInteger(1),
      signatureAlgorithm(issuer.key).identifier,
      issuer.name,
      time(list.thisUpdateMs),
      time(list.nextUpdateMs),
      // RFC 5280 section 5.1.2.6: an empty list is left out.
      ...(entries.length === 0 ? [] : [sequence(...entries)]),
      explicit(0, sequence(authorityKeyIdentifier(issuer), extension('2.5.29.20', false, smallInteger(list.number)))),
    ),
  );
}

export function toPem(label: 'CERTIFICATE' | 'X509 CRL', der: Uint8Array): string {
  const base64 = Buffer.from(der).toString('base64');
  return `-----BEGIN ${label}-----\n${base64.replaceAll(/.{64}(?!$)/g, '$&\n')}\n-----END ${label}-----\n`;
}

function signed(key: KeyObject, body: Buffer): Buffer {
  const { identifier, hash } = signatureAlgorithm(key);
  return sequence(body, identifier, bitString(sign(hash, body, key)));
}

function signatureAlgorithm(key: KeyObject): { readonly identifier: Buffer; readonly hash: string } {
  if (key.asymmetricKeyType === 'rsa') {
    return { identifier: sequence(oid('1.2.840.113549.1.1.11'), encode(Tag.null)), hash: 'sha256' };
  }
  // ecdsa-with-SHA256, 384, 512: the hash as long as the curve.
  const curve = key.asymmetricKeyDetails?.namedCurve;
  if (curve === 'secp384r1') return { identifier: sequence(oid('1.2.840.10045.4.3.3')), hash: 'sha384' };
  if (curve === 'secp521r1') return { identifier: sequence(oid('1.2.840.10045.4.3.4')), hash: 'sha512' };
  return { identifier: sequence(oid('1.2.840.10045.4.3.2')), hash: 'sha256' };
}

function authorityKeyIdentifier(issuer: Issuer): Buffer {
  return extension('2.5.29.35', false, sequence(encode(0x80, issuer.keyId)));
}

function extension(type: string, isCritical: boolean, value: Buffer): Buffer {
  return sequence(oid(type), ...(isCritical ? [boolean(true)] : []), octetString(value));
}

function generalName(name: Name): Buffer {
  if (name.kind === 'ip') return encode(0x87, name.bytes);
  return encode(name.kind === 'uri' ? 0x86 : 0x82, Buffer.from(name.text, 'latin1'));
}
