// Test support: a certificate authority that shares no code with the client under test: grpc-js with real TLS, the proto
// file read at run time, another X.509 library. Each answer can be replaced by the test.
import type { webcrypto } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import {
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  loadPackageDefinition,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import * as x509 from '@peculiar/x509';
import { type Authority, makeLeaf, makeRoot } from '../../../native/test/certificates.ts';

/** As the proto loader gives it. */
export interface CaRequest {
  readonly csr: string;
  readonly validityDuration: string;
  readonly metadata: { readonly fields: Readonly<Record<string, { readonly stringValue: string }>> } | null;
}

export type CaCall = ServerUnaryCall<CaRequest, { certChain: string[] }>;
export type CaAnswer = sendUnaryData<{ certChain: string[] }>;
export type CaBehaviour = (call: CaCall, answer: CaAnswer) => void | Promise<void>;

const PROTO = fileURLToPath(new URL('../../../wire/proto/citadel.proto', import.meta.url));

export interface SignOptions {
  readonly uris?: readonly string[];
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  readonly issuer?: Authority;
  /** Makes the leaf an authority. */
  readonly isCa?: boolean;
  /** Instead of the request's. */
  readonly publicKey?: x509.PublicKey | webcrypto.CryptoKey;
}

export class TestCa {
  readonly root: Authority;
  readonly calls: CaCall[] = [];
  /** Connections accepted so far are not told by grpc-js: clients are counted by their port. */
  readonly peers = new Set<string>();
  behaviour: CaBehaviour;
  readonly #server: Server;
  #port = 0;
  #wake: () => void = () => undefined;

  private constructor(root: Authority, server: Server) {
    this.root = root;
    this.#server = server;
    this.behaviour = async (call, answer) => answer(null, { certChain: [await this.sign(call), root.certPem] });
  }

  static async start(options: { root?: Authority; port?: number } = {}): Promise<TestCa> {
    const root = options.root ?? (await makeRoot('O=mesh'));
    const server = new Server();
    const ca = new TestCa(root, server);
    const serving = await makeLeaf(root, { dnsNames: ['ca.test', 'localhost'], uris: [] });
    const pair = { cert_chain: Buffer.from(serving.certChainPem), private_key: Buffer.from(serving.privateKeyPem) };
    const credentials = ServerCredentials.createSsl(null, [pair]);
    server.addService(serviceOf(), {
      CreateCertificate: (call: CaCall, answer: CaAnswer) => {
        ca.calls.push(call);
        ca.peers.add(call.getPeer());
        ca.#wake();
        void ca.behaviour(call, answer);
      },
    });
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    server.bindAsync(`127.0.0.1:${options.port ?? 0}`, credentials, (error, port) =>
      error === null ? resolve(port) : reject(error),
    );
    ca.#port = await promise;
    return ca;
  }

  get port(): number {
    return this.#port;
  }

  get url(): string {
    return `https://localhost:${this.#port}`;
  }

  /** Waits until it was asked `count` times in all. */
  async asked(count: number): Promise<void> {
    while (this.calls.length < count) await new Promise<void>(resolve => (this.#wake = resolve));
  }

  /** A leaf for what the request asks, but for `options`. */
  async sign(call: CaCall, options: SignOptions = {}): Promise<string> {
    const { csr, metadata, validityDuration } = call.request;
    const request = new x509.Pkcs10CertificateRequest(csr);
    if (!(await request.verify())) throw new Error('the request does not verify');
    const issuer = options.issuer ?? this.root;
    const wanted = metadata?.fields.ImpersonatedIdentity?.stringValue ?? 'spiffe://td/ns/own/sa/own';
    const now = Date.now();
    const { digitalSignature, keyCertSign } = x509.KeyUsageFlags;
    const certificate = await x509.X509CertificateGenerator.create({
      subject: '',
      issuer: issuer.certificate.subject,
      serialNumber: '0abc',
      notBefore: options.notBefore ?? new Date(now - 2 * 60_000),
      notAfter: options.notAfter ?? new Date(now + Number(validityDuration) * 1000),
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      publicKey: options.publicKey ?? request.publicKey,
      signingKey: issuer.keys.privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(options.isCa === true, undefined, true),
        new x509.KeyUsagesExtension(options.isCa === true ? keyCertSign : digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
        new x509.SubjectAlternativeNameExtension(
          (options.uris ?? [wanted]).map(value => ({ type: 'url' as const, value })),
          true,
        ),
      ],
    });
    return `${certificate.toString('pem')}\n`;
  }

  /** Cuts every connection. */
  stop(): void {
    this.#server.forceShutdown();
  }
}

function serviceOf(): Parameters<Server['addService']>[0] {
  const definition = loadPackageDefinition(loadSync(PROTO, { longs: String, defaults: true }));
  // The loader builds this shape from the file's package and service names.
  const tree = definition as unknown as {
    istio: { v1: { auth: { IstioCertificateService: { service: Parameters<Server['addService']>[0] } } } };
  };
  return tree.istio.v1.auth.IstioCertificateService.service;
}
