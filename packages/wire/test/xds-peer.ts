// Test support: a delta xDS server on grpc-js, which shares no code with the client under test. Each stream is handed to
// the test as a recording of requests and a way to answer.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type Metadata, Server, ServerCredentials, type ServerDuplexStream, type ServerOptions } from '@grpc/grpc-js';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from '../src/gen/discovery_pb.ts';

type Duplex = ServerDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

export class PeerStream {
  readonly metadata: Metadata;
  readonly requests: DeltaDiscoveryRequest[] = [];
  readonly duplex: Duplex;
  #ended = false;
  #wake: () => void = () => undefined;

  constructor(duplex: Duplex) {
    this.duplex = duplex;
    this.metadata = duplex.metadata;
    duplex.on('data', (request: DeltaDiscoveryRequest) => {
      this.requests.push(request);
      this.#wake();
    });
    const end = (): void => {
      this.#ended = true;
      this.#wake();
    };
    duplex.on('end', end);
    duplex.on('cancelled', end);
    duplex.on('error', end);
  }

  /** Sends a response of resources in version 1. */
  sendResources(
    typeUrl: string,
    nonce: string,
    resources: readonly { name: string; value: Uint8Array }[],
    removed: string[] = [],
  ): void {
    this.duplex.write(
      create(DeltaDiscoveryResponseSchema, {
        typeUrl,
        nonce,
        removedResources: removed,
        resources: resources.map(({ name, value }) => ({ name, version: '1', resource: { typeUrl, value } })),
      }),
    );
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Waits until the client sent `count` requests in all. */
  async received(count: number): Promise<readonly DeltaDiscoveryRequest[]> {
    while (this.requests.length < count) {
      if (this.#ended) throw new Error(`the stream ended after ${this.requests.length} of ${count} requests`);
      await new Promise<void>(resolve => (this.#wake = resolve));
    }
    return this.requests;
  }

  async untilEnded(): Promise<void> {
    while (!this.#ended) await new Promise<void>(resolve => (this.#wake = resolve));
  }
}

export class XdsPeer {
  readonly #server: Server;
  readonly #streams: PeerStream[] = [];
  readonly port: number;
  #accepted = 0;
  #wake: () => void = () => undefined;
  /** Runs for each new stream before the test sees it; may end it. */
  onStream: (stream: PeerStream) => void = () => undefined;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async start(
    options: {
      tls?: { certPem: string; keyPem: string };
      port?: number;
      unixPath?: string;
      server?: ServerOptions;
    } = {},
  ): Promise<XdsPeer> {
    const server = new Server({ 'grpc.max_send_message_length': -1, ...options.server });
    const bind = options.unixPath === undefined ? `127.0.0.1:${options.port ?? 0}` : `unix:${options.unixPath}`;
    const { tls } = options;
    const credentials =
      tls === undefined
        ? ServerCredentials.createInsecure()
        : ServerCredentials.createSsl(null, [
            { cert_chain: Buffer.from(tls.certPem), private_key: Buffer.from(tls.keyPem) },
          ]);
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync(bind, credentials, (error, bound) => (error === null ? resolve(bound) : reject(error))),
    );
    const peer = new XdsPeer(server, port);
    server.addService(
      {
        deltaAggregatedResources: {
          path: '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
          requestStream: true,
          responseStream: true,
          requestSerialize: (value: DeltaDiscoveryRequest) => Buffer.from(toBinary(DeltaDiscoveryRequestSchema, value)),
          requestDeserialize: (bytes: Buffer) => fromBinary(DeltaDiscoveryRequestSchema, bytes),
          responseSerialize: (value: DeltaDiscoveryResponse) =>
            Buffer.from(toBinary(DeltaDiscoveryResponseSchema, value)),
          responseDeserialize: (bytes: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, bytes),
        },
      },
      { deltaAggregatedResources: (duplex: Duplex) => peer.#onStream(new PeerStream(duplex)) },
    );
    return peer;
  }

  /** The next stream that a client opens, or the oldest not yet asked for. */
  async nextStream(): Promise<PeerStream> {
    for (;;) {
      const stream = this.#streams.shift();
      if (stream !== undefined) return stream;
      await new Promise<void>(resolve => (this.#wake = resolve));
    }
  }

  get accepted(): number {
    return this.#accepted;
  }

  /** Sends GOAWAY and waits for streams to end by themselves. */
  drain(): void {
    this.#server.tryShutdown(() => undefined);
  }

  stop(): void {
    this.#server.forceShutdown();
  }

  #onStream(stream: PeerStream): void {
    this.#accepted++;
    this.onStream(stream);
    this.#streams.push(stream);
    this.#wake();
  }
}
