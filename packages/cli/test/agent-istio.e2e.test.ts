// Our ztunnel under Istio's own CNI agent: found by its process or told of by its plugin, a pod speaks mutual TLS, over restarts of
// either, until it is taken out. And Istio's plugin at our agent, as while one is replaced by the other. Runs when ISTIO_CNI_BIN and ISTIO_CNI_PLUGIN_BIN name builds of install-cni and istio-cni.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type Pod, SANDBOX_DIR, sandboxSkip, WatchedProcess } from '@ambit/testbed';
import { type ApiServer, startApiServer, type StoredObject } from '../../kube/test/api-server.ts';
import { awaitLine, makeMesh, startOurs } from '../../ztunnel/test/e2e-mesh.ts';
import { Net, tryEcho } from '../../ztunnel/test/e2e-net.ts';
import { ISTIO_CNI_BIN, ISTIO_CNI_PLUGIN_BIN, IstioNode, runPlugin, SELECTORS } from './istio-cni.ts';

const isThere = ISTIO_CNI_BIN !== '' && ISTIO_CNI_PLUGIN_BIN !== '';
const skip = sandboxSkip() || (!isThere && 'no peer: set ISTIO_CNI_BIN and ISTIO_CNI_PLUGIN_BIN');
const MAIN = join(import.meta.dirname, '../src/main.ts');
const HEALTH = 18_002;
const ECHO = 7000;
const STATUS = 'ambient.istio.io/redirection';
const CHAIN = { cniVersion: '1.0.0', name: 'test', plugins: [{ type: 'bridge', bridge: 'cni0' }] };

describe('our ztunnel under Istio’s CNI agent', { skip, timeout: 240_000 }, () => {
  for (const rules of ['nftables', 'iptables'] as const)
    test(`serves what it is sent, again after each restart, until it is told to stop (${rules})`, async () => {
      await using mesh = await makeMesh('outside', { dnsCapture: true });
      await using net = new Net();
      const addPod = async (name: string) =>
        mesh.bed.addPod({ node: 'n1', name, namespace: 'shop', serviceAccount: name });
      const [web, cart, late] = [await addPod('web'), await addPod('cart'), await addPod('late')];
      net.serve(cart, ECHO, socket => socket.pipe(socket));
      await using cleanup = new AsyncDisposableStack();
      const server = await startCluster();
      cleanup.defer(async () => server.close());
      const daemonSet = { name: 'istio-cni-node', namespace: 'istio-system' };
      server.put({ apiVersion: 'apps/v1', kind: 'DaemonSet', metadata: daemonSet, spec: { template: { spec: {} } } });
      for (const pod of [web, cart]) server.put(podObject(pod));
      const status = (pod: Pod) => statusOf(server, pod);
      const until = async (pod: Pod, wanted: string | undefined) => server.until(() => status(pod) === wanted);

      const zdsSocket = mesh.bed.node('n1').agent.path;
      const node = cleanup.use(
        await IstioNode.create({ server, nodeName: 'n1', zdsSocket, rules, running: [web, cart] }, CHAIN),
      );
      let agent = await node.startAgent();
      cleanup.defer(async () => void (await agent.stop()));
      await until(web, 'pending');
      let ztunnel = await startOurs(mesh.bed, 'n1');
      await Promise.all([until(web, 'enabled'), until(cart, 'enabled')]);

      const call = async (from: Pod) => tryEcho(net, from, cart.ip4, ECHO);
      const isFrom = (name: string) => (line: { readonly [field: string]: unknown }) =>
        line['direction'] === 'inbound' && line['src.identity'] === `spiffe://cluster.local/ns/shop/sa/${name}`;
      assert.equal(await call(web), 'ok');
      await awaitLine(ztunnel, isFrom('web'));

      // Its plugin, as it installed it, tells it of a pod whose process does not run yet.
      const chain = JSON.parse(await readFile(join(node.netDirectory, '10-test.conflist'), 'utf8')) as {
        plugins: object[];
      };
      const entry = chain.plugins.at(-1) ?? {};
      server.put(podObject(late, { phase: 'Pending' }));
      const added = await runPlugin(node.pluginPath, 'ADD', entry, late);
      assert.equal(added.code, 0, added.stdout + added.stderr);
      await until(late, 'enabled');
      assert.equal(await call(late), 'ok');
      await awaitLine(ztunnel, isFrom('late'));

      ztunnel.process.kill('SIGKILL');
      await ztunnel.ended;
      assert.notEqual(await call(web), 'ok', 'members are refused while no ztunnel is there');
      ztunnel = await startOurs(mesh.bed, 'n1');
      for (const from of [web, late]) assert.equal(await call(from), 'ok');

      await agent.stop();
      assert.equal(await call(web), 'ok', 'without an agent everything goes on');
      agent = await node.startAgent();
      await awaitLine(ztunnel, ({ message }) => message === 'Disconnected from the CNI node agent');
      for (const pod of [web, cart]) assert.equal(status(pod), 'enabled');
      assert.equal(await call(web), 'ok');

      server.remove('Pod', 'shop', 'late');
      await refused(net, late);
      server.put(
        podObject(web, {}, { 'istio.io/dataplane-mode': 'none' }, annotationsOf(server.get('Pod', 'shop', 'web'))),
      );
      await until(web, undefined);
      await refused(net, web);
      assert.equal(await call(web), 'ok', 'in plain text');
      assert.equal((await agent.stop()).code, 0);
    });
});

