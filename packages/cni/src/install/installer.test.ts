// INS-01 to INS-10 of upstream's installer, by their expectations, and what we promise beyond them.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { createLog, SILENT_LOG } from '@ambit/log';
import { readJsonObject, readPluginConfig } from '../plugin/plugin-config.ts';
import { install, uninstall } from './install.ts';
import type { InstallMode, InstallOptions } from './install-options.ts';
import { Installer, type InstallState } from './installer.ts';
import { aloneEntry, pluginEntry } from './plugin-entry.ts';

const BRIDGE = { type: 'bridge', bridge: 'cni0', ipam: { type: 'host-local' } };
const PORTMAP = { type: 'portmap', capabilities: { portMappings: true } };
const LIST = { name: 'net', cniVersion: '1.0.0', plugins: [BRIDGE, PORTMAP], theirs: { kept: true } };
const ENTRY = { runDir: '', agentNamespace: 'istio-system', excludedNamespaces: ['kube-system'] };

/** Reads a list again and again: which plugins it has seen, how often, and every time that something was amiss. */
const READER = `
  const { readFileSync } = require('node:fs');
  const { parentPort, workerData: { file, stop } } = require('node:worker_threads');
  const wrong = [], seen = {};
  parentPort.postMessage('reading');
  while (Atomics.load(stop, 0) === 0) {
    try {
      const types = JSON.parse(readFileSync(file, 'utf8')).plugins.map(({ type }) => type).join();
      seen[types] = (seen[types] ?? 0) + 1;
      if (!types.startsWith('bridge,portmap')) wrong.push(types);
    } catch (error) {
      wrong.push(error.message);
    }
  }
  parentPort.postMessage({ wrong, seen });
`;

class Host {
  readonly dir = mkdtempSync(join(tmpdir(), 'ambit-install-'));
  readonly confDir = join(this.dir, 'net.d');
  readonly binDir = join(this.dir, 'bin');
  readonly runDir = join(this.dir, 'run');

  constructor(t: TestContext) {
    for (const each of [this.confDir, this.binDir]) mkdirSync(each);
    t.after(() => rmSync(this.dir, { recursive: true }));
  }

  options(mode: InstallMode = 'chained', more: Partial<InstallOptions> = {}): InstallOptions {
    const { confDir, binDir } = this;
    const entry = { ...ENTRY, runDir: this.runDir };
    return { mode, confDir, binDirs: [binDir], hostBinDir: '/opt/cni/bin', architecture: 'x64', entry, ...more };
  }

  put(name: string, content: object | string): void {
    // In one step, as good neighbours write.
    const text = typeof content === 'string' ? content : JSON.stringify(content);
    writeFileSync(join(this.dir, name), text);
    renameSync(join(this.dir, name), join(this.confDir, name));
  }

  read(name: string): string {
    return readFileSync(join(this.confDir, name), 'utf8');
  }

  types(name: string): unknown[] {
    const { plugins } = readJsonObject(this.read(name));
    return (plugins as { type: unknown }[]).map(({ type }) => type);
  }

  files(): readonly string[] {
    return readdirSync(this.confDir);
  }
}

/** Lets a test wait for what the installer comes to. */
class Watched {
  readonly installer: Installer;
  #notice: (() => void) | undefined;

  constructor(t: TestContext, options: InstallOptions, log = SILENT_LOG) {
    const onState = () => this.#notice?.();
    this.installer = new Installer({ log, onState }, { ...options, calmMs: 0, watch: { missingMs: 20 } });
    t.after(() => this.installer.stop({ uninstalls: false }));
    this.installer.start();
  }

  async until(condition: (state: InstallState) => boolean): Promise<void> {
    while (!condition(this.installer.state)) {
      await new Promise<void>(resolve => {
        this.#notice = resolve;
      });
    }
  }
}

