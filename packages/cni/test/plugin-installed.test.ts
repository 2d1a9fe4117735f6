// The plugin as a host has it: installed into a chain, started as a runtime starts it, with and without an agent.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fallbackSource } from '../src/install/fallback-source.ts';
import { install } from '../src/install/install.ts';
import { type InstallOptions, pluginSocketPath } from '../src/install/install-options.ts';
import { CNI_VERSIONS } from '../src/plugin/cni-version.ts';
import { CniFailure, CniRuntime } from './cni-runtime.ts';
import { PluginAgent } from './plugin-agent.ts';

const isOurs = process.platform === 'linux' && (process.arch === 'x64' || process.arch === 'arm64');
const skip = isOurs ? false : 'there is no executable for this machine';

interface Host {
  readonly runtime: CniRuntime;
  readonly options: InstallOptions;
}

function host(t: TestContext, more: Partial<InstallOptions> = {}): Host {
  const dir = mkdtempSync(join(tmpdir(), 'ambit-host-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const [confDir, binDir, runDir] = [join(dir, 'net.d'), join(dir, 'bin'), join(dir, 'run')];
  for (const each of [confDir, binDir]) mkdirSync(each);
  const first = '#!/bin/sh\ncat > /dev/null\necho \'{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.7/24"}]}\'\n';
  writeFileSync(join(binDir, 'first'), first, { mode: 0o755 });
  const list = { cniVersion: '1.1.0', name: 'net', plugins: [{ type: 'first' }] };
  writeFileSync(join(confDir, '10-net.conflist'), JSON.stringify(list));
  const options: InstallOptions = {
    mode: 'chained',
    confDir,
    binDirs: [binDir],
    hostBinDir: binDir,
    architecture: process.arch === 'arm64' ? 'arm64' : 'x64',
    entry: { runDir, agentNamespace: 'istio-system', excludedNamespaces: ['kube-system'], retriesLookup: false },
    ...more,
  };
  assert.equal(install(options).kind, 'installed');
  return { options, runtime: new CniRuntime(join(confDir, '10-net.conflist'), [binDir]) };
}

function sandbox(namespace: string, name: string) {
  const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name}`;
  return { containerId: `c-${name}`, netnsPath: `/var/run/netns/${name}`, args };
}

/** A stand-in for a copy of the runtime, which is large. */
function smallFallback(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'ambit-runtime-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const runtime = join(dir, 'node');
  writeFileSync(runtime, `#!/bin/sh\nexec ${process.execPath} "$@"\n`, { mode: 0o755 });
  return { ...fallbackSource(), runtime };
}

test('every command reaches the agent and its answer comes back', { skip }, async t => {
  const { runtime, options } = host(t);
  await using agent = await PluginAgent.listen(pluginSocketPath(options.entry.runDir));
  const cart = sandbox('shop', 'cart-1');
  const result = await runtime.add(cart);
  assert.deepEqual(result, { cniVersion: '1.1.0', ips: [{ address: '10.1.0.7/24' }] });
  assert.deepEqual(agent.enrolled, [{ pod: 'shop/cart-1', ips: ['10.1.0.7'], netnsPath: '/var/run/netns/cart-1' }]);
  await runtime.check(cart, result);
  await assert.rejects(runtime.check(sandbox('shop', 'other'), result), /not enrolled/);
  await runtime.del(cart, result);
  assert.equal(await runtime.askLast('STATUS'), '');
  await runtime.askLast('GC', { 'cni.dev/valid-attachments': [{ containerID: 'c-cart-1', ifname: 'eth0' }] });
  assert.deepEqual(agent.collected, [['c-cart-1']]);
  assert.deepEqual(JSON.parse(await runtime.askLast('VERSION')), {
    cniVersion: '1.1.0',
    supportedVersions: [...CNI_VERSIONS],
  });
});

test('a member that cannot be enrolled fails the ADD, an outsider does not', { skip }, async t => {
  const { runtime, options } = host(t);
  await using agent = await PluginAgent.listen(pluginSocketPath(options.entry.runDir));
  agent.refusal = new Error('ztunnel is away');
  await assert.rejects(runtime.add(sandbox('shop', 'cart-1')), (error: unknown) => {
    assert.ok(error instanceof CniFailure);
    assert.deepEqual([error.plugin, error.json['code']], ['ambit-cni', 11]);
    return true;
  });
  await runtime.add(sandbox('plain', 'web-1'));
});

test("without an agent the fallback lets the agent's own and excluded pods start, and nobody else", {
  skip,
}, async t => {
  const { runtime } = host(t, { fallback: smallFallback(t) });
  const result = await runtime.add(sandbox('kube-system', 'dns-1'));
  assert.deepEqual(result, { cniVersion: '1.1.0', ips: [{ address: '10.1.0.7/24' }] });
  await runtime.add(sandbox('istio-system', 'ambit-agent-x'));
  await assert.rejects(runtime.add(sandbox('shop', 'cart-1')), /cannot read it|kubeconfig/);
  await runtime.del(sandbox('shop', 'cart-1'), result);
  assert.match(await runtime.askLast('VERSION'), /"supportedVersions"/);
});

test('the files of the fallback need nothing beside them', () => {
  const { files } = fallbackSource();
  const names = new Set(files.keys());
  for (const [name, content] of files) {
    const imports = [...content.matchAll(/^(?:import|export)[^;]*? from '([^']+)'/gm)].map(([, from]) => from ?? '');
    const strange = imports.filter(from => !from.startsWith('node:') && !names.has(from.replace('./', '')));
    assert.deepEqual(strange, [], name);
  }
});

test('without an agent and without a fallback nobody starts', { skip }, async t => {
  const { runtime, options } = host(t);
  await assert.rejects(runtime.add(sandbox('kube-system', 'dns-1')), /no node agent listens/);
  assert.ok(readFileSync(join(options.binDirs[0] ?? '', 'ambit-cni')).length < 8192);
});
