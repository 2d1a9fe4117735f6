// The checked-in code must be what the schemas say today.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const packageDir = join(import.meta.dirname, '..');
const binDir = join(packageDir, '..', '..', 'node_modules', '.bin');

async function texts(dir: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    found.set(path.slice(dir.length + 1), await readFile(path, 'utf8'));
  }
  return found;
}

test('src/gen is what the schemas generate (else: npm run generate -w @ambit/wire)', async () => {
  const scratch = await mkdtemp(join(tmpdir(), 'ambit-wire-'));
  try {
    await promisify(execFile)(join(binDir, 'buf'), ['generate', '-o', scratch], {
      cwd: packageDir,
      env: { ...process.env, PATH: `${binDir}${delimiter}${process.env['PATH'] ?? ''}`, BUF_CACHE_DIR: scratch },
      timeout: 60_000,
    });
    const fresh = await texts(join(scratch, 'src', 'gen'));
    assert.ok(fresh.size > 0);
    assert.deepEqual(await texts(join(packageDir, 'src', 'gen')), fresh);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
});
