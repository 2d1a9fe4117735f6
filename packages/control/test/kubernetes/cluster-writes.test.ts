// What the control plane writes to the cluster: the CA's Secret and the ConfigMaps with its roots.
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { type ConfigMapWriter, createConfigMapWriter } from '../../src/kubernetes/config-map-writer.ts';
import { at, createKubeClient, type KubeClient, mapAt } from '@ambit/kube';
import { createSecretStore } from '../../src/kubernetes/secret-store.ts';
import { SILENT_LOG } from '@ambit/log';
import { readObject } from '../../src/objects/index.ts';
import type { ObjectChange } from '../../src/objects/types.ts';
import type { ApiServer } from '../../../kube/test/api-server.ts';
import { namespace } from '../../../kube/test/objects.ts';
import { startServer, temporaryDirectory } from '../../../kube/test/serving.ts';

const LIMIT = { timeout: 15_000 };
const bytes = (text: string): Uint8Array => Buffer.from(text);

async function cluster(t: TestContext): Promise<{ readonly server: ApiServer; readonly client: KubeClient }> {
  const server = await startServer(t);
  server.put(namespace('istio-system'));
  const client = createKubeClient({ kubeconfig: server.writeKubeconfig(temporaryDirectory(t)) });
  t.after(() => client.close());
  return { server, client };
}

describe('secret store', LIMIT, () => {
  const where = { namespace: 'istio-system', name: 'istio-ca-secret' };

  test('of two who create at once, one wins and the other is given what the first wrote', async t => {
    const { server, client } = await cluster(t);
    const [one, two] = [createSecretStore({ client, ...where }), createSecretStore({ client, ...where })];
    assert.equal(await one.get(), undefined);
    const results = await Promise.all([
      one.create({ 'ca-key.pem': bytes('1') }),
      two.create({ 'ca-key.pem': bytes('2') }),
    ]);
    assert.deepEqual(results.map(({ kind }) => kind).sort(), ['conflict', 'saved']);
    const [saved, lost] = results[0].kind === 'saved' ? results : results.toReversed();
    assert.ok(saved?.kind === 'saved' && lost?.kind === 'conflict');
    assert.deepEqual(lost.current, saved.contents);
    assert.equal(at(server.get('Secret', 'istio-system', 'istio-ca-secret'), 'type'), 'istio.io/ca-root');
  });

  test('an update from an old version changes nothing and shows what is there', async t => {
    const { client } = await cluster(t);
    const store = createSecretStore({ client, ...where });
    await store.create({ a: bytes('1'), b: bytes('kept') });
    const first = (await store.get()) ?? assert.fail();
    const second = await store.update({ a: bytes('2') }, first);
    assert.ok(second.kind === 'saved');
    assert.deepEqual(
      Object.fromEntries(Object.entries(second.contents.data).map(([key, value]) => [key, String(value)])),
      {
        a: '2',
        b: 'kept',
      },
    );
    const stale = await store.update({ a: bytes('3') }, first);
    assert.deepEqual(stale, { kind: 'conflict', current: second.contents });
    const racing = await Promise.all([
      store.update({ a: bytes('4') }, second.contents),
      store.update({ a: bytes('5') }, second.contents),
    ]);
    assert.deepEqual(racing.map(({ kind }) => kind).sort(), ['conflict', 'saved']);
  });

  test('refusals are errors, never an absent secret', async t => {
    const { server, client } = await cluster(t);
    const store = createSecretStore({ client, ...where });
    server.faults.forbid = () => true;
    await assert.rejects(store.get(), { code: 'kube.forbidden' });
    await assert.rejects(store.create({ a: bytes('1') }), { code: 'kube.forbidden' });
  });
});

