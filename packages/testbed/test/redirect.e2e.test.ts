// The in-pod rules on real packets: what is captured, what is not, and what the capturing end can find out.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { applyRedirect, removeRedirect } from '../src/redirect-apply.ts';
import { mustRun } from '../src/run-command.ts';
import { sandboxSkip } from '../src/sandbox-skip.ts';
import { type PodNet, Topology } from '../src/topology.ts';
import { Peers } from './peers.ts';

const marked = { mark: 0x539 };

describe('the redirect rules of an enrolled pod', { skip: sandboxSkip() }, () => {
  let topology: Topology;
  /** Enrolled, with listeners where ztunnel has them and an application on 8080. */
  let pod: PodNet;
  /** Not enrolled, on another node, with applications on 8080 and 15008. */
  let outside: PodNet;
  let peers: Peers;

  before(async () => {
    topology = await Topology.create(['n1', 'n2']);
    const [n1, n2] = [...topology.nodes.values()];
    assert.ok(n1 && n2);
    pod = await topology.addPod(n1, 'shop.cart');
    outside = await topology.addPod(n2, 'plain.outside');
    await applyRedirect(pod.netnsPath);
    peers = new Peers();
    for (const port of [15001, 15006, 15008, 8080]) peers.serve(pod, port);
    for (const port of [8080, 15008]) peers.serve(outside, port);
  });

  after(async () => {
    await peers.close();
    await topology.close();
  });

  for (const family of ['ip4', 'ip6'] as const) {
    test(`outbound TCP goes to 15001 with its original destination, ${family}`, async () => {
      const seen = await peers.mustCall(pod, outside[family], 8080);
      assert.equal(seen.port, 15001);
      assert.deepEqual(seen.original, { ip: outside[family], port: 8080 });
      assert.equal(seen.peer.ip, pod[family]);
    });

    test(`outbound TCP to a virtual address that nobody routes is captured too, ${family}`, async () => {
      const ip = family === 'ip4' ? '10.96.0.7' : 'fd00:96::7';
      const seen = await peers.mustCall(pod, ip, 80);
      assert.equal(seen.port, 15001);
      assert.deepEqual(seen.original, { ip, port: 80 });
    });

    test(`inbound TCP goes to 15006 with its original destination and real source, ${family}`, async () => {
      const seen = await peers.mustCall(outside, pod[family], 8080);
      assert.equal(seen.port, 15006);
      assert.deepEqual(seen.original, { ip: pod[family], port: 8080 });
      assert.equal(seen.peer.ip, outside[family]);
    });

    test(`inbound TCP to 15008 is not touched, ${family}`, async () => {
      const seen = await peers.mustCall(outside, pod[family], 15008);
      assert.equal(seen.port, 15008);
      assert.deepEqual(seen.local, { ip: pod[family], port: 15008 });
      // Without a translation the kernel has no other destination to tell.
      assert.ok(seen.original === undefined || seen.original.ip === pod[family]);
    });

    test(`marked sockets pass, outwards and to the application, ${family}`, async () => {
      assert.equal((await peers.mustCall(pod, outside[family], 8080, marked)).local.ip, outside[family]);
      assert.equal((await peers.mustCall(pod, outside[family], 15008, marked)).port, 15008);
      assert.equal((await peers.mustCall(pod, pod[family], 8080, marked)).port, 8080);
    });

    test(`a marked connection with the client's address gets the application's replies, ${family}`, async () => {
      const seen = await peers.mustCall(pod, pod[family], 8080, { ...marked, from: outside[family] });
      assert.equal(seen.port, 8080);
      assert.equal(seen.peer.ip, outside[family]);
    });

    test(`loopback and the pod's own address are not captured, ${family}`, async () => {
      assert.equal((await peers.mustCall(pod, family === 'ip4' ? '127.0.0.1' : '::1', 8080)).port, 8080);
      assert.equal((await peers.mustCall(pod, pod[family], 8080)).port, 8080);
    });
  }

  test('probes from the special address are not captured', async () => {
    // The node plays the kubelet whose source was translated.
    const node = pod.node.netns;
    await mustRun('ip', ['-n', node, 'addr', 'add', '169.254.7.127/32', 'dev', 'lo']);
    try {
      const probe = await peers.mustCall(pod.node, pod.ip4, 8080, { from: '169.254.7.127' });
      assert.equal(probe.port, 8080);
      assert.equal((await peers.mustCall(pod.node, pod.ip4, 8080)).port, 15006);
    } finally {
      await mustRun('ip', ['-n', node, 'addr', 'del', '169.254.7.127/32', 'dev', 'lo']);
    }
  });

  test('applying and removing may be repeated; removed, nothing is captured and nothing is left', async () => {
    const inNetns = async (...command: string[]) => mustRun('nsenter', [`--net=${pod.netnsPath}`, ...command]);
    const state = async () =>
      (
        await Promise.all([
          inNetns('nft', '-s', 'list', 'ruleset'),
          ...[4, 6].flatMap(f => [
            inNetns('ip', `-${f}`, 'rule'),
            inNetns('ip', `-${f}`, 'route', 'show', 'table', 'all'),
          ]),
        ])
      ).join('\n');
    const applied = await state();
    assert.match(applied, /istio-ambient-nat[^]*fwmark 0x111\/0xfff lookup 100/);
    await applyRedirect(pod.netnsPath);
    assert.equal(await state(), applied);
    await removeRedirect(pod.netnsPath);
    await removeRedirect(pod.netnsPath);
    assert.doesNotMatch(await state(), /istio|0x111|table 100/);
    assert.equal((await peers.mustCall(outside, pod.ip4, 8080)).port, 8080);
    assert.deepEqual((await peers.mustCall(pod, outside.ip6, 8080)).local.ip, outside.ip6);
    await applyRedirect(pod.netnsPath);
    assert.equal(await state(), applied);
  });
});
