// Who is let in, and whether an independent client sees the same: the server of these tests must be right.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { CoreV1Api, KubeConfig, makeInformer, type V1Pod } from '@kubernetes/client-node';
import { createKubeClient } from '../../src/kubernetes/kube-client.ts';
import { follow, pod, startServer, temporaryDirectory } from './fixture.ts';

const LIMIT = { timeout: 15_000 };

function selfSigned(t: TestContext, name: string): { readonly cert: string; readonly key: string } {
  const at = path.join(temporaryDirectory(t), name);
  const files = ['-keyout', `${at}.key`, '-out', `${at}.crt`];
  const kind = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1'];
  execFileSync('openssl', [...kind, ...files, '-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1'], {
    stdio: 'ignore',
  });
  return { cert: readFileSync(`${at}.crt`, 'utf8'), key: readFileSync(`${at}.key`, 'utf8') };
}

describe('access to the API server', LIMIT, () => {
  test('TLS with a bearer token', async t => {
    const server = await startServer(t, { tls: selfSigned(t, 'server'), auth: { tokens: ['secret'] } });
    server.put(pod('a'));
    const { view, started } = follow(t, server, { kinds: ['Pod'] });
    await started;
    assert.equal(view.objects.size, 1);
  });

  test('a client certificate', async t => {
    const client = selfSigned(t, 'client');
    const server = await startServer(t, {
      tls: { ...selfSigned(t, 'server'), clientCa: client.cert },
      auth: { tokens: [] },
    });
    const user = {
      'client-certificate-data': Buffer.from(client.cert).toString('base64'),
      'client-key-data': Buffer.from(client.key).toString('base64'),
    };
    const kube = createKubeClient({ kubeconfig: server.writeKubeconfig(temporaryDirectory(t), user) });
    t.after(() => kube.close());
    assert.equal((await kube.request({ path: '/api/v1/pods' })).status, 200);
    const nobody = createKubeClient({ kubeconfig: server.writeKubeconfig(temporaryDirectory(t)) });
    t.after(() => nobody.close());
    assert.equal((await nobody.request({ path: '/api/v1/pods' })).status, 401);
  });

  test('a server with a certificate of another CA is not talked to', async t => {
    const server = await startServer(t, { tls: selfSigned(t, 'server'), auth: { tokens: ['secret'] } });
    const other = await startServer(t, { tls: selfSigned(t, 'other'), auth: { tokens: ['secret'] } });
    const directory = temporaryDirectory(t);
    const mixed = readFileSync(server.writeKubeconfig(directory), 'utf8').replace(server.url, other.url);
    const file = path.join(directory, 'mixed');
    writeFileSync(file, mixed);
    const kube = createKubeClient({ kubeconfig: file });
    t.after(() => kube.close());
    await assert.rejects(kube.request({ path: '/api/v1/pods' }), { code: 'kube.unreachable' });
    assert.equal(other.requests.length, 0);
  });

  test('wrong credentials are a problem, not an empty mesh', async t => {
    const server = await startServer(t, { auth: { tokens: ['secret'] } });
    const { source } = follow(t, server, {
      kinds: ['Pod'],
      kubeconfig: server.writeKubeconfig(temporaryDirectory(t), { token: 'wrong' }),
    });
    await server.until(() => server.requests.length > 0);
    while (source.status.problems.length === 0) await new Promise(setImmediate);
    assert.equal(source.status.problems[0]?.code, 'kube.unauthorized');
    assert.equal(source.status.isSynced, false);
  });

  test('an answer beyond the bound is refused', async t => {
    const server = await startServer(t);
    for (let i = 0; i < 20; i += 1) server.put(pod(`p${String(i)}`));
    const kube = createKubeClient({ kubeconfig: server.writeKubeconfig(temporaryDirectory(t)) });
    t.after(() => kube.close());
    await assert.rejects(kube.request({ path: '/api/v1/pods', maxBytes: 1000 }), { code: 'kube.bad_response' });
  });

  test("the official client's informer sees what our source sees", async t => {
    const server = await startServer(t);
    for (const name of ['a', 'b', 'c']) server.put(pod(name));
    const config = new KubeConfig();
    config.loadFromFile(server.writeKubeconfig(temporaryDirectory(t)));
    const api = config.makeApiClient(CoreV1Api);
    const informer = makeInformer<V1Pod>(config, '/api/v1/pods', () => api.listPodForAllNamespaces());
    t.after(() => informer.stop());
    const seen = new Map<string, string>();
    const key = ({ metadata }: V1Pod): string => `Pod/${metadata?.namespace ?? ''}/${metadata?.name ?? ''}`;
    for (const event of ['add', 'update'] as const)
      informer.on(event, item => seen.set(key(item), item.status?.phase ?? ''));
    informer.on('delete', item => seen.delete(key(item)));
    const { view, started } = follow(t, server, { kinds: ['Pod'] });
    await Promise.all([informer.start(), started]);
    await server.until(() => server.watchCount === 2);
    server.put(pod('d'));
    server.put(pod('b', 'shop', 'Pending'));
    server.remove('Pod', 'shop', 'a');
    await view.until(() => view.keys.join(' ') === 'Pod/shop/b Pod/shop/c Pod/shop/d');
    while (seen.has('Pod/shop/a') || !seen.has('Pod/shop/d')) await new Promise(setImmediate);
    const phases = [...view.objects].map(([name, object]) => [name, object.kind === 'Pod' ? object.status.phase : '']);
    assert.deepEqual(Object.fromEntries(seen), Object.fromEntries(phases));
  });
});
