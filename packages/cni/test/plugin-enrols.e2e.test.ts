// The installed executable, a node agent in its own process, and a pod: all real but ztunnel, which here says yes to everything.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Reactor } from '@ambit/native';
import { type Pod, SANDBOX_DIR, sandboxSkip, Testbed } from '@ambit/testbed';
import { architectureOf } from '../src/install/install-environment.ts';
import { install } from '../src/install/install.ts';
import { AgentUnderTest, asAgentPod } from './agent-under-test.ts';
import { CniFailure, CniRuntime } from './cni-runtime.ts';
import { FakeProxy } from './fake-proxy.ts';

/** A chain whose first plugin is a stand-in for one that has made the pod's network. */
function installed(runDir: string, pod: Pod): CniRuntime {
  const dir = mkdtempSync(join(SANDBOX_DIR, 'host-'));
  const [confDir, binDir] = [join(dir, 'net.d'), join(dir, 'bin')];
  for (const each of [confDir, binDir]) mkdirSync(each);
  const result = JSON.stringify({
    cniVersion: '1.0.0',
    ips: [{ address: `${pod.ip4}/24` }, { address: `${pod.ip6}/64` }],
  });
  writeFileSync(join(binDir, 'first'), `#!/bin/sh\ncat > /dev/null\necho '${result}'\n`, { mode: 0o755 });
  const list = { cniVersion: '1.0.0', name: 'net', plugins: [{ type: 'first' }] };
  writeFileSync(join(confDir, '10-net.conflist'), JSON.stringify(list));
  const entry = { runDir, agentNamespace: 'istio-system', excludedNamespaces: [] };
  const architecture = architectureOf(process.arch);
  install({ mode: 'chained', confDir, binDirs: [binDir], hostBinDir: binDir, architecture, entry });
  return new CniRuntime(join(confDir, '10-net.conflist'), [binDir]);
}

/** Says yes until the agent hangs up. */
function yeasayer(path: string): { readonly done: Promise<void> } {
  const reactor = new Reactor();
  const proxy = new FakeProxy(reactor, path);
  let isOver = false;
  const polling = (async () => {
    while (!isOver) await reactor.pollAsync(-1);
  })();
  void (async () => {
    for (;;) {
      await proxy.next();
      proxy.ack();
    }
  })();
  const end = async () => {
    await proxy.ended;
    isOver = true;
    reactor.close();
    await polling;
  };
  return { done: end() };
}

test('a member starts with its rules in place, and not at all without an agent', { skip: sandboxSkip() }, async () => {
  await using bed = await Testbed.create({ nodes: ['n1'], enrolment: 'outside' });
  const node = bed.node('n1');
  const agent = await AgentUnderTest.start(node, [{ kind: 'label', name: 'shop', isAmbient: true }]);
  const { done } = yeasayer(node.agent.path);
  const pod = await bed.addPod({ node: 'n1', name: 'cart', namespace: 'shop' });
  agent.tell({ kind: 'put', pod: asAgentPod(pod, { ips: [], netnsPath: undefined, phase: 'Pending' }) });
  const runtime = installed(agent.runDirectory, pod);
  const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart;K8S_POD_UID=${pod.uid}`;
  const sandbox = { containerId: 'c1', netnsPath: pod.netnsPath, args };

  const result = await runtime.add(sandbox);
  assert.deepEqual((result['ips'] as unknown[]).length, 2);
  const rules = execFileSync('nsenter', [`--net=${pod.netnsPath}`, 'nft', 'list', 'ruleset']).toString();
  assert.match(rules, /15001/);
  assert.match(rules, /15006/);
  await agent.until(pod.uid, 'enabled');
  await runtime.check(sandbox, result);
  await runtime.del(sandbox, result);

  await agent.stop();
  await done;
  await assert.rejects(
    runtime.add(sandbox),
    (error: unknown) => error instanceof CniFailure && error.json['code'] === 11,
  );
});
