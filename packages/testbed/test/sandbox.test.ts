// Looks at sandboxes from outside: what is left when they end, and how they end.
import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { TestbedError } from '../src/errors.ts';
import { enterSandbox, insideSandbox, sandboxAbility } from '../src/sandbox.ts';

const ability = sandboxAbility();
const skip = ability.kind === 'none' ? ability.reason : false;
const sandboxModule = join(import.meta.dirname, '../src/sandbox.ts');

const ENTER = `
  const { enterSandbox } = await import(process.argv[1]);
  process.exitCode = await enterSandbox(process.argv.slice(2));
`;

const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`;

type Outer = ChildProcessByStdio<Writable, Readable, null>;

/** Starts a node process that enters a sandbox and runs a shell script there. */
function outside(script: string, program = process.execPath, before: readonly string[] = []): Outer {
  const args = [...before, '--input-type=module', '-e', ENTER, sandboxModule, 'sh', '-c', script];
  return spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
}

/** The first line a process prints. */
async function firstLine(child: Outer): Promise<string> {
  const [chunk] = (await once(child.stdout, 'data')) as [Buffer];
  return String(chunk).split('\n')[0] ?? '';
}

/** Processes on this machine that live in the network namespace, as the kernel names it (`net:[4026...]`). */
function livingIn(netns: string): string[] {
  return readdirSync('/proc').filter(pid => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/ns/net`) === netns;
    } catch {
      return false; // it ended while we looked
    }
  });
}

test('the program has its own networks, processes and /run, and its exit status comes through', { skip }, async () => {
  const child = outside(
    'readlink /proc/self/ns/net; ls /sys/class/net /run/netns; ls /proc | grep -c "^[0-9]"; exit 7',
  );
  const [output, ended] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  assert.deepEqual(ended, [7, null]);
  assert.notEqual(output.split('\n')[0], readlinkSync('/proc/self/ns/net'));
  assert.match(output, /^\S+\n\/run\/netns:\n\n\/sys\/class\/net:\nlo\n[1-9]\n$/);
});

test('only processes in a sandbox say they are', { skip }, async () => {
  const print = `import(${JSON.stringify(sandboxModule)}).then(m => process.stdout.write(String(m.insideSandbox())))`;
  const child = outside(`exec "${process.execPath}" -e '${print}'`);
  assert.equal(await text(child.stdout), 'true');
  const pretender = spawnSync(process.execPath, ['-e', print], { env: { ...process.env, AMBIT_SANDBOX: 'yes' } });
  assert.equal(String(pretender.stdout), String(insideSandbox()));
});

test('a program that dies by a signal ends as shells report it', { skip }, async () => {
  const child = outside('kill -TERM $$');
  assert.deepEqual(await once(child, 'exit'), [143, null]);
});

test('SIGTERM and SIGINT to the outer process reach the program once', { skip }, async () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const child = outside(`
      trap 'echo caught; n=$((n+1))' ${signal.slice(3)}
      echo up; read -r line; read -r line; echo "count=$n"; exit 5`);
    assert.equal(await firstLine(child), 'up');
    child.kill(signal);
    assert.equal(await firstLine(child), 'caught');
    const rest = text(child.stdout);
    // dash returns from an interrupted read, bash does not: two lines serve both.
    child.stdin.end('a\nb\n');
    assert.deepEqual(await once(child, 'exit'), [5, null]);
    assert.equal(await rest, 'count=1\n');
  }
});

test('Ctrl-C on a terminal reaches the program once, and the program can read the terminal', { skip }, async t => {
  if (spawnSync('script', ['--version']).error !== undefined) return t.skip('script of util-linux is missing');
  const inner = `trap "echo caught" INT; echo up; read -r a; read -r a; echo "got $a"; exit 5`;
  const command = [process.execPath, '--input-type=module', '-e', ENTER, sandboxModule, 'sh', '-c', inner];
  // script runs its words by $SHELL. One that does not become the command (dash) would itself die of Ctrl-C.
  const child = spawn('script', ['-qec', `exec ${command.map(quote).join(' ')}`, '/dev/null'], {
    env: { ...process.env, SHELL: '/bin/sh' },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let seen = '';
  child.stdout.on('data', chunk => {
    const before = seen;
    seen += String(chunk);
    if (!before.includes('up') && seen.includes('up')) child.stdin.write('\u0003');
    if (!before.includes('caught') && seen.includes('caught')) child.stdin.write('one\ntwo\n');
  });
  const [code] = (await once(child, 'exit')) as [number];
  assert.equal(code, 5, seen);
  assert.equal(seen.split('caught').length - 1, 1, seen);
  assert.match(seen, /got (one|two)/);
});

const KILLED_FROM_OUTSIDE = ['the outer process', 'the process that holds the namespaces'] as const;
for (const victim of KILLED_FROM_OUTSIDE) {
  test(`SIGKILL of ${victim} leaves no process and no namespace`, { skip }, async () => {
    const child = outside(`
      ip netns add left; ip netns exec left setsid sh -c 'trap "" TERM INT HUP; sleep 1000 & wait' &
      setsid sleep 1000 & readlink /proc/self/ns/net; sleep 1000`);
    const netns = await firstLine(child);
    assert.match(netns, /^net:\[\d+\]$/);
    assert.ok(livingIn(netns).length >= 3);
    if (victim === 'the outer process') child.kill('SIGKILL');
    else for (const pid of childrenOf(child.pid ?? 0)) process.kill(pid, 'SIGKILL');
    // Every process of the sandbox holds our pipe, so its end is the end of the last of them.
    child.stdout.resume();
    await once(child.stdout, 'end');
    assert.deepEqual(livingIn(netns), []);
  });
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
}

test('a background process the program leaves behind does not outlive it', { skip }, async () => {
  const child = outside('setsid sleep 1000 & readlink /proc/self/ns/net; exit 0');
  const output = await text(child.stdout);
  assert.deepEqual(livingIn(output.trim()), []);
});

test('an ordinary user gets a sandbox too where the system allows it', { skip }, t => {
  if (process.getuid?.() !== 0) return t.skip('already an ordinary user');
  const trial = ['--reuid', '65534', '--regid', '65534', '--clear-groups', 'unshare', '--user', '--net', 'true'];
  if (spawnSync('setpriv', trial).status !== 0) return t.skip('the system allows no user namespaces');
  const user = ['--reuid', '65534', '--regid', '65534', '--clear-groups', '--', process.execPath];
  const args = [...user, '--input-type=module', '-e', ENTER, sandboxModule, 'sh', '-c', 'ip netns add a && id -u'];
  const result = spawnSync('setpriv', args);
  if (String(result.stderr).includes('EACCES')) return t.skip('the work tree is not readable for other users');
  assert.equal(String(result.stderr), '');
  assert.equal(String(result.stdout), '0\n');
});

test('what cannot be entered is an error with a next step', async () => {
  await assert.rejects(enterSandbox(['true'], { ability: { kind: 'none', reason: 'no luck' } }), error => {
    assert.ok(error instanceof TestbedError);
    assert.equal(error.code, 'testbed.no_sandbox');
    assert.match(error.message, /no luck/);
    return error.next !== undefined;
  });
});