test('INS-01 appends the plugin to the first valid list, keeping everything else', t => {
  const host = new Host(t);
  host.put('10-net.conflist', LIST);
  host.put('20-other.conflist', LIST);
  chmodSync(join(host.confDir, '10-net.conflist'), 0o640);
  assert.equal(install(host.options()).kind, 'installed');
  const list = readJsonObject(host.read('10-net.conflist'));
  assert.deepEqual(list, { ...LIST, plugins: [BRIDGE, PORTMAP, pluginEntry({ ...ENTRY, runDir: host.runDir })] });
  assert.equal(statSync(join(host.confDir, '10-net.conflist')).mode & 0o777, 0o640);
  assert.match(host.read('10-net.conflist'), /^\{\n {2}"name"[^]*\}\n$/);
  assert.deepEqual(readJsonObject(host.read('20-other.conflist')), LIST);
  assert.equal(statSync(join(host.binDir, 'ambit-cni')).mode & 0o777, 0o755);
});

test('INS-02 makes a list of a single plugin, under its name and version, and leaves a list when it goes', t => {
  const host = new Host(t);
  host.put('10-net.conf', { cniVersion: '0.4.0', name: 'net', ...BRIDGE });
  install(host.options());
  assert.deepEqual(host.files(), ['10-net.conflist']);
  const { name, cniVersion, plugins } = readJsonObject(host.read('10-net.conflist'));
  assert.deepEqual([name, cniVersion], ['net', '0.4.0']);
  assert.deepEqual((plugins as unknown[])[0], { name: 'net', ...BRIDGE });
  uninstall(host.options());
  assert.deepEqual([host.files(), host.types('10-net.conflist')], [['10-net.conflist'], ['bridge']]);
});

test('INS-03 and INS-04 skip what a container runtime would skip', t => {
  const host = new Host(t);
  host.put('00-text.conf', 'no JSON');
  host.put('01-typeless.conf', { name: 'x' });
  host.put('02-nameless.conflist', { plugins: [BRIDGE] });
  host.put('03-empty.conflist', { name: 'x', plugins: [] });
  host.put('04-broken.conflist', { name: 'x', plugins: [{}] });
  host.put('05-other.json', LIST);
  host.put('50-net.conflist', LIST);
  install(host.options());
  assert.deepEqual(host.types('50-net.conflist'), ['bridge', 'portmap', 'ambit-cni']);
});

test('INS-05 takes the twin of the configured name', t => {
  const host = new Host(t);
  host.put('10-first.conflist', LIST);
  host.put('20-net.conflist', LIST);
  host.put('30-net.conf', BRIDGE);
  install(host.options('chained', { confName: '20-net.conf' }));
  assert.deepEqual(host.types('20-net.conflist'), ['bridge', 'portmap', 'ambit-cni']);
  install(host.options('chained', { confName: '30-net.conflist' }));
  assert.deepEqual(host.types('30-net.conflist'), ['bridge', 'ambit-cni']);
  assert.deepEqual(host.types('10-first.conflist'), ['bridge', 'portmap']);
});

test('INS-06 waits for the configured file although there is another', async t => {
  const host = new Host(t);
  host.put('10-other.conflist', LIST);
  const watched = new Watched(t, host.options('chained', { confName: '20-net.conflist' }));
  await watched.until(({ kind }) => kind === 'waiting');
  host.put('20-net.conflist', LIST);
  await watched.until(({ kind }) => kind === 'installed');
  assert.deepEqual(host.types('20-net.conflist'), ['bridge', 'portmap', 'ambit-cni']);
  assert.deepEqual(host.types('10-other.conflist'), ['bridge', 'portmap']);
});

test('INS-07 waits for a first valid file, and for the directory itself', async t => {
  const host = new Host(t);
  rmSync(host.confDir, { recursive: true });
  const watched = new Watched(t, host.options());
  await watched.until(state => state.kind === 'waiting' && state.why.includes('no valid network configuration'));
  mkdirSync(host.confDir);
  host.put('10-net.conf', 'half a fi');
  host.put('10-net.conf', BRIDGE);
  await watched.until(({ kind }) => kind === 'installed');
  assert.deepEqual(host.files(), ['10-net.conflist']);
});

