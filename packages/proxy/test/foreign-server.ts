// Database servers of Debian as foreign peers: on 127.0.0.1, on a port of their own, with data in a directory that goes away
// with them. Ended by their process id.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const START_LIMIT_MS = 60_000;

export interface ForeignServer extends AsyncDisposable {
  readonly port: number;
}

/** First of `paths` that exists. A `*` stands for the highest version below that directory. */
export function findProgram(...paths: readonly string[]): string | undefined {
  for (const path of paths) {
    const [before, after] = path.split('*');
    if (after === undefined) {
      if (existsSync(path)) return path;
    } else if (before !== undefined && existsSync(before)) {
      const versions = readdirSync(before).sort((a, b) => Number(b) - Number(a));
      const found = versions.map(version => before + version + after).find(file => existsSync(file));
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

/** A port that nobody listens on just now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** A started process that listens on `port`, and the directory that goes with it. */
class RunningServer implements ForeignServer {
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #directory: string;
  #words = '';

  constructor(child: ChildProcess, port: number, directory: string) {
    this.#child = child;
    this.port = port;
    this.#directory = directory;
    const listen = (text: string): void => {
      this.#words = (this.#words + text).slice(-2000);
    };
    child.stdout?.setEncoding('utf8').on('data', listen);
    child.stderr?.setEncoding('utf8').on('data', listen);
  }

  /** @param words that it has to say besides accepting connections; '' for none */
  async ready(words: string): Promise<this> {
    const deadline = performance.now() + START_LIMIT_MS;
    for (;;) {
      if ((await accepts(this.port)) && this.#words.includes(words)) return this;
      if (this.#child.exitCode !== null || performance.now() > deadline) {
        await this[Symbol.asyncDispose]();
        throw new Error(`the server did not come up on port ${this.port}: ${this.#words}`);
      }
      // Servers tell of their readiness in as many ways as there are servers; all accept connections.
      await pause(50);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const gone = once(this.#child, 'exit');
      this.#child.kill('SIGINT');
      const late = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
      await gone;
      clearTimeout(late);
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

// Servers of databases do not want to be root; their packages bring a user for them.
function userOf(name: string): { readonly uid: number; readonly gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string): number => Number(execFileSync('id', [flag, name], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

function directoryFor(user: { readonly uid: number; readonly gid: number } | undefined): string {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-l7-'));
  if (user !== undefined) chownSync(directory, user.uid, user.gid);
  return directory;
}

/** PostgreSQL of Debian with a user `postgres` who needs no password. `programs`: where initdb and postgres are. */
export async function startPostgresql(programs: string): Promise<ForeignServer> {
  const user = userOf('postgres');
  const directory = directoryFor(user);
  const data = join(directory, 'data');
  const options = { ...user, cwd: directory } as const;
  const initial = ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-locale', '--no-sync'];
  execFileSync(join(programs, 'initdb'), initial, { ...options, stdio: 'pipe' });
  const port = await freePort();
  const args = ['-D', data, '-h', '127.0.0.1', '-p', String(port), '-k', directory, '-c', 'fsync=off'];
  const child = spawn(join(programs, 'postgres'), args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  // It accepts connections, to refuse them, while it is still starting.
  return await new RunningServer(child, port, directory).ready('ready to accept connections');
}

/** Redis of Debian without any file. */
export async function startRedis(program: string): Promise<ForeignServer> {
  const directory = directoryFor(undefined);
  const port = await freePort();
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', directory];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  return await new RunningServer(child, port, directory).ready('');
}

/** MariaDB of Debian with a user `root` who needs no password. */
export async function startMariadb(program: string): Promise<ForeignServer> {
  const user = userOf('mysql');
  const directory = directoryFor(user);
  const data = join(directory, 'data');
  const options = { ...user, cwd: directory } as const;
  const initial = ['--no-defaults', `--datadir=${data}`, '--auth-root-authentication-method=normal', '--skip-test-db'];
  execFileSync('mariadb-install-db', initial, { ...options, stdio: 'pipe' });
  const port = await freePort();
  const args = [
    '--no-defaults',
    `--datadir=${data}`,
    `--port=${port}`,
    '--bind-address=127.0.0.1',
    `--socket=${join(directory, 'socket')}`,
    `--pid-file=${join(directory, 'pid')}`,
    '--innodb-flush-log-at-trx-commit=0',
    '--local-infile=1',
    '--max-allowed-packet=64M',
  ];
  const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  return await new RunningServer(child, port, directory).ready('');
}
