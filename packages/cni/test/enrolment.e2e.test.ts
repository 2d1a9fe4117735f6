// Enrolment in real namespaces with the real rules, against a ztunnel that answers what the test wants and carries nothing.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { after, afterEach, before, describe, test } from 'node:test';
import { SILENT_LOG } from '@ambit/log';
import { addAddress, deleteAddress, NetNs, ownedFdCount, Reactor, runNft } from '@ambit/native';
import { type PodNet, sandboxSkip, Topology } from '@ambit/testbed';
import { createCniHooks } from '../src/agent/cni-hooks.ts';
import { Enrolment, type EnrolmentOptions } from '../src/agent/enrolment.ts';
import { PodRegistry } from '../src/agent/pod-registry.ts';
import { StatusWriter } from '../src/agent/status-writer.ts';
import { CniError } from '../src/errors.ts';
import { NetnsFinder } from '../src/netns/netns-finder.ts';
import type { AgentPod } from '../src/pod/agent-pod.ts';
import { DEFAULT_SELECTORS } from '../src/pod/label-selector.ts';
import { NftablesBackend } from '../src/redirect/nft-backend.ts';
import { REDIRECTION_ANNOTATION } from '../src/sources/pod-source.ts';
import { ZdsServer } from '../src/zds/zds-server.ts';
import { FakeProxy } from './fake-proxy.ts';
import { ListSource, somePod } from './list-source.ts';

