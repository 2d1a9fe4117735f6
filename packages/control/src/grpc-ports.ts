// The two gRPC ports: plain text for this machine, TLS for everybody else. The TLS certificate is the authority's own and
// is replaced while running; client certificates are asked for and checked against the mesh's roots, not required.
import { createSecureServer, createServer, type Http2SecureServer, type Http2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import {
  createGrpcHandler,
  type GrpcServices,
  grpcServerOptions,
  keepSessions,
  type SessionKeeper,
} from '@ambit/wire/grpc-server';
import type { CertificateAuthority } from './ca/certificate-authority.ts';
import { defaultServingNames } from './ca/serving-certificate.ts';
import type { Listen } from './config/values.ts';
import { errorText, type Log } from '@ambit/log';
import { ControlError } from './errors.ts';
import { untilListening } from './listening.ts';

export interface GrpcPortsOptions {
  readonly plain: Listen;
  readonly secure: Listen;
  readonly plainServices: GrpcServices;
  readonly secureServices: GrpcServices;
  readonly authority: CertificateAuthority;
  readonly rootNamespace: string;
  /** Beyond the names node proxies use by default. */
  readonly servingNames: readonly string[];
  /** 0: never. */
  readonly maxConnectionAgeMs: number;
  readonly log: Log;
}

export interface GrpcPorts {
  readonly plainPort: number | undefined;
  readonly securePort: number | undefined;
  readonly connections: number;
  /** Asks clients to go, and closes. */
  close(): Promise<void>;
}

/** As upstream: no older protocol, and no certificate of ours before there is a name for it. */
const MIN_VERSION = 'TLSv1.2';
const DRAIN_MS = 1000;
/** Of each port; nodes have two at most. What is beyond is closed at once, so that strangers cost a bounded amount of memory. */
const MAX_CONNECTIONS = 12_000;
/** Node waits two minutes for a peer that says nothing. */
const HANDSHAKE_MS = 10_000;
/** A certificate that could not be renewed is tried again after this. */
const RETRY_MS = 30_000;

type AnyServer = Http2Server | Http2SecureServer;

/** @throws ControlError config.port when a port cannot be opened */
export async function openGrpcPorts(options: GrpcPortsOptions): Promise<GrpcPorts> {
  await using closers = new AsyncDisposableStack();
  const { plain, secure, maxConnectionAgeMs } = options;
  const keepers: SessionKeeper[] = [];
  const open = async (server: AnyServer, listen: Exclude<Listen, 'off'>, services: GrpcServices): Promise<number> => {
    server.maxConnections = MAX_CONNECTIONS;
    server.on('request', createGrpcHandler(services));
    const keeper = keepSessions(server, { maxAgeMs: maxConnectionAgeMs === 0 ? undefined : maxConnectionAgeMs });
    keepers.push(keeper);
    const port = await start(server, listen);
    closers.defer(async () => {
      const closed = new Promise<void>(resolve => void server.close(() => resolve()));
      await keeper.drain(DRAIN_MS);
      keeper.close();
      await closed;
    });
    return port;
  };
  const plainPort =
    plain === 'off' ? undefined : await open(createServer(grpcServerOptions()), plain, options.plainServices);
  let securePort: number | undefined;
  if (secure !== 'off') {
    const serving = await Serving.open(options);
    closers.use(serving);
    securePort = await open(serving.server, secure, options.secureServices);
  }
  const kept = closers.move();
  return {
    plainPort,
    securePort,
    get connections() {
      return keepers.reduce((sum, keeper) => sum + keeper.count, 0);
    },
    close: async () => kept.disposeAsync(),
  };
}

/** The TLS server with a certificate that stays fresh. */
class Serving implements Disposable {
  readonly server: Http2SecureServer;
  readonly #options: GrpcPortsOptions;
  readonly #stopListening: () => void;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  private constructor(server: Http2SecureServer, options: GrpcPortsOptions) {
    this.server = server;
    this.#options = options;
    server.on('tlsClientError', (error: Error) => options.log.debug('TLS handshake failed', { error: error.message }));
    this.#stopListening = options.authority.listen({ changed: () => void this.#renew() });
  }

  static async open(options: GrpcPortsOptions): Promise<Serving> {
    const { context, renewInMs } = await material(options);
    const server = createSecureServer({
      ...grpcServerOptions(),
      ...context,
      minVersion: MIN_VERSION,
      requestCert: true,
      // Tokens prove callers too; who shows no certificate, or a stranger's, is not `authorized` and has no identity.
      rejectUnauthorized: false,
      allowHTTP1: false,
      handshakeTimeout: HANDSHAKE_MS,
    });
    const serving = new Serving(server, options);
    serving.#schedule(renewInMs);
    return serving;
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#stopListening();
  }

  #schedule(ms: number): void {
    clearTimeout(this.#timer);
    if (!this.#isClosed) this.#timer = setTimeout(() => void this.#renew(), ms).unref();
  }

  async #renew(): Promise<void> {
    try {
      const { context, renewInMs } = await material(this.#options);
      if (this.#isClosed) return;
      this.server.setSecureContext({ ...context, minVersion: MIN_VERSION });
      this.#schedule(renewInMs);
    } catch (error) {
      const reason = errorText(error);
      this.#options.log.error('cannot renew the certificate of the TLS port; the old one stays', { error: reason });
      this.#schedule(RETRY_MS);
    }
  }
}

async function material({ authority, rootNamespace, servingNames }: GrpcPortsOptions) {
  const made = await authority.servingCertificate([...defaultServingNames(rootNamespace), ...servingNames]);
  const { certChainPem, privateKeyPem, rootsPem, notAfterMs } = made;
  return {
    context: { cert: certChainPem, key: privateKeyPem, ca: rootsPem },
    renewInMs: Math.max(RETRY_MS, (notAfterMs - Date.now()) / 2),
  };
}

async function start(server: AnyServer, { host, port }: Exclude<Listen, 'off'>): Promise<number> {
  try {
    await untilListening(server, { host, port });
  } catch (cause) {
    const reason = errorText(cause);
    throw new ControlError('config.port', `cannot listen on ${host}:${port}: ${reason}`, {
      cause,
      next: 'choose another address, or stop the control plane that is running there',
    });
  }
  return (server.address() as AddressInfo).port;
}
