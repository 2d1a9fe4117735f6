// A certificate and key that may sign, checked as a whole: the key fits, the certificate is a CA's, everything is in date
// and chains to a root. Nothing signs that has not come through here.
import { createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import { ControlError } from '../errors.ts';
import { readAll, readOne } from './der.ts';
import type { RootPair } from './material.ts';
import { distinguishedName, type Issuer, keyIdentifier, randomSerial, toPem, writeCertificate } from './x509-writer.ts';

export interface Signer extends Issuer {
  /** SHA-256 of its certificate, hexadecimal: which issuer a certificate came from. */
  readonly id: string;
  readonly certificate: X509Certificate;
  /** Certificates between a leaf and the root, the signer's own first; empty when the signer is the root. */
  readonly intermediates: readonly string[];
  readonly notAfterMs: number;
}

/** Where parts of a signer came from, for error messages. */
export interface SignerFiles {
  readonly cert: string;
  readonly key: string;
  readonly chain: string;
  readonly roots: string;
}

export interface SignerText {
  readonly certPem: string;
  readonly keyPem: string;
  /** More intermediates, in any order; may repeat the signer and hold roots. */
  readonly chainPem: string;
  readonly rootsPem: string;
}

export const ROOT_LIFETIME_MS: number = 3650 * 86_400_000;
/** Clocks of two machines differ; what is valid a little before it was made hides that. */
export const BACKDATE_MS: number = 2 * 60_000;
const MAX_CHAIN = 10;
const MAX_ROOTS = 100;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

/** A new self-signed P-256 root. */
export function makeRoot(
  organization: string,
  nowMs: number,
  keys: { readonly publicKey: KeyObject; readonly privateKey: KeyObject },
  lifetimeMs: number = ROOT_LIFETIME_MS,
): RootPair {
  const spki = keys.publicKey.export({ type: 'spki', format: 'der' });
  const keyId = keyIdentifier(spki);
  // No two roots share a name: verifiers find the list of revoked certificates by its issuer's name, and some by that alone.
  const name = distinguishedName(organization, `Ambit root ${keyId.toString('hex', 0, 6)}`);
  const der = writeCertificate({
    issuer: { name, keyId, key: keys.privateKey },
    subject: name,
    spki,
    serial: randomSerial(),
    notBeforeMs: nowMs - BACKDATE_MS,
    notAfterMs: nowMs + lifetimeMs,
    role: { kind: 'ca' },
  });
  return {
    certPem: toPem('CERTIFICATE', der),
    keyPem: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

/**
 * Checks everything and makes a signer.
 * @throws ca.bad_material naming the file and what to do; the message never quotes a key
 */
export function openSigner(text: SignerText, files: SignerFiles, nowMs: number): Signer {
  const certificate = splitCertificates(text.certPem, files.cert)[0];
  if (certificate === undefined)
    throw bad(files.cert, 'holds no certificate', 'put the signing certificate there, as PEM');
  const key = readKey(text.keyPem, files.key);
  if (!certificate.checkPrivateKey(key)) {
    throw bad(
      files.key,
      `does not belong to the certificate in ${files.cert}`,
      'put the pair that was made together there',
    );
  }
  checkAuthority(certificate, files.cert, nowMs);
  const roots = readRoots(text.rootsPem, files.roots);
  const others = splitCertificates(text.chainPem, files.chain);
  const path = pathToRoot(certificate, others, roots, files, nowMs);
  const { name, keyId } = nameAndKeyId(certificate);
  return {
    id: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    name,
    keyId,
    key,
    certificate,
    intermediates: path.map(each => toPem('CERTIFICATE', each.raw)),
    notAfterMs: Math.min(...[certificate, ...path].map(each => each.validToDate.getTime())),
  };
}

/** The certificates of a bundle. @throws ca.bad_material when there is none or one is not a CA's */
export function readRoots(pem: string, file: string): readonly X509Certificate[] {
  const roots = splitCertificates(pem, file);
  if (roots.length === 0) throw bad(file, 'holds no root certificate', 'put the root certificates there, as PEM');
  if (roots.length > MAX_ROOTS)
    throw bad(file, `holds more than ${MAX_ROOTS} certificates`, 'keep only the mesh roots');
  const notAuthority = roots.find(each => !each.ca);
  if (notAuthority !== undefined) {
    throw bad(file, `holds ${oneLine(notAuthority.subject)}, which is not a CA`, 'keep only CA certificates in it');
  }
  return roots;
}

/** Every CERTIFICATE block. @throws ca.bad_material */
function splitCertificates(pem: string, file: string): X509Certificate[] {
  return [...pem.matchAll(CERTIFICATE)].map(([block]) => {
    try {
      return new X509Certificate(block);
    } catch (cause) {
      throw bad(file, 'holds a certificate that cannot be read', 'write it again from its source', cause);
    }
  });
}

function readKey(pem: string, file: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    // Without the cause: the library may quote what it could not read.
    throw bad(file, 'holds no private key that can be read', 'put an unencrypted PEM key there');
  }
  const { namedCurve = '', modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  const isFit =
    key.asymmetricKeyType === 'rsa'
      ? modulusLength >= 2048
      : key.asymmetricKeyType === 'ec' && ['prime256v1', 'secp384r1', 'secp521r1'].includes(namedCurve);
  if (!isFit) throw bad(file, 'holds a key that may not sign', 'use P-256, P-384, P-521, or RSA of 2048 bits or more');
  return key;
}

function checkAuthority(certificate: X509Certificate, file: string, nowMs: number): void {
  const name = oneLine(certificate.subject);
  if (!certificate.ca) throw bad(file, `holds ${name}, which is not a CA`, 'put a certificate with CA:TRUE there');
  if (certificate.validToDate.getTime() <= nowMs) {
    throw bad(file, `holds ${name}, which expired on ${certificate.validTo}`, 'replace it with one that is valid');
  }
  if (certificate.validFromDate.getTime() > nowMs) {
    throw bad(file, `holds ${name}, which is valid only from ${certificate.validFrom}`, 'check the clock');
  }
}

/** From the signer upwards, without the root; empty if the signer is a root. */
function pathToRoot(
  signer: X509Certificate,
  others: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  files: SignerFiles,
  nowMs: number,
): readonly X509Certificate[] {
  const path: X509Certificate[] = [];
  for (let at = signer; path.length < MAX_CHAIN; ) {
    const here = at;
    if (roots.some(root => root.raw.equals(here.raw))) return path;
    path.push(here);
    const root = roots.find(each => isIssuedBy(here, each));
    if (root !== undefined) {
      checkAuthority(root, files.roots, nowMs);
      return path;
    }
    const next = others.find(each => !path.some(seen => seen.raw.equals(each.raw)) && isIssuedBy(here, each));
    if (next === undefined) break;
    checkAuthority(next, files.chain, nowMs);
    at = next;
  }
  throw bad(
    files.chain,
    `does not lead from ${oneLine(signer.subject)} to a certificate in ${files.roots}`,
    'put every intermediate in the chain, and the root that issued the last one in the roots',
  );
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

/** Its name as encoded, and the key identifier that it says it has. */
function nameAndKeyId(certificate: X509Certificate): { readonly name: Buffer; readonly keyId: Buffer } {
  const body = readAll(readOne(certificate.raw).content, 3)[0];
  const fields = readAll(body?.content ?? Buffer.alloc(0), 12);
  // version, serial, algorithm, issuer, validity, subject, key; the version is absent in old ones.
  const offset = fields[0]?.tag === 0xa0 ? 1 : 0;
  const name = fields[offset + 4]?.whole;
  if (name === undefined) throw new ControlError('ca.bad_material', 'a certificate has no subject');
  const extensions = fields.find(field => field.tag === 0xa3);
  for (const each of extensions === undefined ? [] : readAll(readOne(extensions.content).content, 100)) {
    const parts = readAll(each.content, 3);
    const value = parts.at(-1);
    if (parts[0]?.content.toString('hex') === '551d0e' && value !== undefined) {
      return { name, keyId: readOne(value.content).content };
    }
  }
  const spki = createPublicKey(certificate.toString()).export({ type: 'spki', format: 'der' });
  return { name, keyId: keyIdentifier(spki) };
}

function oneLine(name: string | undefined): string {
  return (name ?? 'a certificate without a name').replaceAll('\n', ', ');
}

function bad(file: string, what: string, next: string, cause?: unknown): ControlError {
  return new ControlError('ca.bad_material', `${file} ${what}`, { next, cause });
}