test('INS-08 stands alone under the default name and under a given one', t => {
  const host = new Host(t);
  install(host.options('alone'));
  install(host.options('alone', { confName: 'mine.conf', canGroupRead: true }));
  assert.deepEqual(host.files(), ['YYY-istio-cni.conf', 'mine.conf']);
  const entry = aloneEntry({ ...ENTRY, runDir: host.runDir });
  assert.deepEqual(readJsonObject(host.read('mine.conf')), entry);
  assert.deepEqual([entry['cniVersion'], entry['name'], entry['type']], ['0.3.1', 'istio-cni', 'ambit-cni']);
  const modes = host.files().map(name => statSync(join(host.confDir, name)).mode & 0o777);
  assert.deepEqual(modes, [0o600, 0o640]);
});

test('INS-09 comes back when it is taken out, when the file goes, and when the plugin goes', async t => {
  const host = new Host(t);
  host.put('10-net.conflist', LIST);
  const watched = new Watched(t, host.options());
  await watched.until(({ kind }) => kind === 'installed');
  const isThere = () => host.files().includes('10-net.conflist') && host.types('10-net.conflist').includes('ambit-cni');

  host.put('10-net.conflist', LIST);
  await watched.until(isThere);

  unlinkSync(join(host.confDir, '10-net.conflist'));
  await watched.until(({ kind }) => kind === 'waiting');
  host.put('10-net.conflist', LIST);
  await watched.until(isThere);

  unlinkSync(join(host.binDir, 'ambit-cni'));
  await watched.until(() => readdirSync(host.binDir).includes('ambit-cni'));

  // A file that sorts before ours is the runtime's now.
  host.put('00-new.conflist', LIST);
  await watched.until(() => host.types('00-new.conflist').includes('ambit-cni'));
});

test('INS-10 leaves the very bytes that were there, and no other file', async t => {
  const host = new Host(t);
  const original = `{"plugins":[${JSON.stringify(BRIDGE)}],\t"cniVersion":"1.0.0", "name":"net"}`;
  host.put('10-net.conflist', original);
  const watched = new Watched(t, host.options());
  await watched.until(({ kind }) => kind === 'installed');
  assert.notEqual(host.read('10-net.conflist'), original);
  await watched.installer.stop({ uninstalls: true });
  assert.equal(host.read('10-net.conflist'), original);
  assert.deepEqual([host.files(), readdirSync(host.binDir), readdirSync(host.runDir)], [['10-net.conflist'], [], []]);
});

test('an agent that is only replaced leaves everything, and its successor remembers the original', async t => {
  const host = new Host(t);
  const original = JSON.stringify(LIST);
  host.put('10-net.conflist', original);
  const first = new Watched(t, host.options());
  await first.until(({ kind }) => kind === 'installed');
  await first.installer.stop({ uninstalls: false });
  assert.deepEqual(host.types('10-net.conflist'), ['bridge', 'portmap', 'ambit-cni']);
  const entry = { ...ENTRY, runDir: host.runDir, excludedNamespaces: [] };
  const second = new Watched(t, host.options('chained', { entry }));
  await second.until(({ kind }) => kind === 'installed');
  assert.deepEqual(host.types('10-net.conflist'), ['bridge', 'portmap', 'ambit-cni']);
  await second.installer.stop({ uninstalls: true });
  assert.equal(host.read('10-net.conflist'), original);
});

