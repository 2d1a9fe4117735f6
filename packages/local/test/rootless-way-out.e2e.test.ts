// A mesh of an ordinary user with a way out by what Debian has for that, each for itself.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { eventually, OUTSIDE_IP } from './machine.ts';
import { OUTSIDE_NAME, unable, UserMachine, WAYS_OUT } from './user-machine.ts';

for (const [tool, packageName] of [
  ['pasta', 'passt'],
  ['slirp4netns', 'slirp4netns'],
] as const) {
  const skip = unable([tool, packageName]);
  describe(`a mesh without root, its way out by ${tool}`, { skip, concurrency: false }, () => {
    const curl = (...words: readonly string[]) => ['--', 'curl', '-sS', '-m', '10', ...words];
    let user: UserMachine;

    before(async () => {
      user = await UserMachine.boot(WAYS_OUT.filter(each => !each.startsWith(tool)));
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
