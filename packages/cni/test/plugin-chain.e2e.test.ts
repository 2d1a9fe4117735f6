// Our plugin behind those of the CNI project (Debian's containernetworking-plugins), in network namespaces of a sandbox.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { requireSandbox } from '@ambit/testbed';
import { install } from '../src/install/install.ts';
import { type InstallOptions, pluginSocketPath } from '../src/install/install-options.ts';
import { CniFailure, CniRuntime } from './cni-runtime.ts';
import { PluginAgent } from './plugin-agent.ts';

/** Debian's place and everybody else's. */
const FOREIGN = ['/usr/lib/cni', '/opt/cni/bin'].find(directory => existsSync(join(directory, 'bridge')));

const PORTMAP = { type: 'portmap', capabilities: { portMappings: true } };

function ready(t: TestContext): boolean {
  if (FOREIGN === undefined) t.skip('the plugins of the CNI project are not installed: containernetworking-plugins');
  return FOREIGN !== undefined && requireSandbox(t);
}

function chain(t: TestContext, cniVersion: string, first: object) {
  const dir = mkdtempSync(join(tmpdir(), 'ambit-chain-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const [confDir, binDir] = [join(dir, 'net.d'), join(dir, 'bin')];
  for (const each of [confDir, binDir]) mkdirSync(each);
  const ipam = {
    type: 'host-local',
    dataDir: join(dir, 'ipam'),
    subnet: '10.77.0.0/24',
    routes: [{ dst: '0.0.0.0/0' }],
  };
  const list = { cniVersion, name: 'net', plugins: [{ ...first, ipam }, PORTMAP] };
  writeFileSync(join(confDir, '10-net.conflist'), JSON.stringify(list));
  const options: InstallOptions = {
    mode: 'chained',
    confDir,
    binDirs: [binDir],
    hostBinDir: binDir,
    architecture: process.arch === 'arm64' ? 'arm64' : 'x64',
    entry: { runDir: join(dir, 'run'), agentNamespace: 'istio-system', excludedNamespaces: [] },
  };
  assert.equal(install(options).kind, 'installed');
  const runtime = new CniRuntime(join(confDir, '10-net.conflist'), [binDir, FOREIGN ?? '']);
  return { runtime, socketPath: pluginSocketPath(options.entry.runDir) };
}

function pod(t: TestContext, namespace: string, name: string) {
  execFileSync('ip', ['netns', 'add', name]);
  t.after(() => execFileSync('ip', ['netns', 'del', name]));
  const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name}`;
  return { containerId: `c-${name}`, netnsPath: `/run/netns/${name}`, args };
}

function addressesIn(name: string): string {
  const args = ['-n', name, '-4', '-brief', 'addr', 'show', 'dev', 'eth0'];
  return execFileSync('ip', args, { stdio: 'pipe' }).toString();
}

const BRIDGE = { type: 'bridge', bridge: 'ambitbr0', isGateway: true };

for (const [version, first] of [
  ['0.3.1', BRIDGE],
  ['0.4.0', BRIDGE],
  ['1.0.0', BRIDGE],
  ['1.0.0', { type: 'ptp' }],
] as const) {
  test(`enrols behind ${first.type} and portmap at ${version}, with the address that they gave`, async t => {
    if (!ready(t)) return;
    const { runtime, socketPath } = chain(t, version, first);
    await using agent = await PluginAgent.listen(socketPath);
    const cart = pod(t, 'shop', 'cart-1');
    const result = await runtime.add(cart);
    const [enrolled] = agent.enrolled;
    assert.equal(enrolled?.netnsPath, cart.netnsPath);
    assert.equal(enrolled.ips.length, 1);
    assert.match(addressesIn('cart-1'), new RegExp(`${enrolled.ips[0]}/`));
    // The interfaces of the plugins before us are still in it.
    assert.ok((result['interfaces'] as unknown[]).length >= 2);
    assert.equal(result['cniVersion'], version);
    if (version !== '0.3.1') await runtime.check(cart, result);
    await runtime.del(cart, result);
    assert.throws(() => addressesIn('cart-1'));
  });
}

test('a pod that cannot be enrolled gets no network that stays', async t => {
  if (!ready(t)) return;
  const { runtime, socketPath } = chain(t, '1.0.0', BRIDGE);
  await using agent = await PluginAgent.listen(socketPath);
  agent.refusal = new Error('ztunnel is away');
  const cart = pod(t, 'shop', 'cart-2');
  await assert.rejects(
    runtime.add(cart),
    (error: unknown) => error instanceof CniFailure && error.plugin === 'ambit-cni',
  );
  // What a runtime does next.
  await runtime.del(cart, {});
  assert.throws(() => addressesIn('cart-2'));
  agent.refusal = undefined;
  const result = await runtime.add(cart);
  assert.match(addressesIn('cart-2'), /10\.77\.0\./);
  await runtime.del(cart, result);
});

test('pods of the mesh and outside it start eight at a time', async t => {
  if (!ready(t)) return;
  const { runtime, socketPath } = chain(t, '1.0.0', BRIDGE);
  await using agent = await PluginAgent.listen(socketPath);
  const pods = Array.from({ length: 8 }, (_, i) => pod(t, i % 2 === 0 ? 'shop' : 'plain', `many-${i}`));
  const results = await Promise.all(pods.map(async each => [each, await runtime.add(each)] as const));
  assert.deepEqual(
    agent.enrolled.map(each => each.pod).sort(),
    ['many-0', 'many-2', 'many-4', 'many-6'].map(n => `shop/${n}`),
  );
  assert.equal(new Set(agent.enrolled.flatMap(({ ips }) => ips)).size, 4);
  for (const [each, result] of results) await runtime.del(each, result);
});
