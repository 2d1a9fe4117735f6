// A mesh of an ordinary user, without root: his own namespaces, his own directories. Skipped where the kernel gives those to
// root only.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { SANDBOX_DIR, sandboxSkip } from '@ambit/testbed';
import { eventually, hostState, MAIN, SERVER, untilUp } from './machine.ts';

const NOBODY = 65_534;
const AS_USER = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];

let home = '';

function asUser(command: readonly string[]) {
  const [program = '', ...args] = [...AS_USER, ...command];
  const env = {
    PATH: process.env['PATH'],
    HOME: home,
    XDG_STATE_HOME: join(home, 'state'),
    XDG_RUNTIME_DIR: join(home, 'run'),
  };
  return spawnSync(program, args, { encoding: 'utf8', timeout: 90_000, input: '', cwd: home, env });
}

const ambit = (...args: readonly string[]) => asUser([process.execPath, MAIN, ...args]);

function must(...args: readonly string[]): string {
  const { status, stdout, stderr } = ambit(...args);
  assert.equal(status, 0, `ambit ${args.join(' ')}\n${stdout}${stderr}`);
  return stdout;
}

function unable(): string | false {
  const reason = sandboxSkip();
  if (reason !== false) return reason;
  const { status, stderr } = spawnSync('setpriv', [
    ...AS_USER.slice(1),
    'unshare',
    '--user',
    '--map-root-user',
    '--net',
    'true',
  ]);
  return status === 0 ? false : `no user namespaces for ordinary users here: ${String(stderr).trim()}`;
}

describe('a mesh without root', { skip: unable(), concurrency: false }, () => {
  let hostBefore = '';

  before(() => {
    home = mkdtempSync(join(SANDBOX_DIR, 'home-'));
    chownSync(home, NOBODY, NOBODY);
    hostBefore = hostState();
    assert.match(must('up', '--rootless'), /ready {2}ztunnel/);
  });

  after(() => {
    ambit('down', '--force');
    rmSync(home, { recursive: true, force: true });
  });

  test('two runs find each other by name, as processes of the user', () => {
    must('run', '-d', '--name', 'cart', '--', process.execPath, '-e', SERVER, '8080');
    untilUp('cart', () => must('logs', 'cart'));
    assert.match(must('ps'), /default +cart +default +10\.62\.0\.2 +– +protected/);
    assert.match(must('run', '--name', 'web', '--', 'curl', '-sS', '-m', '10', 'http://cart:8080'), /^hello /);
    assert.equal(ambit('run', '--', 'sh', '-c', 'exit 9').status, 9);
    const witness = join(home, 'witness');
    must('run', '--', 'touch', witness);
    assert.equal(asUser(['test', '-O', witness]).status, 0, 'made by the user');
    assert.equal(must('logs', 'cart'), 'up\n');
    assert.match(must('exec', 'cart', '--', 'ip', '-br', 'addr', 'show', 'eth0'), /10\.62\.0\.2/);
  });

  test('ports are not published, and it is said', () => {
    const { status, stderr } = ambit('run', '-p', '8080', '--', 'true');
    assert.equal(status, 1);
    assert.match(stderr, /\[local\.unsupported\][^]*sudo ambit up/);
  });

  test('the host never notices, and down leaves nothing', async () => {
    assert.equal(hostState(), hostBefore);
    const { stderr } = ambit('down');
    assert.match(stderr, /workloads run here: default\/cart/);
    assert.match(must('down', '--force'), /^down, 1 workload ended/);
    assert.equal(existsSync(join(home, 'run/ambit')), false);
    const left = () => spawnSync('pgrep', ['-u', String(NOBODY)]).stdout.toString();
    await eventually(() => left() === '', 'no process is left');
  });
});
