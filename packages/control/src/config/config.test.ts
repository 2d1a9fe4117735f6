import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ControlError } from '../errors.ts';
import { type Environment, type Flags, readConfig } from './config.ts';
import { flagOf } from './options.ts';
import { duration, listen } from './values.ts';

/** A configuration with the text as its file. */
function withFile(text: string, flags: Flags = {}, env: Environment = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-config-'));
  try {
    const file = join(directory, 'control.yaml');
    writeFileSync(file, text);
    return readConfig(flags, env, file);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const refuses = (run: () => unknown, code: string, message: RegExp, next?: RegExp): void => {
  assert.throws(run, error => {
    assert.ok(error instanceof ControlError);
    assert.equal(error.code, code);
    assert.match(error.message, message);
    if (next !== undefined) assert.match(error.next ?? '', next);
    return true;
  });
};

test('defaults are those of a control plane on one machine', () => {
  const config = readConfig({}, {}, undefined);
  assert.equal(config.settings.trustDomain, 'cluster.local');
  assert.equal(config.settings.rootNamespace, 'istio-system');
  assert.deepEqual(config.grpcAddress, { host: '127.0.0.1', port: 15010 });
  assert.deepEqual(config.secureGrpcAddress, { host: '::', port: 15012 });
  assert.deepEqual(config.adminAddress, { host: '127.0.0.1', port: 15014 });
  assert.equal(config.settings.network, undefined);
  assert.equal(config.origins['trustDomain'], 'default');
});

test('a flag wins over the environment, the environment over the file, the file over the default', () => {
  const file = 'trustDomain: file.example\nclusterId: from-file\nrevision: from-file\n';
  const env = { TRUST_DOMAIN: 'env.example', CLUSTER_ID: 'from-env' };
  const config = withFile(file, { trustDomain: 'flag.example' }, env);
  assert.equal(config.trustDomain, 'flag.example');
  assert.equal(config.clusterId, 'from-env');
  assert.equal(config.revision, 'from-file');
  assert.equal(config.domain, 'cluster.local');
  assert.deepEqual(
    ['trustDomain', 'clusterId', 'revision', 'domain'].map(name => config.origins[name]),
    ['flag', 'environment', 'file', 'default'],
  );
});

test('lists are YAML lists in the file and commas elsewhere', () => {
  assert.deepEqual(withFile('files: [a.yaml, b]').files, ['a.yaml', 'b']);
  assert.deepEqual(readConfig({ files: 'a.yaml, b,' }, {}, undefined).files, ['a.yaml', 'b']);
});

test('an empty network is a network, an empty trust domain in the environment is the default', () => {
  assert.equal(readConfig({}, { NETWORK: '' }, undefined).settings.network, '');
  assert.equal(readConfig({}, { TRUST_DOMAIN: '' }, undefined).trustDomain, 'cluster.local');
  refuses(
    () => readConfig({ trustDomain: '' }, {}, undefined),
    'config.invalid',
    /--trust-domain=: expected a DNS name/,
  );
});

test('mistakes name the option as it was spelled', () => {
  refuses(() => readConfig({ maxTtl: 'soon' }, {}, undefined), 'config.invalid', /--max-ttl=soon: expected a duration/);
  refuses(
    () => readConfig({}, { LOG_FORMAT: 'xml' }, undefined),
    'config.invalid',
    /LOG_FORMAT=xml: expected plain or/,
  );
  refuses(() => withFile('maxClients: 0'), 'config.invalid', /control\.yaml: maxClients=0: expected a whole number/);
  refuses(() => withFile('trustDomian: x'), 'config.unknown_option', /trustDomian/, /trustDomain/);
  refuses(
    () => readConfig({}, { AMBIT_STAET: '/x' }, undefined),
    'config.unknown_option',
    /AMBIT_STAET/,
    /AMBIT_STATE/,
  );
  refuses(() => withFile('a: [b'), 'config.invalid', /cannot read the configuration file .*control\.yaml/);
  refuses(() => withFile('- a'), 'config.invalid', /expected options/);
  refuses(() => withFile('files: {a: 1}'), 'config.invalid', /files: expected a value/);
  refuses(() => readConfig({}, {}, '/nowhere/control.yaml'), 'config.invalid', /nowhere/);
});

test('the plaintext port never leaves loopback', () => {
  for (const address of [':15010', '127.evil.example:15010', '0.0.0.0:15010', '10.0.0.1:15010', '[::]:15010']) {
    refuses(() => readConfig({ grpcAddress: address }, {}, undefined), 'config.invalid', /not on loopback/);
  }
  for (const address of ['127.0.0.9:1', '[::1]:1', 'localhost:1', 'off'])
    readConfig({ grpcAddress: address }, {}, undefined);
});

test('what contradicts itself is refused', () => {
  refuses(() => readConfig({ maxTtl: '1h' }, {}, undefined), 'config.invalid', /default certificate life/);
  refuses(() => readConfig({ debounce: '1s' }, {}, undefined), 'config.invalid', /--debounce exceeds/);
});

test('durations and addresses', () => {
  const times: readonly (readonly [string, number | undefined])[] = [
    ['5', 5000],
    ['1h30m', 5_400_000],
    ['100ms', 100],
    ['1.5s', 1500],
    ['', undefined],
    ['1h 30m', 5_400_000],
    ['5 x', undefined],
    ['s', undefined],
    ['-1s', undefined],
    ['9999999d', undefined],
  ];
  for (const [text, ms] of times) {
    const parsed = duration(text);
    assert.equal(parsed.ok ? parsed.value : undefined, ms, text);
  }
  const addresses: readonly (readonly [string, unknown])[] = [
    [':15012', { host: '::', port: 15012 }],
    ['[fd00::1]:1', { host: 'fd00::1', port: 1 }],
    ['0.0.0.0:65535', { host: '0.0.0.0', port: 65535 }],
    ['off', 'off'],
    ['1.2.3.4', undefined],
    ['1.2.3.4:65536', undefined],
    ['::1:80', undefined],
  ];
  for (const [text, value] of addresses) {
    const parsed = listen(text);
    assert.deepEqual(parsed.ok ? parsed.value : undefined, value, text);
  }
  assert.equal(flagOf('secureGrpcAddress'), '--secure-grpc-address');
});

test('a pod without files reads its own cluster, everybody else one only when asked', () => {
  const inPod = { KUBERNETES_SERVICE_HOST: '10.0.0.1' };
  const cases: readonly (readonly [Flags, Environment, string])[] = [
    [{}, {}, 'none'],
    [{}, inPod, 'in-cluster'],
    [{ files: 'shop' }, inPod, 'none'],
    [{ files: 'shop', kubernetes: 'in-cluster' }, inPod, 'in-cluster'],
    [{ kubernetes: 'kubeconfig' }, {}, 'kubeconfig'],
    [{ kubernetes: 'off' }, inPod, 'none'],
  ];
  for (const [flags, env, cluster] of cases) assert.equal(readConfig(flags, env, undefined).cluster, cluster);
});