test('what others changed meanwhile stays when we go', t => {
  const host = new Host(t);
  host.put('10-net.conflist', LIST);
  install(host.options());
  const list = readJsonObject(host.read('10-net.conflist'));
  host.put('10-net.conflist', { ...list, plugins: [...(list['plugins'] as object[]), { type: 'tuning' }] });
  assert.deepEqual(install(host.options()).written, []);
  uninstall(host.options());
  assert.deepEqual(host.types('10-net.conflist'), ['bridge', 'portmap', 'tuning']);
});

test('a second pass writes nothing', t => {
  const host = new Host(t);
  host.put('10-net.conflist', LIST);
  assert.equal(install(host.options()).written.length, 2);
  assert.deepEqual(install(host.options()).written, []);
});

test("an entry of an earlier version of ours is replaced; Istio's own stays, with a warning", t => {
  const host = new Host(t);
  const plugins = [BRIDGE, { type: 'ambit-cni', old: true }, { type: 'istio-cni' }];
  host.put('10-net.conflist', { ...LIST, plugins });
  const result = install(host.options());
  assert.deepEqual(host.types('10-net.conflist'), ['bridge', 'istio-cni', 'ambit-cni']);
  assert.match(result.kind === 'installed' ? result.warnings.join() : '', /has istio-cni too/);
});

test('owns a copy that follows the primary file, and warns when it sorts after it', t => {
  const host = new Host(t);
  host.put('10-net.conflist', LIST);
  install(host.options('owned'));
  assert.deepEqual(host.types('02-istio-cni.conflist'), ['bridge', 'portmap', 'ambit-cni']);
  assert.deepEqual(readJsonObject(host.read('10-net.conflist')), LIST);
  host.put('10-net.conflist', { ...LIST, plugins: [BRIDGE] });
  install(host.options('owned'));
  assert.deepEqual(host.types('02-istio-cni.conflist'), ['bridge', 'ambit-cni']);
  const late = install(host.options('owned', { ownedName: '99-late.conflist' }));
  assert.match(late.kind === 'installed' ? late.warnings.join() : '', /sorts after/);
  uninstall(host.options('owned', { ownedName: '99-late.conflist' }));
  assert.ok(!host.files().includes('99-late.conflist'));
});

test('whoever reads meanwhile finds the other plugins at every moment', async t => {
  const host = new Host(t);
  host.put('10-net.conflist', LIST);
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const reader = new Worker(READER, { eval: true, workerData: { file: join(host.confDir, '10-net.conflist'), stop } });
  await once(reader, 'message');
  for (let i = 0; i < 200; i++) {
    install(host.options());
    uninstall(host.options());
  }
  const answer = once(reader, 'message');
  Atomics.store(stop, 0, 1);
  const [{ wrong, seen }] = (await answer) as [{ wrong: unknown; seen: Record<string, number> }];
  assert.deepEqual(wrong, []);
  t.diagnostic(JSON.stringify(seen));
});

test('removes temporary files that an earlier process left', t => {
  const host = new Host(t);
  host.put('10-net.conflist', LIST);
  writeFileSync(join(host.confDir, '10-net.conflist.tmp.1234'), 'half');
  writeFileSync(join(host.binDir, 'ambit-cni.tmp.1234'), 'half');
  install(host.options());
  assert.deepEqual([host.files(), readdirSync(host.binDir)], [['10-net.conflist'], ['ambit-cni']]);
});

test('writes a kubeconfig, follows the token, and takes both away', async t => {
  const host = new Host(t);
  const serviceAccountDir = join(host.dir, 'account');
  mkdirSync(serviceAccountDir);
  writeFileSync(join(serviceAccountDir, 'token'), 'first\n');
  writeFileSync(join(serviceAccountDir, 'ca.crt'), 'CA');
  host.put('10-net.conflist', LIST);
  const kubeconfig = { host: 'fd00::1', port: '443', serviceAccountDir };
  const watched = new Watched(t, host.options('chained', { kubeconfig }));
  const path = join(host.runDir, 'istio-cni-kubeconfig');
  await watched.until(({ kind }) => kind === 'installed');
  const text = readFileSync(path, 'utf8');
  assert.match(text, /"server": "https:\/\/\[fd00::1\]:443"[^]*"certificate-authority-data": "Q0E="[^]*"first"/);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  writeFileSync(join(serviceAccountDir, 'token'), 'second');
  await watched.until(() => readFileSync(path, 'utf8').includes('"second"'));
  await watched.installer.stop({ uninstalls: true });
  assert.deepEqual(readdirSync(host.runDir), []);
});

