// Certificates for tests, made at run time: ECDSA P-256 roots, intermediates and leaves with any URI names, dates and
// key usages. Not part of the package; other packages' tests import it by its path.
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const DAY_MS = 86_400_000;

export interface Authority {
  readonly certPem: string;
  readonly certDer: Buffer;
  readonly certificate: x509.X509Certificate;
  readonly keys: CryptoKeyPair;
}

export interface Leaf {
  /** The leaf, then the intermediates that were asked for. */
  readonly certChainPem: string;
  readonly certDer: Buffer;
  readonly privateKeyPem: string;
}

export interface LeafOptions {
  readonly uris?: readonly string[];
  readonly dnsNames?: readonly string[];
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  /** OIDs or the short names below; default both; empty: no extension. */
  readonly eku?: readonly string[];
  /** PEM to append to the chain. */
  readonly chainPem?: string;
}

export const Eku = {
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  codeSigning: '1.3.6.1.5.5.7.3.3',
};

type CryptoKeyPair = webcrypto.CryptoKeyPair;

x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);

let serial = 1;
function nextSerial(): string {
  return (serial++).toString(16).padStart(8, '0');
}

async function makeKeys(): Promise<CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

/** A root, or with `issuer` an intermediate authority. */
export async function makeRoot(name = 'O=cluster.local', issuer?: Authority): Promise<Authority> {
  const keys = await makeKeys();
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: nextSerial(),
    subject: name,
    issuer: issuer?.certificate.subject ?? name,
    notBefore: new Date(Date.now() - DAY_MS),
    notAfter: new Date(Date.now() + 10 * DAY_MS),
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: issuer?.keys.privateKey ?? keys.privateKey,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certPem: `${certificate.toString('pem')}\n`, certDer: Buffer.from(certificate.rawData), certificate, keys };
}

export async function makeLeaf(root: Authority, options: LeafOptions = {}): Promise<Leaf> {
  const keys = await makeKeys();
  const eku = options.eku ?? [Eku.serverAuth, Eku.clientAuth];
  const names: x509.JsonGeneralNames = [
    ...(options.dnsNames ?? []).map(value => ({ type: 'dns' as const, value })),
    ...(options.uris ?? ['spiffe://cluster.local/ns/default/sa/default']).map(value => ({
      type: 'url' as const,
      value,
    })),
  ];
  const extensions: x509.Extension[] = [
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
    ...(eku.length > 0 ? [new x509.ExtendedKeyUsageExtension([...eku])] : []),
    ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names, true)] : []),
  ];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: nextSerial(),
    subject: '',
    issuer: root.certificate.subject,
    notBefore: options.notBefore ?? new Date(Date.now() - DAY_MS / 24),
    notAfter: options.notAfter ?? new Date(Date.now() + DAY_MS),
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: root.keys.privateKey,
    extensions,
  });
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  return {
    certChainPem: `${certificate.toString('pem')}\n${options.chainPem ?? ''}`,
    certDer: Buffer.from(certificate.rawData),
    privateKeyPem: `-----BEGIN PRIVATE KEY-----\n${pkcs8.replace(/.{64}/g, '$&\n')}\n-----END PRIVATE KEY-----\n`,
  };
}

/** What TlsContext wants: a leaf's chain and key, with `roots` to trust (default its own issuer). */
export function materialOf(
  leaf: Leaf,
  root: Authority,
): { readonly certChainPem: string; readonly privateKeyPem: string; readonly rootsPem: string } {
  return { certChainPem: leaf.certChainPem, privateKeyPem: leaf.privateKeyPem, rootsPem: root.certPem };
}
