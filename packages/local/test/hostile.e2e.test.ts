// Whoever owns the socket, and whatever runs in a workload, against the machine: what they may not do. One mesh, whose owner
// is an ordinary user.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { sandboxSkip } from '@ambit/testbed';
import { readUpStatus } from '../src/up/up-status.ts';
import { eventually, Machine, MAIN, OUTSIDE_IP, sh } from './machine.ts';

const OWNER = 65_534;
const AS_OWNER = ['setpriv', `--reuid=${OWNER}`, `--regid=${OWNER}`, '--clear-groups'];

const canUnshare = spawnSync('setpriv', [...AS_OWNER.slice(1), 'unshare', '--user', '--net', 'true']).status === 0;

describe('the mesh of one machine among the hostile', { skip: sandboxSkip(), concurrency: false }, () => {
  let machine: Machine;

  before(async () => {
    machine = await Machine.boot();
    machine.must('up', ['--owner', String(OWNER)]);
  });

  after(() => machine.close());

  /** A question to the socket as its owner asks it. */
  function ask(method: string, path: string, body?: object): string {
    const data = body === undefined ? [] : ['--data-binary', JSON.stringify(body)];
    const socket = join(machine.directory, 'run/local.sock');
    const words = ['curl', '-sS', '-X', method, '--unix-socket', socket, ...data, `http://local${path}`];
    return spawnSync('setpriv', [...AS_OWNER.slice(1), ...words], { encoding: 'utf8' }).stdout;
  }

  const request = (pid: number, more: object = {}) => ({
    name: 'mine',
    namespace: 'default',
    serviceAccount: 'default',
    isMember: false,
    publish: [],
    services: [],
    command: ['x'],
    pid,
    runnerPid: pid,
    ...more,
  });

  test("the owner cannot have a process of root's connected, which would be killed with his workload", async () => {
    const victim = spawn('unshare', ['--net', 'sleep', '60'], { stdio: 'ignore' });
    await eventually(
      () => sh(`readlink /proc/${victim.pid}/ns/net`) !== sh('readlink /proc/self/ns/net'),
      'the process has its own network',
    );
    assert.match(ask('POST', '/v1/workloads', request(victim.pid ?? 0)), /local\.rights/);
    assert.equal(victim.exitCode, null);
    victim.kill('SIGKILL');
  });

  test("the owner publishes no ports that are root's, and ends nothing of root's", () => {
    const low = { publish: [{ ip: '127.0.0.1', hostPort: 80, port: 80 }] };
    assert.match(ask('POST', '/v1/workloads', request(process.pid, low)), /port 80 of this machine is for root/);
    machine.must('run', ['-d', '--name', 'roots', '--', 'sleep', '600']);
    assert.match(ask('DELETE', '/v1/workloads/default/roots'), /local\.rights/);
    assert.match(ask('DELETE', '/v1/workloads'), /local\.rights/);
    assert.equal(machine.workload('roots').status, 'enabled');
  });

  test('root enters a workload of the owner with the rights of the owner', { skip: !canUnshare }, async t => {
    // In mount namespaces of his own the owner decides what `sh` is.
    const mine = spawn('setpriv', [
      ...AS_OWNER.slice(1),
      process.execPath,
      MAIN,
      'run',
      '--dir',
      machine.directory,
      '--name',
      'trap',
      '--no-mesh',
      '--',
      'sleep',
      '600',
    ]);
    t.after(() => mine.kill('SIGKILL'));
    await eventually(() => machine.workloads().some(({ name }) => name === 'trap'), 'it runs');
    for (const env of [{}, { SUDO_UID: '1', SUDO_GID: '1', SUDO_USER: 'daemon' }]) {
      const { stdout, stderr } = machine.ambit('exec', ['trap', '--', 'sh', '-c', 'id -u; cat /etc/shadow'], { env });
      assert.equal(stdout, `${OWNER}\n`, stderr);
    }
    assert.equal(machine.must('exec', ['roots', '--', 'id', '-u']), '0\n');
    const held = machine.must('exec', ['roots', '--', 'ls', '-l', '/proc/self/fd']);
    assert.doesNotMatch(held, /(net|mnt):/, 'the command gets no namespaces with it');
  });

  test('the output of a workload of the owner is kept where the owner may write', { skip: !canUnshare }, () => {
    const home = join(machine.directory, 'home');
    mkdirSync(home);
    chownSync(home, OWNER, OWNER);
    const env = { HOME: home, XDG_STATE_HOME: '' };
    const started = machine.ambit(
      'run',
      ['-d', '--no-mesh', '--name', 'said', '--', 'sh', '-c', 'echo it; sleep 600'],
      {
        uid: OWNER,
        env,
      },
    );
    assert.equal(started.status, 0, started.stderr);
    assert.equal(existsSync(join(home, '.local/state/ambit/log/workloads/default.said.log')), true);
  });

  test('a workload is heard with its own addresses only', async () => {
    // Raw sockets take no right to change networks; what comes out of the link is counted by the other's kernel.
    machine.must('run', ['-d', '--no-mesh', '--name', 'target', '--', 'sleep', '600']);
    machine.must('run', ['-d', '--no-mesh', '--name', 'forger', '--', 'sleep', '600']);
    const [target, roots, forger] = ['target', 'roots', 'forger'].map(name => machine.workload(name));
    const heard = () =>
      Number(machine.must('exec', ['target', '--', 'cat', '/proc/net/snmp']).match(/^Udp: \d+ (\d+)/m)?.[1]);
    const send = (from: string | undefined, to: string | undefined) =>
      machine.ambit('exec', ['forger', '--', 'python3', '-c', UDP, String(from), String(to)]);
    const count = heard();
    const sent = send(forger?.ip4, target?.ip4);
    assert.equal(sent.status, 0, sent.stderr);
    assert.equal(heard(), count + 1, 'its own address is heard');
    assert.equal(send(roots?.ip4, target?.ip4).status, 0);
    if (target?.ip6 !== undefined) send(roots?.ip6, target.ip6);
    assert.equal(heard(), count + 1, 'the address of another is not');
  });

  test('nothing of the mesh itself listens where a workload can reach it, but the page of readiness', () => {
    const open = machine.must('exec', ['forger', '--', 'sh', '-c', PORTS]);
    assert.equal(open, '15021\n');
  });

  test('what others take away on the host comes back: translation, ways through their chains, forwarding', async () => {
    const calls = () => machine.ambit('exec', ['target', '--', 'curl', '-sS', '-m', '3', `http://${OUTSIDE_IP}:9000`]);
    assert.equal(calls().status, 0);
    sh('nft flush ruleset; echo 0 > /proc/sys/net/ipv4/ip_forward');
    sh(`nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'`);
    await eventually(() => calls().status === 0, 'the way out is back');
    assert.match(machine.read('state/log/agent.log'), /Put right what others changed/);
  });

  test('a status that another user left is nobody’s', () => {
    const path = join(machine.directory, 'planted.json');
    writeFileSync(path, JSON.stringify(machine.status()));
    assert.notEqual(readUpStatus(path), undefined);
    sh(`chown 4711 ${path}`);
    assert.equal(readUpStatus(path), undefined);
  });

  test('a full disk is said as such, and nothing is left of the workload', t => {
    const etc = join(machine.directory, 'run/etc');
    sh(`mount -t tmpfs -o size=4k none ${etc}`);
    t.after(() => sh(`umount ${etc}`));
    assert.equal(spawnSync('sh', ['-c', `echo full > ${etc}/fill`]).status, 0);
    const answer = machine.ambit('run', ['--name', 'late', '--', 'echo', 'ran']);
    assert.equal(answer.status, 1);
    assert.match(answer.stderr, /cannot write its files: ENOSPC.*\[local\.state\]/);
    assert.equal(answer.stdout, '');
    assert.equal(
      machine.workloads().some(({ name }) => name === 'late'),
      false,
    );
  });

  test('a name is checked before a file is made of it', () => {
    const logs = join(machine.directory, 'state/log');
    mkdirSync(join(logs, 'workloads/default.'), { recursive: true });
    assert.equal(machine.ambit('run', ['-d', '--name', '/../../made', '--', 'true']).status, 2);
    assert.equal(existsSync(join(logs, 'made.log')), false);
  });
});

/** One UDP datagram, by its whole IPv4 header; for IPv6 by an address that is not the machine's. */
const UDP = `
import socket, struct, sys
src, dst = sys.argv[1:3]
if ':' in src:
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, 75, 1)
    s.bind((src, 999)); s.sendto(b'forged', (dst, 999))
else:
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    udp = struct.pack('!HHHH', 999, 999, 14, 0) + b'forged'
    ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 0, 1, 0, 64, 17, 0, socket.inet_aton(src), socket.inet_aton(dst))
    s.sendto(ip + udp, (dst, 0))
`;

const PORTS = `for port in 15000 15008 15010 15012 15014 15016 15020 15021 15053 8000; do
  timeout 2 bash --norc -c "exec 3<>/dev/tcp/10.62.0.1/$port" 2>/dev/null && echo $port
done; true`;
