import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { podLikeNetNs, toolSkip } from './netns-testing.ts';
import { type BackendWish, selectBackend } from './select-backend.ts';

async function select(wish: Partial<BackendWish>) {
  using node = podLikeNetNs();
  return await selectBackend(node, { want: 'auto', ipv6: true, ...wish });
}

describe('the choice of the back end', { skip: toolSkip('iptables-nft') }, () => {
  test('is nftables where it works', async () => {
    const { backend, why } = await select({});
    assert.equal(backend.name, 'nftables');
    assert.equal(why, 'nftables works here');
  });

  test('is what is configured', async () => {
    assert.equal((await select({ want: 'nftables' })).backend.name, 'nftables');
    const { backend, why } = await select({ want: 'iptables', force: 'legacy' });
    assert.equal(backend.name, 'iptables');
    assert.match(why, /^as configured \(legacy, \d/);
  });

  test("stays iptables while Istio's ipset says that pods have its rules", async () => {
    // A program that answers as ipset does: the kernel here need not have sets.
    const directory = mkdtempSync(join(tmpdir(), 'ambit-ipset-'));
    const path = process.env['PATH'];
    try {
      writeFileSync(join(directory, 'ipset'), '#!/bin/sh\nprintf "other\\nistio-inpod-probes-v4\\n"\n');
      chmodSync(join(directory, 'ipset'), 0o755);
      process.env['PATH'] = `${directory}:${path}`;
      for (const want of ['auto', 'nftables'] as const) {
        const { backend, why } = await select({ want });
        assert.equal(backend.name, 'iptables');
        assert.match(why, /ipset istio-inpod-probes-v4 is on this node/);
      }
    } finally {
      process.env['PATH'] = path;
      rmSync(directory, { recursive: true });
    }
  });
});
