// Nodes and pods as networks, without any mesh.
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { TestbedError } from '../src/errors.ts';
import { mustRun } from '../src/run-command.ts';
import { sandboxSkip } from '../src/sandbox-skip.ts';
import { type NodeNet, type PodNet, Topology } from '../src/topology.ts';
import { Peers } from './peers.ts';

const fails = (code: string) => (error: unknown) => error instanceof TestbedError && error.code === code;

describe('a topology of two nodes', { skip: sandboxSkip() }, () => {
  let topology: Topology;
  let peers: Peers;
  const net: Record<string, PodNet> = {};

  const node = (name: string): NodeNet => {
    const found = topology.nodes.get(name);
    assert.ok(found);
    return found;
  };

  before(async () => {
    topology = await Topology.create(['n1', 'n2']);
    peers = new Peers();
    for (const [name, on] of Object.entries({ a: 'n1', b: 'n1', c: 'n2' })) {
      const pod = await topology.addPod(node(on), `shop.${name}`);
      net[name] = pod;
      peers.serve(pod, 8080);
    }
  });

  after(async () => {
    await peers.close();
    await topology.close();
  });

  for (const [from, to] of [
    ['a', 'b'],
    ['a', 'c'],
    ['c', 'a'],
  ] as const) {
    for (const family of ['ip4', 'ip6'] as const) {
      test(`pod ${from} reaches pod ${to} over ${family}, and each end sees the other's real address`, async () => {
        const [source, target] = [net[from], net[to]];
        assert.ok(source && target);
        const seen = await peers.mustCall(source, target[family], 8080);
        assert.equal(seen.peer.ip, source[family]);
        assert.deepEqual(seen.local, { ip: target[family], port: 8080 });
      });
    }
  }

  test('a node and the sandbox itself reach pods, by the addresses the plan gives them', async () => {
    const target = net['c'];
    assert.ok(target);
    const expected = [
      [node('n1'), '10.61.1.254', 'fd00:61:1::254'],
      [{ netnsPath: '/proc/thread-self/ns/net' }, '10.61.0.1', 'fd00:61::1'],
    ] as const;
    for (const [from, ip4, ip6] of expected) {
      assert.equal((await peers.mustCall(from, target.ip4, 8080)).peer.ip, ip4);
      assert.equal((await peers.mustCall(from, target.ip6, 8080)).peer.ip, ip6);
    }
  });

  test('addresses that nobody has are refused', async () => {
    assert.ok(net['a']);
    assert.equal(await peers.call(net['a'], '10.96.0.1', 80), 'ENETUNREACH');
    assert.equal(await peers.call(net['a'], 'fd00:96::1', 80), 'ENETUNREACH');
  });

  test('a removed pod leaves no namespace, no link and no route, and its name can be used again', async () => {
    const links = async () => mustRun('ip', ['-n', 'n2', '-o', 'link']);
    const routes = async () =>
      (await mustRun('ip', ['-n', 'n2', 'route'])) + (await mustRun('ip', ['-n', 'n2', '-6', 'route']));
    const earlier = [await links(), await routes()];
    const first = await topology.addPod(node('n2'), 'shop.gone');
    await topology.removePod(first);
    await topology.removePod(first);
    assert.deepEqual([await links(), await routes()], earlier);
    assert.equal(existsSync(first.netnsPath), false);
    const second = await topology.addPod(node('n2'), 'shop.gone');
    assert.notEqual(second.ip4, first.ip4, 'an address is not reused at once');
    await topology.removePod(second);
  });

  test('taken and impossible names are refused and leave nothing', async () => {
    const earlier = readdirSync('/run/netns');
    await assert.rejects(topology.addPod(node('n1'), 'shop.a'), fails('testbed.name_taken'));
    await assert.rejects(Topology.create(['x', 'x']), fails('testbed.name_taken'));
    await assert.rejects(Topology.create(['Bad.Name']), fails('testbed.argument'));
    await assert.rejects(Topology.create([]), fails('testbed.argument'));
    // The namespace exists, so the tool refuses: the number and the record must be given back.
    await mustRun('ip', ['netns', 'add', 'shop.taken']);
    await assert.rejects(topology.addPod(node('n1'), 'shop.taken'), fails('testbed.command_failed'));
    assert.deepEqual(readdirSync('/run/netns').toSorted(), earlier.toSorted());
  });
});

test('a closed topology leaves the sandbox as it was', { skip: sandboxSkip() }, async () => {
  const state = async () => [
    await mustRun('ip', ['-o', 'addr']),
    await mustRun('ip', ['route']),
    readdirSync('/run/netns'),
  ];
  const earlier = await state();
  const topology = await Topology.create(['m1', 'm2', 'm3']);
  for (const node of topology.nodes.values()) await topology.addPod(node, `ns.pod-${node.number}`);
  await topology.close();
  assert.deepEqual(await state(), earlier);
});
