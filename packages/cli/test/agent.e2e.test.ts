// The node agent between real namespaces and real ztunnels: what it promises when pods come and go and when any part dies.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { NetNs, openPacketSocket, recv, runNft, setReceiveBuffer, Slab } from '@ambit/native';
import { type BedNode, type Pod, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { type Mesh, makeMesh, startOurs } from '../../ztunnel/test/e2e-mesh.ts';
import { echo, Net, tryEcho } from '../../ztunnel/test/e2e-net.ts';
import { encodeCmdAdd } from '@ambit/cni';
import { askHttp } from '../../cni/test/agent-socket.ts';
import { AgentUnderTest, asAgentPod } from '../../cni/test/agent-under-test.ts';
import type { Word } from '../../cni/test/agent-process.ts';

const ECHO = 7000;
const MEMBERS: Word = { kind: 'label', name: 'shop', isAmbient: true };
const put = (pod: Pod): Word => ({ kind: 'put', pod: asAgentPod(pod) });

describe('the node agent', { skip: sandboxSkip(), timeout: 240_000 }, () => {
  let mesh: Mesh;
  let net: Net;
  let n1: BedNode;
  let web: Pod;
  let cart: Pod;
  let agents: AgentUnderTest[];
  let ztunnels: ZtunnelProcess[];
  let reached = 0;

  before(async () => {
    mesh = await makeMesh('outside');
    net = new Net();
    n1 = mesh.bed.node('n1');
    web = await mesh.bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await mesh.bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    net.serve(cart, ECHO, socket => {
      reached++;
      socket.pipe(socket);
    });
    agents = await Promise.all([startAgent(web), startAgent(cart)]);
    ztunnels = await Promise.all(['n1', 'n2'].map(async node => startOurs(mesh.bed, node)));
    await Promise.all([agentOf(0).until(web.uid, 'enabled'), agentOf(1).until(cart.uid, 'enabled')]);
  });

  after(async () => {
    await Promise.all(agents.map(async agent => agent.stop()));
    await mesh[Symbol.asyncDispose]();
    await net[Symbol.asyncDispose]();
  });

  async function startAgent(pod: Pod, flags = {}): Promise<AgentUnderTest> {
    return AgentUnderTest.start(mesh.bed.node(pod.node.name), [MEMBERS, put(pod)], flags);
  }

  function agentOf(index: number): AgentUnderTest {
    const agent = agents[index];
    assert.ok(agent);
    return agent;
  }

  function ztunnelOf(index: number): ZtunnelProcess {
    const ztunnel = ztunnels[index];
    assert.ok(ztunnel);
    return ztunnel;
  }

  const call = async (from = web) => tryEcho(net, from, cart.ip4, ECHO);

  /** How long until a call gets through again, from now. */
  async function outage(): Promise<number> {
    const begun = performance.now();
    while ((await call()) !== 'ok') {
      if (performance.now() - begun > 30_000) throw new Error('it does not come back');
    }
    return performance.now() - begun;
  }

  test('enrols pods that a source tells of; they speak through the mesh', async () => {
    assert.equal(await call(), 'ok');
    const both =
      /src\.identity="?spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web|"src\.identity":"spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web/;
    await ztunnelOf(1).waitForLine(both);
    const status = await agentOf(0).ask('/v1/status');
    assert.deepEqual(status['ztunnels'], { connected: 1, synced: 1, socket: n1.agent.path });
    assert.deepEqual(status['pods'], { enabled: 1, pending: 0, none: 0 });
    for (const name of ['agent.sock', 'cni.sock', 'pluginevent.sock', 'log.sock']) {
      assert.equal(statSync(join(agentOf(0).runDirectory, name)).mode & 0o777, 0o600, name);
    }
  });

  test('answers plugins of both makes: a member is let in, an outsider passes, nonsense is refused', async () => {
    const agent = agentOf(0);
    const added = await mesh.bed.addPod({ node: 'n1', name: 'added', namespace: 'shop' });
    const unknown = await agent.cni('ADD', added);
    assert.equal(unknown.status, 1);
    assert.match(unknown.stdout, /"code":11,.*no source has told of pod shop\/added/);
    agent.tell({ kind: 'put', pod: asAgentPod(added, { ips: [], netnsPath: undefined, phase: 'Pending' }) });
    const { status, stdout } = await agent.cni('ADD', added);
    assert.equal(status, 0, stdout);
    assert.equal((JSON.parse(stdout) as { ips: unknown[] }).ips.length, 2);
    await agent.until(added.uid, 'enabled');
    assert.equal(await call(added), 'ok');
    assert.deepEqual(await agent.cni('CHECK', added), { status: 0, stdout: '' });
    assert.equal((await agent.cni('STATUS', added, { cniVersion: '1.1.0' })).status, 0);

    const socket = join(agent.runDirectory, 'pluginevent.sock');
    const event = (podName: string) =>
      encodeCmdAdd({ netnsPath: added.netnsPath, podName, podNamespace: 'shop', ips: [] });
    assert.equal((await askHttp(socket, 'POST', '/cmdadd', event('added'))).status, 200);
    assert.equal((await askHttp(socket, 'POST', '/cmdadd', `${event('added')} junk`)).status, 400);
    assert.equal((await askHttp(socket, 'POST', '/cmdadd', '')).status, 400);
    const refused = await askHttp(socket, 'POST', '/cmdadd', event('nobody'));
    assert.equal(refused.status, 500);
    assert.match(refused.text, /shop\/nobody/);
    const record = JSON.stringify({ level: 'warn', time: new Date(0).toISOString(), msg: 'from the plugin' });
    const logged = await askHttp(join(agent.runDirectory, 'log.sock'), 'POST', '/log', JSON.stringify([record]));
    assert.equal(logged.status, 200);
    await agent.waitForLine(/from the plugin/);
    agent.tell({ kind: 'drop', uid: added.uid });
    await ztunnelOf(0).waitForLine(/added/);
    await added.delete();
  });

  test('what is open when a pod joins or leaves the mesh', async t => {
    const plain = await mesh.bed.addPod({ node: 'n1', name: 'plain', namespace: 'shop', enrolled: false });
    const other = await mesh.bed.addPod({ node: 'n2', name: 'other', namespace: 'shop', enrolled: false });
    net.serve(other, ECHO, socket => socket.pipe(socket));
    const open: Socket = await net.connect(plain, other.ip4, ECHO);
    await echo(open, 'before');
    agentOf(0).tell(put(plain));
    await agentOf(0).until(plain.uid, 'enabled');
    const joined = await survives(open);
    const second = await net.connect(plain, other.ip4, ECHO);
    await echo(second, 'a member');
    agentOf(0).tell({ kind: 'put', pod: asAgentPod(plain, { labels: { 'istio.io/dataplane-mode': 'none' } }) });
    await agentOf(0).until(plain.uid, 'none');
    t.diagnostic(`open when joining: ${joined ? 'goes on' : 'ends'}; then when leaving: ${await survives(open)}`);
    t.diagnostic(`made through ztunnel, when leaving: ${(await survives(second)) ? 'goes on' : 'ends'}`);
    assert.equal(await tryEcho(net, plain, other.ip4, ECHO), 'ok');
    for (const socket of [open, second]) socket.destroy();
    agentOf(0).tell({ kind: 'drop', uid: plain.uid });
    await plain.delete();
    await other.delete();
  });

  test('a ztunnel that is killed and comes back gets its pods again; meanwhile nothing passes it', async t => {
    ztunnelOf(0).process.kill('SIGKILL');
    await ztunnelOf(0).ended;
    const reachedBefore = reached;
    assert.notEqual(await call(), 'ok');
    assert.equal(reached, reachedBefore, 'it failed closed');
    const connected = agentOf(0)
      .nextLine(/A ztunnel connected/)
      .then(() => performance.now());
    const started = startOurs(mesh.bed, 'n1');
    const since = await connected;
    await outage();
    t.diagnostic(`calls pass ${(performance.now() - since).toFixed(0)} ms after the new ztunnel connected`);
    const restarted = await started;
    ztunnels[0] = restarted;
    await agentOf(0).until(web.uid, 'enabled');
  });

  test('an agent that is killed breaks nothing, and its successor takes up what there is', async () => {
    const open = await net.connect(web, cart.ip4, ECHO);
    await echo(open, 'one');
    await agentOf(0).kill();
    await echo(open, 'nobody there');
    assert.equal(await call(), 'ok');
    {
      // Not the whole table: without it the kernel would stop to translate what is open.
      using netns = NetNs.open(web.netnsPath);
      const chain = { family: 'inet', table: 'istio-ambient-nat', name: 'istio-output' };
      netns.run(() => runNft({ nftables: [{ flush: { chain } }] }));
    }
    agents[0] = await startAgent(web);
    await agentOf(0).until(web.uid, 'enabled');
    await echo(open, 'still the same');
    open.destroy();
    assert.equal(await call(), 'ok');
    const pods = await agentOf(0).pods();
    assert.deepEqual(
      pods.map(({ name, state }) => [name, state]),
      [['web', 'served']],
    );
  });

  test('with agent and ztunnel both dead pods fail closed, until either comes back', async () => {
    await agentOf(0).kill();
    ztunnelOf(0).process.kill('SIGKILL');
    await ztunnelOf(0).ended;
    const reachedBefore = reached;
    for (let i = 0; i < 5; i++) assert.notEqual(await call(), 'ok');
    assert.equal(reached, reachedBefore);
    [agents[0], ztunnels[0]] = await Promise.all([startAgent(web), startOurs(mesh.bed, 'n1')]);
    await outage();
  });

  test('fail mode open: after a while members speak past the mesh, and are captured again with the next ztunnel', async () => {
    await agentOf(0).stop();
    agents[0] = await startAgent(web, { failMode: 'open', failOpenAfter: '300ms' });
    await agentOf(0).until(web.uid, 'enabled');
    ztunnelOf(0).process.kill('SIGKILL');
    await ztunnelOf(0).ended;
    await agentOf(0).until(web.uid, 'pending');
    await outage();
    const late = await mesh.bed.addPod({ node: 'n1', name: 'late', namespace: 'shop' });
    agentOf(0).tell({ kind: 'put', pod: asAgentPod(late, { ips: [], netnsPath: undefined, phase: 'Pending' }) });
    assert.equal((await agentOf(0).cni('ADD', late)).status, 0, 'new pods start too');
    ztunnels[0] = await startOurs(mesh.bed, 'n1');
    for (const { uid } of [web, late]) await agentOf(0).until(uid, 'enabled');
    await outage();
    await freeze(ztunnelOf(0));
    const reachedBefore = reached;
    const stuck = call();
    await delay(100);
    assert.equal(reached, reachedBefore, 'it goes through ztunnel again');
    ztunnelOf(0).process.kill('SIGCONT');
    await stuck;
    await agentOf(0).stop();
    agents[0] = await startAgent(web);
    await late.delete();
  });

  test('ten pods that start while ztunnel restarts are all enrolled, and no packet of theirs passes it', async t => {
    const names = Array.from({ length: 10 }, (_, i) => `burst-${i}`);
    const pods: Pod[] = [];
    for (const name of names) pods.push(await mesh.bed.addPod({ node: 'n1', name, namespace: 'shop' }));
    agentOf(0).tell(
      ...pods.map((pod): Word => ({ kind: 'put', pod: asAgentPod(pod, { ips: [], netnsPath: undefined }) })),
    );
    using watch = watchUplink(n1);
    ztunnelOf(0).process.kill('SIGKILL');
    await ztunnelOf(0).ended;
    const calls = pods.map(async pod => {
      const { status, stdout } = await agentOf(0).cni('ADD', pod);
      assert.equal(status, 0, stdout);
      // Its program starts now, and not before.
      return call(pod);
    });
    const [restarted, ...results] = await Promise.all([startOurs(mesh.bed, 'n1'), ...calls]);
    ztunnels[0] = restarted;
    t.diagnostic(`first calls: ${results.map(String).join(' ')}`);
    for (const pod of pods) await agentOf(0).until(pod.uid, 'enabled');
    for (const pod of pods) assert.equal(await call(pod), 'ok');
    const { tunnel, plain } = watch.read();
    assert.ok(tunnel > 0, 'the capture sees the tunnel');
    assert.equal(plain, 0, 'and nothing that goes to the application’s port');
    for (const pod of pods) {
      agentOf(0).tell({ kind: 'drop', uid: pod.uid });
      await pod.delete();
    }
  });
});

/** Stops all threads of it; after the signal alone they may still run for a moment. */
async function freeze(ztunnel: ZtunnelProcess): Promise<void> {
  ztunnel.process.kill('SIGSTOP');
  const tasks = `/proc/${ztunnel.process.pid}/task`;
  const isRunning = (task: string) => !/\) T /.test(readFileSync(`${tasks}/${task}/stat`, 'utf8'));
  while (readdirSync(tasks).some(isRunning)) await new Promise(resolve => setImmediate(resolve));
}

