// Test support: a control plane with the habits of istiod, on grpc-js and an independent protobuf: one TLS port for xDS and
// certificates, named by DNS only; addresses carry versions and policies none; connections are asked to go after seconds;
// certificates come with an intermediate and two roots, and only once the authority has heard of the pod.
// Takes tests' resources as they are; knows nothing of Kubernetes.
import { createHash, randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import {
  type GrpcObject,
  loadPackageDefinition,
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServiceClientConstructor,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL } from '@ambit/wire/resources';
import { IstiodAuthority } from './istiod-like-authority.ts';

/** As the proto loader gives them, as far as they are looked at. */
interface DeltaRequest {
  readonly node: { readonly id: string } | null;
  readonly typeUrl: string;
  readonly initialResourceVersions: Readonly<Record<string, string>>;
  readonly responseNonce: string;
  readonly errorDetail: { readonly message: string } | null;
}

interface DeltaResponse {
  readonly systemVersionInfo: string;
  readonly typeUrl: string;
  readonly nonce: string;
  readonly resources: ReadonlyArray<object>;
  readonly removedResources: readonly string[];
}

interface CertificateRequest {
  readonly csr: string;
  readonly validityDuration: string;
  readonly metadata: { readonly fields: Readonly<Record<string, { readonly stringValue: string }>> } | null;
}

type Duplex = ServerDuplexStream<DeltaRequest, DeltaResponse>;
interface Held {
  readonly version: string;
  readonly value: Uint8Array;
}

type Resources = Map<string, Held>;

/** Values to set; undefined removes. */
export type Changes = Readonly<Record<string, Uint8Array | undefined>>;

export interface IstiodOptions {
  readonly host: string;
  /** A connection is asked to go at this age, and cut half a second later. */
  readonly maxAgeMs: number;
  /** How often the authority does not know an identity yet. */
  readonly lag: number;
}

/** One delta stream, and what its client said. */
export interface IstiodStream {
  readonly node: string;
  readonly token: string;
  /** Names and versions that the client brought along, by type. */
  readonly brought: Map<string, Readonly<Record<string, string>>>;
  readonly sent: Set<string>;
  readonly acked: Set<string>;
  readonly nacks: { readonly typeUrl: string; readonly message: string }[];
  /** Nonces that this stream never sent. */
  readonly strange: string[];
  readonly duplex: Duplex;
}

const NAME = 'istiod.istio-system.svc';
const PROTO = (name: string) => fileURLToPath(new URL(`../../wire/proto/${name}.proto`, import.meta.url));
const LOADING = { longs: String, defaults: true };
const GRACE_MS = 500;

export class IstiodLike implements Disposable {
  /** The name in its certificate; clients come by address. */
  readonly hostname = NAME;
  /** Bearer tokens that are taken. */
  readonly tokens = new Set<string>();
  /** All streams so far, in order. */
  readonly streams: IstiodStream[] = [];
  /** Certificates given, by identity. */
  readonly issued = new Map<string, number>();
  readonly refused = new Map<string, number>();
  readonly #server: Server;
  readonly #options: IstiodOptions;
  readonly #authority: IstiodAuthority;
  readonly #held: Readonly<Record<string, Resources>> = {
    [ADDRESS_TYPE_URL]: new Map(),
    [AUTHORIZATION_TYPE_URL]: new Map(),
  };
  readonly #open = new Set<IstiodStream>();
  #changed = Promise.withResolvers<void>();
  #pushes = 0;
  #port = 0;

  private constructor(server: Server, options: IstiodOptions, authority: IstiodAuthority) {
    this.#server = server;
    this.#options = options;
    this.#authority = authority;
  }

  static async start(options: IstiodOptions): Promise<IstiodLike> {
    const authority = await IstiodAuthority.make();
    const server = new Server({
      'grpc.max_connection_age_ms': options.maxAgeMs,
      'grpc.max_connection_age_grace_ms': GRACE_MS,
    });
    const istiod = new IstiodLike(server, options, authority);
    const discovery = loadPackageDefinition(loadSync(PROTO('discovery'), LOADING));
    const citadel = loadPackageDefinition(loadSync(PROTO('citadel'), LOADING));
    server.addService(serviceOf(discovery, 'envoy.service.discovery.v3.AggregatedDiscoveryService'), {
      DeltaAggregatedResources: (duplex: Duplex) => istiod.#serve(duplex),
    });
    server.addService(serviceOf(citadel, 'istio.v1.auth.IstioCertificateService'), {
      CreateCertificate: (
        call: ServerUnaryCall<CertificateRequest, { certChain: string[] }>,
        answer: sendUnaryData<{ certChain: string[] }>,
      ) => void istiod.#sign(call).then(certChain => answer(null, { certChain }), answer),
    });
    const pair = await authority.servingPair(NAME);
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    server.bindAsync(`${options.host}:0`, ServerCredentials.createSsl(null, [pair]), (error, port) =>
      error === null ? resolve(port) : reject(error),
    );
    istiod.#port = await promise;
    return istiod;
  }

  /** Both roots, as `istio-ca-root-cert` would hold them. */
  get rootsPem(): string {
    return this.#authority.rootsPem;
  }

  get url(): string {
    return `https://${this.#options.host}:${this.#port}`;
  }

  /** Changes what there is and pushes it: addresses before policies, as upstream. */
  change(changes: { readonly addresses?: Changes; readonly policies?: Changes }): void {
    for (const [typeUrl, values] of [
      [ADDRESS_TYPE_URL, changes.addresses ?? {}],
      [AUTHORIZATION_TYPE_URL, changes.policies ?? {}],
    ] as const) {
      const held = this.#held[typeUrl];
      for (const [name, value] of Object.entries(values)) {
        if (value === undefined) held?.delete(name);
        else held?.set(name, { version: versionOf(typeUrl, value), value });
      }
      const names = Object.keys(values);
      if (names.length === 0) continue;
      const present = [...(held ?? [])].filter(([name]) => values[name] !== undefined);
      const removed = names.filter(name => values[name] === undefined);
      for (const stream of this.#open) if (stream.brought.has(typeUrl)) this.#send(stream, typeUrl, present, removed);
    }
  }

  /** Sends every client something of a type that nobody asked for. */
  pushStrange(typeUrl: string): void {
    for (const stream of this.#open) this.#send(stream, typeUrl, [['x', { version: '', value: Buffer.from('x') }]], []);
  }

  /** Waits until what clients did fulfils a condition. */
  async until(isFulfilled: (istiod: this) => boolean, timeoutMs = 30_000): Promise<void> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new Error('the clients did not do it')), timeoutMs);
    try {
      while (!isFulfilled(this)) await Promise.race([this.#changed.promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits until each of these nodes has begun so many streams more. */
  async reconnected(nodes: readonly string[], times: number): Promise<void> {
    const count = (node: string) => this.streams.filter(stream => stream.node === node).length;
    const goals = nodes.map(node => [node, count(node) + times] as const);
    await this.until(() => goals.every(([node, goal]) => count(node) >= goal));
  }

  /** Waits until whoever is connected has acknowledged all that it was sent. */
  async settled(nodes: number): Promise<void> {
    await this.until(() => {
      const current = [...this.#open].filter(({ brought }) => brought.size === 2);
      return (
        new Set(current.map(({ node }) => node)).size === nodes &&
        current.every(({ sent, acked }) => sent.size === acked.size)
      );
    });
  }

  [Symbol.dispose](): void {
    this.#server.forceShutdown();
  }

  #serve(duplex: Duplex): void {
    const token = tokenOf(duplex);
    if (!this.tokens.has(token)) {
      duplex.emit('error', Object.assign(new Error('authentication failure'), { code: status.UNAUTHENTICATED }));
      return;
    }
    let stream: IstiodStream | undefined;
    duplex.on('data', (request: DeltaRequest) => {
      if (stream === undefined) {
        const node = request.node?.id ?? '';
        if (node === '') {
          duplex.emit('error', Object.assign(new Error('missing node information'), { code: status.INVALID_ARGUMENT }));
          return;
        }
        stream = { node, token, brought: new Map(), sent: new Set(), acked: new Set(), nacks: [], strange: [], duplex };
        this.streams.push(stream);
        this.#open.add(stream);
      }
      this.#take(stream, request);
      this.#tell();
    });
    const end = (): void => {
      if (stream !== undefined) this.#open.delete(stream);
      this.#tell();
    };
    duplex.on('end', () => {
      duplex.end();
      end();
    });
    for (const event of ['cancelled', 'error', 'close']) duplex.on(event, end);
  }

  #take(stream: IstiodStream, request: DeltaRequest): void {
    const { typeUrl, responseNonce: nonce, errorDetail } = request;
    const held = this.#held[typeUrl];
    if (held !== undefined && !stream.brought.has(typeUrl)) {
      const brought = request.initialResourceVersions;
      stream.brought.set(typeUrl, brought);
      const isNews = ([name, { version }]: readonly [string, Held]) => version === '' || brought[name] !== version;
      const removed = Object.keys(brought).filter(name => !held.has(name));
      this.#send(stream, typeUrl, [...held].filter(isNews), removed);
      return;
    }
    if (!stream.sent.has(nonce)) stream.strange.push(nonce);
    else stream.acked.add(nonce);
    if (errorDetail !== null) stream.nacks.push({ typeUrl, message: errorDetail.message });
  }

  #send(
    stream: IstiodStream,
    typeUrl: string,
    resources: ReadonlyArray<readonly [string, Held]>,
    removedResources: readonly string[],
  ): void {
    const version = `${new Date().toISOString()}/${++this.#pushes}`;
    const nonce = `${version}${randomUUID()}`;
    stream.sent.add(nonce);
    stream.duplex.write({
      systemVersionInfo: version,
      typeUrl,
      nonce,
      resources: resources.map(([name, { version: content, value }]) => ({
        name,
        version: content,
        resource: { type_url: typeUrl, value },
      })),
      removedResources,
    });
  }

  async #sign(call: ServerUnaryCall<CertificateRequest, unknown>): Promise<string[]> {
    const unauthenticated = Object.assign(new Error('request authenticate failure'), { code: status.UNAUTHENTICATED });
    if (!this.tokens.has(tokenOf(call))) throw unauthenticated;
    const { csr, metadata, validityDuration } = call.request;
    const identity = metadata?.fields['ImpersonatedIdentity']?.stringValue ?? '';
    const refused = this.refused.get(identity) ?? 0;
    if (refused < this.#options.lag) {
      this.refused.set(identity, refused + 1);
      throw unauthenticated;
    }
    const chain = await this.#authority.sign(csr, identity, Number(validityDuration));
    this.issued.set(identity, (this.issued.get(identity) ?? 0) + 1);
    this.#tell();
    return [...chain];
  }

  #tell(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

/** Of an address a hash of its content; policies have none. */
function versionOf(typeUrl: string, value: Uint8Array): string {
  return typeUrl === ADDRESS_TYPE_URL ? createHash('sha256').update(value).digest('hex').slice(0, 16) : '';
}

function tokenOf({ metadata }: { readonly metadata: Duplex['metadata'] }): string {
  const [header] = metadata.get('authorization');
  return /^Bearer (.+)$/.exec(String(header))?.[1] ?? '';
}

function serviceOf(root: GrpcObject, name: string): ServiceClientConstructor['service'] {
  let at: unknown = root;
  for (const part of name.split('.')) at = (at as GrpcObject)[part];
  return (at as ServiceClientConstructor).service;
}
