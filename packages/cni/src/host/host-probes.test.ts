import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { NetNs } from '@ambit/native';
import { CniError } from '../errors.ts';
import { netNsSkip, podLikeNetNs, runIn, toolSkip } from '../redirect/netns-testing.ts';
import { DEFAULT_PROBE_SNAT } from '../redirect/redirect-rules.ts';
import { HostProbes, type HostProbesOptions } from './host-probes.ts';
import { probeComment, readProbeSet, renderProbeRules } from './probe-rules.ts';

test('the rules are those of Istio, twins in order', () => {
  const { nftables } = renderProbeRules({ snat: DEFAULT_PROBE_SNAT, ipv6: true, kubeletUid: 0 });
  const rules = nftables.map(command => JSON.stringify(command)).filter(text => text.includes('"rule"'));
  assert.deepEqual(rules, [
    '{"add":{"rule":{"family":"inet","table":"istio-ambient-nat","chain":"postrouting","expr":[{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"tcp"}},{"match":{"op":"==","left":{"meta":{"key":"skuid"}},"right":0}},{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":"@istio-inpod-probes-v4"}},{"counter":null},{"snat":{"family":"ip","addr":"169.254.7.127"}}]}}}',
    '{"add":{"rule":{"family":"inet","table":"istio-ambient-nat","chain":"postrouting","expr":[{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"tcp"}},{"match":{"op":"==","left":{"meta":{"key":"skuid"}},"right":0}},{"match":{"op":"==","left":{"payload":{"protocol":"ip6","field":"daddr"}},"right":"@istio-inpod-probes-v6"}},{"counter":null},{"snat":{"family":"ip6","addr":"fd16:9254:7127:1337:ffff:ffff:ffff:ffff"}}]}}}',
  ]);
});

test('a UID that a comment cannot hold is told by its digest', () => {
  assert.equal(probeComment('5f1c1c5e-0f9a-4c55-a7d9-1b1a3f0d6c2e').length, 36);
  assert.match(probeComment('u'.repeat(200)), /^sha256-[0-9a-f]{64}$/);
  assert.notEqual(probeComment(`${'u'.repeat(200)}1`), probeComment(`${'u'.repeat(200)}2`));
});

test('elements with and without a comment are read', () => {
  const elem = ['10.0.0.1', { elem: { val: '10.0.0.2', comment: 'uid' } }, { prefix: {} }];
  assert.deepEqual(
    [...readProbeSet({ nftables: [{ metainfo: {} }, { set: { elem } }] })],
    [
      ['10.0.0.1', ''],
      ['10.0.0.2', 'uid'],
    ],
  );
  for (const listing of [undefined, {}, { nftables: [{ set: {} }] }]) assert.equal(readProbeSet(listing).size, 0);
});

