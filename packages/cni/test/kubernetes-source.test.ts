// The agent's Kubernetes source against a server over HTTP and HTTPS: what it knows and tells, through expiry, refusals and
// restarts of the server; what it notes on pods; whether somebody takes over.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { createKubeClient } from '@ambit/kube';
import { SILENT_LOG } from '@ambit/log';
import { type ApiServer, startApiServer, type StoredObject } from '../../kube/test/api-server.ts';
import { namespace } from '../../kube/test/objects.ts';
import { selfSigned, startServer, temporaryDirectory } from '../../kube/test/serving.ts';
import { Waiting } from '../../kube/test/waiting.ts';
import {
  createKubernetesPodSource,
  type KubernetesPodSource,
  type KubernetesPodSourceOptions,
} from '../src/sources/kubernetes-source.ts';
import { type PodSourceEvents, REDIRECTION_ANNOTATION } from '../src/sources/pod-source.ts';

const LIMIT = { timeout: 15_000 };
const SHORT = { pageSize: 3, retryMinMs: 5, retryMaxMs: 50, forbiddenMs: 30, requestMs: 5000 };

function pod(name: string, ip = '10.0.0.1', node = 'n1', phase = 'Running'): StoredObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop' },
    spec: { serviceAccountName: 'web', nodeName: node, containers: [{ name: 'app' }] },
    status: { phase, podIPs: [{ ip }] },
  };
}

/** Every event as one line. */
class Told implements PodSourceEvents {
  readonly lines: string[] = [];
  readonly #waiting = new Waiting();

  readonly onPod: PodSourceEvents['onPod'] = ({ name, ips }, before) =>
    this.#tell(`pod ${name} ${ips.join()}${before === undefined ? '' : ` (${before.ips.join()})`}`);
  readonly onPodGone: PodSourceEvents['onPodGone'] = ({ name }) => this.#tell(`gone ${name}`);
  readonly onNamespace: PodSourceEvents['onNamespace'] = ({ name, labels }, before) =>
    this.#tell(`namespace ${name} ${JSON.stringify(labels)}${before === undefined ? '' : ' changed'}`);

  async until(line: string): Promise<void> {
    await this.#waiting.until(() => this.lines.includes(line));
  }

  #tell(line: string): void {
    this.lines.push(line);
    this.#waiting.changed();
  }
}

interface Followed {
  readonly source: KubernetesPodSource;
  readonly told: Told;
  readonly stop: AbortController;
  readonly started: Promise<void>;
}

function follow(t: TestContext, server: ApiServer, more: Partial<KubernetesPodSourceOptions> = {}): Followed {
  const source = createKubernetesPodSource({
    kubeconfig: server.writeKubeconfig(temporaryDirectory(t)),
    nodeName: 'n1',
    log: SILENT_LOG,
    timing: SHORT,
    ...more,
  });
  const told = new Told();
  const stop = new AbortController();
  const started = source.start(told, stop.signal);
  started.catch(() => undefined); // awaited by the test, or the test is over
  t.after(() => source.close());
  return { source, told, stop, started };
}

const names = (source: KubernetesPodSource): readonly string[] => [...source.pods()].map(({ name }) => name).sort();

function known(source: KubernetesPodSource, name: string) {
  return source.pod('shop', name) ?? assert.fail(`no pod ${name}`);
}

