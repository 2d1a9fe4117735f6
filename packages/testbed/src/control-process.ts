// A control plane as a process beside the nodes: in the sandbox's own namespace, which every node reaches. The bed asks it
// for a token per node, as whoever sets a node up would, and hands nodes nothing else but the root and the addresses.
import { spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
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

interface Places {
  readonly stateDirectory: string;
  readonly paths: readonly string[];
}

const SECURE_PORT = 15012;
const PLAIN_PORT = 15010;
const ADMIN_PORT = 15014;
const READY_TIMEOUT_MS = 20_000;

export class ControlProcess extends WatchedProcess {
  readonly stateDirectory: string;
  /** `https://10.61.0.1:15012`, reachable from every node. */
  readonly url: string;
  /** `http://127.0.0.1:15014`, in the sandbox's own namespace. */
  readonly adminUrl: string;
  readonly plainPort: number;

  private constructor(child: ReturnType<typeof spawn>, stateDirectory: string, offset: number) {
    super('control plane', child);
    this.stateDirectory = stateDirectory;
    this.url = `https://${FABRIC_ADDRESS.ip4}:${SECURE_PORT + offset}`;
    this.adminUrl = `http://127.0.0.1:${ADMIN_PORT + offset}`;
    this.plainPort = PLAIN_PORT + offset;
  }

  /** Starts it and waits until it serves. @throws testbed.timeout, testbed.command_failed */
  static async start(options: ControlOptions, places: Places): Promise<ControlProcess> {
    const [program, ...args] = options.command;
    if (program === undefined) throw new TestbedError('testbed.argument', 'a control plane needs a command');
    const offset = options.portOffset ?? 0;
    await mkdir(places.stateDirectory, { recursive: true, mode: 0o700 });
    const values = {
      '--state': places.stateDirectory,
      '--kubernetes': 'off',
      '--grpc-address': `127.0.0.1:${PLAIN_PORT + offset}`,
      '--secure-grpc-address': `${FABRIC_ADDRESS.ip4}:${SECURE_PORT + offset}`,
      '--admin-address': `127.0.0.1:${ADMIN_PORT + offset}`,
      '--serving-names': FABRIC_ADDRESS.ip4,
    };
    const flags = Object.entries(values).flat();
    const child = spawn(program, [...args, ...flags, ...(options.flags ?? []), ...places.paths], {
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    const control = new ControlProcess(child, places.stateDirectory, offset);
    try {
      await control.becomeReady(`${control.adminUrl}/ready`, options.readyTimeoutMs ?? READY_TIMEOUT_MS);
    } catch (error) {
      await control.stop(0);
      throw error;
    }
    return control;
  }

  get rootPath(): string {
    return join(this.stateDirectory, 'root-cert.pem');
  }

  get crlPath(): string {
    return join(this.stateDirectory, 'crl.pem');
  }

  /** A node's token, in a file of the node's. @throws testbed.command_failed */
  async writeToken(node: string, path: string): Promise<void> {
    const body = { node, namespace: 'istio-system', serviceAccount: 'ztunnel' };
    const answer = (await this.ask('POST', '/ca/token', body)) as { token?: unknown };
    if (typeof answer.token !== 'string') {
      throw new TestbedError('testbed.command_failed', `no token for ${node}: ${JSON.stringify(answer)}`);
    }
    await writeFile(path, `${answer.token}\n`, { mode: 0o600 });
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
    return (await fetch(`${this.adminUrl}${path}`)).json();
  }
}
