// What the audit finds and mends on a member, as whoever looks at the pod in Kubernetes sees it: the agent's process, rules in a real
// namespace that somebody flushes, an API server that keeps Events.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { listenTcp, NetNs } from '@ambit/native';
import { encodeFrame, NftablesBackend } from '@ambit/cni';
import { SANDBOX_DIR, sandboxSkip, Topology, WatchedProcess } from '@ambit/testbed';
import { sendFrame } from '../../cni/test/agent-socket.ts';
import { FakeProxy } from '../../cni/test/fake-proxy.ts';
import { startApiServer, type StoredObject } from '../../kube/test/api-server.ts';
import { polled } from './polled-reactor.ts';

const MAIN = join(import.meta.dirname, '../src/main.ts');
const HEALTH = 18_001;

describe('Events of what the audit finds', { skip: sandboxSkip(), timeout: 120_000 }, () => {
  test('a member whose rules were flushed has a Warning and a Normal, each counted when it happens again', async () => {
    await using cleanup = new AsyncDisposableStack();
    const topology = await Topology.create(['n1']);
    cleanup.defer(async () => topology.close());
    const node = topology.nodes.get('n1');
    assert.ok(node);
    const net = await topology.addPod(node, 'shop.web');
    const netns = cleanup.use(NetNs.open(net.netnsPath));
    // What the ztunnel of this test does not do.
    for (const port of [15001, 15006, 15008]) {
      const listener = netns.run(() => listenTcp({ address: '::', port, backlog: 1 }));
      cleanup.defer(() => listener.fd.close());
    }
    const server = await startApiServer();
    cleanup.defer(async () => server.close());
    const labels = { 'istio.io/dataplane-mode': 'ambient' };
    server.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop', labels } });
    const pod = server.put({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: 'shop', name: 'web' },
      spec: { serviceAccountName: 'web', nodeName: 'n1', containers: [{ name: 'app' }] },
      status: { phase: 'Running', podIPs: [{ ip: net.ip4 }] },
    });
    const directory = await mkdtemp(join(SANDBOX_DIR, 'events-'));
    cleanup.defer(async () => rm(directory, { recursive: true }));
    const flags = {
      'node-name': 'n1',
      kubernetes: 'kubeconfig',
      kubeconfig: server.writeKubeconfig(directory),
      'host-root': '/',
      'run-directory': join(directory, 'run'),
      'zds-socket': join(directory, 'ztunnel.sock'),
      'dns-capture': 'false',
      probes: 'off',
      'health-port': String(HEALTH),
      'monitoring-port': '0',
    };
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
    const env = { PATH: process.env['PATH'], NODE_COMPILE_CACHE: join(SANDBOX_DIR, 'compile-cache') };
    const child = spawn(process.execPath, [MAIN, 'agent', ...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    const agent = new WatchedProcess('agent', child);
    cleanup.defer(async () => void (await agent.stop()));
    await agent.becomeReady(`http://127.0.0.1:${HEALTH}/readyz`, 30_000);
    const reactor = cleanup.use(polled());
    const proxy = new FakeProxy(reactor.reactor, flags['zds-socket']);
    cleanup.defer(() => proxy.close());
    await proxy.takeSnapshot();

    const added = sendFrame(
      join(directory, 'run/cni.sock'),
      encodeFrame({ env: cniEnv(net.netnsPath), stdin: cniConfig(net.ip4) }),
    );
    await answer(proxy, 'add');
    assert.equal((await added).status, 0);
    // Whatever the agent says of the pod from now on, ztunnel agrees.
    const agreeing = (async () => {
      for (;;) {
        await proxy.next();
        proxy.ack();
      }
    })();
    agreeing.catch(() => undefined);

    const event = (reason: string): StoredObject | undefined =>
      server.store.all('/events').find(each => each['reason'] === reason);
    for (const count of [1, 2]) {
      await new NftablesBackend().remove(netns);
      await server.until(() => event('MeshRulesDriftRepaired')?.['count'] === count);
    }
    const found = event('MeshRulesDrift');
    assert.equal(found?.['type'], 'Warning');
    assert.equal(found['count'], 2);
    assert.match(String(found['message']), / is gone; .*programmed anew {2}\[audit\.rules_drift\]$/);
    const { uid } = pod.metadata;
    assert.deepEqual(found['involvedObject'], { apiVersion: 'v1', kind: 'Pod', namespace: 'shop', name: 'web', uid });
    assert.equal(found['reportingInstance'], 'n1');
    assert.equal(event('MeshRulesDriftRepaired')?.['type'], 'Normal');
  });
});

async function answer(proxy: FakeProxy, kind: string): Promise<void> {
  assert.equal((await proxy.next()).request.kind, kind);
  proxy.ack();
}

function cniEnv(netnsPath: string): Readonly<Record<string, string>> {
  return {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: netnsPath,
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/opt/cni/bin',
    CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web',
  };
}

function cniConfig(ip: string): string {
  const prevResult = { cniVersion: '1.0.0', ips: [{ address: `${ip}/32` }] };
  return JSON.stringify({ cniVersion: '1.0.0', name: 'net', type: 'ambit-cni', prevResult });
}