describe('config map writer', LIMIT, () => {
  const changeOf = (name: string, isGone = false): ObjectChange => {
    const read = readObject(namespace(name));
    assert.ok('object' in read);
    return { ref: { kind: 'Namespace', namespace: '', name }, object: isGone ? undefined : read.object };
  };

  async function writing(t: TestContext): Promise<{ readonly server: ApiServer; readonly writer: ConfigMapWriter }> {
    const { server, client } = await cluster(t);
    const writer = createConfigMapWriter({ client, log: SILENT_LOG, retryMinMs: 5, retryMaxMs: 20 });
    t.after(() => writer.close());
    return { server, writer };
  }
  const rootIn = (server: ApiServer, where: string): string | undefined =>
    mapAt(server.get('ConfigMap', where, 'istio-ca-root-cert'), 'data')['root-cert.pem'];
  const writes = (server: ApiServer): number => server.requests.filter(({ method }) => method !== 'GET').length;

  test('the roots are in every namespace but the excluded ones, labelled, with the revocation list', async t => {
    const { server, writer } = await writing(t);
    const names = ['shop', 'kube-system', 'kube-public', 'kube-node-lease', 'local-path-storage'];
    for (const name of names) server.put(namespace(name));
    writer.observe(names.map(name => changeOf(name)));
    writer.publish({ rootCert: 'ROOT', crl: 'CRL' });
    await writer.idle();
    const found = names.filter(name => rootIn(server, name) === 'ROOT');
    assert.deepEqual(found, ['shop', 'kube-system']);
    const made = server.get('ConfigMap', 'shop', 'istio-ca-root-cert');
    assert.deepEqual(made?.metadata.labels, { 'istio.io/config': 'true' });
    assert.deepEqual(mapAt(server.get('ConfigMap', 'shop', 'istio-ca-crl'), 'data'), { 'ca-crl.pem': 'CRL' });
  });

  test('what is right is not written again; what is wrong is mended and foreign keys are kept', async t => {
    const { server, writer } = await writing(t);
    server.put(namespace('right'));
    server.put(namespace('wrong'));
    const map = { apiVersion: 'v1', kind: 'ConfigMap' };
    const metadata = { name: 'istio-ca-root-cert', labels: { 'istio.io/config': 'true' } };
    server.put({ ...map, metadata: { ...metadata, namespace: 'right' }, data: { 'root-cert.pem': 'ROOT' } });
    server.put({
      ...map,
      metadata: { name: metadata.name, namespace: 'wrong' },
      data: { 'root-cert.pem': 'OLD', other: 'x' },
    });
    writer.observe([changeOf('right'), changeOf('wrong')]);
    writer.publish({ rootCert: 'ROOT', crl: undefined });
    await writer.idle();
    assert.equal(writes(server), 1);
    assert.deepEqual(mapAt(server.get('ConfigMap', 'wrong', 'istio-ca-root-cert'), 'data'), {
      'root-cert.pem': 'ROOT',
      other: 'x',
    });
    writer.publish({ rootCert: 'NEXT', crl: undefined });
    await writer.idle();
    assert.equal(rootIn(server, 'right'), 'NEXT');
    assert.equal(writes(server), 3);
  });

  test('a namespace that comes later gets them; one that goes is forgotten', async t => {
    const { server, writer } = await writing(t);
    writer.publish({ rootCert: 'ROOT', crl: undefined });
    writer.observe([changeOf('late')]); // not there yet, or already gone: creating fails
    await server.until(() => server.requests.length > 0);
    server.put(namespace('late'));
    await writer.idle();
    assert.equal(rootIn(server, 'late'), 'ROOT');
    writer.observe([changeOf('never')]);
    writer.observe([changeOf('never', true)]);
    await writer.idle();
  });

  test('a refusal is a problem until it passes', async t => {
    const { server, writer } = await writing(t);
    server.put(namespace('shop'));
    server.faults.forbid = ({ verb }) => verb === 'create';
    writer.observe([changeOf('shop')]);
    writer.publish({ rootCert: 'ROOT', crl: undefined });
    await server.until(() => server.requests.filter(({ method }) => method === 'POST').length === 3);
    assert.deepEqual(
      writer.problems().map(({ code }) => code),
      ['kube.forbidden'],
    );
    server.faults.forbid = undefined;
    await writer.idle();
    assert.deepEqual(writer.problems(), []);
    assert.equal(rootIn(server, 'shop'), 'ROOT');
  });
});
