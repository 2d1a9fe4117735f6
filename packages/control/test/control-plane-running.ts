// Test support: starts a control plane as a process on ports that the kernel chooses, on a directory of YAML, and asks its
// admin doors. What it logs is kept, and awaited by predicate.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { type IncomingMessage, request, type RequestOptions } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('./control-plane-process.ts', import.meta.url));
const PATIENCE_MS = 15_000;

export interface ControlLine {
  readonly level: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

export interface HttpAnswer {
  readonly status: number;
  readonly text: string;
}

/** A directory with `objects`, the YAML, and `state`; removed at the end, after whatever ran on it. */
export class Workspace implements AsyncDisposable {
  readonly directory: string;
  readonly objects: string;
  readonly state: string;
  readonly #running = new Set<RunningControl>();
  #writes = 0;

  private constructor(directory: string) {
    this.directory = directory;
    this.objects = join(directory, 'objects');
    this.state = join(directory, 'state');
  }

  static async make(files: Readonly<Record<string, string>>): Promise<Workspace> {
    const workspace = new Workspace(await mkdtemp(join(tmpdir(), 'ambit-control-')));
    await mkdir(workspace.objects);
    for (const [name, content] of Object.entries(files)) await workspace.write(name, content);
    return workspace;
  }

  /** Puts a file of objects in place as a whole. */
  async write(name: string, content: string): Promise<void> {
    const beside = join(this.directory, `write-${++this.#writes}`);
    await writeFile(beside, content);
    await rename(beside, join(this.objects, name));
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.objects, name));
  }

  /** Starts one and waits until its doors are open and, unless told otherwise, the mesh is served. @throws when it ends */
  async start(flags: Readonly<Record<string, string>> = {}, waitFor = 'Serving the mesh'): Promise<RunningControl> {
    const control = this.launch(flags);
    const ended = control.ended.then(status => {
      throw new Error(`the control plane ended with ${status}: ${control.complaint || control.log()}`);
    });
    await Promise.race([control.line(({ message }) => message === waitFor), ended]);
    return control;
  }

  /** Starts one that may refuse to run. */
  launch(flags: Readonly<Record<string, string>> = {}): RunningControl {
    const loopback = '127.0.0.1:0';
    const all = {
      files: this.objects,
      state: this.state,
      kubernetes: 'off',
      grpcAddress: loopback,
      secureGrpcAddress: loopback,
      adminAddress: loopback,
      logFormat: 'json',
      logLevel: 'debug',
      ...flags,
    };
    const control = new RunningControl(all.state, JSON.stringify(all));
    this.#running.add(control);
    void control.ended.then(() => this.#running.delete(control));
    return control;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#running].map(async control => control.stop('SIGKILL')));
    await rm(this.directory, { recursive: true });
  }
}

export class RunningControl {
  readonly state: string;
  /** What it said on standard error. */
  complaint = '';
  /** Exit status, or null when a signal ended it. */
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  readonly #lines: ControlLine[] = [];
  #wake: () => void = () => undefined;
  #changed = Promise.resolve();

  constructor(state: string, flags: string) {
    this.state = state;
    const child = spawn(process.execPath, [PROGRAM, flags], {
      // Nothing of the runner's own: unknown variables of ours are mistakes, and say so.
      env: { PATH: process.env['PATH'], NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    this.#await();
    createInterface({ input: child.stdout }).on('line', line => {
      this.#lines.push(JSON.parse(line) as ControlLine);
      this.#wake();
      this.#await();
    });
    child.stderr.on('data', chunk => (this.complaint += String(chunk)));
    this.ended = once(child, 'close').then(([code]) => code as number | null);
  }

  get #doors(): ControlLine {
    const doors = this.#lines.find(({ message }) => message === 'Listening');
    if (doors === undefined) throw new Error(`no doors are open: ${this.complaint || this.log()}`);
    return doors;
  }

  get plainPort(): number {
    return Number(this.#doors['grpc']);
  }

  get securePort(): number {
    return Number(this.#doors['secureGrpc']);
  }

  get adminPort(): number {
    return Number(this.#doors['admin']);
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  log(): string {
    return this.#lines.map(line => JSON.stringify(line)).join('\n');
  }

  async rootPem(): Promise<string> {
    return readFile(join(this.state, 'root-cert.pem'), 'utf8');
  }

  async crlPem(): Promise<string> {
    return readFile(join(this.state, 'crl.pem'), 'utf8');
  }

  /** A line that was or will be said. @throws when none comes */
  async line(wanted: (line: ControlLine) => boolean): Promise<ControlLine> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new Error(`it did not say it, but:\n${this.log()}`)), PATIENCE_MS);
    try {
      for (;;) {
        const found = this.#lines.find(wanted);
        if (found !== undefined) return found;
        await Promise.race([this.#changed, late]);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Asks the admin socket, as `ambit ca` does. */
  async act(method: string, path: string, body?: unknown): Promise<HttpAnswer> {
    return ask({ socketPath: join(this.state, 'admin.sock'), method, path }, body);
  }

  /** A token of the node proxy of `node`, or of another account. */
  async token(node: string | undefined, account = 'istio-system/ztunnel'): Promise<string> {
    const [namespace, serviceAccount] = account.split('/');
    const answer = await this.act('POST', '/ca/token', { namespace, serviceAccount, node });
    if (answer.status !== 200) throw new Error(answer.text);
    return (JSON.parse(answer.text) as { token: string }).token;
  }

  /** Asks the admin port. */
  async tell(path: string, options: { method?: string; headers?: Record<string, string> } = {}): Promise<HttpAnswer> {
    return ask({ host: '127.0.0.1', port: this.adminPort, path, ...options });
  }

  async page<T>(path: string): Promise<T> {
    const answer = await this.tell(path);
    if (answer.status !== 200) throw new Error(`${path}: ${answer.status} ${answer.text}`);
    return JSON.parse(answer.text) as T;
  }

  /** @returns its exit status; null when the signal ended it */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.#child.kill(signal);
    return this.ended;
  }

  #await(): void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#changed = promise;
    this.#wake = resolve;
  }
}

async function ask(options: RequestOptions, body?: unknown): Promise<HttpAnswer> {
  const call = request({ ...options, agent: false, timeout: PATIENCE_MS });
  call.end(body === undefined ? undefined : JSON.stringify(body));
  const [response] = (await once(call, 'response')) as [IncomingMessage];
  return { status: response.statusCode ?? 0, text: await text(response) };
}
