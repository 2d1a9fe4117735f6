import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CniError } from '../errors.ts';
import { DEFAULT_SELECTORS } from '../pod/label-selector.ts';
import { readConfig } from './config.ts';

const refuses = (text: RegExp) => (error: unknown) =>
  error instanceof CniError && error.code === 'cni.config' && text.test(error.message);

test('an agent without any setting is one for a machine without Kubernetes', async () => {
  const config = await readConfig({}, {});
  assert.deepEqual(
    [config.kubernetes, config.probes, config.install, config.failMode, config.failOpenAfter, config.dnsCapture],
    ['off', false, false, 'closed', 10_000, true],
  );
  assert.equal(config.selectors, DEFAULT_SELECTORS);
  assert.equal(config.rawSelectors, undefined);
});

test('in a pod it belongs to its cluster, and must know its node', async () => {
  const env = { KUBERNETES_SERVICE_HOST: '10.96.0.1' };
  await assert.rejects(readConfig({}, env), refuses(/which node/));
  const config = await readConfig({}, { ...env, NODE_NAME: 'n1' });
  assert.deepEqual([config.kubernetes, config.probes, config.install], ['in-cluster', true, true]);
  const off = await readConfig({ kubernetes: 'off' }, env);
  assert.deepEqual([off.kubernetes, off.probes, off.install], ['off', false, false]);
});

test('flags win over the environment, and an empty variable is none', async () => {
  const config = await readConfig(
    { failMode: 'open', healthPort: '0' },
    { AMBIT_FAIL_MODE: 'closed', MONITORING_PORT: '-1', AMBIENT_IPV6: '', EXCLUDE_NAMESPACES: 'a, ,b' },
  );
  assert.equal(config.failMode, 'open');
  assert.deepEqual([config.healthPort, config.monitoringPort], [0, 0]);
  assert.equal(config.ipv6, true);
  assert.deepEqual(config.excludeNamespaces, ['a', 'b']);
  assert.equal((await readConfig({}, { NATIVE_NFTABLES: 'true' })).backend, 'nftables');
  assert.equal((await readConfig({ backend: 'iptables' }, { NATIVE_NFTABLES: 'true' })).backend, 'iptables');
});

test('selectors are read from the YAML of Istio’s chart, and from JSON', async () => {
  const yaml = `
- podSelector: {matchLabels: {mesh: "yes"}}
- namespaceSelector:
    matchExpressions:
    - {key: team, operator: In, values: [shop]}
`;
  const raw = [
    { podSelector: { matchLabels: { mesh: 'yes' } } },
    { namespaceSelector: { matchExpressions: [{ key: 'team', operator: 'In', values: ['shop'] }] } },
  ];
  for (const text of [yaml, JSON.stringify(raw)]) {
    const { selectors, rawSelectors } = await readConfig({}, { AMBIENT_ENABLEMENT_SELECTOR: text });
    assert.deepEqual(rawSelectors, raw);
    assert.deepEqual(selectors[0], { pod: [{ key: 'mesh', operator: 'In', values: ['yes'] }], namespace: [] });
    assert.equal(selectors.length, 2);
  }
});

test('a mistake is named as it was spelled', async () => {
  await assert.rejects(readConfig({ failMode: 'ajar' }, {}), refuses(/--fail-mode=ajar: expected closed or open/));
  await assert.rejects(readConfig({}, { AMBIENT_IPV6: 'yes' }), refuses(/AMBIENT_IPV6=yes: expected true or false/));
  await assert.rejects(readConfig({}, { MONITORING_PORT: '70000' }), refuses(/MONITORING_PORT=70000/));
  await assert.rejects(readConfig({}, { HOST_PROBE_SNAT_IP: 'here' }), refuses(/expected an IP address/));
  await assert.rejects(readConfig({}, { AMBIENT_ENABLEMENT_SELECTOR: '{' }), refuses(/is no YAML/));
  await assert.rejects(
    readConfig({}, { AMBIENT_ENABLEMENT_SELECTOR: '[{"podSelektor": {}}]' }),
    refuses(/podSelektor/),
  );
});
