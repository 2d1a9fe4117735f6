// Probes of pods with an interface of their own, as the configuration wants them, on a node as AWS's plugin leaves it.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { SILENT_LOG } from '@ambit/log';
import { readConfig } from '../../config/config.ts';
import { podLikeNetNs, runIn, toolSkip } from '../../redirect/netns-testing.ts';
import { chooseProbes } from './node-parts.ts';

test('routing rules for AWS pods exist as long as the pod, once, and not when switched off', {
  skip: toolSkip('ip'),
}, async () => {
  const hostRoot = mkdtempSync(join(tmpdir(), 'ambit-node-'));
  using node = podLikeNetNs();
  try {
    mkdirSync(join(hostRoot, 'proc/40'), { recursive: true });
    writeFileSync(join(hostRoot, 'proc/40/comm'), 'kubelet\n');
    writeFileSync(join(hostRoot, 'proc/40/cmdline'), '/usr/bin/kubelet');
    writeFileSync(join(hostRoot, 'proc/40/status'), 'Uid:\t0\t0\t0\t0\n');
    mkdirSync(join(hostRoot, 'proc/sys/net/ipv4'), { recursive: true });
    writeFileSync(join(hostRoot, 'proc/sys/net/ipv4/tcp_early_demux'), '0\n');
    const vpc = [
      'link add vlan1 type veth peer name x1',
      'link set vlan1 up',
      'rule add iif vlan1 lookup 101 priority 10',
      'route add 10.1.0.5/32 dev vlan1 table 101',
    ];
    runIn(node, 'ip', ['-batch', '-'], `${vpc.join('\n')}\n`);
    const before = runIn(node, 'ip', ['rule']);
    const config = await readConfig({ probes: 'on' }, {});
    for (const branchEni of [false, true]) {
      const probes = await chooseProbes(
        { ...config, hostRoot, branchEni },
        node,
        SILENT_LOG,
        AbortSignal.timeout(5_000),
      );
      assert.ok(probes);
      await probes.set('uid-a', ['10.1.0.5']);
      const rules = runIn(node, 'ip', ['rule']);
      assert.equal(rules.includes('10.1.0.5'), branchEni);
      await probes.clear('uid-a', ['10.1.0.5']);
      assert.equal(runIn(node, 'ip', ['rule']), before);
      probes.close();
    }
  } finally {
    rmSync(hostRoot, { recursive: true });
  }
});
