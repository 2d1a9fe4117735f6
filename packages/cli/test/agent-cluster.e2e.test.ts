// `ambit agent` as a node of a cluster runs it: an API server tells of pods and is told how they stand, the plugin is installed
// into the runtime's chain and asks the agent, and what is left at the end depends on whether another agent follows.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type PodNet, SANDBOX_DIR, sandboxSkip, Topology, WatchedProcess } from '@ambit/testbed';
import { askHttp } from '../../cni/test/agent-socket.ts';
import { FakeProxy } from '../../cni/test/fake-proxy.ts';
import { type ApiServer, startApiServer } from '../../kube/test/api-server.ts';
import { polled } from './polled-reactor.ts';

const MAIN = join(import.meta.dirname, '../src/main.ts');
const STATUS = 'ambient.istio.io/redirection';
const CHAIN = { cniVersion: '1.0.0', name: 'test', plugins: [{ type: 'bridge', bridge: 'cni0' }] };
const HEALTH = 18_000;
const METRICS = 18_014;

describe('the agent of a cluster', { skip: sandboxSkip(), timeout: 120_000 }, () => {
  let topology: Topology;
  let net: PodNet;
  let server: ApiServer;
  let directory: string;

  before(async () => {
    topology = await Topology.create(['n1']);
    const node = topology.nodes.get('n1');
    assert.ok(node);
    net = await topology.addPod(node, 'shop.web');
    server = await startApiServer({ auth: { tokens: ['secret'] } });
    directory = await mkdtemp(join(SANDBOX_DIR, 'cluster-'));
    await mkdir(join(directory, 'net.d'));
    await mkdir(join(directory, 'bin'));
    await writeFile(join(directory, 'net.d/10-test.conflist'), JSON.stringify(CHAIN));
    label(true);
    server.put({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: 'shop', name: 'web' },
      spec: { serviceAccountName: 'web', nodeName: 'n1', containers: [{ name: 'app' }] },
      status: { phase: 'Pending' },
    });
    server.put({
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      metadata: { namespace: 'istio-system', name: 'istio-cni-node' },
      spec: { template: { spec: {} } },
    });
  });
  after(async () => {
    await server.close();
    await topology.close();
    await rm(directory, { recursive: true });
  });

  function label(isAmbient: boolean): void {
    const labels: Record<string, string> = isAmbient ? { 'istio.io/dataplane-mode': 'ambient' } : {};
    server.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop', labels } });
  }

  const at = (name: string) => join(directory, name);

  async function startAgent(): Promise<WatchedProcess> {
    const kubeconfig = server.writeKubeconfig(directory);
    const flags = {
      'node-name': 'n1',
      kubernetes: 'kubeconfig',
      kubeconfig,
      'host-root': '/',
      'run-directory': at('run'),
      'zds-socket': at('z/ztunnel.sock'),
      install: 'on',
      probes: 'off',
      'health-port': String(HEALTH),
      'monitoring-port': String(METRICS),
    };
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
    const child = spawn(process.execPath, [MAIN, 'agent', ...args], {
      env: {
        PATH: process.env['PATH'],
        NODE_COMPILE_CACHE: join(SANDBOX_DIR, 'compile-cache'),
        MOUNTED_CNI_NET_DIR: at('net.d'),
        AMBIT_CNI_BIN_DIR: at('bin'),
        AMBIT_CNI_FALLBACK: 'false',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    const agent = new WatchedProcess('agent', child);
    await agent.becomeReady(`http://127.0.0.1:${HEALTH}/readyz`, 30_000);
    return agent;
  }

  /** As a runtime runs it. */
  async function runPlugin(command: string): Promise<{ readonly code: number | null; readonly stdout: string }> {
    const chain = JSON.parse(await readFile(at('net.d/10-test.conflist'), 'utf8')) as { plugins: object[] };
    const prevResult = { cniVersion: '1.0.0', ips: [{ address: `${net.ip4}/32` }] };
    const child = spawn(at('bin/ambit-cni'), [], {
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: 'c1',
        CNI_NETNS: net.netnsPath,
        CNI_IFNAME: 'eth0',
        CNI_PATH: at('bin'),
        CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web',
      },
    });
    const plugin = { ...chain.plugins.at(-1), cniVersion: '1.0.0', name: 'test', prevResult };
    // A plugin that finds no agent ends without reading.
    child.stdin.on('error', () => undefined);
    child.stdin.end(JSON.stringify(plugin));
    const { promise, resolve } = Promise.withResolvers<{ code: number | null; stdout: string }>();
    let stdout = '';
    child.stdout.on('data', chunk => (stdout += String(chunk)));
    child.on('close', code => resolve({ code, stdout }));
    return promise;
  }

  async function untilStatus(status: string | undefined): Promise<void> {
    const deadline = AbortSignal.timeout(15_000);
    while (statusOf(server) !== status) {
      if (deadline.aborted) throw new Error(`the pod's status is not ${status}`);
      await new Promise(resolve => setImmediate(resolve));
    }
  }

  test('installs the plugin, lets a pod in and out, and says so on the pod', async () => {
    await using reactor = polled();
    const agent = await startAgent();
    assert.ok(existsSync(at('bin/ambit-cni')));
    const proxy = new FakeProxy(reactor.reactor, at('z/ztunnel.sock'));
    await proxy.takeSnapshot();
    const added = runPlugin('ADD');
    assert.equal((await proxy.next()).request.kind, 'add');
    proxy.ack();
    const { code, stdout } = await added;
    assert.equal(code, 0, stdout);
    assert.equal((JSON.parse(stdout) as { ips: { address: string }[] }).ips[0]?.address, `${net.ip4}/32`);
    await untilStatus('enabled');
    assert.equal((await runPlugin('CHECK')).code, 0);

    label(false);
    assert.equal((await proxy.next()).request.kind, 'del');
    proxy.ack();
    await untilStatus(undefined);
    label(true);
    await proxy.next();
    proxy.ack();
    await untilStatus('enabled');

    const metrics = await (await fetch(`http://127.0.0.1:${METRICS}/metrics`)).text();
    for (const line of [
      /^ztunnel_connected 1$/m,
      /^istio_cni_install_ready 1$/m,
      /^istio_cni_installs_total\{result="SUCCESS"\} 1$/m,
      /^istio_cni_plugin_requests_total\{response_code="200"\} 2$/m,
      /^nodeagent_reconcile_events_total\{type="update"\} [1-9]/m,
      /^ambit_agent_pods\{status="enabled"\} 1$/m,
    ]) {
      assert.match(metrics, line);
    }
    assert.equal((await fetch(`http://127.0.0.1:${HEALTH}/healthz`)).status, 200);
    const { json } = await askHttp(at('run/agent.sock'), 'GET', '/v1/status');
    assert.equal(json['notReady'], null);
    proxy.close();
    assert.deepEqual(await agent.stop(), { code: 0, signal: null });
  });

  test('an agent that is replaced leaves the plugin, which keeps members from starting; the next one takes over', async () => {
    assert.ok(existsSync(at('bin/ambit-cni')));
    const refused = await runPlugin('ADD');
    assert.equal(refused.code, 1);
    assert.match(refused.stdout, /"code":11/);
    assert.equal(statusOf(server), 'enabled');
    await using reactor = polled();
    const agent = await startAgent();
    const proxy = new FakeProxy(reactor.reactor, at('z/ztunnel.sock'));
    // No process of the pod runs here, so its network is not found: whoever serves it is to go on.
    assert.deepEqual(
      (await proxy.takeSnapshot()).map(({ request }) => request.kind),
      ['keep'],
    );
    assert.equal(statusOf(server), 'enabled');
    proxy.close();
    server.remove('DaemonSet', 'istio-system', 'istio-cni-node');
    assert.deepEqual(await agent.stop(), { code: 0, signal: null });
  });

  test('an agent that nobody follows has taken the plugin away, and the chain is as it was', async () => {
    assert.equal(existsSync(at('bin/ambit-cni')), false);
    assert.deepEqual(JSON.parse(await readFile(at('net.d/10-test.conflist'), 'utf8')), CHAIN);
  });
});

function statusOf(server: ApiServer): string | undefined {
  const pod = server.get('Pod', 'shop', 'web') as
    | { readonly metadata: { readonly annotations?: Readonly<Record<string, string>> } }
    | undefined;
  return pod?.metadata.annotations?.[STATUS];
}
