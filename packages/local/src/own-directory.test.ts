import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { claimDirectory } from './own-directory.ts';

test("a directory is one's own alone, or refused", t => {
  const parent = mkdtempSync(join(tmpdir(), 'ambit-own-'));
  t.after(() => rmSync(parent, { recursive: true }));
  const path = join(parent, 'mine');
  const { uid } = statSync(parent);
  claimDirectory(path, uid);
  assert.equal(statSync(path).mode & 0o777, 0o700);
  claimDirectory(path, uid);
  assert.throws(() => claimDirectory(path, uid + 1), { code: 'local.state' });
  chmodSync(path, 0o770);
  assert.throws(() => claimDirectory(path, uid), { code: 'local.state' });
  chmodSync(path, 0o700);
  symlinkSync(path, join(parent, 'link'));
  assert.throws(() => claimDirectory(join(parent, 'link'), uid), { code: 'local.state' });
});
