import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createNetNs, type NetNs, openFdCount, runNft } from '@ambit/native';
import { CniError } from '../errors.ts';
import { IptablesBackend } from './iptables-backend.ts';
import { chooseIptables } from './iptables-binary.ts';
import { iptablesLeftovers } from './iptables-leftovers.ts';
import { netNsSkip, podLikeNetNs, runIn, toolSkip } from './netns-testing.ts';
import { NftablesBackend } from './nft-backend.ts';
import { renderNftRedirect } from './nft-redirect.ts';
import type { RedirectPlan } from './redirect-plan.ts';
import { runTool } from './tool-in-netns.ts';

const plan: RedirectPlan = {
  dnsCapture: true,
  bypassInbound: false,
  virtualInterfaces: ['net1', 'tap+'],
  ipv6: true,
  probeSnat: { ip: '169.254.7.127', ip6: 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff' },
};
const backend = new NftablesBackend();

async function driftOf(netns: NetNs, wanted: RedirectPlan | 'nothing' = plan): Promise<string[]> {
  const { drift } = await backend.verify(netns, wanted === 'nothing' ? undefined : wanted, undefined);
  return drift.map(({ what }) => what);
}

describe('nftables in a namespace', { skip: netNsSkip() }, () => {
  let netns: NetNs;
  before(async () => {
    netns = podLikeNetNs();
  });
  after(() => netns.close());

  test('nothing is drift of nothing, and everything is missing before it is programmed', async () => {
    assert.deepEqual(await driftOf(netns, 'nothing'), []);
    assert.deepEqual(await driftOf(netns), [
      'table istio-ambient-nat is gone',
      'table istio-ambient-mangle is gone',
      'table istio-ambient-raw is gone',
      'the IPv4 routing rule for mark 0x111/0xfff is gone',
      'the local IPv4 route in table 100 is gone',
      'the IPv6 routing rule for mark 0x111/0xfff is gone',
      'the local IPv6 route in table 100 is gone',
    ]);
  });

  test('applied once, twice and at once, it is as the plan says', async () => {
    await backend.apply(netns, plan);
    assert.deepEqual(await driftOf(netns), []);
    const { stamp } = await backend.verify(netns, plan, undefined);
    await Promise.all([backend.apply(netns, plan), backend.apply(netns, plan)]);
    // What is there already is left alone, counters included.
    assert.deepEqual(await backend.verify(netns, plan, stamp), { drift: [], stamp });
  });

  test('another plan replaces the first without rests', async () => {
    for (const other of [
      { ...plan, dnsCapture: false },
      { ...plan, bypassInbound: true, virtualInterfaces: [] },
      { ...plan, ipv6: false },
    ]) {
      await backend.apply(netns, other);
      assert.deepEqual(await driftOf(netns, other), []);
      assert.notDeepEqual(await driftOf(netns, plan), []);
    }
    await backend.apply(netns, plan);
    assert.deepEqual(await driftOf(netns), []);
  });

  test('a rest of an earlier plan does not survive the first application', async () => {
    const rest = podLikeNetNs();
    const withoutDns = { ...plan, dnsCapture: false };
    try {
      rest.run(() => runNft({ nftables: [{ add: { table: { family: 'inet', name: 'istio-ambient-raw' } } }] }));
      await backend.apply(rest, withoutDns);
      assert.deepEqual(await driftOf(rest, withoutDns), []);
    } finally {
      rest.close();
    }
  });

  test('an unchanged namespace keeps its stamp, and any commit takes it', async () => {
    const { stamp } = await backend.verify(netns, plan, undefined);
    assert.ok(stamp);
    assert.equal((await backend.verify(netns, plan, stamp)).stamp, stamp);
    netns.run(() => runNft(renderNftRedirect(plan)));
    const again = await backend.verify(netns, plan, stamp);
    assert.deepEqual(again.drift, []);
    assert.notDeepEqual(again.stamp, stamp);
  });

  test('a stamp is no proof for another plan or another namespace', async () => {
    const { stamp } = await backend.verify(netns, plan, undefined);
    assert.notDeepEqual((await backend.verify(netns, { ...plan, dnsCapture: false }, stamp)).drift, []);
    assert.notDeepEqual((await backend.verify(netns, undefined, stamp)).drift, []);
    const other = podLikeNetNs();
    try {
      assert.ok(stamp);
      await backend.apply(other, plan);
      const { stamp: fresh } = await backend.verify(other, plan, undefined);
      assert.notEqual(fresh?.digest, stamp.digest);
    } finally {
      other.close();
    }
  });

  test('removal leaves nothing of ours, and may be repeated', async () => {
    await backend.remove(netns);
    assert.deepEqual(await driftOf(netns, 'nothing'), []);
    await backend.remove(netns);
    assert.deepEqual(await driftOf(netns, 'nothing'), []);
  });

  test('without a plan, what is left over is named', async () => {
    await backend.apply(netns, { ...plan, dnsCapture: false, ipv6: false });
    assert.deepEqual(await driftOf(netns, 'nothing'), [
      'table istio-ambient-nat is left over',
      'table istio-ambient-mangle is left over',
      'the IPv4 routing rule for mark 0x111/0xfff is left over',
      'the local IPv4 route in table 100 is left over',
    ]);
  });

  test('a namespace that is closed is gone', async () => {
    const closed = podLikeNetNs();
    closed.close();
    const isGone = (error: unknown) => error instanceof CniError && error.code === 'enrol.netns_gone';
    await assert.rejects(backend.apply(closed, plan), isGone);
    await assert.rejects(backend.verify(closed, plan, undefined), isGone);
    await assert.rejects(backend.remove(closed), isGone);
  });

  test('a loopback without IPv6 wants no IPv6 route, and the IPv4 one is set all the same', async () => {
    const old = podLikeNetNs();
    try {
      runIn(old, 'sh', ['-c', 'echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6']);
      await backend.apply(old, plan);
      assert.deepEqual(await driftOf(old), []);
    } finally {
      old.close();
    }
  });

  test('no descriptor is left behind', async () => {
    using pod = podLikeNetNs();
    const cycle = async () => {
      await backend.apply(pod, plan);
      await backend.verify(pod, plan, undefined);
      await backend.remove(pod);
    };
    await cycle();
    const first = openFdCount();
    for (let i = 0; i < 20; i++) await cycle();
    assert.equal(openFdCount(), first);
  });

  test('a loopback that is down is set up', async () => {
    using fresh = createNetNs();
    await backend.apply(fresh, plan);
    assert.deepEqual(await driftOf(fresh), []);
  });

  test('whoever fills our tables, or those of iptables, neither is listed nor keeps the rules away', async () => {
    await backend.apply(netns, plan);
    const many = (family: string, table: string, chain: string) =>
      Array.from({ length: 4000 }, () => ({ add: { rule: { family, table, chain, expr: [{ accept: null }] } } }));
    const set = { set: { family: 'inet', table: 'istio-ambient-raw', name: 'theirs', type: 'ipv4_addr' } };
    const ofIptables = { family: 'ip', table: 'nat', name: 'ISTIO_OUTPUT' };
    netns.run(() =>
      runNft({
        nftables: [
          ...many('inet', 'istio-ambient-nat', 'istio-output'),
          { add: set },
          { add: { table: { family: 'ip', name: 'nat' } } },
          { add: { chain: ofIptables } },
          ...many('ip', 'nat', 'ISTIO_OUTPUT'),
        ],
      }),
    );
    assert.deepEqual(await driftOf(netns), [
      'table istio-ambient-nat holds sets, or too much to list',
      'table istio-ambient-raw holds sets, or too much to list',
    ]);
    await backend.apply(netns, plan);
    assert.deepEqual(await driftOf(netns), []);
    assert.deepEqual(
      netns.run(() => iptablesLeftovers()),
      [],
    );
    netns.run(() => runNft({ nftables: [{ flush: { chain: ofIptables } }] }));
    assert.deepEqual(await driftOf(netns), ['chains ISTIO_* of iptables table nat are left over']);
    netns.run(() => runNft({ nftables: [{ delete: { table: { family: 'ip', name: 'nat' } } }] }));
  });

  test('more routes than can be looked through are drift of a member, and nothing of anybody else', async () => {
    using crowded = podLikeNetNs();
    await backend.apply(crowded, plan);
    const routes = Array.from(
      { length: 16_000 },
      (_, i) => `route add local 10.1.${i >> 8}.${i & 255}/32 dev lo table 100`,
    );
    runIn(crowded, 'ip', ['-batch', '-'], routes.join('\n'));
    assert.deepEqual(await driftOf(crowded), [
      'there are too many routing rules, or routes in table 100, to look through',
    ]);
    await backend.remove(crowded);
    assert.deepEqual(await driftOf(crowded, 'nothing'), []);
  });

  test('more tables than can be listed are drift, and a refusal to whoever programs', async () => {
    using crowded = podLikeNetNs();
    const tables = Array.from({ length: 1500 }, (_, i) => ({ add: { table: { family: 'inet', name: `t${i}` } } }));
    crowded.run(() => runNft({ nftables: tables }));
    assert.ok((await driftOf(crowded)).includes('there are too many tables to list'));
    await assert.rejects(
      backend.apply(crowded, plan),
      (error: unknown) => error instanceof CniError && error.code === 'enrol.rules',
    );
  });

  test('other processes that program the same namespace meanwhile do no harm', { skip: toolSkip('nft') }, async () => {
    using shared = podLikeNetNs();
    const program = JSON.stringify(renderNftRedirect(plan));
    const others = Array.from({ length: 6 }, async () => runTool(shared, 'nft', ['-j', program]));
    for (let i = 0; i < 6; i++) await backend.apply(shared, i % 2 === 0 ? plan : { ...plan, dnsCapture: false });
    for (const other of await Promise.all(others)) assert.equal(other?.code, 0, other?.stderr);
    await backend.apply(shared, plan);
    assert.deepEqual(await driftOf(shared), []);
  });
});

describe('a pod that an iptables back end programmed before', { skip: toolSkip('iptables-nft') }, () => {
  async function programmedByIptables(): Promise<NetNs> {
    const netns = podLikeNetNs();
    runIn(netns, 'iptables-nft', ['-t', 'nat', '-A', 'OUTPUT', '-d', '127.0.0.11', '-j', 'RETURN']);
    const iptables = new IptablesBackend(await chooseIptables(netns, { force: 'nft', ipv6: true }));
    await iptables.apply(netns, plan);
    return netns;
  }
  const left = (netns: NetNs) => runIn(netns, 'iptables-nft-save', []) + runIn(netns, 'ip6tables-nft-save', []);

  test('is taken over: its old rules go, others stay', async () => {
    using netns = await programmedByIptables();
    await backend.apply(netns, plan);
    assert.deepEqual(await driftOf(netns), []);
    assert.doesNotMatch(left(netns), /ISTIO/);
    assert.match(left(netns), /-A OUTPUT -d 127\.0\.0\.11\/32 -j RETURN/);
  });

  test('is told to have leftovers when it should have nothing, and loses them', async () => {
    using netns = await programmedByIptables();
    const told = await driftOf(netns, 'nothing');
    assert.ok(told.includes('chains ISTIO_* of iptables table nat are left over'), JSON.stringify(told));
    assert.ok(told.includes('chains ISTIO_* of ip6tables table raw are left over'), JSON.stringify(told));
    await backend.remove(netns);
    assert.deepEqual(await driftOf(netns, 'nothing'), []);
    assert.doesNotMatch(left(netns), /ISTIO/);
  });
});

/** What somebody does with nft or ip, and how it is told. */
const TAMPERING: readonly (readonly [command: string, drift: readonly (string | RegExp)[]])[] = [
  [
    'nft flush chain inet istio-ambient-nat istio-output',
    [/^istio-output of table istio-ambient-nat is empty instead of 10/],
  ],
  [
    'nft insert rule inet istio-ambient-nat istio-output accept',
    [/^an extra rule before rule 1 of 10 in istio-output/],
  ],
  [
    'nft add rule inet istio-ambient-nat output accept',
    ['an extra rule at the end of output of table istio-ambient-nat'],
  ],
  [
    'nft add rule inet istio-ambient-nat istio-output index 2 drop',
    [/^an extra rule before rule 4 of 10 in istio-output/],
  ],
  ['nft delete table inet istio-ambient-mangle', ['table istio-ambient-mangle is gone']],
  [
    'nft add chain inet istio-ambient-nat output { policy drop; }',
    [/^policy of chain output of table istio-ambient-nat is drop/],
  ],
  [
    'nft add table inet istio-ambient-nat { flags dormant; }',
    ['table istio-ambient-nat is put to sleep (flag dormant)'],
  ],
  ['nft add chain inet istio-ambient-raw other', ['an extra chain other in table istio-ambient-raw']],
  [
    'nft add set inet istio-ambient-nat mine { type ipv4_addr; }',
    ['table istio-ambient-nat holds sets, or too much to list'],
  ],
  ['nft flush ruleset', [/^table istio-ambient-nat is gone$/, /mangle is gone$/, /raw is gone$/]],
  ['ip rule del priority 32764', ['the IPv4 routing rule for mark 0x111/0xfff is gone']],
  ['ip -6 rule del priority 32764', ['the IPv6 routing rule for mark 0x111/0xfff is gone']],
  ['ip route flush table 100', ['the local IPv4 route in table 100 is gone']],
  ['ip -6 route flush table 100', ['the local IPv6 route in table 100 is gone']],
  ['ip link set lo down', [/./]],
];

describe('tampering is found, named and repaired', { skip: toolSkip('nft') }, () => {
  for (const [command, expected] of TAMPERING) {
    test(command, async () => {
      const netns = podLikeNetNs();
      try {
        await backend.apply(netns, plan);
        const { stamp } = await backend.verify(netns, plan, undefined);
        assert.ok(stamp);
        const [tool = '', ...args] = command.split(' ');
        runIn(netns, tool, tool === 'nft' ? [args.join(' ')] : args);
        // With the stamp of the clean state, as the audit does.
        const found = await backend.verify(netns, plan, stamp);
        assert.equal(found.stamp, undefined);
        const told = found.drift.map(({ what }) => what);
        assert.ok(told.length >= expected.length, JSON.stringify(told));
        for (const [i, sentence] of expected.entries()) {
          if (typeof sentence === 'string') assert.equal(told[i], sentence);
          else assert.match(told[i] ?? '', sentence);
        }
        await backend.apply(netns, plan);
        assert.deepEqual(await driftOf(netns), []);
      } finally {
        netns.close();
      }
    });
  }

  test("others' tables, rules and routes are no drift", async () => {
    const netns = podLikeNetNs();
    try {
      await backend.apply(netns, plan);
      runIn(netns, 'nft', ['add table ip theirs { chain c { type filter hook output priority 0; accept; }; }']);
      runIn(netns, 'ip', ['rule', 'add', 'from', '10.1.1.1', 'table', '101', 'priority', '100']);
      runIn(netns, 'ip', ['route', 'add', 'local', '10.9.0.0/16', 'dev', 'lo', 'table', '100']);
      assert.deepEqual(await driftOf(netns), []);
      await backend.remove(netns);
      assert.match(runIn(netns, 'nft', ['list', 'ruleset']), /table ip theirs/);
      assert.match(runIn(netns, 'ip', ['route', 'show', 'table', '100']), /10\.9\.0\.0\/16/);
    } finally {
      netns.close();
    }
  });
});
