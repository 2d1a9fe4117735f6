// What the mesh of one machine does when its processes are killed, one by one and all at once, and after a reboot.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { sandboxSkip } from '@ambit/testbed';
import { eventually, Machine, OUTSIDE_IP, sh } from './machine.ts';

describe('the mesh of one machine under failure', { skip: sandboxSkip(), concurrency: false }, () => {
  let machine: Machine;

  before(async () => {
    machine = await Machine.boot();
    machine.must('up');
    machine.serve('cart', 8080);
  });

  after(() => machine.close());

  for (const part of ['ztunnel', 'agent', 'control'] as const) {
    test(`${part} is killed: it comes back, workloads stay, and calls work again`, async () => {
      const killed = machine.pidOf(part);
      const known = machine.workloads().map(({ name, uid, ip4 }) => [name, uid, ip4]);
      process.kill(killed, 'SIGKILL');
      await eventually(() => ![0, killed].includes(machine.pidOf(part)), 'it is started again');
      assert.equal(machine.status().restarts[part], 1);
      assert.deepEqual(
        machine.workloads().map(({ name, uid, ip4 }) => [name, uid, ip4]),
        known,
      );
      await eventually(() => machine.curl('web', 'http://cart:8080').stdout.startsWith('hello '), 'calls work again');
    });
  }

  test('everything of ours is killed: workloads stay, their traffic is refused, and up finds them', async () => {
    const web = machine.ambit('run', ['-d', '--name', 'looper', '--', 'sleep', '600']);
    assert.equal(web.status, 0, web.stderr);
    const known = machine.workloads().map(({ name, uid }) => [name, uid]);
    const looper = machine.workloads().find(({ name }) => name === 'looper');
    const cart = machine.workloads().find(({ name }) => name === 'cart');
    const parts = [machine.pidOf('control'), machine.pidOf('agent'), machine.pidOf('ztunnel')];
    process.kill(machine.status().supervisor.pid, 'SIGKILL');
    await eventually(() => parts.every(pid => !existsSync(`/proc/${pid}`)), 'the parts end with the supervisor');
    const call = `nsenter -t ${looper?.process.pid} -n curl -sS -m 5 http://${cart?.ip4}:8080`;
    assert.notEqual(spawnSync('sh', ['-c', call]).status, 0, 'nothing goes out in plain text');
    machine.must('up');
    assert.deepEqual(
      machine.workloads().map(({ name, uid }) => [name, uid]),
      known,
    );
    await eventually(() => spawnSync('sh', ['-c', call]).status === 0, 'calls work again');
  });

  test('after a reboot nothing is there but the state, and up is enough', async () => {
    for (const { runner, process: first } of machine.workloads()) {
      process.kill(runner.pid, 'SIGKILL');
      await eventually(() => !existsSync(`/proc/${first.pid}`), 'a workload ends with its runner');
    }
    const parts = [machine.pidOf('control'), machine.pidOf('agent'), machine.pidOf('ztunnel')];
    const root = machine.read('state/control/root-cert.pem');
    process.kill(machine.status().supervisor.pid, 'SIGKILL');
    await eventually(() => parts.every(pid => !existsSync(`/proc/${pid}`)), 'everything has ended');
    rmSync(join(machine.directory, 'run'), { recursive: true });
    sh(
      'nft delete table inet ambit-local; nft flush chain ip filter FORWARD; echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding',
    );
    machine.must('up');
    assert.equal(machine.read('state/control/root-cert.pem'), root, 'the same authority');
    assert.deepEqual(machine.workloads(), []);
    assert.match(machine.curl('web', `http://${OUTSIDE_IP}:9000`).stdout, /^hello /);
  });
});
