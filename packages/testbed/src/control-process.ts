// A control plane as a process beside the nodes. It is asked for a token per node, as whoever sets a node up would do, and
// nodes get nothing else of it but the root and the addresses.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { FABRIC_ADDRESS } from './address-plan.ts';
import { TestbedError } from './errors.ts';
import { WatchedProcess } from './watched-process.ts';

export interface ControlOptions {
  /** Program and arguments; options and paths are added. */
  readonly command: readonly string[];
  /** Keys and audit log live here; the same directory makes the same authority. Default: one of the bed's own. */
  readonly stateDirectory?: string;
  /** Files or directories of objects. Default: the bed's own objects. */
  readonly paths?: readonly string[];
  /** Further options. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Added to the usual ports, so that several can run. Default 0. */
  readonly portOffset?: number;
  /** Default 20 000. */
  readonly readyTimeoutMs?: number;
}

/** Where it keeps its things, and where it listens: ports `any` are chosen by the kernel, and there is no plain one then. */
export interface ControlPlaces {
  readonly stateDirectory: string;
  readonly paths: readonly string[];
  /** Default: the fabric's, which every node of a bed reaches. */
  readonly host?: string;
  readonly ports?: 'usual' | 'any';
}

/** Whom a token speaks for: the account of a ztunnel, and the node whose pods it may speak for too. */
export interface TokenBearer {
  readonly node: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

interface Ports {
  readonly secure: number;
  readonly admin: number;
  readonly plain: number | undefined;
}

const USUAL = { secure: 15012, admin: 15014, plain: 15010 } as const;
const ADMIN_HOST = '127.0.0.1';
const READY_TIMEOUT_MS = 20_000;
const PAGE_TIMEOUT_MS = 5_000;
/** What it logs when its doors are open. */
const LISTENING = /\tListening\t.*secureGrpc=(\d+) admin=(\d+)/;

export class ControlProcess extends WatchedProcess {
  readonly stateDirectory: string;
  /** Without port. */
  readonly host: string;
  #ports: Ports;

  private constructor(child: ReturnType<typeof spawn>, stateDirectory: string, host: string, ports: Ports) {
    super('control plane', child);
    this.stateDirectory = stateDirectory;
    this.host = host;
    this.#ports = ports;
  }

  /** Starts it and waits until it serves. @throws testbed.timeout, testbed.command_failed */
  static async start(options: ControlOptions, places: ControlPlaces): Promise<ControlProcess> {
    const [program, ...args] = options.command;
    if (program === undefined) throw new TestbedError('testbed.argument', 'a control plane needs a command');
    const host = places.host ?? FABRIC_ADDRESS.ip4;
    const isAny = places.ports === 'any';
    const ports = isAny ? { secure: 0, admin: 0, plain: undefined } : usualPorts(options.portOffset ?? 0);
    await mkdir(places.stateDirectory, { recursive: true, mode: 0o700 });
    const values = {
      '--state': places.stateDirectory,
      '--kubernetes': 'off',
      '--grpc-address': ports.plain === undefined ? 'off' : `${ADMIN_HOST}:${ports.plain}`,
      '--secure-grpc-address': `${host}:${ports.secure}`,
      '--admin-address': `${ADMIN_HOST}:${ports.admin}`,
      '--serving-names': host,
      '--log-format': 'plain',
    };
    const flags = Object.entries(values).flat();
    const child = spawn(program, [...args, ...flags, ...(options.flags ?? []), ...places.paths], {
      env: { ...inherited(), ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    const control = new ControlProcess(child, places.stateDirectory, host, ports);
    const timeoutMs = options.readyTimeoutMs ?? READY_TIMEOUT_MS;
    try {
      if (isAny) await control.#learnPorts(timeoutMs);
      await control.becomeReady(`${control.adminUrl}/ready`, timeoutMs);
    } catch (error) {
      await control.stop(0);
      throw error;
    }
    return control;
  }

  /** `https://10.61.0.1:15012`, reachable from every node. */
  get url(): string {
    return `https://${this.host}:${this.#ports.secure}`;
  }

  /** `http://127.0.0.1:15014`, in the sandbox's own namespace. */
  get adminUrl(): string {
    return `http://${ADMIN_HOST}:${this.#ports.admin}`;
  }

  /** Of loopback; undefined when it was started without. */
  get plainPort(): number | undefined {
    return this.#ports.plain;
  }

  get rootPath(): string {
    return join(this.stateDirectory, 'root-cert.pem');
  }

  get crlPath(): string {
    return join(this.stateDirectory, 'crl.pem');
  }

  /**
   * What a ztunnel needs to live on it; its token goes into a file of that name.
   * @throws testbed.command_failed
   */
  async environmentFor(bearer: TokenBearer, tokenPath: string): Promise<Record<string, string>> {
    await this.#writeToken(bearer, tokenPath);
    return {
      XDS_ADDRESS: this.url,
      CA_ADDRESS: this.url,
      XDS_ROOT_CA: this.rootPath,
      CA_ROOT_CA: this.rootPath,
      AUTH_TOKEN: tokenPath,
      CRL_PATH: this.crlPath,
      // What the XDS node id says must be what the token proves.
      NODE_NAME: bearer.node,
      POD_NAMESPACE: bearer.namespace,
      SERVICE_ACCOUNT: bearer.serviceAccount,
    };
  }

  /** What `ambit ca` asks over the admin socket. */
  async ask(method: string, path: string, body?: unknown): Promise<unknown> {
    const call = request({ socketPath: join(this.stateDirectory, 'admin.sock'), method, path, agent: false });
    call.end(body === undefined ? undefined : JSON.stringify(body));
    const [response] = (await once(call, 'response')) as [IncomingMessage];
    return json(response);
  }

  /** A page of the admin port, such as `/debug/syncz`. */
  async page(path: string): Promise<unknown> {
    return (await fetch(`${this.adminUrl}${path}`, { signal: AbortSignal.timeout(PAGE_TIMEOUT_MS) })).json();
  }

  async #writeToken(bearer: TokenBearer, path: string): Promise<void> {
    const answer = (await this.ask('POST', '/ca/token', bearer)) as { token?: unknown };
    if (typeof answer.token !== 'string') {
      throw new TestbedError('testbed.command_failed', `no token for ${bearer.node}: ${JSON.stringify(answer)}`);
    }
    // Without a newline: Istio's ztunnel takes the file as it is, and no header may hold one.
    await writeFile(path, answer.token, { mode: 0o600 });
  }

  /** Called before it can have said anything. */
  async #learnPorts(timeoutMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<Ports>();
    const forget = this.onLine(line => {
      const [, secure, admin] = LISTENING.exec(line) ?? [];
      if (secure !== undefined) resolve({ secure: Number(secure), admin: Number(admin), plain: undefined });
    });
    // Unreferenced: when it has ended there is nothing to wait for.
    const late = delay(timeoutMs, undefined, { ref: false });
    const ports = await Promise.race([promise, this.failed(), late]);
    forget();
    // Whoever asks for its readiness next says that it took too long.
    if (ports !== undefined) this.#ports = ports;
  }
}

/** It refuses variables of ours that it does not know; those of whatever runs tests or benchmarks are not for it. */
function inherited(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^AMBIT_(TEST|BENCH)/.test(name)));
}

function usualPorts(offset: number): Ports {
  return { secure: USUAL.secure + offset, admin: USUAL.admin + offset, plain: USUAL.plain + offset };
}
