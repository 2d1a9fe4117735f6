// The executable is run for real, for this machine's processor and, where qemu is installed, for the other one.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { describe, test, type TestContext } from 'node:test';
import { CniError } from '../../errors.ts';
import { decodeFrame, encodeAnswer, MAX_ENVIRONMENT_BYTES } from '../frame.ts';
import { MAX_STDIN_BYTES, readJsonObject } from '../plugin-config.ts';
import type { Architecture } from './elf-file.ts';
import { pluginExecutable, type PluginExecutableOptions } from './plugin-executable.ts';

const QEMU: Readonly<Record<Architecture, string>> = { x64: 'qemu-x86_64-static', arm64: 'qemu-aarch64-static' };
const ADD = { CNI_COMMAND: 'ADD', CNI_ARGS: 'K8S_POD_NAME=cart-1', SECRET: 'not for the agent' };
const OK = { status: 0, stdout: '{"cniVersion":"1.0.0"}\n' };

/** What to put before the executable; a reason to skip instead. */
function runner(architecture: Architecture): readonly string[] | string {
  if (process.platform !== 'linux') return 'executables for Linux run on Linux only';
  if (process.arch === architecture) return [];
  const qemu = QEMU[architecture];
  return spawnSync(qemu, ['--version']).error === undefined ? [qemu] : `${qemu} is not installed`;
}

class Bench {
  readonly dir = mkdtempSync(join(tmpdir(), 'ambit-elf-'));
  readonly socketPath = join(this.dir, 'cni.sock');
  readonly #command: readonly string[];
  readonly #architecture: Architecture;
  readonly #t: TestContext;

  constructor(t: TestContext, architecture: Architecture, prefix: readonly string[]) {
    this.#t = t;
    this.#architecture = architecture;
    this.#command = [...prefix, join(this.dir, 'ambit-cni')];
    t.after(() => rmSync(this.dir, { recursive: true }));
  }