describe('Istio’s CNI plugin at our agent', { skip, timeout: 240_000 }, () => {
  test('keeps a member from starting until our agent has let it in, and lets others pass', async () => {
    await using mesh = await makeMesh('outside');
    await using net = new Net();
    const addPod = async (name: string) =>
      mesh.bed.addPod({ node: 'n1', name, namespace: 'shop', serviceAccount: name });
    const [web, cart, other] = [await addPod('web'), await addPod('cart'), await addPod('other')];
    net.serve(cart, ECHO, socket => socket.pipe(socket));
    await using cleanup = new AsyncDisposableStack();
    const server = await startCluster();
    cleanup.defer(async () => server.close());
    for (const pod of [web, cart]) server.put(podObject(pod, { phase: 'Pending' }));
    server.put(podObject(other, { phase: 'Pending' }, { 'istio.io/dataplane-mode': 'none' }));
    const directory = await mkdtemp(join(SANDBOX_DIR, 'plugin-'));
    cleanup.defer(async () => rm(directory, { recursive: true }));
    const kubeconfig = server.writeKubeconfig(directory);
    await copyFile(kubeconfig, join(directory, 'istio-cni-kubeconfig'));
    const entry = {
      type: 'istio-cni',
      plugin_log_level: 'info',
      cni_agent_run_dir: directory,
      ambient_enabled: true,
      enablement_selectors: SELECTORS,
      exclude_namespaces: ['kube-system'],
      pod_namespace: 'istio-system',
      enable_ambient_detection_retry: false,
    };
    const run = async (command: string, pod: Pod) => runPlugin(ISTIO_CNI_PLUGIN_BIN, command, entry, pod);

    const early = await run('ADD', web);
    assert.equal(early.code, 1);
    assert.match(early.stdout, /failed to contact node Istio CNI agent/);
    assert.equal((await run('ADD', other)).code, 0, 'who is no member passes');

    const zdsSocket = mesh.bed.node('n1').agent.path;
    const agent = await startOurAgent({ 'run-directory': directory, 'zds-socket': zdsSocket, kubeconfig });
    cleanup.defer(async () => void (await agent.stop()));
    const ztunnel = await startOurs(mesh.bed, 'n1');
    for (const pod of [cart, web]) {
      const added = await run('ADD', pod);
      assert.equal(added.code, 0, added.stdout + added.stderr);
      const { ips } = JSON.parse(added.stdout) as { ips: readonly { address: string }[] };
      assert.deepEqual(
        ips.map(({ address }) => address),
        [`${pod.ip4}/32`, `${pod.ip6}/128`],
        'what the plugin before it said is passed on',
      );
      await server.until(() => statusOf(server, pod) === 'enabled');
    }
    assert.equal(await tryEcho(net, web, cart.ip4, ECHO), 'ok');
    await awaitLine(ztunnel, line => line['src.identity'] === 'spiffe://cluster.local/ns/shop/sa/web');
    assert.equal((await run('ADD', web)).code, 0, 'again is the same');
    for (const command of ['CHECK', 'DEL']) assert.equal((await run(command, web)).code, 0);
    assert.equal(statusOf(server, web), 'enabled', 'it is the API server that says that a pod is gone');

    // Its node is another: the plugin takes it for a member, our agent knows better.
    const far = await addPod('far');
    server.put({ ...podObject(far), spec: { nodeName: 'n2', containers: [{ name: 'app' }] } });
    const refusal = await run('ADD', far);
    assert.equal(refusal.code, 1);
    assert.match(refusal.stdout, /no source has told of pod shop\/far/);
    await agent.waitForLine(/failed to contact node Istio CNI agent/);
    assert.equal((await agent.stop()).code, 0);
  });
});

