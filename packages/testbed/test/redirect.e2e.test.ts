// The in-pod rules on real packets: what is captured, what is not, and what the capturing end can find out. The same tests
// for each back end.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import {
  chooseIptables,
  DEFAULT_PROBE_SNAT,
  IptablesBackend,
  NftablesBackend,
  type RedirectBackend,
  type RedirectPlan,
} from '@ambit/cni';
import { NetNs } from '@ambit/native';
import { mustRun } from '../src/run-command.ts';
import { sandboxSkip } from '../src/sandbox-skip.ts';
import { type PodNet, Topology } from '../src/topology.ts';
import { Peers } from './peers.ts';
import { Datagrams } from './redirect-datagrams.ts';

const marked = { mark: 0x539 };
const FAMILIES = ['ip4', 'ip6'] as const;
const LOOPBACK = { ip4: '127.0.0.1', ip6: '::1' } as const;
/** Nobody routes there: what answers was captured. */
const NOWHERE = { ip4: '10.96.0.7', ip6: 'fd00:96::7' } as const;
const MACHINE = { ip4: '10.77.0.2', ip6: 'fd77::2' } as const;

const plan: RedirectPlan = {
  dnsCapture: true,
  bypassInbound: false,
  virtualInterfaces: [],
  ipv6: true,
  probeSnat: DEFAULT_PROBE_SNAT,
};

const BACKENDS: readonly {
  readonly name: string;
  readonly tool?: string;
  readonly make: () => Promise<RedirectBackend>;
}[] = [
  { name: 'nftables', make: async () => new NftablesBackend() },
  { name: 'iptables-nft', tool: 'iptables-nft', make: async () => iptables('nft') },
  { name: 'iptables-legacy', tool: 'iptables-legacy', make: async () => iptables('legacy') },
];

async function iptables(force: 'nft' | 'legacy'): Promise<RedirectBackend> {
  using own = NetNs.own();
  return new IptablesBackend(await chooseIptables(own, { force, ipv6: true }));
}

function skipOf(tool: string | undefined): string | false {
  const skip = sandboxSkip();
  if (skip !== false || tool === undefined) return skip;
  return spawnSync(tool, ['--version']).error === undefined ? false : `${tool} is not installed`;
}