  async agent(onConnection: (socket: Socket) => unknown): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, socket => {
      socket.on('error', () => undefined); // the plugin may hang up whenever it likes
      this.#t.after(() => socket.destroy());
      onConnection(socket);
    });
    server.listen(this.socketPath);
    await once(server, 'listening');
    this.#t.after(() => server.close());
  }

  start(env: NodeJS.ProcessEnv, options: Partial<PluginExecutableOptions> = {}): ChildProcess {
    const { socketPath } = this;
    const bytes = pluginExecutable({ architecture: this.#architecture, socketPath, timeoutS: 60, ...options });
    writeFileSync(join(this.dir, 'ambit-cni'), bytes, { mode: 0o755 });
    const [program = '', ...args] = this.#command;
    const child: ChildProcess = spawn(program, args, { env, stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin?.on('error', () => undefined); // it need not read all that we have
    this.#t.after(() => child.kill('SIGKILL'));
    return child;
  }

  async run(stdin: string, env: NodeJS.ProcessEnv = ADD, options?: Partial<PluginExecutableOptions>) {
    const child = this.start(env, options);
    child.stdin?.end(stdin);
    return ending(child);
  }
}

async function ending(child: ChildProcess) {
  assert.ok(child.stdout);
  const { promise, resolve } = Promise.withResolvers<number | NodeJS.Signals | null>();
  child.once('exit', (code, signal) => resolve(code ?? signal));
  const stdout = await buffer(child.stdout);
  const status = await promise;
  assert.ok(typeof status === 'number', `ended by ${status}`);
  return { status, stdout: stdout.toString() };
}

function assertFails(answer: { readonly status: number; readonly stdout: string }, code: number, msg: RegExp): void {
  const error = readJsonObject(answer.stdout);
  assert.deepEqual([answer.status, error['code']], [1, code]);
  assert.match(String(error['msg']), msg);
}

for (const architecture of ['x64', 'arm64'] as const) {
  const prefix = runner(architecture);
  const skip = typeof prefix === 'string' ? prefix : false;
  const bench = (t: TestContext) => new Bench(t, architecture, typeof prefix === 'string' ? [] : prefix);

  describe(`the executable for ${architecture}`, { skip }, () => {
    test('sends the CNI_ variables and stdin, prints the answer and ends with its status', async t => {
      const b = bench(t);
      const requests: unknown[] = [];
      await b.agent(async socket => {
        requests.push(decodeFrame(await buffer(socket)));
        socket.end(encodeAnswer({ status: 7, stdout: 'an answer\n' }));
      });
      assert.deepEqual(await b.run('{"name":"k8s"}'), { status: 7, stdout: 'an answer\n' });
      const { SECRET: _secret, ...env } = ADD;
      assert.deepEqual(requests, [{ env, stdin: '{"name":"k8s"}' }]);
    });

    test('carries a configuration of 1 MiB and an answer of 1 MiB, in pieces as small as they come', async t => {
      const b = bench(t);
      const big = 'x'.repeat(MAX_STDIN_BYTES);
      await b.agent(async socket => {
        const { stdin } = decodeFrame(await buffer(socket));
        const answer = encodeAnswer({ status: 0, stdout: stdin });
        for (let at = 0; at < 20; at++) socket.write(answer.subarray(at, at + 1));
        socket.end(answer.subarray(20));
      });
      const child = b.start(ADD);
      child.stdin?.write(big.slice(0, 1));
      child.stdin?.end(big.slice(1));
      assert.deepEqual(await ending(child), { status: 0, stdout: big });
    });

    test('refuses more than 1 MiB of configuration', async t => {
      const b = bench(t);
      await b.agent(() => undefined);
      assertFails(await b.run('x'.repeat(MAX_STDIN_BYTES + 1)), 7, /more than 1048576 bytes/);
    });

    test('refuses variables that are too large', async t => {
      const b = bench(t);
      await b.agent(() => undefined);
      assertFails(await b.run('{}', { ...ADD, CNI_PATH: 'x'.repeat(MAX_ENVIRONMENT_BYTES) }), 4, /CNI_ variables/);
    });

    test('fails, to be tried again, when nobody listens and there is no fallback', async t => {
      assertFails(await bench(t).run('{}'), 11, /no node agent listens on .*cni\.sock$/);
    });

    test('becomes the fallback when nobody listens, with arguments, environment and stdin untouched', async t => {
      const script = 'printf "%s %s %s " "$1" "$SECRET" "$CNI_COMMAND"; cat; exit 5';
      const fallback = ['/bin/sh', '-c', script, 'sh', 'argument'] as const;
      const answer = await bench(t).run('{}', ADD, { fallback: [...fallback] });
      assert.deepEqual(answer, { status: 5, stdout: 'argument not for the agent ADD {}' });
    });

    test('fails when the fallback cannot be started either', async t => {
      const answer = await bench(t).run('{}', ADD, { fallback: ['/nonexistent/ambit-cni-full'] });
      assertFails(answer, 11, /\/nonexistent\/ambit-cni-full cannot be run instead/);
    });

    test('fails when the agent hangs up, whatever it has said before', async t => {
      const b = bench(t);
      const left = ['', '\0', '\u0004', '\0{"cniVersion":"1.0.0"}\n'];
      await b.agent(socket => {
        socket.resume().on('end', () => socket.end(left.shift() ?? ''));
      });
      while (left.length > 0) assertFails(await b.run('{}'), 11, /hung up without a whole answer/);
    });

    test('fails when the agent is killed before it has read anything', async t => {
      const b = bench(t);
      await b.agent(socket => socket.destroy());
      assertFails(await b.run('x'.repeat(MAX_STDIN_BYTES)), 11, /hung up without a whole answer/);
    });

    test('takes an answer that comes before the request was read', async t => {
      const b = bench(t);
      await b.agent(socket => socket.end(encodeAnswer(OK), () => socket.destroy()));
      assert.deepEqual(await b.run('x'.repeat(MAX_STDIN_BYTES)), OK);
    });

    test('fails, to be tried again, when the agent says nothing in time', async t => {
      const b = bench(t);
      await b.agent(() => undefined);
      assertFails(await b.run('{}', ADD, { timeoutS: 0.2 }), 11, /gave no answer in 0\.2 s/);
    });

    test('fails when an answer is larger than any may be', async t => {
      const b = bench(t);
      await b.agent(socket => socket.end(encodeAnswer({ status: 0, stdout: 'x'.repeat(3 * MAX_STDIN_BYTES) })));
      assertFails(await b.run('{}'), 11, /hung up without a whole answer/);
    });

    test('goes on after it was stopped while it waited', async t => {
      const b = bench(t);
      const { promise, resolve } = Promise.withResolvers<Socket>();
      await b.agent(async socket => {
        await buffer(socket);
        resolve(socket);
      });
      const child = b.start(ADD);
      child.stdin?.end('{}');
      const socket = await promise;
      child.kill('SIGSTOP');
      child.kill('SIGCONT');
      socket.end(encodeAnswer(OK));
      assert.deepEqual(await ending(child), OK);
    });

    test('DEL succeeds without the agent, and without asking one that is there', async t => {
      const b = bench(t);
      const env = { ...ADD, CNI_COMMAND: 'DEL' };
      assert.deepEqual(await b.run('{}', env), { status: 0, stdout: '' });
      await b.agent(() => assert.fail('asked'));
      assert.deepEqual(await b.run('{}', env), { status: 0, stdout: '' });
    });

    test('a command that only begins like DEL is no DEL', async t => {
      assertFails(await bench(t).run('{}', { ...ADD, CNI_COMMAND: 'DELETE' }), 11, /no node agent/);
    });
  });
}

test('disassembles to instructions all the way', async t => {
  if (spawnSync('objdump', ['--version']).error !== undefined) return t.skip('objdump is not installed');
  const dir = mkdtempSync(join(tmpdir(), 'ambit-elf-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const file = join(dir, 'ambit-cni');
  const bytes = pluginExecutable({ architecture: 'x64', socketPath: '/s' });
  writeFileSync(file, bytes);
  const codeAt = 64 + 3 * 56;
  // Second program header: where the data begins in the file.
  const dataAt = new DataView(bytes.buffer).getUint32(64 + 56 + 8, true);
  const range = [`--start-address=${codeAt}`, `--stop-address=${dataAt - 8}`];
  const { stdout } = spawnSync('objdump', ['-D', '-b', 'binary', '-m', 'i386:x86-64', ...range, file]);
  assert.match(stdout.toString(), /syscall/);
  assert.doesNotMatch(stdout.toString(), /\(bad\)/);
});

test('refuses a socket that no address can hold', () => {
  for (const socketPath of ['relative', `/${'x'.repeat(107)}`, '/a\0b']) {
    assert.throws(() => pluginExecutable({ architecture: 'x64', socketPath }), CniError);
  }
});
