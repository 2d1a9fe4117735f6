import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { podLikeNetNs, runIn, toolSkip } from './netns-testing.ts';
import { DORMANT, nftTables, readNftTable } from './nft-table-list.ts';

test('tables are listed with their families and flags', { skip: toolSkip('nft') }, () => {
  using netns = podLikeNetNs();
  assert.deepEqual(netns.run(nftTables), []);
  runIn(netns, 'nft', [
    'add table inet ours; add table ip6 nat; add table bridge b; add table inet asleep { flags dormant; }',
  ]);
  assert.deepEqual(
    netns.run(nftTables).toSorted((a, b) => a.name.localeCompare(b.name)),
    [
      { family: 'inet', name: 'asleep', flags: DORMANT },
      { family: 'ip6', name: 'nat', flags: 0 },
      { family: 'inet', name: 'ours', flags: 0 },
    ],
  );
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
