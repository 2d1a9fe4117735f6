// The first start, on small work trees made for the purpose: the real ./ambit, the real setup and the real npm, offline,
// with one local package that stands where the pinned Node comes from.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { after, test } from 'node:test';

const ROOT = resolve(import.meta.dirname, '..');
const folders: string[] = [];
after(() => folders.forEach(folder => rmSync(folder, { recursive: true, force: true })));

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A work tree with our door and a command of its own; nothing is installed in it. */
function workTree(main: string): string {
  const root = mkdtempSync(join(tmpdir(), 'ambit-setup-'));
  folders.push(root);
  const put = (path: string, text: string, mode = 0o644): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text, { mode });
  };
  for (const path of [
    'ambit',
    'tools/setup.mjs',
    'tools/install-lock.mjs',
    'tools/progress.mjs',
    'tools/system-packages.mjs',
  ]) {
    cpSync(join(ROOT, path), join(root, path));
  }
  put('packages/cli/src/main.ts', main);
  put('runtime/package.json', '{"name":"runtime","version":"1.0.0","bin":{"node":"node.sh"}}');
  put('runtime/node.sh', `#!/bin/sh\nexec "${process.execPath}" "$@"\n`, 0o755);
  put('package.json', '{"name":"t","version":"1.0.0","type":"module","dependencies":{"runtime":"file:./runtime"}}');
  const locked = spawnSync('npm', ['install', '--package-lock-only', '--offline', '--no-audit'], {
    cwd: root,
    encoding: 'utf8',
  });
  assert.equal(locked.status, 0, locked.stderr);
  return root;
}

/** No network: npm would have to ask an address where nobody listens. */
const OFFLINE = { npm_config_registry: 'http://127.0.0.1:9', npm_config_fetch_retries: '0' };

function start(
  root: string,
  args: readonly string[],
  env: Record<string, string> = {},
): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(join(root, 'ambit'), args, {
    cwd: '/',
    env: { ...process.env, ...OFFLINE, ...env },
    stdio: 'pipe',
  });
  const { promise, resolve: settle, reject } = Promise.withResolvers<Ended>();
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.on('error', reject);
  child.on('close', (code, signal) => settle({ code, signal, stdout, stderr }));
  return { child, ended: promise };
}

const ambit = (root: string, args: readonly string[] = [], env: Record<string, string> = {}): Promise<Ended> =>
  start(root, args, env).ended;

test('the first start installs and then runs the command; the next starts install nothing', async () => {
  const root = workTree(
    `const words: readonly string[] = process.argv.slice(2);\nconsole.log(JSON.stringify(words));\nprocess.exitCode = 7;`,
  );
  const first = await ambit(root, ['why', 'a b', '']);
  assert.deepEqual([first.code, first.stdout], [7, '["why","a b",""]\n'], first.stderr);
  assert.match(first.stderr, /^ {2}install dependencies \.\.\.\n {2}ready {2}install dependencies .* s\n$/);

  const link = join(root, 'elsewhere');
  symlinkSync('ambit', link);
  const second = spawnSync(link, ['x'], { cwd: '/', encoding: 'utf8', env: { PATH: '/usr/bin:/bin' } });
  assert.deepEqual([second.status, second.stdout, second.stderr], [7, '["x"]\n', '']);

  appendFileSync(join(root, 'package-lock.json'), '\n');
  const adopted = await ambit(root, []);
  assert.equal(adopted.stderr, '', 'a lockfile that asks for what is there already installs nothing');

  rmSync(join(root, 'node_modules'), { recursive: true });
  assert.match((await ambit(root, [])).stderr, /ready {2}install/);
});

test('of two first starts one installs and the other waits for it', async () => {
  const root = workTree('console.log(1);');
  const both = await Promise.all([ambit(root), ambit(root)]);
  const told = both.map(({ stderr }) => stderr).join('');
  assert.deepEqual(
    both.map(({ code, stdout }) => [code, stdout]),
    [
      [0, '1\n'],
      [0, '1\n'],
    ],
    told,
  );
  assert.equal(told.match(/ready {2}install/g)?.length, 1, told);
});

test('signals reach the command itself', async () => {
  const root = workTree(`console.log('up');\nsetInterval(() => undefined, 1000);`);
  const { child, ended } = start(root, []);
  child.stdout?.once('data', () => child.kill('SIGTERM'));
  assert.equal((await ended).signal, 'SIGTERM');
});

test('a failed installation shows what npm says and what to do, and leaves no trace of success', async () => {
  const root = workTree('console.log(1);');
  const manifest = join(root, 'package.json');
  const text = readFileSync(manifest, 'utf8');
  writeFileSync(manifest, text.replace('"runtime":', '"not-in-the-lockfile":"1.0.0","runtime":'));
  const { code, stdout, stderr } = await ambit(root);
  assert.deepEqual([code, stdout], [3, '']);
  assert.match(
    stderr,
    /error: could not install the dependencies: npm ended with status 1\n {2}npm error code ECONNREFUSED\n/,
  );
  assert.match(stderr, /\n {2}next {2}\S.*\n$/);
  assert.equal(existsSync(join(root, 'node_modules/.ambit-lock')), false);
  writeFileSync(manifest, text);
  assert.equal((await ambit(root)).code, 0);
});

test('without Node or npm one sentence says what to install', () => {
  const root = workTree('');
  const bin = join(root, 'bin');
  mkdirSync(bin);
  for (const tool of ['sh', 'dirname', 'readlink', 'cmp']) symlinkSync(`/bin/${tool}`, join(bin, tool));
  const run = spawnSync('/bin/sh', [join(root, 'ambit')], { encoding: 'utf8', env: { PATH: bin } });
  assert.equal(run.status, 3);
  assert.match(run.stderr, /^error: node is missing: install Node\.js 20 or newer with npm .*\n$/);
});