async function survives(socket: Socket): Promise<boolean> {
  try {
    await echo(socket, 'still there?');
    return true;
  } catch {
    return false;
  }
}

/** Counts what leaves or enters a node by its link: to tunnel ports, and to the application's port. */
function watchUplink(node: BedNode) {
  using netns = NetNs.open(node.netnsPath);
  const fd = netns.run(() => openPacketSocket(node.uplink));
  setReceiveBuffer(fd, 8 << 20);
  const slab = Slab.allocate(128 << 10);
  return {
    read: () => {
      const counts = { tunnel: 0, plain: 0 };
      for (;;) {
        const length = recv(fd, slab, 0, slab.size);
        if (length <= 0) return counts;
        const ports = portsOf(slab.bytes.subarray(0, length));
        if (ports.includes(15008)) counts.tunnel++;
        if (ports.includes(ECHO)) counts.plain++;
      }
    },
    [Symbol.dispose]: () => {
      fd.close();
      slab.close();
    },
  };
}

/** Of a TCP segment in an Ethernet frame. */
function portsOf(frame: Buffer): readonly number[] {
  const type = frame.readUInt16BE(12);
  const at = type === 0x0800 ? 14 + (frame.readUInt8(14) & 0xf) * 4 : type === 0x86dd ? 54 : 0;
  const protocol = type === 0x0800 ? frame.readUInt8(23) : type === 0x86dd ? frame.readUInt8(20) : 0;
  return protocol === 6 ? [frame.readUInt16BE(at), frame.readUInt16BE(at + 2)] : [];
}
