import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { NetNs } from '@ambit/native';
import { podLikeNetNs, runIn, toolSkip } from '../redirect/netns-testing.ts';
import { addBranchRules, mayHaveBranchInterfaces, removeBranchRules } from './branch-eni.ts';

test('only a node without the early look-up of sockets may have such pods', () => {
  const root = mkdtempSync(join(tmpdir(), 'ambit-proc-'));
  try {
    assert.equal(mayHaveBranchInterfaces(root), false);
    mkdirSync(join(root, 'sys/net/ipv4'), { recursive: true });
    for (const [value, expected] of [
      ['0\n', true],
      ['1\n', false],
    ] as const) {
      writeFileSync(join(root, 'sys/net/ipv4/tcp_early_demux'), value);
      assert.equal(mayHaveBranchInterfaces(root), expected);
    }
  } finally {
    rmSync(root, { recursive: true });
  }
});

/** A node as the VPC plugin leaves it: a link per pod, with a rule and a table. */
function vpcNode(): NetNs {
  const node = podLikeNetNs();
  const lines = [
    'link add vlan1 type veth peer name x1',
    'link add vlan2 type veth peer name x2',
    'link set vlan1 up',
    'link set vlan2 up',
    'rule add iif vlan1 lookup 101 priority 10',
    'rule add iif vlan2 lookup 102 priority 0',
    'route add 10.1.0.5/32 dev vlan1 table 101',
    'route add 10.1.0.6/32 dev vlan1 table 102',
    'route add fd01::5/128 dev vlan1 table 101',
  ];
  runIn(node, 'ip', ['-batch', '-'], `${lines.join('\n')}\n`);
  runIn(node, 'ip', ['-6', 'rule', 'add', 'iif', 'vlan1', 'lookup', '101', 'priority', '10']);
  return node;
}

describe('pods with an interface of their own', { skip: toolSkip('nsenter') }, () => {
  const rulesOf = (node: NetNs, family: 4 | 6) => runIn(node, 'ip', [`-${family}`, 'rule']).replaceAll('\t', ' ');

  test('get two rules, once, in either family, and lose them again', () => {
    using node = vpcNode();
    for (const [family, ip] of [
      [4, '10.1.0.5'],
      [6, 'fd01::5'],
    ] as const) {
      const first = rulesOf(node, family);
      const added = node.run(() => addBranchRules(ip));
      assert.ok(added);
      const then = rulesOf(node, family);
      assert.match(then, new RegExp(`512: from all to ${ip} lookup 101`));
      assert.match(then, /9: from all iif vlan1 lookup local/);
      assert.deepEqual(
        node.run(() => addBranchRules(ip)),
        added,
      );
      assert.equal(rulesOf(node, family), then);
      node.run(() => removeBranchRules(added));
      node.run(() => removeBranchRules(added));
      assert.equal(rulesOf(node, family), first);
    }
  });

  test('are told by a route to them behind the link of the rule; others get nothing', () => {
    using node = vpcNode();
    for (const family of [4, 6] as const) {
      const first = rulesOf(node, family);
      // 10.1.0.6 is behind another link than the rule of its table names.
      for (const ip of ['10.1.0.6', '10.1.0.7', 'fd01::7']) {
        assert.equal(
          node.run(() => addBranchRules(ip)),
          undefined,
          ip,
        );
      }
      assert.equal(rulesOf(node, family), first);
    }
  });
});
