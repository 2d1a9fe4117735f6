import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { namespace, pod } from '../../../kube/test/objects.ts';
import { startServer } from '../../../kube/test/serving.ts';
import { follow } from './fixture.ts';
import { startApiServer, type StoredObject } from '../../../kube/test/api-server.ts';
import { MESH_CRDS, type ServedResource } from '../../../kube/test/served-resources.ts';

const PODS = { kinds: ['Pod'] } as const;
const LIMIT = { timeout: 15_000 };

const policy = (name: string, spec: object = {}): StoredObject => ({
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { name, namespace: 'shop' },
  spec,
});

function crdOf(kind: string, versions?: readonly string[]): ServedResource {
  const found = MESH_CRDS.find(resource => resource.kind === kind) ?? assert.fail();
  return versions === undefined ? found : { ...found, versions };
}

describe('kubernetes source', LIMIT, () => {
  test('start resolves when every kind has been listed, pages and all', async t => {
    const server = await startServer(t);
    for (const crd of MESH_CRDS) server.addResource(crd);
    server.put(namespace('shop'));
    for (let i = 0; i < 8; i += 1) server.put(pod(`p${String(i)}`));
    server.put(policy('deny'));
    const { source, view, started } = follow(t, server);
    await started;
    assert.equal(view.objects.size, 10);
    assert.equal(source.status.isSynced, true);
    assert.deepEqual(source.status.problems, []);
    assert.match(source.status.name, /^kubernetes http:\/\/127/);
    const pages = server.requests.filter(({ path, isWatch }) => path.endsWith('/pods') && !isWatch);
    assert.deepEqual(
      pages.map(({ query }) => [query.get('limit'), query.has('continue')]),
      [
        ['3', false],
        ['3', true],
        ['3', true],
      ],
    );
  });

  test('an expired continue token leads to one whole list', async t => {
    const server = await startServer(t);
    for (let i = 0; i < 5; i += 1) server.put(pod(`p${String(i)}`));
    server.faults.afterPage = () => server.store.expireSnapshots();
    const { view, started } = follow(t, server, PODS);
    await started;
    assert.equal(view.objects.size, 5);
    assert.equal(server.requests.find(({ isWatch, query }) => !isWatch && !query.has('limit'))?.status, 200);
  });

  test('finished pods are neither listed nor kept', async t => {
    const server = await startServer(t);
    server.put(pod('live'));
    server.put(pod('done', 'shop', 'Succeeded'));
    const { view, started } = follow(t, server, PODS);
    await started;
    assert.deepEqual(view.keys, ['Pod/shop/live']);
    await server.until(() => server.watchCount === 1);
    server.put(pod('live', 'shop', 'Failed'));
    await view.until(() => view.objects.size === 0);
  });

  test('additions, changes and deletions arrive, those of one turn in one batch', async t => {
    const server = await startServer(t);
    server.put(pod('a'));
    const { view, started } = follow(t, server, PODS);
    await started;
    await server.until(() => server.watchCount === 1);
    server.put(pod('b'));
    server.put(pod('a', 'shop', 'Pending'));
    server.put(pod('b', 'shop', 'Pending'));
    await view.until(() => view.objects.has('Pod/shop/b'));
    await view.until(() =>
      [...view.objects.values()].every(object => object.kind === 'Pod' && object.status.phase === 'Pending'),
    );
    server.remove('Pod', 'shop', 'a');
    await view.until(() => !view.objects.has('Pod/shop/a'));
    for (const batch of view.batches) {
      const keys = batch.map(({ ref }) => ref.name);
      assert.equal(new Set(keys).size, keys.length, 'one object twice in a batch');
    }
  });

  test('a watch that ends is resumed from the last bookmark, without another list', async t => {
    const server = await startServer(t);
    server.put(pod('a'));
    const { source, view, started } = follow(t, server, PODS);
    await started;
    await server.until(() => server.watchCount === 1);
    server.put(namespace('other')); // the version moves on, and no pod tells of it
    server.bookmark();
    const bookmark = String(server.store.version);
    server.endWatches();
    await server.until(() => server.requests.filter(({ isWatch }) => isWatch).length === 2);
    const resumed = server.requests.findLast(({ isWatch }) => isWatch)?.query;
    assert.equal(resumed?.get('resourceVersion'), bookmark);
    assert.equal(resumed?.get('allowWatchBookmarks'), 'true');
    const seconds = Number(resumed?.get('timeoutSeconds'));
    assert.ok(seconds >= 300 && seconds <= 600);
    server.put(pod('b'));
    await view.until(() => view.objects.size === 2);
    assert.equal(source.counts.lists, 1);
  });

  for (const expiredAs of ['event', 'status'] as const) {
    test(`an expired version (${expiredAs}) leads to a list whose difference is told`, async t => {
      const server = await startServer(t);
      server.faults.expiredAs = expiredAs;
      for (const name of ['gone', 'same', 'changed']) server.put(pod(name));
      const { source, view, started } = follow(t, server, PODS);
      await started;
      await server.until(() => server.watchCount === 1);
      server.faults.fail = () => 503;
      server.breakConnections();
      server.remove('Pod', 'shop', 'gone');
      server.put(pod('changed', 'shop', 'Pending'));
      server.put(pod('new'));
      server.store.compact();
      const told = view.batches.length;
      server.faults.fail = undefined;
      await view.until(() => view.objects.has('Pod/shop/new') && !view.objects.has('Pod/shop/gone'));
      assert.equal(source.counts.lists, 2);
      const names = new Set(view.batches.slice(told).flatMap(batch => batch.map(({ ref }) => ref.name)));
      assert.deepEqual([...names].sort(), ['changed', 'gone', 'new']);
    });
  }

  test('a connection that breaks in the middle of an object loses and doubles nothing', async t => {
    const server = await startServer(t);
    const { source, view, started } = follow(t, server, PODS);
    await started;
    await server.until(() => server.watchCount === 1);
    server.faults.cutNextEvent = 'pods';
    server.put(pod('cut'));
    await view.until(() => view.objects.has('Pod/shop/cut'));
    server.put(pod('after'));
    await view.until(() => view.objects.has('Pod/shop/after'));
    assert.deepEqual(
      view.batches.flatMap(batch => batch.map(({ ref }) => ref.name)),
      ['cut', 'after'],
    );
    assert.equal(source.counts.lists, 1);
  });

  test('an event beyond the bound is counted and its object comes with a list', async t => {
    const server = await startServer(t);
    const { source, view, started } = follow(t, server, { ...PODS, timing: { maxEventBytes: 2000 } });
    await started;
    await server.until(() => server.watchCount === 1);
    const big = pod('big');
    server.put({ ...big, metadata: { ...big.metadata, annotations: { note: 'x'.repeat(5000) } } });
    await view.until(() => view.objects.has('Pod/shop/big'));
    assert.equal(source.counts.oversized, 1);
    assert.equal(source.counts.lists, 2);
  });

  test('what is no event leads to a list', async t => {
    const server = await startServer(t);
    const { source, view, started } = follow(t, server, PODS);
    await started;
    await server.until(() => server.watchCount === 1);
    server.sendRaw('pods', '<html>\n');
    await server.until(() => server.requests.filter(({ isWatch }) => isWatch).length === 2);
    server.put(pod('a'));
    await view.until(() => view.objects.size === 1);
    assert.equal(source.counts.malformed, 1);
  });

  test('a watch that is silent for too long is opened anew', async t => {
    const server = await startServer(t);
    server.faults.stallWatches = true;
    const { view, started } = follow(t, server, { ...PODS, timing: { idleMs: 50 } });
    await started;
    await server.until(() => server.watchCount === 1);
    server.put(pod('a')); // swallowed
    server.faults.stallWatches = false;
    await view.until(() => view.objects.has('Pod/shop/a'));
  });

  test('a server that takes requests and never answers is given up and asked again', async t => {
    const server = await startServer(t);
    server.put(pod('a'));
    server.faults.isStuck = true;
    const { source, view, started } = follow(t, server, { ...PODS, timing: { requestMs: 40 } });
    while (source.status.problems.length === 0) await new Promise(setImmediate);
    assert.equal(source.status.problems[0]?.code, 'kube.timeout');
    assert.equal(source.status.isSynced, false);
    server.faults.isStuck = false;
    await started;
    assert.equal(view.objects.size, 1);
    assert.deepEqual(source.status.problems, []);
  });

  test('while the server is away the last state stays, and its return is noticed', async t => {
    const first = await startApiServer();
    first.put(pod('a'));
    first.put(pod('b'));
    const { source, view, started } = follow(t, first, PODS);
    await started;
    const { port } = first;
    await first.close();
    while (source.status.problems.length === 0) await new Promise(setImmediate);
    assert.equal(source.status.problems[0]?.code, 'kube.unreachable');
    assert.equal(view.objects.size, 2);
    first.remove('Pod', 'shop', 'a');
    const second = await startServer(t, { port, store: first.store });
    second.put(pod('c'));
    await view.until(() => view.objects.has('Pod/shop/c'));
    assert.deepEqual(view.keys, ['Pod/shop/b', 'Pod/shop/c']);
  });

  test('a CRD that is absent holds nothing up, is found when it comes and dropped when it goes', async t => {
    const server = await startServer(t);
    server.put(pod('a'));
    const { source, view, started } = follow(t, server, { kinds: ['Pod', 'AuthorizationPolicy'] });
    await started;
    assert.deepEqual(source.status.problems, []);
    server.addResource(crdOf('AuthorizationPolicy'));
    server.put(policy('deny'));
    await view.until(() => view.objects.has('AuthorizationPolicy/shop/deny'));
    server.removeResource('authorizationpolicies');
    await view.until(() => view.objects.size === 1);
    assert.deepEqual(view.keys, ['Pod/shop/a']);
    server.addResource(crdOf('AuthorizationPolicy'));
    server.put(policy('again'));
    await view.until(() => view.objects.has('AuthorizationPolicy/shop/again'));
  });

  test('the server is asked for a version that it has', async t => {
    const server = await startServer(t);
    server.addResource(crdOf('ServiceEntry', ['v1alpha3']));
    server.addResource(crdOf('AuthorizationPolicy', ['v1beta1', 'v1']));
    server.addResource(crdOf('Gateway', ['v2', 'v1beta1']));
    server.put(policy('deny'));
    const { view, started } = follow(t, server, { kinds: ['ServiceEntry', 'AuthorizationPolicy', 'Gateway'] });
    await started;
    const lists = server.requests.filter(({ path, isWatch }) => path.split('/').length === 5 && !isWatch);
    assert.deepEqual(lists.map(({ path }) => path).sort(), [
      '/apis/gateway.networking.k8s.io/v1beta1/gateways',
      '/apis/networking.istio.io/v1alpha3/serviceentries',
      '/apis/security.istio.io/v1beta1/authorizationpolicies',
    ]);
    assert.equal(view.objects.size, 1);
  });

  test('what is forbidden is a problem with verb, resource and namespace; the rest goes on; rights given later are noticed', async t => {
    const server = await startServer(t);
    for (const name of ['shop', 'bank']) {
      server.put(namespace(name));
      server.put(pod('a', name));
    }
    server.put(pod('a', 'hidden'));
    server.faults.forbid = ({ plural, namespace: where }) =>
      plural === 'nodes' || (plural === 'pods' && where === 'bank');
    const { source, view, started } = follow(t, server, {
      kinds: ['Namespace', 'Node', 'Pod'],
      namespaces: ['shop', 'bank'],
    });
    await started;
    assert.deepEqual(view.keys, ['Namespace/bank', 'Namespace/shop', 'Pod/shop/a']);
    assert.equal(source.status.isSynced, true);
    const problems = source.status.problems;
    assert.deepEqual(
      problems.map(({ code }) => code),
      ['kube.forbidden', 'kube.forbidden'],
    );
    assert.match(problems[0]?.message ?? '', /may not list nodes in all namespaces/);
    assert.match(problems[1]?.message ?? '', /may not list pods in namespace bank/);
    server.faults.forbid = undefined;
    await view.until(() => view.objects.has('Pod/bank/a'));
    assert.ok(!server.requests.some(({ path }) => path === '/api/v1/pods'), 'no list over all namespaces');
  });

  test('an object that does not read is kept out or keeps its last good version; others go on', async t => {
    const server = await startServer(t);
    server.addResource(crdOf('AuthorizationPolicy'));
    server.put(policy('bad', { rules: 'none' }));
    server.put(policy('good'));
    const { source, view, started } = follow(t, server, { kinds: ['AuthorizationPolicy'] });
    await started;
    assert.deepEqual(view.keys, ['AuthorizationPolicy/shop/good']);
    assert.equal(source.status.problems[0]?.ref?.name, 'bad');
    await server.until(() => server.watchCount === 1);
    server.put(policy('good', { rules: 7 }));
    server.put(policy('third'));
    await view.until(() => view.objects.has('AuthorizationPolicy/shop/third'));
    assert.ok(view.objects.has('AuthorizationPolicy/shop/good'));
    assert.equal(source.status.problems.length, 2);
    server.put(policy('bad', { action: 'DENY' }));
    server.remove('AuthorizationPolicy', 'shop', 'good');
    await view.until(() => !view.objects.has('AuthorizationPolicy/shop/good'));
    assert.deepEqual(source.status.problems, []);
  });

  test('a configuration that cannot work is refused at start', async t => {
    const server = await startServer(t);
    for (const options of [{ kubeconfig: '/nonexistent/kubeconfig' }, { context: 'other' }]) {
      await assert.rejects(follow(t, server, options).started, { name: 'KubeError', code: 'kube.config' });
    }
  });

  test('closing before all is there ends the start, and the sink is left alone', async t => {
    const server = await startServer(t);
    server.put(pod('a'));
    server.faults.fail = () => 500;
    const { source, view, started } = follow(t, server, PODS);
    await server.until(() => server.requests.length > 0);
    await source.close();
    await source.close();
    await assert.rejects(started, { code: 'kube.closed' });
    assert.equal(view.batches.length, 0);
  });
});