/** An API server with the node and a namespace whose pods are members. */
async function startCluster(): Promise<ApiServer> {
  const server = await startApiServer();
  server.put({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' } });
  const labels = { 'istio.io/dataplane-mode': 'ambient' };
  server.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop', labels } });
  return server;
}

async function startOurAgent(more: Readonly<Record<string, string>>): Promise<WatchedProcess> {
  const flags = {
    'node-name': 'n1',
    kubernetes: 'kubeconfig',
    'host-root': '/',
    'dns-capture': 'false',
    probes: 'off',
    'health-port': String(HEALTH),
    'monitoring-port': '0',
    ...more,
  };
  const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
  const env = { PATH: process.env['PATH'], NODE_COMPILE_CACHE: join(SANDBOX_DIR, 'compile-cache') };
  const stdio = ['ignore', 'pipe', 'pipe'] as const;
  const child = spawn(process.execPath, [MAIN, 'agent', ...args], { env, stdio: [...stdio], detached: true });
  const agent = new WatchedProcess('agent', child);
  await agent.becomeReady(`http://127.0.0.1:${HEALTH}/readyz`, 30_000);
  return agent;
}

function statusOf(server: ApiServer, { namespace, name }: Pod): string | undefined {
  return annotationsOf(server.get('Pod', namespace, name))[STATUS];
}

function podObject(
  pod: Pod,
  more: object = {},
  labels: Readonly<Record<string, string>> = {},
  annotations: Readonly<Record<string, string>> = {},
): StoredObject {
  const isPending = 'phase' in more;
  const ips = isPending ? {} : { podIP: pod.ip4, podIPs: [{ ip: pod.ip4 }, { ip: pod.ip6 }] };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: pod.namespace, name: pod.name, uid: pod.uid, labels, annotations },
    spec: { serviceAccountName: pod.serviceAccount, nodeName: pod.node.name, containers: [{ name: 'app' }] },
    status: { phase: 'Running', ...ips, ...more },
  };
}

function annotationsOf(object: StoredObject | undefined): Readonly<Record<string, string>> {
  return (object?.metadata['annotations'] ?? {}) as Readonly<Record<string, string>>;
}

/** Waits until nobody listens where ztunnel does: there is no event for it. */
async function refused(net: Net, pod: Pod): Promise<void> {
  const deadline = AbortSignal.timeout(20_000);
  for (;;) {
    try {
      (await net.connect(pod, '127.0.0.1', 15008)).destroy();
    } catch {
      return;
    }
    if (deadline.aborted) throw new Error(`ztunnel still listens in ${pod.name}`);
    await new Promise(resolve => setImmediate(resolve));
  }
}
