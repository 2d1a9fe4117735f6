import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CniError } from '../errors.ts';
import { installOptionsFrom } from './install-environment.ts';

const ENTRY = { runDir: '/var/run/istio-cni', agentNamespace: 'istio-system', excludedNamespaces: [] };
const HERE = { AMBIT_CNI_FALLBACK: 'false' };

test("reads what Istio's chart sets, in its container", () => {
  const env = {
    ...HERE,
    CNI_CONF_NAME: '',
    ISTIO_OWNED_CNI_CONFIG: 'true',
    ISTIO_OWNED_CNI_CONF_FILENAME: '01-mesh.conflist',
    KUBERNETES_SERVICE_HOST: '10.96.0.1',
    KUBERNETES_SERVICE_PORT: '6443',
    KUBECONFIG_MODE: '0640',
    CNI_CONF_GROUP_READ: 'true',
  };
  const options = installOptionsFrom(env, { entry: ENTRY, hostRoot: '/host' });
  assert.deepEqual(
    [options.mode, options.ownedName, options.confName, options.canGroupRead],
    ['owned', '01-mesh.conflist', undefined, true],
  );
  assert.deepEqual(
    [options.confDir, options.binDirs, options.hostBinDir],
    ['/host/etc/cni/net.d', ['/host/opt/cni/bin'], '/opt/cni/bin'],
  );
  assert.deepEqual(options.kubeconfig, {
    host: '10.96.0.1',
    port: '6443',
    protocol: 'https',
    skipsTlsVerification: false,
    mode: 0o640,
  });
});

test('on the host itself, outside a cluster, there is no prefix and no kubeconfig', () => {
  const options = installOptionsFrom(HERE, { entry: ENTRY, hostRoot: '/' });
  assert.deepEqual([options.mode, options.confDir, options.hostBinDir], ['chained', '/etc/cni/net.d', '/opt/cni/bin']);
  assert.equal(options.kubeconfig, undefined);
});

test('an unchained plugin is alone even where an own configuration is asked for', () => {
  const env = { ...HERE, CHAINED_CNI_PLUGIN: 'false', ISTIO_OWNED_CNI_CONFIG: 'true' };
  assert.equal(installOptionsFrom(env, { entry: ENTRY, hostRoot: '' }).mode, 'alone');
});

test('names the variable that cannot be read', () => {
  for (const [name, value] of [
    ['CHAINED_CNI_PLUGIN', 'yes'],
    ['KUBECONFIG_MODE', '0699'],
  ] as const) {
    const env = { ...HERE, KUBERNETES_SERVICE_HOST: 'x', [name]: value };
    assert.throws(
      () => installOptionsFrom(env, { entry: ENTRY, hostRoot: '' }),
      (error: unknown) => error instanceof CniError && error.where === name,
    );
  }
});
