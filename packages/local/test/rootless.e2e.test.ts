// A mesh of an ordinary user, without root: his own namespaces, his own directories; with a way out by what Debian has for
// that, and without. Skipped where the kernel gives namespaces to root only.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { sandboxSkip } from '@ambit/testbed';
import { eventually, hostState, OUTSIDE_IP, SERVER, untilUp } from './machine.ts';
import { noUserNamespaces, OUTSIDE_NAME, UserMachine } from './user-machine.ts';

const TOOLS = ['pasta', 'pasta.avx2', 'slirp4netns'] as const;

function unable(...programs: readonly (readonly [string, string])[]): string | false {
  const reason = sandboxSkip() || noUserNamespaces();
  if (reason !== false) return reason;
  const missing = programs.find(([name]) => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0);
  return missing === undefined ? false : `${missing[0]} is missing: apt install ${missing[1]}`;
}

const NEEDED = [
  ['dnsmasq', 'dnsmasq-base'],
  ['dig', 'bind9-dnsutils'],
] as const;

describe('a mesh without root', { skip: unable(...NEEDED), concurrency: false }, () => {
  let user: UserMachine;

  before(async () => {
    user = await UserMachine.boot(TOOLS);
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

for (const [tool, packageName] of [
  ['pasta', 'passt'],
  ['slirp4netns', 'slirp4netns'],
] as const) {
  const skip = unable(...NEEDED, [tool, packageName]);
  describe(`a mesh without root, its way out by ${tool}`, { skip, concurrency: false }, () => {
    const curl = (...words: readonly string[]) => ['--', 'curl', '-sS', '-m', '10', ...words];
    let user: UserMachine;

    before(async () => {
      user = await UserMachine.boot(TOOLS.filter(each => !each.startsWith(tool)));
    });

    after(() => user.close());

    test('it has a way out, with the host’s address, for members and others', () => {
      assert.match(user.must('up', '--rootless'), new RegExp(`ready {2}way out by ${tool}\n`));
      for (const more of [[], ['--no-mesh']]) {
        const answer = user.must('run', ...more, ...curl(`http://${OUTSIDE_IP}:9000`));
        assert.match(answer, /^hello (::ffff:)?192\.0\.2\.1$/);
      }
    });

    test('names are the host’s, whose resolver is on its loopback', () => {
      for (const more of [[], ['--no-mesh']]) {
        assert.match(user.must('run', ...more, ...curl(`http://${OUTSIDE_NAME}:9000`)), /^hello /);
      }
    });

    test('what listens on the host’s loopback is out of reach', async () => {
      const serve = `require('http').createServer((q, r) => r.end('secret')).listen(18099, '127.0.0.1')`;
      const server = spawn(process.execPath, ['-e', serve], { stdio: 'ignore' });
      try {
        const local = () => spawnSync('curl', ['-sS', '-m', '5', 'http://127.0.0.1:18099']).status;
        await eventually(() => local() === 0, 'it listens');
        const script = `for ip in 127.0.0.1 192.0.2.1 ${OUTSIDE_IP} 10.0.2.2; do curl -s -m 2 http://$ip:18099; done; true`;
        assert.equal(user.must('run', '--no-mesh', '--', 'sh', '-c', script), '');
      } finally {
        server.kill('SIGKILL');
        await once(server, 'close');
      }
    });

    test('it comes back when it is killed, and ends with the supervisor, however that ends', async () => {
      const pid = Number(user.processes('-f', `^\\S*${tool}\\S* -`).split('\n')[0]);
      assert.ok(pid > 1, 'it runs');
      process.kill(pid, 'SIGKILL');
      const out = () => user.ambit('run', '--no-mesh', ...curl(`http://${OUTSIDE_IP}:9000`)).status === 0;
      await eventually(
        () => !user.processes('-f', `^\\S*${tool}\\S* -`).split('\n').includes(String(pid)) && out(),
        'it is back',
      );
      const supervisor = Number(user.processes('-f', 'up --foreground').split('\n')[0]);
      process.kill(supervisor, 'SIGKILL');
      await eventually(() => user.processes() === '', 'no process is left');
    });
  });
}
