// `ambit up --systemd` under a real systemd: the mesh is there after a reboot, and gone after a stop.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sandboxSkip } from '@ambit/testbed';
import { eventually, MAIN } from './machine.ts';
import { cannotBoot, SystemdMachine } from './systemd-machine.ts';

describe('the mesh of one machine under systemd', { skip: sandboxSkip() || cannotBoot(), concurrency: false }, () => {
  let machine: SystemdMachine;
  const HOST_STATE =
    'ip -br link; ip route; nft -s list ruleset; cat /proc/sys/net/ipv4/ip_forward; ls /run/ambit 2>&1';
  const hostState = () => machine.run('sh', '-c', HOST_STATE).stdout;
  const parts = () => machine.run('pgrep', '-fc', 'ambit|main.ts').stdout.trim();
  let untouched = '';

  before(async () => {
    machine = new SystemdMachine();
    await machine.boot();
    untouched = hostState();
  });

  after(() => machine.close());

  const worksAsMesh = () => {
    assert.equal(
      machine.ambit('run', '--name', 'web', '--', 'sh', '-c', 'getent hosts web && echo ran').includes('ran'),
      true,
    );
  };

  test('up writes a unit that runs', () => {
    assert.match(machine.ambit('up', '--systemd'), /ready {2}ztunnel/);
    assert.equal(machine.must('systemctl', 'is-active', 'ambit').trim(), 'active');
    worksAsMesh();
  });

  test('after a reboot the mesh is there by itself, and workloads can be started', async () => {
    const authority = machine.must('cat', '/var/lib/ambit/control/root-cert.pem');
    machine.ambit('run', '-d', '--name', 'before', '--', 'sleep', '600');
    await machine.reboot();
    await eventually(() => machine.run(process.execPath, MAIN, 'ps').status === 0, 'the agent answers', 60_000);
    assert.match(machine.ambit('up'), /ready {2}ztunnel/, 'shows how it stands');
    assert.equal(machine.must('cat', '/var/lib/ambit/control/root-cert.pem'), authority, 'the same authority');
    assert.equal(machine.ambit('ps').trim().split('\n').length, 1, 'the header only');
    worksAsMesh();
  });

  test('what is killed comes back', async () => {
    const mainPid = () => machine.must('systemctl', 'show', '-P', 'MainPID', 'ambit').trim();
    const killed = mainPid();
    machine.must('kill', '-9', killed);
    await eventually(() => !['0', killed].includes(mainPid()), 'systemd starts it again');
    assert.match(machine.ambit('up'), /ready {2}ztunnel/);
    worksAsMesh();
  });

  test('stopped while nothing runs in it, it leaves nothing, and it can be started again', () => {
    machine.must('systemctl', 'stop', 'ambit');
    assert.equal(parts(), '0', 'no process');
    assert.equal(hostState(), untouched);
    machine.must('systemctl', 'start', 'ambit');
    assert.match(machine.ambit('up'), /ready {2}ztunnel/);
    worksAsMesh();
  });

  test('stopped while a workload runs, it leaves that protected, and finds it again', () => {
    machine.ambit('run', '-d', '--name', 'kept', '--', 'sleep', '600');
    machine.must('systemctl', 'restart', 'ambit');
    machine.ambit('up');
    assert.match(machine.ambit('ps'), /default +kept .* protected/);
  });

  test('down takes the unit away, and a reboot brings nothing back', async () => {
    assert.match(machine.ambit('down', '--force'), /^down, 1 workload ended/);
    assert.equal(hostState(), untouched);
    assert.notEqual(machine.run('systemctl', 'cat', 'ambit').status, 0);
    await machine.reboot();
    assert.equal(parts(), '0');
  });
});