describe('kubernetes pod source', LIMIT, () => {
  test('knows all pods of its node, page by page, and all namespaces by their metadata, and tells nothing of them', async t => {
    const server = await startServer(t);
    server.put({ ...namespace('shop'), spec: { finalizers: ['kubernetes'] } });
    server.put(namespace('other'));
    for (let i = 0; i < 7; i += 1) server.put(pod(`p${i}`));
    server.put(pod('elsewhere', '10.0.1.1', 'n2'));
    server.put(pod('finished', '10.0.0.2', 'n1', 'Succeeded'));
    const { source, told, started } = follow(t, server);
    await started;
    assert.deepEqual(names(source), ['finished', 'p0', 'p1', 'p2', 'p3', 'p4', 'p5', 'p6']);
    assert.equal(known(source, 'finished').phase, 'Succeeded');
    assert.deepEqual(source.namespace('other'), { name: 'other', labels: {}, annotations: {} });
    assert.equal(source.namespace('nowhere'), undefined);
    assert.deepEqual(told.lines, []);
    const lists = server.requests.filter(({ isWatch }) => !isWatch);
    assert.deepEqual(
      lists.filter(({ path: of }) => of === '/api/v1/pods').map(({ query }) => query.get('fieldSelector')),
      ['spec.nodeName=n1', 'spec.nodeName=n1', 'spec.nodeName=n1'],
    );
    assert.match(
      lists.find(({ path: of }) => of.endsWith('/namespaces'))?.accept ?? '',
      /as=PartialObjectMetadataList/,
    );
  });

  test('tells of changes with what was before, in order, and of none that the agent would not read', async t => {
    const server = await startServer(t);
    server.put(namespace('shop'));
    server.put(pod('a'));
    const { source, told, started } = follow(t, server);
    await started;
    await server.until(() => server.watchCount === 2);
    server.put({ ...pod('a'), status: { ...(pod('a')['status'] as object), conditions: [{ type: 'Ready' }] } });
    server.put(pod('a', '10.0.0.7'));
    server.put(pod('b', '10.0.0.8'));
    server.remove('Pod', 'shop', 'a');
    await told.until('gone a');
    assert.deepEqual(told.lines, ['pod a 10.0.0.7 (10.0.0.1)', 'pod b 10.0.0.8', 'gone a']);
    server.put({ ...namespace('shop'), metadata: { name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambient' } } });
    await told.until('namespace shop {"istio.io/dataplane-mode":"ambient"} changed');
    server.put(namespace('new'));
    await told.until('namespace new {}');
    server.remove('Namespace', '', 'new');
    server.put(pod('b', '10.0.0.8', 'n2')); // no longer of this node
    await told.until('gone b');
    assert.deepEqual(names(source), []);
  });

  for (const expiredAs of ['event', 'status'] as const) {
    test(`after an expired version (${expiredAs}) the difference is told, a successor of the same name as another pod`, async t => {
      const server = await startServer(t);
      server.faults.expiredAs = expiredAs;
      for (const name of ['gone', 'same', 'web-0']) server.put(pod(name));
      const { told, source, started } = follow(t, server);
      await started;
      const first = known(source, 'web-0').uid;
      await server.until(() => server.watchCount === 2);
      server.faults.fail = () => 503;
      server.breakConnections();
      server.remove('Pod', 'shop', 'gone');
      server.remove('Pod', 'shop', 'web-0');
      server.put(pod('web-0'));
      server.store.compact();
      server.faults.fail = undefined;
      await told.until('gone gone');
      assert.deepEqual(told.lines, ['gone web-0', 'pod web-0 10.0.0.1', 'gone gone']);
      assert.notEqual(known(source, 'web-0').uid, first);
    });
  }

  test('a server that goes away and comes back takes nothing with it', async t => {
    const first = await startApiServer();
    first.put(pod('a'));
    first.put(pod('b'));
    const { source, told, started } = follow(t, first);
    await started;
    const { port } = first;
    await first.close();
    while (source.problems().length === 0) await new Promise(setImmediate);
    assert.equal(source.problems()[0]?.code, 'kube.unreachable');
    assert.deepEqual(names(source), ['a', 'b']);
    first.remove('Pod', 'shop', 'a');
    const second = await startServer(t, { port, store: first.store });
    second.put(pod('c'));
    await told.until('pod c 10.0.0.1');
    assert.deepEqual(names(source), ['b', 'c']);
  });

  test('an answer that is no list, as of a proxy in between, is not an empty one', async t => {
    const server = await startServer(t);
    server.put(pod('a'));
    const { source, told, started } = follow(t, server);
    await started;
    await server.until(() => server.watchCount === 2);
    // What follows is a Status, which has no items.
    server.faults.fail = (_path, isWatch) => (isWatch ? 410 : 200);
    server.breakConnections();
    while (source.problems().length === 0) await new Promise(setImmediate);
    assert.match(source.problems()[0]?.message ?? '', /no list/);
    assert.deepEqual(names(source), ['a']);
    server.faults.fail = undefined;
    server.put(pod('b'));
    await told.until('pod b 10.0.0.1');
    assert.deepEqual(told.lines, ['pod b 10.0.0.1']);
  });

  test('a list that is forbidden is not an empty one: the start waits until it is allowed', async t => {
    const server = await startServer(t);
    server.put(pod('a'));
    server.faults.forbid = ({ plural }) => plural === 'pods';
    const { source, started } = follow(t, server);
    await server.until(() => server.requests.filter(({ status }) => status === 403).length > 1);
    assert.equal(source.problems()[0]?.code, 'kube.forbidden');
    let isStarted = false;
    void started.then(() => (isStarted = true));
    await server.until(() => server.requests.filter(({ status }) => status === 403).length > 3);
    assert.equal(isStarted, false);
    server.faults.forbid = undefined;
    await started;
    assert.deepEqual(names(source), ['a']);
  });

  test('a start that is given up, or can never work, is an error of the agent', async t => {
    const server = await startServer(t);
    server.faults.fail = () => 500;
    const { started, stop } = follow(t, server);
    await server.until(() => server.requests.length > 0);
    stop.abort();
    await assert.rejects(started, { name: 'CniError', code: 'cni.kubernetes' });
    const wrong = follow(t, server, { kubeconfig: '/nonexistent/kubeconfig' });
    await assert.rejects(wrong.started, { code: 'cni.kubernetes', message: /cannot read the kubeconfig/ });
  });

  test('a service account is enough, over TLS, and its rotated token is taken up', async t => {
    const tokens = ['one'];
    const tls = selfSigned(t, 'server');
    const server = await startServer(t, { tls, auth: { tokens } });
    server.put(pod('a'));
    const directory = temporaryDirectory(t);
    writeFileSync(path.join(directory, 'token'), 'one');
    writeFileSync(path.join(directory, 'ca.crt'), tls.cert);
    const env = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: String(server.port) };
    const surroundings = { env, home: '/nonexistent', serviceAccountDirectory: directory };
    const client = createKubeClient({ inCluster: true }, { surroundings });
    t.after(() => client.close());
    const { source, told, started } = follow(t, server, { client });
    await started;
    tokens[0] = 'two';
    server.endWatches();
    await server.until(() => server.requests.some(({ status }) => status === 401));
    assert.deepEqual(names(source), ['a']);
    writeFileSync(path.join(directory, 'token'), 'two');
    server.put(pod('b'));
    await told.until('pod b 10.0.0.1');
  });
});

describe('status of a pod', LIMIT, () => {
  async function one(t: TestContext): Promise<{ readonly server: ApiServer; readonly source: KubernetesPodSource }> {
    const server = await startServer(t);
    server.put(pod('a'));
    const { source, started } = follow(t, server);
    await started;
    return { server, source };
  }
  const noted = (server: ApiServer): unknown =>
    (server.get('Pod', 'shop', 'a')?.metadata['annotations'] as Record<string, string> | undefined)?.[
      REDIRECTION_ANNOTATION
    ];

  test('is one annotation, written on the status subresource and taken away again', async t => {
    const { server, source } = await one(t);
    await source.setStatus(known(source, 'a'), 'pending');
    assert.equal(noted(server), 'pending');
    await source.setStatus(known(source, 'a'), undefined);
    assert.equal(noted(server), undefined);
    const patches = server.requests.filter(({ method }) => method === 'PATCH');
    assert.deepEqual(
      patches.map(({ path: of }) => of),
      ['/api/v1/namespaces/shop/pods/a/status', '/api/v1/namespaces/shop/pods/a/status'],
    );
    assert.deepEqual(server.get('Pod', 'shop', 'a')?.['spec'], pod('a')['spec']);
  });

  test('survives lost races', async t => {
    const { server, source } = await one(t);
    server.faults.conflicts = 3;
    await source.setStatus(known(source, 'a'), 'enabled');
    assert.equal(noted(server), 'enabled');
    server.faults.conflicts = 100;
    await assert.rejects(source.setStatus(known(source, 'a'), undefined), { code: 'cni.kubernetes' });
  });

  test('of a pod that is gone or has a successor is nobody’s', async t => {
    const { server, source } = await one(t);
    const old = known(source, 'a');
    server.remove('Pod', 'shop', 'a');
    await source.setStatus(old, 'enabled');
    server.put(pod('a'));
    await source.setStatus(old, 'enabled');
    assert.equal(noted(server), undefined);
  });

  test('that may not be written is an error with the right that lacks', async t => {
    const { server, source } = await one(t);
    server.faults.forbid = ({ verb, plural }) => verb === 'patch' && plural === 'pods/status';
    await assert.rejects(source.setStatus(known(source, 'a'), 'enabled'), {
      code: 'cni.kubernetes',
      next: 'allow the agent the verb patch on pods/status',
    });
  });
});

describe('the DaemonSet of the agent', LIMIT, () => {
  const NAME = { namespace: 'istio-system', name: 'istio-cni-node' };
  const daemonSet = (spec: object = {}, more: object = {}): StoredObject => ({
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { ...NAME, ...more },
    spec: { template: { spec } },
  });

  test('stays, ends, has left the node or is absent', async t => {
    const server = await startServer(t);
    const { source, started } = follow(t, server);
    await started;
    assert.equal(await source.daemonSet(NAME), 'absent');
    server.put(daemonSet());
    assert.equal(await source.daemonSet(NAME), 'stays');
    assert.ok(!server.requests.some(({ path: of }) => of.includes('/nodes/')), 'no right on nodes is needed');
    server.put(daemonSet({ nodeSelector: { mesh: 'on' } }));
    assert.equal(await source.daemonSet(NAME), 'stays', 'a node that cannot be read proves nothing');
    server.put({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1', labels: { mesh: 'on' } } });
    assert.equal(await source.daemonSet(NAME), 'stays');
    server.put({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1', labels: {} } });
    assert.equal(await source.daemonSet(NAME), 'elsewhere');
    server.put(daemonSet({}, { deletionTimestamp: '2026-01-01T00:00:00Z' }));
    assert.equal(await source.daemonSet(NAME), 'ending');
    server.faults.fail = () => 401;
    assert.equal(await source.daemonSet(NAME), 'unauthorized');
    server.faults.fail = () => 500;
    await assert.rejects(source.daemonSet(NAME), { code: 'cni.kubernetes' });
  });
});