for (const { name, tool, make } of BACKENDS) {
  describe(`the redirect rules of an enrolled pod, ${name}`, { skip: skipOf(tool) }, () => {
    let topology: Topology;
    /** Enrolled, with listeners where ztunnel has them and an application on 8080. */
    let pod: PodNet;
    /** Not enrolled, on another node, with applications on 8080 and 15008 and a name server. */
    let outside: PodNet;
    let peers: Peers;
    let datagrams: Datagrams;
    let backend: RedirectBackend;

    before(async () => {
      backend = await make();
      topology = await Topology.create(['n1', 'n2']);
      const [n1, n2] = [...topology.nodes.values()];
      assert.ok(n1 && n2);
      pod = await topology.addPod(n1, 'shop.cart');
      outside = await topology.addPod(n2, 'plain.outside');
      await apply(plan);
      peers = new Peers();
      for (const port of [15001, 15006, 15008, 15053, 8080]) peers.serve(pod, port);
      for (const port of [53, 8080, 15008]) peers.serve(outside, port);
      datagrams = new Datagrams();
      for (const port of [53, 9999]) datagrams.serve(pod, port);
      // Redirected on its way out, a question arrives at the loopback address: only a socket bound to it answers from there.
      for (const ip of Object.values(LOOPBACK)) datagrams.serve(pod, 15053, ip);
      for (const port of [53, 9999]) datagrams.serve(outside, port);
    });

    after(async () => {
      await peers.close();
      await datagrams[Symbol.asyncDispose]();
      await topology.close();
    });

    async function apply(wanted: RedirectPlan): Promise<void> {
      using netns = NetNs.open(pod.netnsPath);
      await backend.apply(netns, wanted);
    }

    async function remove(): Promise<void> {
      using netns = NetNs.open(pod.netnsPath);
      await backend.remove(netns);
    }

    async function driftOf(wanted: RedirectPlan | undefined): Promise<string[]> {
      using netns = NetNs.open(pod.netnsPath);
      return (await backend.verify(netns, wanted, undefined)).drift.map(({ what }) => what);
    }

    for (const family of FAMILIES) {
      test(`outbound TCP goes to 15001 with its original destination, ${family}`, async () => {
        const seen = await peers.mustCall(pod, outside[family], 8080);
        assert.equal(seen.port, 15001);
        assert.deepEqual(seen.original, { ip: outside[family], port: 8080 });
        assert.equal(seen.peer.ip, pod[family]);
      });

      test(`outbound TCP to a virtual address that nobody routes is captured too, ${family}`, async () => {
        const seen = await peers.mustCall(pod, NOWHERE[family], 80);
        assert.equal(seen.port, 15001);
        assert.deepEqual(seen.original, { ip: NOWHERE[family], port: 80 });
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
        assert.equal((await peers.mustCall(pod, LOOPBACK[family], 8080)).port, 8080);
        assert.equal((await peers.mustCall(pod, pod[family], 8080)).port, 8080);
      });

      test(`DNS over UDP and TCP goes to 15053 and is answered as from where it was asked, ${family}`, async () => {
        assert.equal(await datagrams.ask(pod, outside[family], 53), 15053);
        const seen = await peers.mustCall(pod, outside[family], 53);
        assert.equal(seen.port, 15053);
        assert.deepEqual(seen.original, { ip: outside[family], port: 53 });
      });

      test(`DNS that ztunnel asks itself goes out and comes back, ${family}`, async () => {
        assert.equal(await datagrams.ask(pod, outside[family], 53, marked.mark), 53);
        assert.equal((await peers.mustCall(pod, outside[family], 53, marked)).port, 53);
      });

      test(`UDP to a name server on loopback, other UDP and inbound UDP are not touched, ${family}`, async () => {
        assert.equal(await datagrams.ask(pod, LOOPBACK[family], 53), 53);
        assert.equal(await datagrams.ask(pod, outside[family], 9999), 9999);
        assert.equal(await datagrams.ask(outside, pod[family], 53), 53);
        assert.equal(await datagrams.ask(outside, pod[family], 9999), 9999);
      });
    }

    test('probes from the special address are not captured', async () => {
      // The node plays the kubelet whose source was translated.
      const node = pod.node.netns;
      await mustRun('ip', ['-n', node, 'addr', 'add', `${DEFAULT_PROBE_SNAT.ip}/32`, 'dev', 'lo']);
      try {
        const probe = await peers.mustCall(pod.node, pod.ip4, 8080, { from: DEFAULT_PROBE_SNAT.ip });
        assert.equal(probe.port, 8080);
        assert.equal((await peers.mustCall(pod.node, pod.ip4, 8080)).port, 15006);
      } finally {
        await mustRun('ip', ['-n', node, 'addr', 'del', `${DEFAULT_PROBE_SNAT.ip}/32`, 'dev', 'lo']);
      }
    });

    test('without DNS capture the name server itself answers', async () => {
      await apply({ ...plan, dnsCapture: false });
      try {
        for (const family of FAMILIES) assert.equal(await datagrams.ask(pod, outside[family], 53), 53);
        assert.equal((await peers.mustCall(pod, outside.ip4, 53)).port, 15001);
      } finally {
        await apply(plan);
      }
    });

    test('with inbound capture bypassed only outbound is captured', async () => {
      await apply({ ...plan, bypassInbound: true });
      try {
        for (const family of FAMILIES) {
          assert.equal((await peers.mustCall(outside, pod[family], 8080)).port, 8080);
          assert.equal((await peers.mustCall(pod, outside[family], 8080)).port, 15001);
        }
      } finally {
        await apply(plan);
      }
    });

    test('TCP of a machine nested in the pod counts as outbound', async () => {
      const machine = { netns: 'machine', netnsPath: '/run/netns/machine' };
      await mustRun('ip', ['netns', 'add', machine.netns]);
      try {
        const lines = [
          `link add tap0 type veth peer name eth0 netns ${machine.netns}`,
          'addr add 10.77.0.1/24 dev tap0',
          'addr add fd77::1/64 dev tap0 nodad',
          'link set tap0 up',
        ];
        await mustRun('ip', ['-n', pod.netns, '-batch', '-'], { input: `${lines.join('\n')}\n` });
        const inside = [
          `addr add ${MACHINE.ip4}/24 dev eth0`,
          `addr add ${MACHINE.ip6}/64 dev eth0 nodad`,
          'link set eth0 up',
          'route add default via 10.77.0.1',
          'route add ::/0 via fd77::1',
        ];
        await mustRun('ip', ['-n', machine.netns, '-batch', '-'], { input: `${inside.join('\n')}\n` });
        for (const family of FAMILIES) {
          assert.equal((await peers.mustCall(machine, outside[family], 8080)).port, 15006, 'as inbound, so far');
        }
        for (const virtualInterfaces of [['tap0'], ['net1', 'tap+']]) {
          await apply({ ...plan, virtualInterfaces });
          for (const family of FAMILIES) {
            const seen = await peers.mustCall(machine, outside[family], 8080);
            assert.equal(seen.port, 15001);
            assert.deepEqual(seen.original, { ip: outside[family], port: 8080 });
            assert.equal(seen.peer.ip, MACHINE[family]);
            assert.equal((await peers.mustCall(outside, pod[family], 8080)).port, 15006);
          }
        }
      } finally {
        await mustRun('ip', ['netns', 'del', machine.netns]);
        await apply(plan);
      }
    });

    test('without IPv6 only IPv4 is captured', async () => {
      await remove();
      await apply({ ...plan, ipv6: false });
      try {
        assert.equal((await peers.mustCall(pod, outside.ip4, 8080)).port, 15001);
        assert.equal((await peers.mustCall(pod, outside.ip6, 8080)).port, 8080);
        assert.equal((await peers.mustCall(outside, pod.ip6, 8080)).port, 8080);
      } finally {
        await apply(plan);
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
            ...(tool === undefined ? [] : [inNetns(`${tool}-save`), inNetns(tool.replace('ip', 'ip6') + '-save')]),
          ])
        )
          .join('\n')
          .replaceAll(/^#.*\n|\[\d+:\d+\]/gm, '');
      const applied = await state();
      assert.match(
        applied,
        /(istio-ambient-nat|ISTIO_OUTPUT)[^]*fwmark 0x111\/0xfff lookup 100|lookup 100[^]*ISTIO_OUTPUT/,
      );
      assert.deepEqual(await driftOf(plan), []);
      await apply(plan);
      assert.equal(await state(), applied);
      await remove();
      await remove();
      assert.doesNotMatch(await state(), /istio|0x111|table 100/i);
      assert.deepEqual(await driftOf(undefined), []);
      assert.equal((await peers.mustCall(outside, pod.ip4, 8080)).port, 8080);
      assert.deepEqual((await peers.mustCall(pod, outside.ip6, 8080)).local.ip, outside.ip6);
      await apply(plan);
      assert.equal(await state(), applied);
    });
  });
}
