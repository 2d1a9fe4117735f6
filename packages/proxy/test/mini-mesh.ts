// The smallest mesh that uses the whole of this package: a client proxy whose listeners stand for pods' connections, and a
// server proxy that dials what CONNECT asks for. It has no policy and no routing; those belong to packages/ztunnel.
import {
  acceptConnection,
  Errno,
  type EventHandler,
  Fd,
  listenTcp,
  openTcp,
  type Registration,
  setNoDelay,
  setSendBuffer,
  startConnect,
  TlsContext,
  type TlsOptions,
} from '@ambit/native';
import { parseIp, type SocketAddress } from '@ambit/mesh';
import { type Authority, type Leaf, makeLeaf, makeRoot, materialOf } from '../../native/test/certificates.ts';
import {
  Engine,
  errnoText,
  failed,
  dialReason,
  type FrozenTunnel,
  HbonePool,
  MemoryBudget,
  type PooledTunnel,
  poolKey,
  type PoolSettings,
  type PoolTarget,
  type PoolWaiter,
  type RequestHead,
  SecureHandshake,
  type SecuredSocket,
  type StreamEnd,
  type StreamOwner,
  Tunnel,
  type TunnelEvents,
  type TunnelPeer,
  type TunnelSettings,
  type TunnelStream,
} from '../src/index.ts';

export const CLIENT_ID = 'spiffe://cluster.local/ns/shop/sa/web';
export const SERVER_ID = 'spiffe://cluster.local/ns/shop/sa/cart';

export const SETTINGS: TunnelSettings = {
  streamWindowBytes: 512 * 1024,
  connectionWindowBytes: 4 * 1024 * 1024,
  maxFrameBytes: 1024 * 1024,
  maxHeaderListBytes: 65_536,
  maxConcurrentStreams: 200,
  pingIntervalMs: 10_000,
  pingTimeoutMs: 20_000,
};

export const POOL: PoolSettings = {
  maxStreamsPerTunnel: 100,
  idleMs: 300_000,
  connectTimeoutMs: 5000,
  handshakeTimeoutMs: 5000,
};

export interface Certificates {
  readonly root: Authority;
  readonly client: Leaf;
  readonly server: Leaf;
}

let certificates: Promise<Certificates> | undefined;

/** Made once a test process; certificates are not what these tests are about. */
export function meshCertificates(): Promise<Certificates> {
  certificates ??= (async () => {
    const root = await makeRoot();
    return {
      root,
      client: await makeLeaf(root, { uris: [CLIENT_ID] }),
      server: await makeLeaf(root, { uris: [SERVER_ID] }),
    };
  })();
  return certificates;
}

export function clientTls({ client, root }: Certificates, options?: TlsOptions): TlsContext {
  return TlsContext.client(materialOf(client, root), options);
}

export function serverTls({ server, root }: Certificates, options?: TlsOptions): TlsContext {
  return TlsContext.server(materialOf(server, root), options);
}

/** Accepts on 127.0.0.1 with a fresh port. */
export class Listener implements EventHandler {
  readonly port: number;
  readonly #fd: Fd;
  readonly #onAccepted: (fd: Fd) => void;
  readonly #engine: Engine;
  readonly #registration: Registration;

  constructor(engine: Engine, onAccepted: (fd: Fd) => void, backlog = 1024) {
    const { fd, port } = listenTcp({ address: '127.0.0.1', port: 0, backlog });
    this.port = port;
    this.#fd = fd;
    this.#engine = engine;
    this.#onAccepted = onAccepted;
    this.#registration = engine.reactor.add(fd, this);
  }

