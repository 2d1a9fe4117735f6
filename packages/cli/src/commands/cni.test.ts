import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { PLAIN } from '../render/style.ts';
import { type CniInstallFlags, cniInstall, cniStatus, cniUninstall } from './cni.ts';

const isKnownMachine = process.arch === 'x64' || process.arch === 'arm64';
const skip = process.platform === 'linux' && isKnownMachine ? false : 'there is no executable for this machine';
const LIST = { cniVersion: '1.0.0', name: 'net', plugins: [{ type: 'bridge' }] };

function host(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'ambit-cli-cni-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const [confDir, binDir] = [join(dir, 'net.d'), join(dir, 'bin')];
  for (const each of [confDir, binDir]) mkdirSync(each);
  const flags: CniInstallFlags = {
    confDir,
    binDir,
    runDir: join(dir, 'run'),
    output: 'table',
    mode: 'chained',
    agentNamespace: 'istio-system',
    excludeNamespaces: 'kube-system, other',
    fallback: false,
  };
  const said = { answer: '', remark: '' };
  const output = {
    style: PLAIN,
    answer: (text: string) => void (said.answer += text),
    remark: (text: string) => void (said.remark += text),
  };
  return { flags, said, output, file: join(confDir, '10-net.conflist') };
}

test('installs, says how it stands, and leaves the file as it was', { skip }, async t => {
  const { flags, said, output, file } = host(t);
  writeFileSync(file, JSON.stringify(LIST));
  assert.equal(await cniInstall(flags, output), 0);
  assert.match(said.answer, /It is in 10-net\.conflist\.\n$/);
  assert.match(readFileSync(file, 'utf8'), /"exclude_namespaces": \[\n\s+"kube-system",\n\s+"other"\n/);

  assert.equal(await cniStatus(flags, output), 1);
  assert.match(said.answer, /Not well: ambit: no node agent listens on .*cni\.sock/);
  assert.match(said.answer, /plugins {5}bridge → ambit-cni/);

  assert.equal(await cniUninstall(flags, output), 0);
  assert.equal(readFileSync(file, 'utf8'), JSON.stringify(LIST));
  assert.deepEqual(readdirSync(flags.binDir), []);
});

test('says that there is nothing to join yet', { skip }, async t => {
  const { flags, said, output } = host(t);
  assert.equal(await cniInstall(flags, output), 1);
  assert.match(said.remark, /error: there is no valid network configuration in .*net\.d yet\n {2}next/);
  assert.equal(await cniStatus(flags, output), 1);
  assert.match(said.answer, /the plugin is not in the chain/);
});

test('says what this host does not allow', { skip }, async t => {
  const { flags, said, output, file } = host(t);
  writeFileSync(file, JSON.stringify(LIST));
  assert.equal(await cniInstall({ ...flags, binDir: join(flags.binDir, 'missing') }, output), 3);
  assert.match(said.remark, /ENOENT/);
});
