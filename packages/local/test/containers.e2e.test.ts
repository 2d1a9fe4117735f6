// Containers of a real engine (Podman from Debian, an image made of busybox) in the mesh of one machine. Skipped where
// either is missing: recorded answers would prove nothing.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { SANDBOX_DIR, sandboxSkip } from '@ambit/testbed';
import { eventually, MAIN, untilUp } from './machine.ts';

const BUSYBOX = '/bin/busybox';
const APPLETS = ['sh', 'sleep', 'httpd'];
/** In the sandbox's private /run: where Podman's service is on a machine. */
const SOCKET = '/run/podman/podman.sock';

let directory = '';

function run(program: string, args: readonly string[]): string {
  const { stdout, stderr, status, error } = spawnSync(program, args, { encoding: 'utf8', timeout: 60_000, input: '' });
  assert.equal(status, 0, `${program} ${args.join(' ')}\n${stdout}${stderr}${error?.message ?? ''}`);
  return stdout;
}

const storage = () => [
  '--root',
  join(directory, 'root'),
  '--runroot',
  join(directory, 'runroot'),
  '--storage-driver',
  'vfs',
];
const podman = (...args: readonly string[]) => run('podman', [...storage(), '--cgroup-manager', 'cgroupfs', ...args]);
const ambit = (command: string, ...args: readonly string[]) =>
  run(process.execPath, [MAIN, command, '--dir', join(directory, 'mesh'), ...args]);

const links = () => (JSON.parse(run('ip', ['-j', 'link'])) as { ifname: string }[]).map(({ ifname }) => ifname);
const tables = () =>
  run('nft', ['list', 'tables'])
    .split('\n')
    .filter(line => line !== '');

function startContainer(name: string, options: readonly string[], command: readonly string[]): void {
  podman('run', '-d', '--cgroups=disabled', '--name', name, ...options, 'bb', ...command);
}

interface Listed {
  readonly pod: { readonly namespace: string; readonly name: string; readonly ips: readonly string[] };
  readonly status?: string;
}

function containers(): readonly Listed[] {
  return (JSON.parse(ambit('ps', '-o', 'json')) as { containers: readonly Listed[] }).containers;
}

function missing(): string | false {
  const reason = sandboxSkip();
  if (reason !== false) return reason;
  if (spawnSync('podman', ['--version']).status !== 0) return 'podman is missing: apt install podman';
  return existsSync(BUSYBOX) ? false : 'busybox is missing: apt install busybox-static';
}

