// Development only: a self-signed root for a mesh on one machine, and leaves signed by such a root. The X.509 library is
// large, so this file is imported lazily and, in the proxy, only by the signing process.
import 'reflect-metadata';
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  type KeyObject,
  randomBytes,
  type webcrypto,
  X509Certificate,
} from 'node:crypto';
import { promisify } from 'node:util';
import { parseSpiffeId } from '@ambit/mesh';
import * as x509 from '@peculiar/x509';
import { ZtunnelError } from '../errors.ts';

export interface DevRoot {
  readonly certPem: string;
  /** PKCS#8. */
  readonly keyPem: string;
}

export interface DevLeafRequest {
  /** SPIFFE text; becomes the only name. */
  readonly identity: string;
  /** Public key of the workload, SubjectPublicKeyInfo DER. */
  readonly publicKeySpki: Uint8Array;
  readonly nowMs: number;
  readonly lifetimeMs: number;
}

export interface DevLeaf {
  readonly certPem: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** Clocks of two nodes may differ; a certificate that is valid a little before it was made hides that. */
const BACKDATE_MS = 2 * 60_000;
const DAY_MS = 86_400_000;
const RSA = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };

/** A new P-256 root, valid for `days`. */
export async function generateDevRoot(
  options: { readonly name?: string; readonly days?: number } = {},
): Promise<DevRoot> {
  const { privateKey, publicKey } = await promisify(generateKeyPair)('ec', { namedCurve: 'prime256v1' });
  const now = Date.now();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: [{ CN: [options.name ?? 'Ambit development root'] }],
    serialNumber: randomSerial(),
    notBefore: new Date(now - BACKDATE_MS),
    notAfter: new Date(now + (options.days ?? 365) * DAY_MS),
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    keys: { privateKey: toSigningKey(privateKey), publicKey: toVerifyingKey(publicKey) },
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(toVerifyingKey(publicKey)),
    ],
  });
  return {
    certPem: `${certificate.toString('pem')}\n`,
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

/** A leaf for both ends of mesh TLS: empty subject, one critical URI name, never longer-lived than the root. @throws identity.unavailable */
export async function signDevLeaf(root: DevRoot, request: DevLeafRequest): Promise<DevLeaf> {
  if (parseSpiffeId(request.identity) === undefined) throw refusal(`invalid spiffe identity: ${request.identity}`);
  const { rootKey, rootCertificate } = checkRoot(root, request.nowMs);
  const issuer = new x509.X509Certificate(root.certPem);
  const publicKey = createPublicKey({ key: Buffer.from(request.publicKeySpki), format: 'der', type: 'spki' });
  // X.509 times are whole seconds.
  const notBefore = Math.floor((request.nowMs - Math.min(BACKDATE_MS, request.lifetimeMs / 10)) / 1000) * 1000;
  const rootEnd = rootCertificate.validToDate.getTime();
  const notAfter = Math.min(Math.floor((request.nowMs + request.lifetimeMs) / 1000) * 1000, rootEnd);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: '',
    // Not its text: verifiers compare the encoded names, and the same text has several encodings.
    issuer: issuer.subjectName,
    serialNumber: randomSerial(),
    notBefore: new Date(notBefore),
    notAfter: new Date(notAfter),
    publicKey: toVerifyingKey(publicKey),
    signingAlgorithm: rootKey.algorithm.name === RSA.name ? RSA : { name: 'ECDSA', hash: 'SHA-256' },
    signingKey: rootKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
      new x509.SubjectAlternativeNameExtension([{ type: 'url', value: request.identity }], true),
    ],
  });
  return { certPem: `${certificate.toString('pem')}\n`, notBeforeMs: notBefore, notAfterMs: notAfter };
}

function checkRoot(root: DevRoot, nowMs: number): { rootKey: webcrypto.CryptoKey; rootCertificate: X509Certificate } {
  let certificate: X509Certificate;
  let key: KeyObject;
  try {
    certificate = new X509Certificate(root.certPem);
    key = createPrivateKey(root.keyPem);
  } catch (cause) {
    // The library's message may quote its input: the key must not reach a log.
    throw new ZtunnelError('identity.unavailable', 'the development root or its key is not PEM', { cause });
  }
  if (!certificate.ca) throw refusal('the development root is not a CA certificate');
  if (!certificate.checkPrivateKey(key)) throw refusal('the development root and its key do not belong together');
  // Roots that come with other tools (Istio's test CA among them) have RSA keys.
  if (key.asymmetricKeyType !== 'rsa' && key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
    throw refusal('the development root needs a P-256 or RSA key');
  }
  if (certificate.validToDate.getTime() <= nowMs)
    throw refusal(`the development root expired on ${certificate.validTo}`);
  return { rootKey: toSigningKey(key), rootCertificate: certificate };
}

function toSigningKey(key: KeyObject): webcrypto.CryptoKey {
  const algorithm = key.asymmetricKeyType === 'rsa' ? RSA : { name: 'ECDSA', namedCurve: 'P-256' };
  return key.toCryptoKey(algorithm, false, ['sign']);
}

function toVerifyingKey(key: KeyObject): webcrypto.CryptoKey {
  return key.toCryptoKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['verify']);
}

/** 127 random bits with the top one clear: positive in DER without a pad byte. */
function randomSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}

function refusal(message: string): ZtunnelError {
  return new ZtunnelError('identity.unavailable', message);
}
