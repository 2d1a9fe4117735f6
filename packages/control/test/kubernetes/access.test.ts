// Who is let in, and whether an independent client sees the same: the server of these tests must be right.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CoreV1Api, KubeConfig, makeInformer, type V1Pod } from '@kubernetes/client-node';
import { pod } from '../../../kube/test/objects.ts';
import { selfSigned, startServer, temporaryDirectory } from '../../../kube/test/serving.ts';
import { follow } from './fixture.ts';

const LIMIT = { timeout: 15_000 };

describe('access to the API server', LIMIT, () => {
  test('TLS with a bearer token', async t => {
    const server = await startServer(t, { tls: selfSigned(t, 'server'), auth: { tokens: ['secret'] } });
    server.put(pod('a'));
    const { view, started } = follow(t, server, { kinds: ['Pod'] });
    await started;
    assert.equal(view.objects.size, 1);
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
