// What the end-to-end tests of control plane and node proxies share: a bed whose nodes live on a control plane of their
// own (a process that is started, killed and started again), and a steady load whose failures are counted.
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import net, { type AddressInfo, type Server, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import * as x509 from '@peculiar/x509';
import { type ControlOptions, type ControlProcess, type Pod, SANDBOX_DIR, Testbed } from '@ambit/testbed';
import { NO_TEST_VARIABLES } from './e2e-mesh.ts';
import { echo, type Net, type Place, tryEcho } from './e2e-net.ts';

x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);

const MAIN = fileURLToPath(new URL('../../cli/src/main.ts', import.meta.url));

/** The control plane under test. */
export const CONTROL: readonly string[] = [process.execPath, MAIN, 'control'];

export const ECHO = 7000;

/** Starts a control plane on the bed. */
export async function startControl(bed: Testbed, options: Partial<ControlOptions> = {}): Promise<ControlProcess> {
  const env = {
    ...NO_TEST_VARIABLES,
    NODE_COMPILE_CACHE: join(SANDBOX_DIR, 'compile-cache'),
    LOG_FORMAT: 'json',
    ...options.env,
  };
  return bed.startControl({ command: CONTROL, ...options, env });
}

/** A bed on nodes n1 and n2, without pods, control plane or ztunnels. */
export async function makeBed(): Promise<Testbed> {
  return Testbed.create({ nodes: ['n1', 'n2'] });
}

/** A directory of the sandbox, gone with it. */
export async function scratch(name: string): Promise<string> {
  return mkdtemp(join(SANDBOX_DIR, `${name}-`));
}

/** Echoes on a port of the pod. `onSocket` hears of every connection that reaches the application. */
export function serveEcho(peers: Net, pod: Pod, port = ECHO, onSocket?: (socket: Socket) => void): Server {
  return peers.serve(pod, port, socket => {
    onSocket?.(socket);
    socket.pipe(socket);
  });
}

/** Polls what has no event: a page of another process. @throws when it does not come true in time */
export async function until(isTrue: () => Promise<boolean>, what: string, timeoutMs = 15_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await isTrue())) {
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await delay(25);
  }
}

/** What the admin page `/debug/syncz` says, as far as the tests look. */
export interface Syncz {
  readonly addresses: number;
  readonly authorizations: number;
  readonly counters: Readonly<Record<'accepted' | 'refused' | 'dropped' | 'nacks' | 'pushes', number>>;
  readonly clients: readonly {
    readonly node: string;
    readonly nodeName: string;
    /** When its stream began. */
    readonly since: string;
    readonly types: readonly {
      readonly typeUrl: string;
      readonly nonceSent: string;
      readonly nonceAcked: string;
      readonly isPending: boolean;
      readonly bytesSent: number;
      readonly lastNack: unknown;
    }[];
  }[];
}

export async function synczOf(control: ControlProcess): Promise<Syncz> {
  return (await control.page('/debug/syncz')) as Syncz;
}

/** Waits until both nodes have acknowledged everything that the control plane has to say. */
export async function untilSynced(control: ControlProcess, nodes = 2, timeoutMs = 15_000): Promise<Syncz> {
  let last: Syncz | undefined;
  await until(
    async () => {
      last = await synczOf(control);
      const isDone = ({ types }: Syncz['clients'][number]) =>
        types.length === 2 && types.every(type => !type.isPending && type.nonceSent === type.nonceAcked);
      return last.clients.length === nodes && last.clients.every(isDone);
    },
    'every node has acknowledged the state',
    timeoutMs,
  );
  if (last === undefined) throw new Error('unreachable: it was looked at');
  return last;
}

/** Certificates that the control plane has issued to workloads, from its admin page. */
export interface ListedCertificate {
  readonly serial: string;
  readonly identity: string;
  readonly node: string;
  readonly notBefore: string;
  readonly notAfter: string;
  readonly revoked: boolean;
}

export async function certificatesOf(control: ControlProcess): Promise<readonly ListedCertificate[]> {
  return (await control.page('/debug/certificates')) as readonly ListedCertificate[];
}

/** Stands between node proxies and control planes: leads to one backend, to another one, or to none. */
export class Forwarder implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #backend: URL | undefined;
  /** Reachable from every node. */
  readonly url: string;

  private constructor(server: Server, host: string) {
    this.#server = server;
    this.url = `https://${host}:${(server.address() as AddressInfo).port}`;
    server.on('connection', socket => this.#lead(socket));
  }

  /** One that leads nowhere yet, at the address (not the port) of a control plane. */
  static async open({ url }: ControlProcess): Promise<Forwarder> {
    const { hostname } = new URL(url);
    const server = net.createServer().listen(0, hostname);
    await once(server, 'listening');
    return new Forwarder(server, hostname);
  }

  /** From now on connections go there; those that are open are cut. */
  leadTo(backend: string | undefined): void {
    this.#backend = backend === undefined ? undefined : new URL(backend);
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.leadTo(undefined);
    this.#server.close();
    await once(this.#server, 'close');
  }

  #lead(socket: Socket): void {
    const backend = this.#backend;
    if (backend === undefined) {
      socket.resetAndDestroy();
      return;
    }
    const other = net.connect(Number(backend.port), backend.hostname);
    for (const [one, another] of [
      [socket, other],
      [other, socket],
    ] as const) {
      this.#sockets.add(one);
      one.pipe(another);
      // Its end is the other's end, whatever it was.
      one.on('error', () => undefined);
      one.once('close', () => {
        this.#sockets.delete(one);
        another.destroy();
      });
    }
  }
}