  onEvents(): void {
    for (;;) {
      const accepted = acceptConnection(this.#fd);
      if (!(accepted instanceof Fd)) return;
      setNoDelay(accepted);
      this.#onAccepted(accepted);
    }
  }

  close(): void {
    if (!this.#fd.isOpen) return;
    this.#engine.reactor.remove(this.#registration);
    this.#fd.close();
  }
}

/** What became of a tunnel. */
export interface TunnelEnd {
  readonly reason: string | undefined;
  readonly error: string;
}

/** How a stream of the server was asked for and ended. */
export interface ServedStream {
  readonly authority: string;
  readonly end: StreamEnd;
}

/** The parsed form of `ip:port`. */
export function addressOf(authority: string): SocketAddress {
  const colon = authority.lastIndexOf(':');
  const ip = parseIp(authority.slice(0, colon));
  if (ip === undefined) throw new Error(`not an address: ${authority}`);
  return { ip, port: Number(authority.slice(colon + 1)) };
}

class ServedConnection implements StreamOwner {
  readonly #server: ServerProxy;
  readonly authority: string;

  constructor(server: ServerProxy, authority: string) {
    this.#server = server;
    this.authority = authority;
  }

  onResponse(): void {}

  dial(stream: TunnelStream): void {
    const fd = openTcp('ipv4');
    if (this.#server.sendBufferBytes > 0) setSendBuffer(fd, this.#server.sendBufferBytes);
    const started = startConnect(fd, addressOf(this.authority));
    if (started !== 0 && started !== -Errno.EINPROGRESS) {
      fd.close();
      stream.tunnel.refuse(stream, 503, failed(dialReason(-started), errnoText(-started)));
      return;
    }
    stream.attach(fd, 'dialing');
  }

  onDialed(stream: TunnelStream, errno: number): void {
    if (errno === 0 && this.#server.header !== undefined) stream.prepend(this.#server.header);
    if (errno === 0) stream.tunnel.accept(stream, 'k8s.cluster.name=Kubernetes');
    else stream.tunnel.refuse(stream, 503, failed(dialReason(errno), errnoText(errno)));
  }

  onClosed(_stream: TunnelStream, end: StreamEnd): void {
    this.#server.ends.push({ authority: this.authority, end });
  }

  freeze(): unknown {
    return this.authority;
  }
}

export interface ServerOptions {
  readonly settings?: Partial<TunnelSettings>;
  readonly budget?: MemoryBudget;
  readonly handshakeTimeoutMs?: number;
  /** SO_SNDBUF towards applications, so that a test can fill it; 0 leaves it to the kernel. */
  readonly sendBufferBytes?: number;
}

/** Serves CONNECT: dials the authority, which must be `ip:port`. */
export class ServerProxy implements TunnelEvents {
  readonly engine: Engine;
  readonly settings: TunnelSettings;
  readonly tunnels = new Set<Tunnel>();
  readonly ends: ServedStream[] = [];
  readonly tunnelEnds: TunnelEnd[] = [];
  readonly handshakeFailures: TunnelEnd[] = [];
  readonly badRequests: Array<{ readonly status: number; readonly reason: string }> = [];
  readonly requests: RequestHead[] = [];
  readonly sendBufferBytes: number;
  tunnelsOpened = 0;
  /** Replaces dialling, when a test wants to decide itself. */
  onStream: ((stream: TunnelStream, request: RequestHead) => void) | undefined;
  /** Put in front of what applications get, as a PROXY header is. */
  header: Uint8Array | undefined;
  readonly #listener: Listener;
  readonly #context: TlsContext;
  readonly #handshakes = new Set<SecureHandshake>();

  constructor(context: TlsContext, options: ServerOptions = {}) {
    this.settings = { ...SETTINGS, ...options.settings };
    this.engine = new Engine(options.budget ?? new MemoryBudget(256 * 1024 * 1024));
    this.sendBufferBytes = options.sendBufferBytes ?? 0;
    this.#context = context;
    const limits = { connectTimeoutMs: 5000, handshakeTimeoutMs: options.handshakeTimeoutMs ?? 5000 };
    this.#listener = new Listener(this.engine, fd => {
      const handshake = new SecureHandshake(this.engine, fd, this.#context, 'connected', limits, {
        onSecured: socket => {
          this.#handshakes.delete(handshake);
          this.#serve(socket);
        },
        onHandshakeFailed: (reason, error) => {
          this.#handshakes.delete(handshake);
          this.handshakeFailures.push({ reason, error });
        },
      });
      this.#handshakes.add(handshake);
    });
  }

  get port(): number {
    return this.#listener.port;
  }

  get address(): SocketAddress {
    return addressOf(`127.0.0.1:${this.port}`);
  }

  get streamCount(): number {
    let count = 0;
    for (const tunnel of this.tunnels) count += tunnel.streams.size;
    return count;
  }

  #serve({ fd, session }: SecuredSocket): void {
    const tunnel = new Tunnel(this.engine, 'server', fd, session.records, this.settings, this);
    this.tunnels.add(tunnel);
    this.tunnelsOpened++;
    tunnel.start();
  }

