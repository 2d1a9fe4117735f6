// Test support: what istiod-like.ts signs with: an intermediate of one of two roots, both of which come with every answer.
import { randomUUID } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import * as x509 from '@peculiar/x509';
import { type Authority, makeLeaf, makeRoot } from '../../native/test/certificates.ts';

/** As upstream: clocks differ. */
const BACKDATE_MS = 2 * 60_000;

export class IstiodAuthority {
  readonly rootsPem: string;
  readonly #issuer: Authority;

  private constructor(issuer: Authority, rootsPem: string) {
    this.#issuer = issuer;
    this.rootsPem = rootsPem;
  }

  static async make(): Promise<IstiodAuthority> {
    const [root, next] = await Promise.all([makeRoot('O=mesh,CN=root'), makeRoot('O=mesh,CN=next root')]);
    // The one that signed is not the first, so that nobody gets by with reading one.
    return new IstiodAuthority(await makeRoot('O=mesh,CN=intermediate', root), next.certPem + root.certPem);
  }

  /** For the server itself, by DNS name only. */
  async servingPair(name: string): Promise<{ readonly cert_chain: Buffer; readonly private_key: Buffer }> {
    const leaf = await makeLeaf(this.#issuer, { dnsNames: [name], uris: [], chainPem: this.#issuer.certPem });
    return { cert_chain: Buffer.from(leaf.certChainPem), private_key: Buffer.from(leaf.privateKeyPem) };
  }

  /** Leaf, intermediate, both roots together. @throws an error with a gRPC code when the request does not verify */
  async sign(csr: string, identity: string, seconds: number): Promise<readonly string[]> {
    const request = new x509.Pkcs10CertificateRequest(csr);
    if (!(await request.verify())) {
      throw Object.assign(new Error('the request does not verify'), { code: status.INVALID_ARGUMENT });
    }
    const leaf = await x509.X509CertificateGenerator.create({
      subject: '',
      issuer: this.#issuer.certificate.subject,
      serialNumber: randomUUID().replaceAll('-', '').replace(/^./, '1'),
      notBefore: new Date(Date.now() - BACKDATE_MS),
      notAfter: new Date(Date.now() + seconds * 1000),
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      publicKey: request.publicKey,
      signingKey: this.#issuer.keys.privateKey,
      extensions: [
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: identity }], true),
      ],
    });
    return [`${leaf.toString('pem')}\n`, this.#issuer.certPem, this.rootsPem];
  }
}