test('puts runtime and program of the fallback beside the plugin, and takes them away', t => {
  const host = new Host(t);
  host.put('10-net.conflist', LIST);
  writeFileSync(join(host.dir, 'runtime'), 'a runtime');
  const fallback = {
    runtime: join(host.dir, 'runtime'),
    files: new Map([
      ['main.mjs', 'run'],
      ['more.mjs', 'more'],
    ]),
  };
  install(host.options('chained', { fallback }));
  assert.deepEqual(readdirSync(join(host.binDir, 'ambit-cni.d')).sort(), ['main.mjs', 'more.mjs', 'node']);
  assert.match(
    readFileSync(join(host.binDir, 'ambit-cni'), 'latin1'),
    /\/opt\/cni\/bin\/ambit-cni\.d\/node\0[^]*main\.mjs/,
  );
  const newer = { ...fallback, files: new Map([['main.mjs', 'run faster']]) };
  install(host.options('chained', { fallback: newer }));
  assert.deepEqual(readdirSync(join(host.binDir, 'ambit-cni.d')).sort(), ['main.mjs', 'node']);
  uninstall(host.options());
  assert.deepEqual(readdirSync(host.binDir), []);
});

test('says that it cannot install, and does when it can', async t => {
  const host = new Host(t);
  host.put('10-net.conflist', LIST);
  rmSync(host.binDir, { recursive: true });
  const watched = new Watched(t, host.options());
  await watched.until(state => state.kind === 'failed' && state.why.includes('ENOENT'));
  assert.deepEqual(host.types('10-net.conflist'), ['bridge', 'portmap']);
  mkdirSync(host.binDir);
  await watched.until(({ kind }) => kind === 'installed');
});

test('tells of somebody who keeps undoing it', async t => {
  const host = new Host(t);
  const lines: string[] = [];
  host.put('10-cilium.conflist', LIST);
  let notice: () => void = () => undefined;
  const log = createLog({ write: line => lines.push(line), format: 'plain', level: 'info' }, 'cni');
  const installer = new Installer({ log, onState: () => notice(), now: () => 0 }, { ...host.options(), delayMs: 0 });
  t.after(() => installer.stop({ uninstalls: false }));
  installer.start();
  for (let undone = 0; undone < 8; undone++) {
    while (!host.types('10-cilium.conflist').includes('ambit-cni')) {
      await new Promise<void>(resolve => {
        notice = resolve;
      });
    }
    host.put('10-cilium.conflist', LIST);
  }
  const told = lines.filter(line => line.includes('keeps undoing'));
  assert.equal(told.length, 1);
  assert.match(told[0] ?? '', /cni\.exclusive=false/);
});

test('the entry is what the plugin reads', t => {
  const host = new Host(t);
  const selectors = [{ podSelector: { matchLabels: { a: 'b' } } }];
  const entry = pluginEntry({ ...ENTRY, runDir: host.runDir, selectors });
  const config = readPluginConfig(JSON.stringify({ ...entry, name: 'net', cniVersion: '1.1.0' }));
  assert.deepEqual(
    [config.agentRunDir, config.agentNamespace, config.excludedNamespaces, config.isAmbientEnabled],
    [host.runDir, 'istio-system', ['kube-system'], true],
  );
  assert.deepEqual(config.selectors, [{ pod: [{ key: 'a', operator: 'In', values: ['b'] }], namespace: [] }]);
});