  /** Takes every tunnel out, as plain data. */
  freezeAll(): FrozenTunnel[] {
    const frozen = Array.from(this.tunnels, tunnel => tunnel.freeze(undefined));
    this.tunnels.clear();
    return frozen;
  }

  /** Goes on with a tunnel of another proxy. A stream still to be decided on is dialled now. */
  thaw(frozen: FrozenTunnel): Tunnel {
    const requested: TunnelStream[] = [];
    const tunnel = Tunnel.thaw(this.engine, frozen, this.settings, this, (stream, context) => {
      if (stream.phase === 'requested') requested.push(stream);
      return new ServedConnection(this, context as string);
    });
    this.tunnels.add(tunnel);
    for (const stream of requested) this.dial(stream);
    return tunnel;
  }

  onRequest(stream: TunnelStream, request: RequestHead): void {
    this.requests.push(request);
    const connection = new ServedConnection(this, request.authority ?? '');
    stream.owner = connection;
    if (this.onStream === undefined) connection.dial(stream);
    else this.onStream(stream, request);
  }

  /** Goes on where `onStream` stopped. */
  dial(stream: TunnelStream): void {
    if (stream.owner instanceof ServedConnection) stream.owner.dial(stream);
  }

  onBadRequest(_tunnel: Tunnel, status: number, reason: string): void {
    this.badRequests.push({ status, reason });
  }

  onCapacity(): void {}
  onDraining(): void {}

  onClosed(tunnel: Tunnel, reason: string | undefined, error: string): void {
    this.tunnels.delete(tunnel);
    this.tunnelEnds.push({ reason, error });
  }

  /** Stops listening and ends everything. */
  destroy(): void {
    this.stopListening();
    for (const handshake of this.#handshakes) handshake.cancel();
    this.#handshakes.clear();
    for (const tunnel of Array.from(this.tunnels)) tunnel.destroy(undefined, 'test is over');
  }

  stopListening(): void {
    this.#listener.close();
  }
}

/** One connection of a pod, as the client proxy carries it; tries again as often as ztunnel does. */
class CarriedConnection implements PoolWaiter, StreamOwner {
  readonly #client: ClientProxy;
  readonly #authority: string;
  readonly #target: PoolTarget;
  readonly #key: string;
  #fd: Fd | undefined;
  #attempts = 0;

  constructor(client: ClientProxy, fd: Fd | undefined, target: PoolTarget, authority: string) {
    this.#client = client;
    this.#fd = fd;
    this.#target = target;
    this.#key = poolKey(target);
    this.#authority = authority;
  }

  begin(): void {
    this.#attempts++;
    this.#client.pool.request(this.#key, this.#target, this);
  }

  onTunnel(pooled: PooledTunnel): void {
    const fd = this.#fd;
    if (fd === undefined) throw new Error('a tunnel for a connection that is gone');
    this.#fd = undefined;
    const stream = pooled.tunnel.openStream(this, {
      authority: this.#authority,
      baggage: '',
      forwarded: 'for="127.0.0.1:1"',
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00',
      xForwardedNetwork: undefined,
    });
    stream.attach(fd, 'connected');
  }

  onTunnelFailed(reason: string, error: string): void {
    this.#fd?.close();
    this.#client.failures.push({ reason, error });
  }

