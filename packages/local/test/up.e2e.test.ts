// The mesh of one machine as its users have it: the `ambit` command and nothing else. One mesh for all tests, in their
// order, up to taking it down.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { AuditReport } from '@ambit/cni';
import { sandboxSkip } from '@ambit/testbed';
import { eventually, hostState, Machine, MAIN, OUTSIDE_IP, sh } from './machine.ts';

const NOBODY = 65_534;
const hasScript = spawnSync('script', ['--version']).status === 0;

describe('the mesh of one machine', { skip: sandboxSkip(), concurrency: false }, () => {
  let machine: Machine;

  before(async () => {
    machine = await Machine.boot();
    machine.must('up');
  });

  after(() => machine.close());

  test('up again says that it is up', () => {
    const { supervisor } = machine.status();
    assert.match(machine.must('up'), /ready {2}control plane.*\n.*ready {2}agent.*\n.*ready {2}ztunnel/);
    assert.deepEqual(machine.status().supervisor, supervisor);
  });

  test('two runs find each other by name, over mutual TLS with the identities they were given', async () => {
    machine.serve('cart', 8080, '--service-account', 'cart', '-p', '18080:8080');
    const [cart] = machine.workloads();
    assert.equal(cart?.status, 'enabled');
    const answer = machine.curl('web', 'http://cart:8080', '--service-account', 'web');
    assert.match(answer.stdout, /^hello /, answer.stderr);
    const isIt = (line: string) =>
      line.includes('direction="inbound"') &&
      line.includes('src.identity="spiffe://cluster.local/ns/default/sa/web"') &&
      line.includes('dst.identity="spiffe://cluster.local/ns/default/sa/cart"');
    await eventually(
      () => machine.read('state/log/ztunnel.log').split('\n').some(isIt),
      'the proxy says who called whom',
    );
  });

  test('the audit proves that a workload is protected, by a canary through its own proxy', () => {
    const report = JSON.parse(machine.ambit('audit', ['-o', 'json']).stdout) as AuditReport;
    const cart = report.pods.find(({ pod }) => pod === 'default/cart');
    assert.ok(cart !== undefined, JSON.stringify(report));
    assert.deepEqual([cart.member, cart.status, cart.rules, cart.canary?.result], [true, 'enabled', 'ok', 'ok']);
  });

  test('a command has the terminal that it was started from', { skip: !hasScript && 'script is missing' }, () => {
    const command = `${process.execPath} ${MAIN} run --dir ${machine.directory} -- sh -c 'tty && stty size'`;
    const { stdout } = spawnSync('script', ['-qec', `stty rows 33 cols 99; ${command}`, '/dev/null'], {
      encoding: 'utf8',
    });
    assert.match(stdout, /^\/dev\/pts\/\d+\r?\n33 99\r?\n$/);
  });

  test('a published port is reachable from the host, output is kept, and the names of logs and exec lead to it', () => {
    assert.match(sh('curl -sS -m 10 http://127.0.0.1:18080'), /^hello /);
    assert.equal(machine.must('logs', ['cart']), 'up\n');
    assert.match(
      machine.must('exec', ['default/cart', '--', 'sh', '-c', 'ip -br addr show eth0; cat /etc/resolv.conf']),
      /10\.62\.0\.\d+[^]*nameserver 10\.62\.0\.1/,
    );
    const missing = machine.ambit('exec', ['card', '--', 'true']);
    assert.equal(missing.status, 1);
    assert.match(
      missing.stderr,
      /no workload card {2}\[local\.unknown_workload\][^]*next {4}use one of: default\/cart/,
    );
  });

  test("a command's exit status, input and environment are its own, and its name is refused while it runs", () => {
    assert.equal(machine.ambit('run', ['--', 'sh', '-c', 'exit 42']).status, 42);
    assert.equal(machine.ambit('run', ['--', 'sh', '-c', 'kill -TERM $$']).status, 143);
    assert.equal(machine.must('run', ['-e', 'COLOUR=green', '--', 'sh', '-c', 'echo $COLOUR']), 'green\n');
    assert.equal(machine.ambit('run', ['--', 'no-such-command']).status, 127);
    const taken = machine.ambit('run', ['--name', 'cart', '--', 'true']);
    assert.equal(taken.status, 1);
    assert.match(
      taken.stderr,
      /there is a workload default\/cart already {2}\[local\.name_taken\]\n {2}next {4}choose another --name/,
    );
    assert.equal(machine.ambit('run', ['--name', 'Cart!', '--', 'true']).status, 2);
  });

  test('a shared service has one address, and leads to those who name it', () => {
    machine.serve('api-1', 8081, '--service', 'api:80:8081');
    const answer = machine.curl('web', 'http://api');
    assert.match(answer.stdout, /^hello /, answer.stderr);
    assert.match(machine.ambit('run', ['--service', 'api:80:9', '--', 'true']).stderr, /\[local\.service_conflict\]/);
    assert.equal(
      machine.curl('stranger', 'http://10.62.240.1', '--no-mesh').stdout,
      '',
      'nobody is there outside the mesh',
    );
  });

  test('the way out is as before, with the host’s address', () => {
    assert.match(machine.curl('web', `http://${OUTSIDE_IP}:9000`).stdout, /^hello (::ffff:)?192\.0\.2\.1$/);
    assert.match(
      machine.curl('plain', `http://${OUTSIDE_IP}:9000`, '--no-mesh').stdout,
      /^hello (::ffff:)?192\.0\.2\.1$/,
    );
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
    const path = join(machine.directory, 'state/objects/policy.yaml');
    writeFileSync(path, JSON.stringify(policy));
    await eventually(() => machine.curl('other', 'http://cart:8080').status !== 0, 'others are refused');
    const allowed = machine.curl('web', 'http://cart:8080', '--service-account', 'web');
    assert.match(allowed.stdout, /^hello /, allowed.stderr);
    rmSync(path);
    await eventually(() => machine.curl('other', 'http://cart:8080').status === 0, 'others are let in again');
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
    machine.must('down', ['--force']);
    machine.must('up', ['--owner', String(NOBODY)]);
    const script = 'id -u; cat /etc/hosts; nft list ruleset 2>&1 | head -1';
    const answer = machine.ambit('run', ['--name', 'mine', '--', 'sh', '-c', script], { uid: NOBODY });
    assert.equal(answer.status, 0, answer.stderr);
    assert.match(answer.stdout, /^65534\n[^]*mine\.default\.svc\.cluster\.local/);
    assert.match(answer.stdout, /not permitted|Permission denied/i, 'it has no say over its rules');
    const stranger = machine.ambit('run', ['--', 'true'], { uid: 4711 });
    assert.equal(stranger.status, 3);
    assert.match(stranger.stderr, /belongs to another user {2}\[local\.rights\]/);
  });

  test('root by sudo runs the command as the user who called', () => {
    const env = { SUDO_UID: String(NOBODY), SUDO_GID: String(NOBODY), SUDO_USER: 'nobody' };
    const answer = machine.ambit('run', ['--', 'sh', '-c', 'id -u; echo $USER'], { env });
    assert.equal(answer.stdout, '65534\nnobody\n', answer.stderr);
  });

  test('down asks while workloads run, ends them when told, and leaves the network as it was', () => {
    machine.must('run', ['-d', '--name', 'left', '--', 'sleep', '600']);
    const refused = machine.ambit('down');
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /workloads run here: default\/left {2}\[local\.running\]/);
    machine.must('down', ['--force']);
    assert.equal(hostState(), machine.before);
    assert.equal(existsSync(join(machine.directory, 'run')), false);
    assert.equal(machine.must('down'), 'was not up\n');
    const notUp = machine.ambit('ps');
    assert.equal(notUp.status, 3);
    assert.match(notUp.stderr, /next {4}sudo ambit up/);
  });
});
