// The mesh of one machine as its users have it: the `ambit` command and nothing else, in a sandbox that plays the machine.
// One mesh for all tests, in their order; it is killed and comes back more than once.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { SANDBOX_DIR, sandboxSkip } from '@ambit/testbed';
import type { UpStatus } from '../src/up/up-status.ts';
import type { WorkloadView } from '../src/local-workloads.ts';

const MAIN = fileURLToPath(new URL('../../cli/src/main.ts', import.meta.url));
const HOST_STATE =
  'ip -br addr; ip route; ip -6 route; nft list ruleset; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding';
const OUTSIDE_IP = '192.0.2.2';
/** Answers with who calls, over HTTP. */
const SERVER = `require('http').createServer((q, r) => r.end('hello ' + q.socket.remoteAddress)).listen(Number(process.argv[1]), () => console.log('up'))`;
const NOBODY = 65_534;

interface Answer {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

let directory = '';

/** One whole `ambit` command. */
function ambit(command: string, args: readonly string[] = [], options: { uid?: number; env?: object } = {}): Answer {
  const words = [process.execPath, MAIN, command, '--dir', directory, ...args];
  const drop =
    options.uid === undefined ? [] : ['setpriv', `--reuid=${options.uid}`, `--regid=${options.uid}`, '--clear-groups'];
  const [program = '', ...rest] = [...drop, ...words];
  const env = { ...process.env, ...options.env };
  return spawnSync(program, rest, { encoding: 'utf8', timeout: 90_000, env, input: '' });
}

function mustAmbit(command: string, args: readonly string[] = []): string {
  const { status, stdout, stderr } = ambit(command, args);
  assert.equal(status, 0, `ambit ${command} ${args.join(' ')}\n${stdout}${stderr}`);
  return stdout;
}

function sh(command: string): string {
  const { stdout, stderr, status } = spawnSync('sh', ['-c', command], { encoding: 'utf8' });
  assert.equal(status, 0, `${command}: ${stderr}`);
  return stdout;
}

function upStatus(): UpStatus {
  return JSON.parse(readFileSync(join(directory, 'run/up.json'), 'utf8')) as UpStatus;
}

function pidOf(part: 'control' | 'agent' | 'ztunnel'): number {
  const state = upStatus().parts[part];
  return state.kind === 'ready' ? state.pid : 0;
}

function workloads(): readonly WorkloadView[] {
  return (JSON.parse(mustAmbit('ps', ['-o', 'json'])) as { workloads: readonly WorkloadView[] }).workloads;
}

/** What the proxy logged of connections. */
function accessLines(): readonly string[] {
  return readFileSync(join(directory, 'state/log/ztunnel.log'), 'utf8')
    .split('\n')
    .filter(line => line.includes('\taccess\t'));
}

async function eventually(isTrue: () => boolean, what: string, timeoutMs = 30_000): Promise<void> {
  const deadline = AbortSignal.timeout(timeoutMs);
  while (!isTrue()) {
    assert.ok(!deadline.aborted, what);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

const curl = (name: string, url: string, ...more: readonly string[]) =>
  ambit('run', ['--name', name, ...more, '--', 'curl', '-sS', '-m', '10', url]);

describe('the mesh of one machine', { skip: sandboxSkip(), concurrency: false }, () => {
  let outside: ChildProcess | undefined;
  let hostBefore = '';

  before(async () => {
    directory = mkdtempSync(join(SANDBOX_DIR, 'up-'));
    sh(`chmod 755 ${directory}`);
    sh('ip netns add out; ip link add up0 type veth peer name in0 netns out');
    sh('ip addr add 192.0.2.1/24 dev up0; ip link set up0 up');
    sh(`ip -n out addr add ${OUTSIDE_IP}/24 dev in0; ip -n out link set in0 up; ip -n out link set lo up`);
    // A firewall as Docker and others leave it: what they do not know is not forwarded.
    sh(`nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'`);
    outside = spawn('ip', ['netns', 'exec', 'out', process.execPath, '-e', SERVER, '9000'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    if (outside.stdout !== null) await once(outside.stdout, 'data');
    await eventually(() => !sh('ip -br -6 addr show dev up0').includes('tentative'), 'the link settles');
    hostBefore = sh(HOST_STATE);
    mustAmbit('up');
  });

  after(() => {
    ambit('down', ['--force']);
    outside?.kill('SIGKILL');
    sh('nft delete table ip filter; ip link del up0; ip netns del out');
    rmSync(directory, { recursive: true, force: true });
  });

  test('up again says that it is up', () => {
    const { supervisor } = upStatus();
    assert.match(mustAmbit('up'), /ready {2}control plane.*\n.*ready {2}agent.*\n.*ready {2}ztunnel/);
    assert.deepEqual(upStatus().supervisor, supervisor);
  });

  test('two runs find each other by name, over mutual TLS with the identities they were given', async () => {
    mustAmbit('run', [
      '-d',
      '--name',
      'cart',
      '--service-account',
      'cart',
      '-p',
      '18080:8080',
      '--',
      process.execPath,
      '-e',
      SERVER,
      '8080',
    ]);
    const [cart] = workloads();
    assert.equal(cart?.status, 'enabled');
    const answer = curl('web', 'http://cart:8080', '--service-account', 'web');
    assert.match(answer.stdout, /^hello /, answer.stderr);
    const isIt = (line: string) =>
      line.includes('direction="inbound"') &&
      line.includes('src.identity="spiffe://cluster.local/ns/default/sa/web"') &&
      line.includes('dst.identity="spiffe://cluster.local/ns/default/sa/cart"');
    await eventually(() => accessLines().some(isIt), 'the proxy says who called whom');
  });

  test('a published port is reachable from the host, output is kept, and the names of logs and exec lead to it', () => {
    assert.match(sh('curl -sS -m 10 http://127.0.0.1:18080'), /^hello /);
    assert.equal(mustAmbit('logs', ['cart']), 'up\n');
    assert.match(
      mustAmbit('exec', ['default/cart', '--', 'sh', '-c', 'ip -br addr show eth0; cat /etc/resolv.conf']),
      /10\.62\.0\.\d+[^]*nameserver 10\.62\.0\.1/,
    );
    const missing = ambit('exec', ['card', '--', 'true']);
    assert.equal(missing.status, 1);
    assert.match(
      missing.stderr,
      /no workload card {2}\[local\.unknown_workload\][^]*next {4}use one of: default\/cart/,
    );
  });

  test("a command's exit status, input and environment are its own, and its name is refused while it runs", () => {
    assert.equal(ambit('run', ['--', 'sh', '-c', 'exit 42']).status, 42);
    assert.equal(ambit('run', ['--', 'sh', '-c', 'kill -TERM $$']).status, 143);
    assert.equal(mustAmbit('run', ['-e', 'COLOUR=green', '--', 'sh', '-c', 'echo $COLOUR']), 'green\n');
    assert.equal(ambit('run', ['--', 'no-such-command']).status, 127);
    const taken = ambit('run', ['--name', 'cart', '--', 'true']);
    assert.equal(taken.status, 1);
    assert.match(
      taken.stderr,
      /there is a workload default\/cart already {2}\[local\.name_taken\]\n {2}next {4}choose another --name/,
    );
    assert.equal(ambit('run', ['--name', 'Cart!', '--', 'true']).status, 2);
  });

  test('a shared service has one address, and leads to those who name it', () => {
    mustAmbit('run', [
      '-d',
      '--name',
      'api-1',
      '--service',
      'api:80:8081',
      '--',
      process.execPath,
      '-e',
      SERVER,
      '8081',
    ]);
    const answer = curl('web', 'http://api');
    assert.match(answer.stdout, /^hello /, answer.stderr);
    assert.match(ambit('run', ['--service', 'api:80:9', '--', 'true']).stderr, /\[local\.service_conflict\]/);
    assert.equal(curl('stranger', 'http://10.62.240.1', '--no-mesh').stdout, '', 'nobody is there outside the mesh');
  });

  test('the way out is as before, with the host’s address', () => {
    assert.match(curl('web', `http://${OUTSIDE_IP}:9000`).stdout, /^hello (::ffff:)?192\.0\.2\.1$/);
    assert.match(curl('plain', `http://${OUTSIDE_IP}:9000`, '--no-mesh').stdout, /^hello (::ffff:)?192\.0\.2\.1$/);
  });

  test('a policy in the objects directory decides who may call', async () => {
    const policy = {
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'cart-callers', namespace: 'default' },
      spec: {
        selector: { matchLabels: { app: 'cart' } },
        action: 'ALLOW',
        rules: [{ from: [{ source: { principals: ['cluster.local/ns/default/sa/web'] } }] }],
      },
    };
    const path = join(directory, 'state/objects/policy.yaml');
    writeFileSync(path, JSON.stringify(policy));
    await eventually(() => curl('other', 'http://cart:8080').status !== 0, 'others are refused');
    const allowed = curl('web', 'http://cart:8080', '--service-account', 'web');
    assert.match(allowed.stdout, /^hello /, allowed.stderr);
    rmSync(path);
    await eventually(() => curl('other', 'http://cart:8080').status === 0, 'others are let in again');
  });

  for (const part of ['ztunnel', 'agent', 'control'] as const) {
    test(`${part} is killed: it comes back, workloads stay, and calls work again`, async () => {
      const killed = pidOf(part);
      const known = workloads().map(({ name, uid, ip4 }) => [name, uid, ip4]);
      process.kill(killed, 'SIGKILL');
      await eventually(() => ![0, killed].includes(pidOf(part)), 'it is started again');
      assert.equal(upStatus().restarts[part], 1);
      assert.deepEqual(
        workloads().map(({ name, uid, ip4 }) => [name, uid, ip4]),
        known,
      );
      await eventually(() => curl('web', 'http://cart:8080').stdout.startsWith('hello '), 'calls work again');
    });
  }

  test('everything of ours is killed: workloads stay, their traffic is refused, and up finds them', async () => {
    const web = ambit('run', ['-d', '--name', 'looper', '--', 'sleep', '600']);
    assert.equal(web.status, 0, web.stderr);
    const known = workloads().map(({ name, uid }) => [name, uid]);
    const looper = workloads().find(({ name }) => name === 'looper');
    const cart = workloads().find(({ name }) => name === 'cart');
    const parts = [pidOf('control'), pidOf('agent'), pidOf('ztunnel')];
    process.kill(upStatus().supervisor.pid, 'SIGKILL');
    await eventually(() => parts.every(pid => !existsSync(`/proc/${pid}`)), 'the parts end with the supervisor');
    const call = `nsenter -t ${looper?.process.pid} -n curl -sS -m 5 http://${cart?.ip4}:8080`;
    assert.notEqual(spawnSync('sh', ['-c', call]).status, 0, 'nothing goes out in plain text');
    mustAmbit('up');
    assert.deepEqual(
      workloads().map(({ name, uid }) => [name, uid]),
      known,
    );
    await eventually(() => spawnSync('sh', ['-c', call]).status === 0, 'calls work again');
  });

  test('after a reboot nothing is there but the state, and up is enough', async () => {
    for (const { runner, process: first } of workloads()) {
      process.kill(runner.pid, 'SIGKILL');
      await eventually(() => !existsSync(`/proc/${first.pid}`), 'a workload ends with its runner');
    }
    const parts = [pidOf('control'), pidOf('agent'), pidOf('ztunnel')];
    const root = readFileSync(join(directory, 'state/control/root-cert.pem'), 'utf8');
    process.kill(upStatus().supervisor.pid, 'SIGKILL');
    await eventually(() => parts.every(pid => !existsSync(`/proc/${pid}`)), 'everything has ended');
    rmSync(join(directory, 'run'), { recursive: true });
    sh(
      'nft delete table inet ambit-local; nft flush chain ip filter FORWARD; echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding',
    );
    mustAmbit('up');
    assert.equal(readFileSync(join(directory, 'state/control/root-cert.pem'), 'utf8'), root, 'the same authority');
    assert.deepEqual(workloads(), []);
    assert.match(curl('web', `http://${OUTSIDE_IP}:9000`).stdout, /^hello /);
  });

  test('an ordinary user starts workloads of his own where the kernel has user namespaces', t => {
    const able = spawnSync('setpriv', [
      `--reuid=${NOBODY}`,
      `--regid=${NOBODY}`,
      '--clear-groups',
      'unshare',
      '--user',
      '--net',
      'true',
    ]);
    if (able.status !== 0) return t.skip(`no user namespaces for ordinary users here: ${String(able.stderr).trim()}`);
    mustAmbit('down', ['--force']);
    mustAmbit('up', ['--owner', String(NOBODY)]);
    const script = 'id -u; cat /etc/hosts; nft list ruleset 2>&1 | head -1';
    const answer = ambit('run', ['--name', 'mine', '--', 'sh', '-c', script], { uid: NOBODY });
    assert.equal(answer.status, 0, answer.stderr);
    assert.match(answer.stdout, /^65534\n[^]*mine\.default\.svc\.cluster\.local/);
    assert.match(answer.stdout, /not permitted|Permission denied|^(?!.*table).*$/m, 'it has no say over its rules');
    const stranger = ambit('run', ['--', 'true'], { uid: 4711 });
    assert.equal(stranger.status, 3);
    assert.match(stranger.stderr, /belongs to another user {2}\[local\.rights\]/);
  });

  test('root by sudo runs the command as the user who called', () => {
    const env = { SUDO_UID: String(NOBODY), SUDO_GID: String(NOBODY), SUDO_USER: 'nobody' };
    const answer = ambit('run', ['--', 'sh', '-c', 'id -u; echo $USER'], { env });
    assert.equal(answer.stdout, '65534\nnobody\n', answer.stderr);
  });

  test('down asks while workloads run, ends them when told, and leaves the network as it was', () => {
    mustAmbit('run', ['-d', '--name', 'left', '--', 'sleep', '600']);
    const refused = ambit('down');
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /workloads run here: default\/left {2}\[local\.running\]/);
    mustAmbit('down', ['--force']);
    assert.equal(sh(HOST_STATE), hostBefore);
    assert.equal(existsSync(join(directory, 'run')), false);
    assert.equal(mustAmbit('down'), 'was not up\n');
    const notUp = ambit('ps');
    assert.equal(notUp.status, 3);
    assert.match(notUp.stderr, /next {4}sudo ambit up/);
  });
});