  onResponse(_stream: TunnelStream, status: number): void {
    this.#client.statuses.push(status);
  }

  onDialed(): void {}

  onClosed(_stream: TunnelStream, end: StreamEnd, untouched: Fd | undefined): void {
    if (untouched !== undefined) {
      this.#client.retries++;
      this.#fd = untouched;
      if (this.#attempts < this.#client.maxAttempts) {
        this.begin();
        return;
      }
      untouched.close();
    }
    this.#client.ends.push(end);
  }

  freeze(): unknown {
    const frozen: FrozenCarried = { authority: this.#authority, target: this.#target };
    return frozen;
  }
}

interface FrozenCarried {
  readonly authority: string;
  readonly target: PoolTarget;
}

interface FrozenPooled {
  readonly target: PoolTarget;
  readonly peer: TunnelPeer;
}

export interface ClientOptions {
  readonly settings?: Partial<TunnelSettings>;
  readonly pool?: Partial<PoolSettings>;
  readonly budget?: MemoryBudget;
}

/** Stands for the outbound half of a ztunnel: each `listen` is a port whose connections go to one authority. */
export class ClientProxy {
  readonly engine: Engine;
  readonly pool: HbonePool;
  readonly settings: TunnelSettings;
  readonly ends: StreamEnd[] = [];
  readonly failures: TunnelEnd[] = [];
  readonly statuses: number[] = [];
  retries = 0;
  maxAttempts = 3;
  expectedIdentities: readonly string[] = [SERVER_ID];
  readonly #listeners: Listener[] = [];

  constructor(context: TlsContext, options: ClientOptions = {}) {
    this.settings = { ...SETTINGS, ...options.settings };
    this.engine = new Engine(options.budget ?? new MemoryBudget(256 * 1024 * 1024));
    this.pool = new HbonePool(
      {
        engine: this.engine,
        tunnelSettings: this.settings,
        openSocket: family => {
          const fd = openTcp(family);
          setNoDelay(fd);
          return fd;
        },
        isRevoked: () => false,
        clientContext: identity => (identity === CLIENT_ID ? context : { error: 'no certificate yet' }),
      },
      { ...POOL, ...options.pool },
    );
  }

  target(dial: SocketAddress, sourceIp = '127.0.0.1'): PoolTarget {
    return { sourceIdentity: CLIENT_ID, sourceIp, dial, expectedIdentities: this.expectedIdentities };
  }

  /** A port whose connections are carried to `authority` through a tunnel to `peer`. */
  listen(peer: SocketAddress, authority: string, sourceIp?: string): number {
    const listener = new Listener(this.engine, fd =>
      new CarriedConnection(this, fd, this.target(peer, sourceIp), authority).begin(),
    );
    this.#listeners.push(listener);
    return listener.port;
  }

  /** Takes every tunnel out of the pool, as plain data. */
  freezeAll(): FrozenTunnel[] {
    return this.pool.tunnels().map(pooled => {
      const context: FrozenPooled = { target: pooled.target, peer: pooled.peer };
      const frozen = pooled.tunnel.freeze(context);
      this.pool.release(pooled);
      return frozen;
    });
  }

  /** Goes on with a tunnel of another proxy. */
  thaw(frozen: FrozenTunnel): void {
    const { target, peer } = frozen.context as FrozenPooled;
    this.pool.adopt(target, peer, events =>
      Tunnel.thaw(this.engine, frozen, this.settings, events, (_stream, context) => {
        const carried = context as FrozenCarried;
        return new CarriedConnection(this, undefined, carried.target, carried.authority);
      }),
    );
  }

  get streamCount(): number {
    return this.pool.tunnels().reduce((sum, pooled) => sum + pooled.tunnel.streams.size, 0);
  }

  destroy(): void {
    this.stopListening();
    this.pool.close('drain.deadline', 'test is over');
  }

  stopListening(): void {
    for (const listener of this.#listeners) listener.close();
  }
}