const PLAN = {
  dnsCapture: true,
  ipv6: true,
  probeSnat: { ip: '169.254.7.127', ip6: 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff' },
};
const UID = (n: number) => `3d3a5b1e-0c46-4d7f-9a55-${String(n).padStart(12, '0')}`;
const soon = (ms = 10_000) => AbortSignal.timeout(ms);
const fails =
  (code: string, text = /./) =>
  (error: unknown) =>
    error instanceof CniError && error.code === code && text.test(error.message);

describe('enrolment', { skip: sandboxSkip(), timeout: 120_000 }, () => {
  let topology: Topology;
  let nets: PodNet[];

  before(async () => {
    topology = await Topology.create(['n1']);
    const node = topology.nodes.get('n1');
    assert.ok(node);
    nets = [];
    for (const name of ['a', 'b', 'c']) nets.push(await topology.addPod(node, name));
  });
  afterEach(async () => {
    for (const { netnsPath } of nets) {
      using netns = NetNs.open(netnsPath);
      await new NftablesBackend().remove(netns);
    }
  });
  after(async () => topology.close());

  const net = (i: number): PodNet => {
    const found = nets[i];
    assert.ok(found);
    return found;
  };
  const podOn = (i: number, more: Partial<AgentPod> = {}): AgentPod => ({
    ...somePod(UID(i), [net(i).ip4, net(i).ip6]),
    name: `pod-${i}`,
    ...more,
  });

  /** A source whose pods of namespace `shop` are members. */
  function memberSource(): ListSource {
    const source = new ListSource();
    source.label('shop', true);
    return source;
  }

  /** As `bench`, begun, and ready for a ztunnel. */
  async function listening(source: ListSource, running: readonly number[]) {
    const agent = await bench(source, running);
    await agent.enrolment.start(soon());
    agent.zds.listen();
    return agent;
  }

  /** An agent's inner parts, as `Agent` wires them, with a procfs in which the named pods run. */
  async function bench(source: ListSource, processes: readonly number[], more: Partial<EnrolmentOptions> = {}) {
    const fdsBefore = ownedFdCount();
    const directory = await mkdtemp(join(tmpdir(), 'ambit-enrol-'));
    for (const i of processes) await runProcess(directory, 100 + i, UID(i), net(i).netnsPath);
    await symlinkNetns(directory, 1, '/proc/self/ns/net');
    const reactor = new Reactor();
    const running = { is: true };
    const polling = (async () => {
      while (running.is) await reactor.pollAsync(-1);
    })();
    const registry = new PodRegistry([source]);
    const status = new StatusWriter(async (uid, value) => registry.setStatus(uid, value), SILENT_LOG);
    const backend = new NftablesBackend();
    const zds: ZdsServer = new ZdsServer(reactor, join(directory, 'z.sock'), {
      acceptsPerSecond: 100,
      events: { onAnswer: (uid, error) => enrolment.onAnswer(uid, error) },
    });
    const finder = new NetnsFinder(join(directory, 'proc'), SILENT_LOG);
    const enrolment: Enrolment = new Enrolment(
      { registry, zds, backend, probes: undefined, finder, status, log: SILENT_LOG },
      {
        rules: { selectors: DEFAULT_SELECTORS, excludedNamespaces: ['kube-system'] },
        plan: PLAN,
        systemNamespace: 'istio-system',
        hostRoot: '',
        reconcileAtStart: true,
        answerTimeoutMs: 5_000,
        ...more,
      },
    );
    const hooks = createCniHooks({ registry, enrolment, backend, zds, isLifted: () => false, lookupTimeoutMs: 200 });
    const proxies: FakeProxy[] = [];
    return {
      enrolment,
      zds,
      hooks,
      backend,
      directory,
      proxy: () => {
        const proxy = new FakeProxy(reactor, zds.path);
        proxies.push(proxy);
        return proxy;
      },
      async [Symbol.asyncDispose]() {
        for (const proxy of proxies) proxy.close();
        await enrolment.close();
        zds.close();
        status.close();
        await registry.close();
        running.is = false;
        reactor.close();
        await polling;
        await rm(directory, { recursive: true });
        assert.equal(ownedFdCount(), fdsBefore, 'no descriptor is left');
      },
    };
  }

  async function drift(i: number, isMember: boolean): Promise<readonly string[]> {
    using netns = NetNs.open(net(i).netnsPath);
    const plan = isMember ? { ...PLAN, bypassInbound: false, virtualInterfaces: [] } : undefined;
    const found = await new NftablesBackend().verify(netns, plan, undefined);
    return found.drift.map(({ what }) => what);
  }

  test('the plugin’s pod is captured first, then announced, then enabled; again is the same', async () => {
    const source = memberSource();
    await using agent = await listening(source, []);
    const proxy = agent.proxy();
    await proxy.takeSnapshot();
    assert.equal((await agent.hooks.lookup('shop', 'pod-0', soon())).kind, 'unknown');
    const pod = podOn(0, { ips: [] });
    source.put(pod);
    assert.deepEqual(await agent.hooks.lookup('shop', 'pod-0', soon()), { kind: 'member', pod });
    const enrolled = agent.hooks.enrol(pod, [net(0).ip4], net(0).netnsPath, soon());
    const { request, namespaces } = await proxy.next();
    assert.equal(request.kind, 'add');
    assert.equal(namespaces.length, 1);
    assert.deepEqual(await drift(0, true), [], 'the rules are there before ztunnel is told');
    assert.equal(agent.enrolment.entry(pod.uid)?.state.kind, 'captured');
    proxy.ack();
    await enrolled;
    assert.equal(agent.enrolment.entry(pod.uid)?.state.kind, 'served');
    await agent.hooks.enrol(pod, [net(0).ip4], net(0).netnsPath, soon());
    assert.equal(proxy.unread, 0);
    assert.deepEqual(await agent.hooks.check(pod, net(0).netnsPath), []);
    assert.match((await agent.hooks.check(pod, net(1).netnsPath)).join(), /is not the network it was enrolled with/);
    assert.deepEqual(source.statuses, ['pod-0 pending', 'pod-0 enabled']);
    source.drop(pod.uid);
    assert.equal((await proxy.next()).request.kind, 'del');
    proxy.ack();
    await gone(agent.enrolment, pod.uid);
  });

  test('what annotations say of reading requests goes along, the pod’s before its namespace’s, and again when it changes', async () => {
    const source = memberSource();
    source.label('shop', true, { 'ambit.io/l7': 'off' });
    const pod = podOn(0);
    source.put(pod);
    await using agent = await listening(source, [0]);
    const proxy = agent.proxy();
    const told = async () => {
      const { request } = await proxy.next();
      proxy.ack();
      return request.kind === 'add' ? request.info.l7 : request.kind;
    };
    assert.equal(await told(), 'off');
    assert.equal(await told(), 'snapshotSent');
    await settled(agent.enrolment, pod.uid, 'served');
    source.put({ ...pod, annotations: { 'ambit.io/l7': 'off,8080=on' } });
    assert.equal(await told(), 'off,8080=on');
    source.put(pod);
    assert.equal(await told(), 'off');
    source.label('shop', true);
    assert.equal(await told(), undefined);
    source.put({ ...pod, annotations: { 'ambit.io/l7': 'x'.repeat(129) } });
    source.put({ ...pod, annotations: { 'ambit.io/l7': 'on' } });
    assert.equal(await told(), 'on', 'what is too long is left out, which is what was said before');
    await agent.enrolment.enrol(pod, { ips: [], netnsPath: undefined }, soon());
    assert.equal(agent.enrolment.entry(pod.uid)?.state.kind, 'served');
    assert.equal(proxy.unread, 0);
  });

  test('an ADD without a ztunnel waits as long as it may, fails as pending, and is finished when one comes', async () => {
    const source = memberSource();
    await using agent = await listening(source, []);
    const pod = podOn(0);
    source.put(pod);
    assert.equal(agent.hooks.notReady(), 'no ztunnel is connected to the agent');
    await assert.rejects(agent.hooks.enrol(pod, [], net(0).netnsPath, soon(50)), fails('enrol.no_ztunnel'));
    assert.deepEqual(await drift(0, true), [], 'it is captured, so it fails closed');
    assert.equal(source.status(pod.uid), 'pending');
    const waiting = agent.hooks.enrol(pod, [], net(0).netnsPath, soon());
    const proxy = agent.proxy();
    await proxy.takeSnapshot();
    await waiting;
    assert.equal(source.status(pod.uid), 'enabled');
    assert.equal(agent.hooks.notReady(), undefined);
    source.put({
      ...pod,
      annotations: { [REDIRECTION_ANNOTATION]: 'enabled' },
      labels: { 'istio.io/dataplane-mode': 'none' },
    });
    assert.equal((await proxy.next()).request.kind, 'del');
    proxy.ack();
    await settled(agent.enrolment, pod.uid, 'outside');
    assert.deepEqual(await drift(0, false), [], 'nothing of ours is left in it');
    assert.equal(source.status(pod.uid), undefined);
  });

  test('a running pod is found by its process, taken in when its namespace is labelled, and let go', async () => {
    const source = new ListSource();
    source.label('shop', false);
    for (const i of [1, 2]) source.put(podOn(i));
    source.put({ ...somePod('host', ['10.0.0.1']), hostNetwork: true });
    await using agent = await listening(source, [1, 2]);
    const proxy = agent.proxy();
    assert.deepEqual(await proxy.takeSnapshot(), []);
    source.label('shop', true);
    for (let n = 0; n < 2; n++) {
      assert.equal((await proxy.next()).request.kind, 'add');
      proxy.ack();
    }
    for (const i of [1, 2]) await settled(agent.enrolment, UID(i), 'served');
    for (const i of [1, 2]) assert.deepEqual(await drift(i, true), []);
    assert.equal(source.status('host'), undefined);
    source.label('shop', false);
    for (let n = 0; n < 2; n++) {
      assert.equal((await proxy.next()).request.kind, 'del');
      proxy.ack();
    }
    for (const i of [1, 2]) await settled(agent.enrolment, UID(i), 'outside');
    for (const i of [1, 2]) assert.deepEqual(await drift(i, false), []);
    assert.deepEqual(
      [UID(1), UID(2)].map(uid => source.status(uid)),
      [undefined, undefined],
    );
  });

  test('a refusal makes a pod pending and is asked again; a broken namespace is not', async () => {
    const source = memberSource();
    source.put(podOn(1, { netnsPath: net(1).netnsPath }));
    await using agent = await listening(source, []);
    const proxy = agent.proxy();
    await proxy.next();
    proxy.ack('no room');
    await proxy.next();
    proxy.ack();
    assert.equal((await proxy.next()).request.kind, 'add');
    proxy.ack();
    await settled(agent.enrolment, UID(1), 'served');
    assert.deepEqual(source.statuses, ['pod-1 pending', 'pod-1 enabled']);
    source.put(podOn(2, { netnsPath: '/nowhere' }));
    await settled(agent.enrolment, UID(2), 'outside');
    assert.equal(agent.enrolment.entry(UID(2))?.problem?.code, 'enrol.no_netns');
    assert.equal(agent.enrolment.entry(UID(2))?.timer, undefined);
  });

  test('a ztunnel that refuses a pod for ever is asked less and less often', async () => {
    const source = memberSource();
    source.put(podOn(1, { netnsPath: net(1).netnsPath }));
    await using agent = await listening(source, []);
    const proxy = agent.proxy();
    const deadline = soon(600);
    let asked = 0;
    const refuse = async () => {
      for (;;) {
        const { request } = await proxy.next();
        proxy.ack(request.kind === 'add' ? 'no room' : undefined);
        if (request.kind === 'add') asked++;
      }
    };
    void refuse();
    await once(deadline, 'abort');
    // 5, 10, 20, … ms apart; as often as it answers would be hundreds.
    assert.ok(asked >= 3 && asked < 12, `asked ${asked} times in 600 ms`);
  });

  test('what happens to a pod while a new agent still looks for its namespace loses nothing', async () => {
    const source = memberSource();
    for (const i of [1, 2]) source.put(podOn(i));
    await using agent = await bench(source, [1, 2]);
    // More processes than are looked at in one go.
    for (let pid = 1000; pid < 1300; pid++) await mkdir(join(agent.directory, 'proc', String(pid)));
    const starting = agent.enrolment.start(soon());
    while (agent.hooks.notReady() === 'the agent does not know the pods of this node yet') await nextTurn();
    source.put(podOn(1, { labels: { version: 'v2' } }));
    source.drop(UID(2));
    await starting;
    agent.zds.listen();
    const proxy = agent.proxy();
    const served = await proxy.takeSnapshot();
    assert.deepEqual(
      served.map(({ request, namespaces }) => [request.kind, 'uid' in request && request.uid, namespaces.length]),
      [['add', UID(1), 1]],
    );
    await settled(agent.enrolment, UID(1), 'served');
    await gone(agent.enrolment, UID(2));
  });

  test('two pods that ask for the same namespace at once do not both get it', async () => {
    const source = memberSource();
    await using agent = await listening(source, []);
    await agent.proxy().takeSnapshot();
    const pods = [podOn(0), podOn(1, { ips: [net(0).ip4] })];
    for (const pod of pods) source.put({ ...pod, ips: [] });
    const outcomes = await Promise.allSettled(
      pods.map(async pod => agent.hooks.enrol(pod, pod.ips, net(0).netnsPath, soon(300))),
    );
    const codes = outcomes.map(outcome => outcome.status === 'rejected' && (outcome.reason as CniError).code);
    assert.deepEqual(codes.map(String).sort(), ['enrol.netns_foreign', 'enrol.timeout']);
  });

  test('a pod that comes back while it is being given up is enrolled and known', async () => {
    const source = memberSource();
    source.put(podOn(1));
    await using agent = await listening(source, [1]);
    const proxy = agent.proxy();
    await proxy.takeSnapshot();
    await settled(agent.enrolment, UID(1), 'served');
    source.drop(UID(1));
    assert.equal((await proxy.next()).request.kind, 'del');
    source.put(podOn(1));
    proxy.ack();
    assert.equal((await proxy.next()).request.kind, 'add');
    proxy.ack();
    await settled(agent.enrolment, UID(1), 'served');
  });

  test('two namespaces for a pod, two pods for a namespace, and the node’s own are refused', async () => {
    const source = memberSource();
    await using agent = await listening(source, []);
    const proxy = agent.proxy();
    await proxy.takeSnapshot();
    const enrol = async (pod: AgentPod, path: string) => {
      source.put(pod);
      await agent.hooks.enrol(pod, pod.ips, path, soon(500));
    };
    const foreign = (text: RegExp) => fails('enrol.netns_foreign', text);
    await assert.rejects(enrol(podOn(0), net(1).netnsPath), foreign(/none of 10\.61\.1\.1, .* is on an interface/));
    await assert.rejects(enrol(podOn(0), '/proc/self/ns/net'), foreign(/the node's own network/));
    await assert.rejects(enrol(podOn(0), net(0).netnsPath), fails('enrol.timeout'));
    await proxy.next();
    proxy.ack();
    await assert.rejects(enrol(podOn(1, { ips: [net(0).ip4] }), net(0).netnsPath), foreign(/is held for pod/));
    assert.deepEqual(await drift(1, false), [], 'nothing was done to the other pod');
    // The same address in two networks: whoever hands over the second may be lying.
    const node = topology.nodes.get('n1');
    assert.ok(node);
    const twin = await topology.addPod(node, 'twin');
    using inTwin = NetNs.open(twin.netnsPath);
    inTwin.run(() => addAddress(1, `${net(0).ip4}/32`));
    await assert.rejects(enrol(podOn(0), twin.netnsPath), foreign(/has the pod's address as well/));
    source.drop(UID(0));
    // The first pod is gone, so its network may be another's, even before all is done that its end asks for.
    const enrolled = enrol(podOn(1, { ips: [net(0).ip4] }), net(0).netnsPath);
    for (const kind of ['del', 'add']) {
      assert.equal((await proxy.next()).request.kind, kind);
      proxy.ack();
    }
    await enrolled;
    await topology.removePod(twin);
  });

  test('a new agent announces what runs before any ztunnel is let in, mends its rules and keeps its status', async () => {
    const source = memberSource();
    for (const i of [1, 2]) source.put(podOn(i));
    {
      await using first = await bench(source, [1, 2]);
      await first.enrolment.start(soon());
      first.zds.listen();
      await first.proxy().takeSnapshot();
      for (const i of [1, 2]) await settled(first.enrolment, UID(i), 'served');
    }
    for (const i of [1, 2]) assert.deepEqual(await drift(i, true), [], 'a dead agent leaves members captured');
    {
      using netns = NetNs.open(net(1).netnsPath);
      await new NftablesBackend().remove(netns);
    }
    source.statuses.length = 0;
    // Its process is not seen this time: whoever serves it goes on.
    await using second = await bench(source, [1]);
    await second.enrolment.start(soon());
    assert.deepEqual(await drift(1, true), [], 'the rules are back before anybody connects');
    second.zds.listen();
    const requests = (await second.proxy().takeSnapshot()).map(({ request }) => request);
    assert.deepEqual(
      requests.map(request => [request.kind, 'uid' in request ? request.uid : '']),
      [
        ['add', UID(1)],
        ['keep', UID(2)],
      ],
    );
    await settled(second.enrolment, UID(1), 'served');
    assert.deepEqual(source.statuses, [], 'nobody was told that a served pod is not');
    assert.equal(source.status(UID(2)), 'enabled');
  });

  for (const [where, hasRules, note] of [
    ['before the rules', false, undefined],
    ['between rules and ztunnel', true, undefined],
    ['between ztunnel and the last note', true, 'pending'],
    ['after all of it, with its rules flushed since', false, 'enabled'],
  ] as const) {
    test(`an agent that died ${where}: the next one ends where it should, captured first`, async () => {
      const source = new ListSource();
      source.label('shop', true);
      source.put(podOn(1, note === undefined ? {} : { annotations: { [REDIRECTION_ANNOTATION]: note } }));
      if (hasRules) {
        using netns = NetNs.open(net(1).netnsPath);
        await new NftablesBackend().apply(netns, { ...PLAN, bypassInbound: false, virtualInterfaces: [] });
      }
      await using agent = await bench(source, [1]);
      await agent.enrolment.start(soon());
      assert.deepEqual(await drift(1, true), [], 'captured before a ztunnel is let in');
      agent.zds.listen();
      const announced = await agent.proxy().takeSnapshot();
      assert.deepEqual(
        announced.map(({ request }) => request.kind),
        ['add'],
      );
      await settled(agent.enrolment, UID(1), 'served');
      assert.equal(source.status(UID(1)), 'enabled');
    });
  }

  test('of two namespaces of a pod the one with its oldest process counts, whichever is seen first', async () => {
    const source = memberSource();
    source.put(podOn(1));
    await using agent = await bench(source, []);
    using decoy = NetNs.open(net(2).netnsPath);
    decoy.run(() => addAddress(1, `${net(1).ip4}/32`));
    // PIDs have wrapped: a late process of the right one comes first, then the decoy, then the pod's first process.
    await runProcess(agent.directory, 100, UID(1), net(1).netnsPath, 900);
    await runProcess(agent.directory, 101, UID(1), net(2).netnsPath, 500);
    await runProcess(agent.directory, 102, UID(1), net(1).netnsPath, 10);
    await agent.enrolment.start(soon());
    assert.equal(agent.enrolment.isNetnsOf(UID(1), net(1).netnsPath), true);
    decoy.run(() => deleteAddress(1, `${net(1).ip4}/32`));
  });

  test('rules that cannot be taken out cost no descriptor, however often that is tried', async () => {
    const source = new ListSource();
    source.label('shop', false);
    const noted = { annotations: { [REDIRECTION_ANNOTATION]: 'enabled' } };
    await using agent = await bench(source, [1]);
    await agent.enrolment.start(soon());
    using netns = NetNs.open(net(1).netnsPath);
    const tables = (verb: string) => ({
      nftables: Array.from({ length: 1500 }, (_, i) => ({ [verb]: { table: { family: 'inet', name: `t${i}` } } })),
    });
    netns.run(() => runNft(tables('add')));
    const counts: number[] = [];
    for (let n = 0; n < 3; n++) {
      source.put(podOn(1, { ...noted, labels: { n: String(n) } }));
      await settled(agent.enrolment, UID(1), 'outside');
      assert.equal(agent.enrolment.entry(UID(1))?.problem?.code, 'enrol.rules');
      counts.push(ownedFdCount());
    }
    assert.equal(counts[2], counts[0]);
    netns.run(() => runNft(tables('delete')));
  });

  test('a pod that ended is given up, and what vanished without a word is collected', async () => {
    const source = memberSource();
    source.put(podOn(1));
    await using agent = await listening(source, [1]);
    const proxy = agent.proxy();
    await proxy.takeSnapshot();
    await settled(agent.enrolment, UID(1), 'served');
    source.put(podOn(1, { phase: 'Succeeded', ips: [] }));
    assert.equal((await proxy.next()).request.kind, 'del');
    proxy.ack();
    await settled(agent.enrolment, UID(1), 'outside');
    // The plugin knows it, no source does.
    await assert.rejects(agent.hooks.enrol(podOn(2), [], net(2).netnsPath, soon(100)), fails('enrol.timeout'));
    proxy.ack();
    await agent.hooks.collect([]);
    assert.equal((await proxy.next()).request.kind, 'add');
    assert.equal((await proxy.next()).request.kind, 'del');
    proxy.ack();
    await gone(agent.enrolment, UID(2));
  });
});

/** Waits until a pod is in a state and nothing more is to happen to it. */
async function settled(enrolment: Enrolment, uid: string, kind: string): Promise<void> {
  for (const until = soon(); !until.aborted; ) {
    const entry = enrolment.entry(uid);
    await entry?.tail;
    if (entry?.state.kind === kind && !entry.isQueued) return;
    await new Promise(resolve => setImmediate(resolve));
  }
  throw new Error(
    `${uid} is ${enrolment.entry(uid)?.state.kind}, not ${kind}: ${enrolment.entry(uid)?.problem?.message}`,
  );
}

async function gone(enrolment: Enrolment, uid: string): Promise<void> {
  for (const until = soon(); !until.aborted; ) {
    if (enrolment.entry(uid) === undefined) return;
    await new Promise(resolve => setImmediate(resolve));
  }
  throw new Error(`${uid} is still there`);
}

async function runProcess(directory: string, pid: number, uid: string, netnsPath: string, ticks = 19): Promise<void> {
  await symlinkNetns(directory, pid, netnsPath);
  const at = join(directory, 'proc', String(pid));
  await writeFile(join(at, 'cgroup'), `0::/kubepods/besteffort/pod${uid}/${'ab'.repeat(32)}\n`);
  const fields = Array.from({ length: 40 }, (_, i) => String(i === 18 ? ticks : i)).join(' ');
  await writeFile(join(at, 'stat'), `${pid} (app) S ${fields}\n`);
}

async function symlinkNetns(directory: string, pid: number, netnsPath: string): Promise<void> {
  const ns = join(directory, 'proc', String(pid), 'ns');
  await mkdir(ns, { recursive: true });
  await symlink(netnsPath, join(ns, 'net'));
}
