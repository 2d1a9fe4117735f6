// The kubelet's probes on real packets: from the node they reach an enrolled pod's application, and nothing else of the
// node does so without ztunnel.
import assert from 'node:assert/strict';
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DEFAULT_PROBE_SNAT, HostProbes, NftablesBackend } from '@ambit/cni';
import { NetNs } from '@ambit/native';
import { sandboxSkip } from '../src/sandbox-skip.ts';
import { type PodNet, Topology } from '../src/topology.ts';
import { Peers } from './peers.ts';

const FAMILIES = ['ip4', 'ip6'] as const;

describe("the kubelet's probes", { skip: sandboxSkip() }, () => {
  let topology: Topology;
  let pod: PodNet;
  let peers: Peers;
  let node: NetNs;
  let procRoot: string;

  before(async () => {
    topology = await Topology.create(['n1']);
    const [n1] = [...topology.nodes.values()];
    assert.ok(n1);
    pod = await topology.addPod(n1, 'shop.cart');
    node = NetNs.open(n1.netnsPath);
    using netns = NetNs.open(pod.netnsPath);
    await new NftablesBackend().apply(netns, {
      dnsCapture: true,
      bypassInbound: false,
      virtualInterfaces: [],
      ipv6: true,
      probeSnat: DEFAULT_PROBE_SNAT,
    });
    peers = new Peers();
    for (const port of [15006, 8080]) peers.serve(pod, port);
    procRoot = await mkdtemp(join(tmpdir(), 'ambit-proc-'));
  });

  after(async () => {
    await peers.close();
    node.close();
    await topology.close();
    await rm(procRoot, { recursive: true });
  });

  /** The node, with a kubelet of that user. */
  async function start(uid: number): Promise<HostProbes> {
    const directory = join(procRoot, '40');
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, 'comm'), 'kubelet\n');
    await writeFile(join(directory, 'cmdline'), '/usr/bin/kubelet');
    await writeFile(join(directory, 'status'), `Uid:\t${uid}\t${uid}\t${uid}\t${uid}\n`);
    return HostProbes.start({ node, procRoot, snat: DEFAULT_PROBE_SNAT, ipv6: true, branchInterfaces: false });
  }

  for (const family of FAMILIES) {
    test(`reach the application by the special address once the pod is known, ${family}`, async () => {
      const uid = process.getuid?.() ?? 0;
      using probes = await start(uid);
      assert.equal((await peers.mustCall(pod.node, pod[family], 8080)).port, 15006, 'not yet known');
      await probes.set('uid-cart', [pod.ip4, pod.ip6]);
      const seen = await peers.mustCall(pod.node, pod[family], 8080);
      assert.equal(seen.port, 8080);
      assert.equal(seen.peer.ip, family === 'ip4' ? DEFAULT_PROBE_SNAT.ip : DEFAULT_PROBE_SNAT.ip6);
      await probes.clear('uid-cart', [pod.ip4, pod.ip6]);
      assert.equal((await peers.mustCall(pod.node, pod[family], 8080)).port, 15006, 'known no more');
    });

    test(`of other users of the node are captured like all traffic, ${family}`, async () => {
      using probes = await start(4242);
      await probes.set('uid-cart', [pod.ip4, pod.ip6]);
      assert.equal((await peers.mustCall(pod.node, pod[family], 8080)).port, 15006);
    });
  }
});
