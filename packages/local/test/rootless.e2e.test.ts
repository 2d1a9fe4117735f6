// A mesh of an ordinary user, without root and without a way out: his own namespaces, his own directories. Skipped where the
// kernel gives namespaces to root only. With a way out: rootless-way-out.e2e.test.ts.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { eventually, hostState, SERVER, untilUp } from './machine.ts';
import { unable, UserMachine, WAYS_OUT } from './user-machine.ts';

describe('a mesh without root', { skip: unable(), concurrency: false }, () => {
  let user: UserMachine;

  before(async () => {
    user = await UserMachine.boot(WAYS_OUT);
  });

  after(() => user.close());

  test('it comes up where nothing gives it a way out, and says what would', () => {
    const { status, stdout, stderr } = user.ambit('up', '--rootless');
    assert.equal(status, 0, stderr);
    assert.match(stdout, /ready {2}ztunnel/);
    assert.match(stderr, /^This mesh has no way out to other networks: install passt .*\n$/);
  });

  test('two runs find each other by name, as processes of the user', () => {
    user.must('run', '-d', '--name', 'cart', '--', process.execPath, '-e', SERVER, '8080');
    untilUp('cart', () => user.must('logs', 'cart'));
    assert.match(user.must('ps'), /default +cart +default +10\.62\.0\.2 +– +protected/);
    assert.match(user.must('run', '--name', 'web', '--', 'curl', '-sS', '-m', '10', 'http://cart:8080'), /^hello /);
    assert.equal(user.ambit('run', '--', 'sh', '-c', 'exit 9').status, 9);
    const witness = join(user.home, 'witness');
    user.must('run', '--', 'touch', witness);
    assert.equal(user.run(['test', '-O', witness]).status, 0, 'made by the user');
    assert.match(user.must('exec', 'cart', '--', 'ip', '-br', 'addr', 'show', 'eth0'), /10\.62\.0\.2/);
  });

  test('a published port is reachable from the host while its workload runs', async () => {
    const host = () => spawnSync('curl', ['-sS', '-m', '10', 'http://127.0.0.1:18090'], { encoding: 'utf8' });
    const serve = ['--', process.execPath, '-e', SERVER, '8080'];
    user.must('run', '-d', '--name', 'shop', '-p', '18090:8080', '-p', '18091:8080', ...serve);
    untilUp('shop', () => user.must('logs', 'shop'));
    assert.match(host().stdout, /^hello (::ffff:)?10\.62\.0\.1$/);
    assert.match(user.must('ps'), /shop .* 18090→8080 18091→8080 /);
    const taken = user.ambit('run', '-p', '18090:80', '--', 'true');
    assert.equal(taken.status, 1);
    assert.match(taken.stderr, /cannot listen on 127\.0\.0\.1:18090: EADDRINUSE {2}\[local\.port_taken\]/);
    const low = user.ambit('run', '-p', '80', '--', 'true');
    assert.match(low.stderr, /port 80 of this machine is for root to publish {2}\[local\.rights\]/);
    const held = (...more: readonly string[]) => user.must('run', ...more, '--', 'sh', '-c', 'ls /proc/$$/fd');
    assert.equal(held('-p', '18092:80'), held(), 'the command itself gets no port');
    process.kill(user.workload('shop').process.pid, 'SIGKILL');
    await eventually(() => host().status === 7, 'nobody listens once the workload is gone');
  });

  test('the host never notices, and down leaves nothing', async () => {
    assert.equal(hostState(), user.before);
    const { stderr } = user.ambit('down');
    assert.match(stderr, /workloads run here: default\/cart/);
    assert.match(user.must('down', '--force'), /^down, 1 workload ended/);
    assert.equal(existsSync(join(user.home, 'run/ambit')), false);
    await eventually(() => user.processes() === '', 'no process is left');
  });
});
