import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { podLikeNetNs, runIn, toolSkip } from './netns-testing.ts';
import { DORMANT, nftTables, readNftTable } from './nft-table-list.ts';

test('inet tables are listed with their flags, those of other families are not', { skip: toolSkip('nft') }, () => {
  using netns = podLikeNetNs();
  const tables = () => Object.fromEntries(netns.run(nftTables));
  assert.deepEqual(tables(), {});
  runIn(netns, 'nft', ['add table inet istio-ambient-nat; add table ip nat; add table inet asleep { flags dormant; }']);
  assert.deepEqual(tables(), { 'istio-ambient-nat': 0, asleep: DORMANT });
});

test('any bytes are read', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), bytes => {
      const entry = Buffer.from([1, 0, 0, 0, ...bytes]);
      const read = readNftTable(entry);
      assert.ok(read === undefined || read.name.length > 0);
      readNftTable(Buffer.from(bytes));
    }),
    { seed: 54, numRuns: 1000 },
  );
});