/** A CA to plug in, in a directory as upstream's secret `cacerts` is mounted. */
export async function writeCa(life: { readonly notBefore: Date; readonly notAfter: Date }): Promise<string> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const name = 'O=plugged in';
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name,
    ...life,
    keys,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const directory = await scratch('cacerts');
  const pem = `${certificate.toString('pem')}\n`;
  const key = x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY');
  await writeFile(join(directory, 'ca-cert.pem'), pem);
  await writeFile(join(directory, 'root-cert.pem'), pem);
  await writeFile(join(directory, 'ca-key.pem'), `${key}\n`, { mode: 0o600 });
  return directory;
}

/** What the tests read of a connection record (AMBIT_RECORDS_PATH): the line of the access log with its reason code. */
export interface RecordLine {
  readonly event: 'open' | 'close' | 'refused';
  readonly direction: 'inbound' | 'outbound';
  readonly reason?: string;
  readonly error?: string;
}

/** A record that was written or will be, the last one that fits. @throws when none comes in 10 s */
export async function awaitRecord(path: string, wanted: (record: RecordLine) => boolean): Promise<RecordLine> {
  let found: RecordLine | undefined;
  let said = '';
  try {
    await until(
      async () => {
        said = await readFile(path, 'utf8');
        // What comes after the last line break is still being written.
        found = said
          .split('\n')
          .slice(0, -1)
          .map(line => JSON.parse(line) as RecordLine)
          .findLast(wanted);
        return found !== undefined;
      },
      'the record is written',
      10_000,
    );
  } catch (cause) {
    throw new Error(`no such record, the last ones are\n${said.slice(-2000)}`, { cause });
  }
  if (found === undefined) throw new Error('unreachable: it was waited for');
  return found;
}

export interface LoadOptions {
  /** Sockets that stay open and exchange over and over. Default 4. */
  readonly kept?: number;
  /** Clients that open a connection for each exchange. Default 4. */
  readonly fresh?: number;
  /** Pause of each client between exchanges, so that the machine has room for what is tested. Default 5. */
  readonly pauseMs?: number;
}

export interface LoadResult {
  readonly kept: number;
  readonly fresh: number;
  /** What went wrong, each. */
  readonly failures: readonly string[];
}

/** A steady load from one pod to an address, on open connections and on new ones, until it is stopped. */
export class Load {
  readonly #peers: Net;
  readonly #from: Place;
  readonly #to: readonly [ip: string, port: number];
  readonly #pauseMs: number;
  readonly #counts = { kept: 0, fresh: 0 };
  readonly #failures: string[] = [];
  readonly #clients: Promise<unknown>;
  #isWanted = true;

  constructor(peers: Net, from: Place, to: readonly [ip: string, port: number], options: LoadOptions = {}) {
    this.#peers = peers;
    this.#from = from;
    this.#to = to;
    this.#pauseMs = options.pauseMs ?? 5;
    this.#clients = Promise.all([
      ...Array.from({ length: options.kept ?? 4 }, async (_, index) => this.#keep(index)),
      ...Array.from({ length: options.fresh ?? 4 }, async () => this.#renew()),
    ]);
  }

  /** Exchanges so far. */
  get count(): number {
    return this.#counts.kept + this.#counts.fresh;
  }

  get failures(): readonly string[] {
    return this.#failures;
  }

  /** Waits until it has made so many exchanges more. */
  async more(exchanges: number, timeoutMs = 60_000): Promise<void> {
    const goal = this.count + exchanges;
    await until(async () => Promise.resolve(this.count >= goal), `${exchanges} more exchanges are made`, timeoutMs);
  }

  async stop(): Promise<LoadResult> {
    this.#isWanted = false;
    await this.#clients;
    return { ...this.#counts, failures: this.#failures };
  }

  async #keep(index: number): Promise<void> {
    try {
      const socket = await this.#peers.connect(this.#from, ...this.#to);
      for (let turn = 0; this.#isWanted; turn++) {
        await echo(socket, `exchange ${turn} on connection ${index}`);
        this.#counts.kept++;
        await delay(this.#pauseMs);
      }
      socket.destroy();
    } catch (error) {
      this.#failed('kept connection', error instanceof Error ? error.message : String(error));
    }
  }

  async #renew(): Promise<void> {
    while (this.#isWanted) {
      const outcome = await tryEcho(this.#peers, this.#from, ...this.#to);
      if (outcome !== 'ok') this.#failed('new connection', outcome);
      this.#counts.fresh++;
      await delay(this.#pauseMs);
    }
  }

  #failed(what: string, why: string): void {
    this.#failures.push(`${what} at ${new Date().toISOString()}: ${why}`);
  }
}

/** An AuthorizationPolicy as YAML; `spec` is indented by the caller's own taste. */
export function policyYaml(name: string, namespace: string, spec: object): string {
  const object = {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name, namespace },
    spec,
  };
  return `${JSON.stringify(object)}\n`;
}

export function peerAuthenticationYaml(name: string, namespace: string, mode: 'STRICT' | 'PERMISSIVE'): string {
  const object = {
    apiVersion: 'security.istio.io/v1',
    kind: 'PeerAuthentication',
    metadata: { name, namespace },
    spec: { mtls: { mode } },
  };
  return `${JSON.stringify(object)}\n`;
}