describe('probes on a node', { skip: netNsSkip() }, () => {
  let node: NetNs;
  let options: HostProbesOptions;
  let probes: HostProbes;
  const foreign: string[] = [];
  const told = async () => (await probes.verify()).map(({ what }) => what);

  before(() => {
    node = podLikeNetNs();
    const procRoot = mkdtempSync(join(tmpdir(), 'ambit-proc-'));
    mkdirSync(join(procRoot, '40'));
    writeFileSync(join(procRoot, '40/comm'), 'kubelet\n');
    writeFileSync(join(procRoot, '40/cmdline'), '/usr/bin/kubelet');
    writeFileSync(join(procRoot, '40/status'), 'Uid:\t0\t0\t0\t0\n');
    const onForeign = (ip: string, owner: string) => foreign.push(`${ip} ${owner}`);
    options = { node, procRoot, snat: DEFAULT_PROBE_SNAT, ipv6: true, branchInterfaces: true, onForeign };
    probes = HostProbes.start(options);
  });

  after(() => {
    rmSync(options.procRoot, { recursive: true });
    node.close();
  });

  test('without a kubelet they do not start', () => {
    assert.throws(
      () => HostProbes.start({ ...options, procRoot: '/nowhere' }),
      (error: unknown) => error instanceof CniError && error.code === 'enrol.probes',
    );
  });

  test('addresses of both families are added, and again', async () => {
    assert.deepEqual(await told(), []);
    await probes.set('uid-a', ['10.0.0.1', 'fd00::1']);
    await probes.set('uid-b', ['10.0.0.2']);
    await probes.set('uid-b', ['10.0.0.2']);
    await probes.set('uid-c', []);
    assert.deepEqual(await told(), []);
  });

  test('an address that another pod got becomes its own, and the first one cannot take it away', async () => {
    await probes.set('uid-new', ['10.0.0.2']);
    assert.deepEqual(await told(), []);
    await probes.clear('uid-b', ['10.0.0.2', '10.0.0.99']);
    assert.deepEqual(foreign, ['10.0.0.2 uid-new']);
    assert.deepEqual(await told(), []);
    await probes.clear('uid-new', ['10.0.0.2']);
    await probes.clear('uid-new', ['10.0.0.2']);
    assert.deepEqual(await told(), []);
  });

  test('a failure of one family leaves the other done', async () => {
    await assert.rejects(
      probes.set('uid-x', ['not an address', 'fd00::77']),
      (error: unknown) => error instanceof CniError && error.code === 'enrol.probes',
    );
    assert.deepEqual(await told(), []);
    await probes.clear('uid-x', ['fd00::77']);
    assert.deepEqual(await told(), []);
  });

  test('the next agent finds what the first one left, and prunes it only when its list is complete', async () => {
    const next = HostProbes.start(options);
    await next.prune(new Map([['uid-d', ['10.0.0.4']]]), false);
    assert.deepEqual(
      (await next.verify()).map(({ what }) => what),
      [
        'address 10.0.0.1 of no member is among those whose probes are let through',
        'address fd00::1 of no member is among those whose probes are let through',
      ],
    );
    await next.prune(new Map([['uid-d', ['10.0.0.4', 'fd00::4']]]), true);
    assert.deepEqual(await next.verify(), []);
    assert.deepEqual(await told(), [
      'address 10.0.0.1 is missing among those whose probes are let through',
      'address fd00::1 is missing among those whose probes are let through',
      'address 10.0.0.4 of no member is among those whose probes are let through',
      'address fd00::4 of no member is among those whose probes are let through',
    ]);
    await probes.repair();
    assert.deepEqual(await told(), []);
  });

  test('on an AWS node a pod with its own interface gets its rules with its address, and loses them with it', async () => {
    mkdirSync(join(options.procRoot, 'sys/net/ipv4'), { recursive: true });
    writeFileSync(join(options.procRoot, 'sys/net/ipv4/tcp_early_demux'), '0\n');
    const lines = [
      'link add vlan1 type veth peer name x1',
      'link set vlan1 up',
      'rule add iif vlan1 lookup 101 priority 10',
    ];
    runIn(node, 'ip', ['-batch', '-'], `${lines.join('\n')}\nroute add 10.0.0.8/32 dev vlan1 table 101\n`);
    const onAws = HostProbes.start(options);
    await onAws.prune(new Map([['uid-a', ['10.0.0.1', 'fd00::1']]]), true);
    await onAws.set('uid-f', ['10.0.0.8']);
    assert.match(runIn(node, 'ip', ['rule']), /512:\s+from all to 10\.0\.0\.8 lookup 101/);
    await onAws.clear('uid-f', ['10.0.0.8']);
    assert.doesNotMatch(runIn(node, 'ip', ['rule']), /512:/);
    await onAws.prune(new Map([['uid-f', ['10.0.0.8']]]), false);
    assert.match(runIn(node, 'ip', ['rule']), /512:/);
    await onAws.clear('uid-f', ['10.0.0.8']);
    assert.deepEqual(await told(), []);
  });

  test('tampering is found and repaired', { skip: toolSkip('nft') }, async () => {
    const cases: [command: string, expected: RegExp][] = [
      ['delete table inet istio-ambient-nat', /^table istio-ambient-nat is gone$/],
      [
        'flush chain inet istio-ambient-nat postrouting',
        /^postrouting of table istio-ambient-nat is empty instead of 2/,
      ],
      ['insert rule inet istio-ambient-nat postrouting accept', /^an extra rule before rule 1 of 2 in postrouting/],
      ['flush set inet istio-ambient-nat istio-inpod-probes-v4', /^address 10\.0\.0\.1 is missing/],
      ['add element inet istio-ambient-nat istio-inpod-probes-v4 { 10.0.0.9 }', /^address 10\.0\.0\.9 of no member/],
      ['add table inet istio-ambient-nat { flags dormant; }', /^table istio-ambient-nat is put to sleep/],
    ];
    for (const [command, expected] of cases) {
      runIn(node, 'nft', [command]);
      assert.match((await told())[0] ?? '', expected);
      await probes.repair();
      assert.deepEqual(await told(), [], command);
    }
  });

  test('without IPv6 addresses of that family are passed over', async () => {
    using only4 = HostProbes.start({ ...options, ipv6: false });
    await only4.repair();
    await only4.set('uid-e', ['10.0.0.5', 'fd00::5']);
    await only4.clear('uid-e', ['fd00::5']);
    assert.deepEqual(await only4.verify(), []);
  });

  test('closed, nothing is left', async () => {
    probes.close();
    probes.close();
    assert.doesNotMatch(runIn(node, 'nft', ['list', 'ruleset']), /istio/);
  });
});
