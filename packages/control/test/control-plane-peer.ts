// Test support: grpc-js as a client of both services. Messages are written and read field by field, so neither HTTP/2 nor
// gRPC nor protobuf is ours.
import {
  type ChannelCredentials,
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import {
  DELTA_PATH,
  decodeResponse,
  encodeRequest,
  field,
  fields,
  type PlainRequest,
  type PlainResponse,
} from '../src/xds/codec-testing.ts';
import type { RunningControl } from './control-plane-running.ts';

const CERTIFICATE_PATH = '/istio.v1.auth.IstioCertificateService/CreateCertificate';
const PATIENCE_MS = 15_000;

export const ADDRESS = 'type.googleapis.com/istio.workload.Address';
export const AUTHORIZATION = 'type.googleapis.com/istio.security.Authorization';

/** What a node proxy says of itself; `id` is unique, since reconnects of one id are paced. */
export function nodeOf(nodeName: string, more: Readonly<Record<string, string>> = {}) {
  proxies += 1;
  const id = `ztunnel~10.9.9.9~ztunnel-${proxies}.istio-system~istio-system.svc.cluster.local`;
  return { id, NODE_NAME: nodeName, SERVICE_ACCOUNT: 'ztunnel', NAMESPACE: 'istio-system', ...more };
}
let proxies = 0;

const raw = (bytes: Buffer): Buffer => bytes;

export interface CertificateQuestion {
  readonly csr: string;
  readonly identity?: string;
  readonly seconds?: number;
  readonly token?: string | undefined;
}

/** One channel to a control plane. */
export class ControlPeer implements Disposable {
  readonly client: Client;

  constructor(address: string, channel: ChannelCredentials) {
    this.client = new Client(address, channel, {
      'grpc.use_local_subchannel_pool': 1,
      // As a node proxy that goes through a service's address.
      'grpc.ssl_target_name_override': 'istiod.istio-system.svc',
    });
  }

  /** The plaintext port. */
  static plain(control: RunningControl): ControlPeer {
    return new ControlPeer(`127.0.0.1:${control.plainPort}`, credentials.createInsecure());
  }

  /** The TLS port, trusting the root in the state directory; with a client certificate if one is given. */
  static async secure(
    control: RunningControl,
    own?: { readonly chainPem: string; readonly keyPem: string },
  ): Promise<ControlPeer> {
    const pair = own === undefined ? [] : [Buffer.from(own.keyPem), Buffer.from(own.chainPem)];
    const channel = credentials.createSsl(Buffer.from(await control.rootPem()), ...pair);
    return new ControlPeer(`127.0.0.1:${control.securePort}`, channel);
  }

  stream(token?: string): DeltaStream {
    return new DeltaStream(this.client.makeBidiStreamRequest(DELTA_PATH, raw, raw, metadataOf(token)));
  }

  /** @throws ServiceError */
  async certificate(question: CertificateQuestion): Promise<readonly string[]> {
    const request = encodeCertificateRequest(question);
    return decodeChain(await this.call(CERTIFICATE_PATH, request, question.token));
  }

  /** A unary call with these bytes as its message. @throws ServiceError */
  async call(path: string, message: Buffer, token?: string): Promise<Buffer> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    const deadline = Date.now() + PATIENCE_MS;
    this.client.makeUnaryRequest(path, raw, raw, message, metadataOf(token), { deadline }, (error, answer) => {
      if (error !== null) reject(error);
      else resolve(answer ?? Buffer.alloc(0));
    });
    return promise;
  }

  [Symbol.dispose](): void {
    this.client.close();
  }
}

/** A stream that keeps, as a client does, what it was told, and acknowledges it. */
export class DeltaStream {
  readonly held = new Map<string, Map<string, { readonly version: string; readonly value: string }>>();
  readonly call: ClientDuplexStream<Buffer, Buffer>;
  readonly responses: PlainResponse[] = [];
  #failure: ServiceError | undefined;
  #changed = Promise.withResolvers<void>();
  /** Whether responses are acknowledged as they come. */
  isPolite = true;

  constructor(call: ClientDuplexStream<Buffer, Buffer>) {
    this.call = call;
    call.on('data', bytes => this.#take(decodeResponse(bytes as Buffer)));
    call.on('error', error => {
      this.#failure = error as ServiceError;
      this.#tell();
    });
  }

  send(request: PlainRequest): void {
    this.call.write(encodeRequest(request));
  }

  /** Follows everything of both types, from what is known. */
  follow(node: ReturnType<typeof nodeOf>, known: Readonly<Record<string, Record<string, string>>> = {}): this {
    for (const typeUrl of [ADDRESS, AUTHORIZATION]) this.send({ node, typeUrl, known: known[typeUrl] ?? {} });
    return this;
  }

  names(typeUrl: string): readonly string[] {
    return [...(this.held.get(typeUrl)?.keys() ?? [])].toSorted();
  }

  versions(typeUrl: string): Record<string, string> {
    return Object.fromEntries(Array.from(this.held.get(typeUrl) ?? [], ([name, { version }]) => [name, version]));
  }

  has(typeUrl: string, name: string): boolean {
    return this.held.get(typeUrl)?.has(name) === true;
  }

  /** Waits until what was told fulfils a condition. @throws the stream's failure, or when nothing more comes */
  async until(isFulfilled: (stream: this) => boolean): Promise<void> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new Error(`only ${JSON.stringify([...this.held])} came`)), PATIENCE_MS);
    try {
      while (!isFulfilled(this)) {
        if (this.#failure !== undefined) throw this.#failure;
        await Promise.race([this.#changed.promise, late]);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits for both first responses. */
  async untilFollowed(): Promise<this> {
    await this.until(({ held }) => held.has(ADDRESS) && held.has(AUTHORIZATION));
    return this;
  }

  /** The error that ends it. @throws when it does not end */
  async failure(): Promise<ServiceError> {
    await this.until(() => this.#failure !== undefined);
    if (this.#failure === undefined) throw new Error('it did not fail');
    return this.#failure;
  }

  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  cancel(): void {
    this.call.cancel();
  }

  #take(response: PlainResponse): void {
    this.responses.push(response);
    const held = this.held.get(response.typeUrl) ?? new Map<string, { version: string; value: string }>();
    this.held.set(response.typeUrl, held);
    for (const { name, version, value } of response.resources) held.set(name, { version, value });
    for (const name of response.removed) held.delete(name);
    if (this.isPolite) this.send({ typeUrl: response.typeUrl, nonce: response.nonce });
    this.#tell();
  }

  #tell(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

export function encodeCertificateRequest({ csr, identity, seconds = 0 }: CertificateQuestion): Buffer {
  const duration = Buffer.concat([Buffer.from([3 * 8]), varint(BigInt(seconds))]);
  const metadata =
    identity === undefined ? [] : [field(4, field(1, field(1, 'ImpersonatedIdentity'), field(2, field(3, identity))))];
  return Buffer.concat([field(1, csr), ...(seconds === 0 ? [] : [duration]), ...metadata]);
}

function decodeChain(bytes: Buffer): readonly string[] {
  return (fields(bytes).get(1) ?? []).map(String);
}

/** As protobuf: ten bytes for what is negative. */
function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) + 128);
  return Buffer.from([...bytes, Number(rest)]);
}

function metadataOf(token: string | undefined): Metadata {
  const metadata = new Metadata();
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
  metadata.set('clusterid', 'Kubernetes');
  return metadata;
}