describe('containers in the mesh of one machine', { skip: missing(), concurrency: false }, () => {
  let service: ChildProcess | undefined;
  let linksBefore: ReadonlySet<string> = new Set();
  let tablesBefore: ReadonlySet<string> = new Set();

  before(async () => {
    directory = mkdtempSync(join(SANDBOX_DIR, 'containers-'));
    [linksBefore, tablesBefore] = [new Set(links()), new Set(tables())];
    // The sandbox's own /sys hides the machine's control groups, which runtimes look for even when they use none.
    spawnSync('mount', ['-t', 'cgroup2', 'none', '/sys/fs/cgroup']);
    const image = join(directory, 'image');
    mkdirSync(join(image, 'bin'), { recursive: true });
    cpSync(BUSYBOX, join(image, 'bin/busybox'));
    for (const applet of APPLETS) symlinkSync('busybox', join(image, 'bin', applet));
    run('tar', ['-C', image, '-cf', join(directory, 'image.tar'), '.']);
    podman('import', join(directory, 'image.tar'), 'bb');
    mkdirSync('/run/podman', { recursive: true });
    service = spawn(
      'podman',
      [...storage(), '--cgroup-manager', 'cgroupfs', 'system', 'service', '--time', '0', `unix://${SOCKET}`],
      {
        stdio: 'ignore',
      },
    );
    await eventually(() => existsSync(SOCKET), 'the engine serves');
    ambit('up');
  });

  after(() => {
    ambit('down', '--force');
    podman('rm', '-f', '-a', '-t', '0');
    service?.kill('SIGKILL');
    // The engine leaves its bridge and its rules; the sandbox is others' too.
    // Some links go by themselves, meanwhile.
    for (const name of links()) if (!linksBefore.has(name)) spawnSync('ip', ['link', 'del', name]);
    for (const table of tables()) if (!tablesBefore.has(table)) run('nft', ['delete', ...table.split(' ')]);
    spawnSync('umount', ['/sys/fs/cgroup']);
    rmSync(directory, { recursive: true, force: true });
  });

  const labels = ['--label', 'ambit.mesh/dataplane=ambient', '--label', 'ambit.mesh/namespace=shop'];

  test('a labelled container joins while the mesh runs, under the names its labels give', async () => {
    const httpd = 'echo "from a container" > /index.html; httpd -f -p 8080 -h /';
    // The machine's own curl: a static program cannot look names up.
    const programs = ['/usr', '/lib', '/lib64'].flatMap(path => ['-v', `${path}:${path}:ro`]);
    startContainer('cart', [...labels, ...programs, '--label', 'ambit.mesh/service-account=cart'], ['sh', '-c', httpd]);
    await eventually(() => containers().some(({ status }) => status === 'enabled'), 'it is enrolled');
    const [cart] = containers();
    assert.deepEqual([cart?.pod.namespace, cart?.pod.name], ['shop', 'cart']);
    assert.match(ambit('ps'), /shop +cart +cart +10\.\S+ +– +protected/);
  });

  test('a workload calls the container by name, and a container the workload, with proven identities', async () => {
    const url = 'http://cart.shop:8080';
    const curl = () =>
      ambit('run', '--name', 'web', '--service-account', 'web', '--', 'curl', '-sS', '-m', '10', '--retry', '3', url);
    assert.equal(curl(), 'from a container\n');
    const isIt = (line: string) =>
      line.includes('src.identity="spiffe://cluster.local/ns/default/sa/web"') &&
      line.includes('dst.identity="spiffe://cluster.local/ns/shop/sa/cart"');
    const log = join(directory, 'mesh/state/log/ztunnel.log');
    await eventually(() => run('cat', [log]).split('\n').some(isIt), 'the proxy says who called whom');
    const serve = `require('http').createServer((q, r) => r.end('from a workload')).listen(9090, () => console.log('up'))`;
    ambit('run', '-d', '--name', 'api', '--', process.execPath, '-e', serve);
    untilUp('api', () => ambit('logs', 'api'));
    const answer = podman(
      'exec',
      'cart',
      '/usr/bin/curl',
      '-sS',
      '-m',
      '10',
      'http://api.default.svc.cluster.local:9090',
    );
    assert.equal(answer, 'from a workload');
    const isBack = (line: string) => line.includes('src.identity="spiffe://cluster.local/ns/shop/sa/cart"');
    await eventually(() => run('cat', [log]).split('\n').some(isBack), 'the container is known by its identity');
  });

  test('a container without the label, or on the host’s network, stays outside', async () => {
    startContainer('plain', [], ['sleep', '1000']);
    startContainer('hostly', [...labels, '--network', 'host'], ['sleep', '1000']);
    // Told after the two: when it is in, they have been looked at.
    startContainer('marker', labels, ['sleep', '1000']);
    await eventually(() => containers().some(({ pod }) => pod.name === 'marker'), 'the later one is in');
    assert.deepEqual(
      containers()
        .map(({ pod }) => pod.name)
        .toSorted(),
      ['cart', 'marker'],
    );
    assert.match(
      run('cat', [join(directory, 'mesh/state/log/agent.log')]),
      /container hostly cannot join: it uses the host's own network/,
    );
  });

  test('a container that ends leaves the mesh, and one started again is enrolled anew', async () => {
    podman('rm', '-f', '-t', '0', 'marker');
    await eventually(() => containers().length === 1, 'it is gone');
    podman('restart', '-t', '0', 'cart');
    await eventually(() => containers()[0]?.status === 'enabled', 'it is back');
    const url = 'http://cart.shop:8080';
    const curl = () =>
      spawnSync(
        process.execPath,
        [MAIN, 'run', '--dir', join(directory, 'mesh'), '--', 'curl', '-sS', '-m', '5', url],
        { encoding: 'utf8' },
      );
    await eventually(() => curl().stdout === 'from a container\n', 'it answers at its new address');
  });
});
