import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseConfig } from '../config.ts';
import { xdsNode } from './node.ts';
import { grpcTarget } from './target.ts';

test('token and roots are read anew each time, the token trimmed', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-target-'));
  try {
    const [token, roots] = [join(directory, 'token'), join(directory, 'roots')];
    await writeFile(token, 'one\n');
    const env = { AUTH_TOKEN: token, XDS_ROOT_CA: roots, XDS_HEADER_X: 'y', CLUSTER_ID: 'c1' };
    const config = parseConfig(env, { cores: 1 });
    assert.ok(config.xds);
    const target = grpcTarget(config.xds, config);
    assert.deepEqual(await target.headers(), { x: 'y', authorization: 'Bearer one', clusterid: 'c1' });
    await writeFile(token, ' two ');
    assert.equal((await target.headers())['authorization'], 'Bearer two');
    await writeFile(token, '\n');
    await assert.rejects(target.headers(), /is empty/);
    await assert.rejects(target.roots(), { code: 'ENOENT' });
    await writeFile(roots, 'PEM');
    assert.equal(await target.roots(), 'PEM');
  } finally {
    await rm(directory, { recursive: true });
  }
});

test('without a token neither token nor cluster id are sent', async () => {
  const config = parseConfig({}, { cores: 1, exists: () => false });
  assert.ok(config.xds);
  assert.deepEqual(await grpcTarget(config.xds, config).headers(), {});
});

test('the node says what istiod wants to hear', () => {
  const env = {
    POD_NAME: 'ztunnel-x',
    POD_NAMESPACE: 'istio-system',
    NODE_NAME: 'n1',
    INSTANCE_IP: '10.0.0.9',
    ISTIO_META_CLUSTER_ID: 'c1',
    ISTIO_METAJSON_LABELS: '{"a": 1}',
  };
  const node = xdsNode(parseConfig(env, { cores: 1 }));
  assert.equal(node.id, 'ztunnel~10.0.0.9~ztunnel-x.istio-system~istio-system.svc.cluster.local');
  assert.deepEqual(node.metadata, {
    NAME: 'ztunnel-x',
    NAMESPACE: 'istio-system',
    INSTANCE_IPS: '10.0.0.9',
    NODE_NAME: 'n1',
    CLUSTER_ID: 'c1',
    LABELS: { a: 1 },
  });
});
