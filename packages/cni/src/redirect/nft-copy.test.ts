// The copy against libnftables and nft's own tool: what it makes, and what it takes for equal.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createNetNs, type NetNs, openUdp, runNft, send, Slab, startConnect } from '@ambit/native';
import { netNsSkip, podLikeNetNs, runIn, toolSkip } from './netns-testing.ts';
import { NftCopy } from './nft-copy.ts';
import { REDIRECT_TABLES, renderNftRedirect } from './nft-redirect.ts';
import { referenceOf } from './nft-tables.ts';
import type { RedirectPlan } from './redirect-plan.ts';
import { DEFAULT_PROBE_SNAT } from './redirect-rules.ts';

const PLAN: RedirectPlan = {
  dnsCapture: true,
  bypassInbound: false,
  virtualInterfaces: [],
  ipv6: true,
  probeSnat: DEFAULT_PROBE_SNAT,
};
const PLANS: readonly RedirectPlan[] = [
  PLAN,
  { ...PLAN, dnsCapture: false },
  { ...PLAN, bypassInbound: true },
  { ...PLAN, ipv6: false },
  { ...PLAN, virtualInterfaces: ['net1', 'tap+'] },
  { ...PLAN, dnsCapture: false, bypassInbound: true, ipv6: false },
];

function copyOf(plan: RedirectPlan): NftCopy {
  const { copy } = referenceOf(renderNftRedirect(plan, 'first'), REDIRECT_TABLES);
  assert.ok(copy, 'this kernel takes back what it gives');
  return copy;
}

/** Everything there is, in the words of libnftables. */
function rulesIn(netns: NetNs): string {
  const listing = netns.run(() => runNft({ nftables: [{ list: { ruleset: null } }] }, { stateless: true }));
  return JSON.stringify(listing).replaceAll(/"handle": ?\d+/g, '"handle":0');
}

/** One packet for counters to count; nobody is at that port. */
function sendDatagram(): void {
  using fd = openUdp('ipv4');
  startConnect(fd, { ip: '127.0.0.1', port: 9 });
  assert.equal(send(fd, Slab.allocate(8), 0, 8), 8);
}

describe('a copy of the tables', { skip: netNsSkip() }, () => {
  test('makes of every plan what libnftables makes of it', () => {
    for (const plan of PLANS) {
      using original = createNetNs();
      using copied = createNetNs();
      original.run(() => runNft(renderNftRedirect(plan, 'first')));
      const copy = copyOf(plan);
      copied.run(() => copy.load());
      assert.equal(rulesIn(copied), rulesIn(original));
      for (const netns of [original, copied]) {
        assert.ok(
          netns.run(() => copy.isHere()),
          JSON.stringify(plan),
        );
      }
    }
  });

  test('is another for every other plan, and for none', () => {
    for (const plan of PLANS) {
      using netns = createNetNs();
      const copy = copyOf(plan);
      assert.equal(
        netns.run(() => copy.isHere()),
        false,
      );
      netns.run(() => copy.load());
      for (const other of PLANS.filter(each => each !== plan)) {
        const otherCopy = copyOf(other);
        assert.equal(
          netns.run(() => otherCopy.isHere()),
          false,
          JSON.stringify([plan, other]),
        );
      }
    }
  });

  test('is refused as a whole where one of its tables is', () => {
    using netns = createNetNs();
    netns.run(() => runNft({ nftables: [{ add: { table: { family: 'inet', name: REDIRECT_TABLES[2] } } }] }));
    const before = rulesIn(netns);
    const copy = copyOf(PLAN);
    assert.throws(() => netns.run(() => copy.load()), { code: 'EEXIST' });
    assert.equal(rulesIn(netns), before);
  });

  test('of tables with anything beside chains and rules there is none', () => {
    using netns = createNetNs();
    const copy = copyOf(PLAN);
    netns.run(() => copy.load());
    const table = { family: 'inet', table: 'istio-ambient-nat' };
    for (const extra of [
      { set: { ...table, name: 'theirs', type: 'ipv4_addr' } },
      { counter: { ...table, name: 'theirs' } },
    ]) {
      netns.run(() => runNft({ nftables: [{ add: extra }] }));
      assert.equal(
        netns.run(() => NftCopy.of(REDIRECT_TABLES)),
        undefined,
      );
      assert.equal(
        netns.run(() => copy.isHere()),
        false,
      );
      netns.run(() => runNft({ nftables: [{ delete: extra }] }));
      assert.ok(netns.run(() => copy.isHere()));
    }
  });

  test('what was counted makes no difference, and a verdict does', {
    skip: toolSkip('nft'),
  }, () => {
    using netns = podLikeNetNs();
    const copy = copyOf(PLAN);
    netns.run(() => copy.load());
    netns.run(sendDatagram);
    const counters = runIn(netns, 'nft', ['list ruleset']);
    assert.match(counters, /counter packets [1-9]/);
    assert.ok(netns.run(() => copy.isHere()));
    runIn(netns, 'nft', ['insert rule inet istio-ambient-nat istio-output counter accept']);
    assert.equal(
      netns.run(() => copy.isHere()),
      false,
    );
  });
});
