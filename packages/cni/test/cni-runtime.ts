// A container runtime as far as CNI goes, as libcni does it: runs the plugins of a list one after the other, hands each the
// result of the one before, and takes them down in reverse. For tests of our plugin between other people's.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

export type Json = Readonly<Record<string, unknown>>;

export interface Sandbox {
  readonly containerId: string;
  readonly netnsPath: string;
  readonly args: string;
}

export class CniFailure extends Error {
  readonly plugin: string;
  readonly json: Json;

  constructor(plugin: string, stdout: string) {
    super(`${plugin}: ${stdout}`);
    this.plugin = plugin;
    this.json = stdout.startsWith('{') ? parse(stdout) : {};
  }
}

export class CniRuntime {
  readonly #listFile: string;
  readonly #path: readonly string[];

  constructor(listFile: string, path: readonly string[]) {
    this.#listFile = listFile;
    this.#path = path;
  }

  /** The last plugin's result. @throws CniFailure */
  async add(sandbox: Sandbox): Promise<Json> {
    const { head, plugins } = this.#read();
    let prevResult: Json | undefined;
    for (const plugin of plugins) {
      const stdout = await this.#run('ADD', sandbox, { ...plugin, ...head, ...(prevResult && { prevResult }) });
      prevResult = parse(stdout);
    }
    return prevResult ?? {};
  }

  async check(sandbox: Sandbox, prevResult: Json): Promise<void> {
    const { head, plugins } = this.#read();
    for (const plugin of plugins) await this.#run('CHECK', sandbox, { ...plugin, ...head, prevResult });
  }

  async del(sandbox: Sandbox, prevResult: Json): Promise<void> {
    const { head, plugins } = this.#read();
    for (const plugin of plugins.toReversed()) await this.#run('DEL', sandbox, { ...plugin, ...head, prevResult });
  }

  /** With the last plugin of the list only. */
  async askLast(command: 'VERSION' | 'STATUS' | 'GC', more: Json = {}): Promise<string> {
    const { head, plugins } = this.#read();
    return this.#run(command, undefined, { ...plugins.at(-1), ...head, ...more });
  }

  #read(): { readonly head: Json; readonly plugins: readonly Json[] } {
    const { plugins, name, cniVersion } = parse(readFileSync(this.#listFile, 'utf8'));
    return { head: { name, cniVersion }, plugins: plugins as readonly Json[] };
  }

  async #run(command: string, sandbox: Sandbox | undefined, config: Json): Promise<string> {
    const type = String(config['type']);
    const directory = this.#path.find(each => existsSync(join(each, type)));
    if (directory === undefined) throw new Error(`there is no plugin ${type}`);
    const env = {
      PATH: process.env['PATH'],
      CNI_COMMAND: command,
      CNI_PATH: this.#path.join(':'),
      ...(sandbox && {
        CNI_CONTAINERID: sandbox.containerId,
        CNI_NETNS: sandbox.netnsPath,
        CNI_IFNAME: 'eth0',
        CNI_ARGS: sandbox.args,
      }),
    };
    const child = spawn(join(directory, type), { env, stdio: ['pipe', 'pipe', 'inherit'] });
    const { promise, resolve, reject } = Promise.withResolvers<number | null>();
    child.once('error', reject);
    child.once('exit', resolve);
    child.stdin.on('error', () => undefined); // a plugin may end without reading
    child.stdin.end(JSON.stringify(config));
    const [stdout, status] = await Promise.all([text(child.stdout), promise]);
    if (status !== 0) throw new CniFailure(type, stdout);
    return stdout;
  }
}

function parse(json: string): Json {
  return { ...(JSON.parse(json) as object) };
}
