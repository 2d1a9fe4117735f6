// docs/failure-modes.md says of every failure which test proves what it claims; this holds it to that.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const PAGE = new URL('../../../docs/failure-modes.md', import.meta.url);
const PROOF = /\[([^\]]+)\]\(([^)]+\.test\.ts)\)/g;

test('every row of the failure modes names tests that exist', () => {
  const rows = readFileSync(PAGE, 'utf8')
    .split('\n')
    .filter(line => line.startsWith('| ') && !line.startsWith('| what fails'));
  assert.ok(rows.length > 30, `${rows.length} rows`);
  for (const row of rows) {
    const proofs = [...row.matchAll(PROOF)];
    assert.notEqual(proofs.length, 0, `nothing proves: ${row}`);
    for (const [, name = '', file = ''] of proofs) {
      const source = readFileSync(new URL(file, PAGE), 'utf8');
      const isThere = [`'`, '`', '"'].some(quote => source.includes(`test(${quote}${name}${quote}`));
      assert.ok(isThere, `${file} has no test ${name}`);
    }
  }
});
