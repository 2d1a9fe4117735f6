import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { NetNs } from '@ambit/native';
import { CniError } from '../errors.ts';
import { IptablesBackend } from './iptables-backend.ts';
import { chooseIptables } from './iptables-binary.ts';
import { podLikeNetNs, runIn, toolSkip } from './netns-testing.ts';
import { NftablesBackend } from './nft-backend.ts';
import type { RedirectPlan } from './redirect-plan.ts';
import { DEFAULT_PROBE_SNAT } from './redirect-rules.ts';

const plan: RedirectPlan = {
  dnsCapture: true,
  bypassInbound: false,
  virtualInterfaces: ['net1', 'tap*'],
  ipv6: true,
  probeSnat: DEFAULT_PROBE_SNAT,
};
const withoutIpv6 = { ...plan, ipv6: false };

for (const variant of ['nft', 'legacy'] as const) {
  describe(`iptables-${variant} in a namespace`, { skip: toolSkip(`iptables-${variant}`) }, () => {
    const pods: NetNs[] = [];
    let backend: IptablesBackend;
    before(async () => {
      const node = pod();
      backend = new IptablesBackend(await chooseIptables(node, { force: variant, ipv6: true }));
    });
    after(() => pods.forEach(netns => netns.close()));

    function pod(): NetNs {
      const netns = podLikeNetNs();
      pods.push(netns);
      return netns;
    }

    async function driftOf(netns: NetNs, wanted: RedirectPlan | 'nothing' = plan): Promise<string[]> {
      const { drift } = await backend.verify(netns, wanted === 'nothing' ? undefined : wanted, undefined);
      return drift.map(({ what }) => what);
    }

    test('the binary is told by variant and version', () => {
      assert.equal(backend.binary.variant, variant);
      assert.match(backend.binary.version, /^\d+\.\d+/);
    });

    test('applied once and twice it is as the plan says, counters and all', async () => {
      const netns = pod();
      assert.deepEqual(await driftOf(netns, 'nothing'), []);
      assert.ok((await driftOf(netns)).includes('chain ISTIO_PRERT of ip6tables table raw is gone'));
      await backend.apply(netns, plan);
      assert.deepEqual(await driftOf(netns), []);
      const { stamp } = await backend.verify(netns, plan, undefined);
      assert.equal(stamp === undefined, variant === 'legacy');
      await backend.apply(netns, plan);
      assert.deepEqual(await backend.verify(netns, plan, stamp), { drift: [], stamp });
    });

    test('two at once leave the same', async () => {
      const netns = pod();
      await Promise.all([backend.apply(netns, plan), backend.apply(netns, plan)]);
      assert.deepEqual(await driftOf(netns), []);
    });

    test('another plan replaces the first without rests', async () => {
      const netns = pod();
      await backend.apply(netns, plan);
      for (const other of [
        { ...plan, dnsCapture: false },
        { ...plan, bypassInbound: true, virtualInterfaces: [] },
      ]) {
        await backend.apply(netns, other);
        assert.deepEqual(await driftOf(netns, other), []);
      }
    });

    test('tampering is found, named and repaired', async () => {
      const netns = pod();
      await backend.apply(netns, plan);
      const cases: [tool: string, command: string, expected: RegExp][] = [
        ['iptables', '-t nat -D OUTPUT -j ISTIO_OUTPUT', /^the jumps from OUTPUT of iptables table nat is empty/],
        [
          'ip6tables',
          '-t nat -I ISTIO_OUTPUT -j ACCEPT',
          /^an extra rule before rule 1 of 6 in ISTIO_OUTPUT of ip6tables/,
        ],
        ['iptables', '-t mangle -F ISTIO_PRERT', /^ISTIO_PRERT of iptables table mangle is empty instead of 1/],
        ['iptables', '-t nat -D ISTIO_OUTPUT 3', /^rule 3 of 6 in ISTIO_OUTPUT of iptables table nat is missing/],
        ['iptables', '-t raw -N ISTIO_OLD', /^chain ISTIO_OLD of iptables table raw is left over/],
        ['iptables', '-t nat -A OUTPUT -j ISTIO_OUTPUT', /^an extra rule at the end of the jumps from OUTPUT/],
      ];
      for (const [tool, command, expected] of cases) {
        const { stamp } = await backend.verify(netns, plan, undefined);
        runIn(netns, `${tool}-${variant}`, command.split(' '));
        const { drift } = await backend.verify(netns, plan, stamp);
        assert.equal(drift.length, 1, JSON.stringify(drift));
        assert.match(drift[0]?.what ?? '', expected);
        await backend.apply(netns, plan);
        assert.deepEqual(await driftOf(netns), [], command);
      }
    });

    test('rules of others stay, before, during and after', async () => {
      const netns = pod();
      runIn(netns, `iptables-${variant}`, ['-t', 'nat', '-A', 'OUTPUT', '-d', '127.0.0.11', '-j', 'RETURN']);
      await backend.apply(netns, plan);
      assert.deepEqual(await driftOf(netns), []);
      await backend.remove(netns);
      await backend.remove(netns);
      assert.deepEqual(await driftOf(netns, 'nothing'), []);
      const saved = runIn(netns, `iptables-${variant}-save`, []);
      assert.match(saved, /-A OUTPUT -d 127\.0\.0\.11\/32 -j RETURN/);
      assert.doesNotMatch(saved, /ISTIO/);
      assert.doesNotMatch(runIn(netns, 'ip', ['rule']), /lookup 100/);
    });

    test('a pod that nftables programmed before is taken over', async () => {
      const netns = pod();
      const nftables = new NftablesBackend();
      await nftables.apply(netns, plan);
      const leftover = 'tables istio-ambient-* of nftables are left over';
      assert.ok((await driftOf(netns, 'nothing')).includes(leftover));
      await backend.apply(netns, plan);
      assert.deepEqual(await driftOf(netns), []);
      await backend.remove(netns);
      assert.deepEqual(await driftOf(netns, 'nothing'), []);
    });

    test('without IPv6 ip6tables is not touched', async () => {
      const netns = pod();
      await backend.apply(netns, withoutIpv6);
      assert.deepEqual(await driftOf(netns, withoutIpv6), []);
      assert.doesNotMatch(runIn(netns, `ip6tables-${variant}-save`, []), /ISTIO/);
    });

    test('a namespace that is closed is gone', async () => {
      const closed = podLikeNetNs();
      closed.close();
      await assert.rejects(
        backend.apply(closed, plan),
        (error: unknown) => error instanceof CniError && error.code === 'enrol.netns_gone',
      );
    });

    test('a binary without IPv6 refuses a plan that has it, and serves one that has not', async () => {
      const old = new IptablesBackend({ ...backend.binary, hasIpv6: false });
      const netns = pod();
      await assert.rejects(
        old.apply(netns, plan),
        (error: unknown) => error instanceof CniError && error.code === 'cni.unsupported',
      );
      await old.apply(netns, withoutIpv6);
      assert.deepEqual(await driftOf(netns, withoutIpv6), []);
      await old.remove(netns);
    });
  });
}

describe('the choice of the binary', { skip: toolSkip('iptables-legacy') }, () => {
  test('is legacy where the node has rules in it, else the one on nf_tables', async () => {
    const node = podLikeNetNs();
    try {
      assert.equal((await chooseIptables(node, { ipv6: true })).variant, 'nft');
      runIn(node, 'iptables-legacy', ['-A', 'INPUT', '-j', 'ACCEPT']);
      assert.equal((await chooseIptables(node, { ipv6: true })).variant, 'legacy');
      assert.equal((await chooseIptables(node, { ipv6: true, force: 'nft' })).variant, 'nft');
    } finally {
      node.close();
    }
  });

  test('changes nothing on the node', async () => {
    const node = podLikeNetNs();
    try {
      const state = () => runIn(node, 'iptables-nft-save', []) + runIn(node, 'nft', ['list', 'ruleset']);
      const first = state();
      await chooseIptables(node, { ipv6: true });
      assert.equal(state(), first);
    } finally {
      node.close();
    }
  });
});
