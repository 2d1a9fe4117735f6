import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { REASONS } from '@ambit/mesh';
import { REASONS_FOLDER, renderReasons } from './reasons.ts';

test('docs/reasons says what the table of reason codes says, no more and no less (npm run docs)', () => {
  const written = readdirSync(REASONS_FOLDER).map(
    name => [name, readFileSync(join(REASONS_FOLDER, name), 'utf8')] as const,
  );
  assert.deepEqual(new Map(written), renderReasons(REASONS));
});

test('each code has a heading on the page of its area', () => {
  const pages = renderReasons(REASONS);
  for (const { code } of REASONS) {
    const page = pages.get(`${code.slice(0, code.indexOf('.'))}.md`) ?? '';
    assert.equal(page.split('\n').filter(line => line === `## ${code}`).length, 1, code);
  }
});
