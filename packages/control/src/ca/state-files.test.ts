import assert from 'node:assert/strict';
import { chmod, chown, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { LineFile } from './line-file.ts';
import { withDirectory } from './openssl-testing.ts';
import { ensureStateDirectory, readSecret, writeAtomically } from './state-files.ts';

const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;

test('what is written has its mode whatever the umask, and leaves nothing beside it', async () => {
  await withDirectory(async directory => {
    const umask = process.umask(0o777);
    try {
      await writeAtomically(join(directory, 'secret'), 'a', 0o600);
      await writeAtomically(join(directory, 'public'), 'b', 0o644);
      await writeAtomically(join(directory, 'secret'), 'c', 0o600);
    } finally {
      process.umask(umask);
    }
    assert.deepEqual(
      [await modeOf(join(directory, 'secret')), await modeOf(join(directory, 'public'))],
      [0o600, 0o644],
    );
    assert.deepEqual((await readdir(directory)).toSorted(), ['public', 'secret']);
    assert.equal(await readSecret(join(directory, 'secret')), 'c');
  });
});

test('what a crash left behind is in nobody’s way', async () => {
  await withDirectory(async directory => {
    // The name that a process of the same number, its first write, used to choose: in a container always the same.
    for (let count = 1; count < 100; count++) {
      await writeFile(join(directory, `file.${process.pid}.${count}.tmp`), 'half');
    }
    await writeAtomically(join(directory, 'file'), 'whole', 0o600);
    assert.equal(await readFile(join(directory, 'file'), 'utf8'), 'whole');
  });
});

test('a secret is read only from a plain file that nobody else can use', async () => {
  await withDirectory(async directory => {
    const path = join(directory, 'key');
    assert.equal(await readSecret(path), undefined);
    await writeFile(path, 'k', { mode: 0o600 });
    assert.equal(await readSecret(path), 'k');
    for (const mode of [0o640, 0o604, 0o620, 0o601]) {
      await chmod(path, mode);
      await assert.rejects(readSecret(path), { code: 'ca.key_permissions' }, mode.toString(8));
    }
    await chmod(path, 0o600);
    await symlink(path, join(directory, 'link'));
    await assert.rejects(readSecret(join(directory, 'link')), { code: 'ca.key_permissions' });
    await symlink('/nonexistent', join(directory, 'dangling'));
    await assert.rejects(readSecret(join(directory, 'dangling')), { code: 'ca.key_permissions' });
  });
});

test('a directory or a secret of another user is not used', {
  skip: process.geteuid?.() !== 0 && 'needs root',
}, async () => {
  await withDirectory(async directory => {
    const [mine, theirs] = [join(directory, 'mine'), join(directory, 'theirs')];
    await ensureStateDirectory(mine);
    assert.equal(await modeOf(mine), 0o700);
    await mkdir(theirs, { mode: 0o700 });
    await chown(theirs, 12_345, 12_345);
    await assert.rejects(ensureStateDirectory(theirs), { code: 'ca.state', message: /another user/ });
    const key = join(mine, 'key');
    await writeFile(key, 'k', { mode: 0o600 });
    await chown(key, 12_345, 12_345);
    await assert.rejects(readSecret(key), { code: 'ca.key_permissions' });
  });
});

test('a log that was there with another mode is closed to others, and a line is one line whatever is in it', async () => {
  await withDirectory(async directory => {
    const path = join(directory, 'audit.jsonl');
    await writeFile(path, '', { mode: 0o666 });
    await chmod(path, 0o666);
    const file = new LineFile(path);
    const hostile = 'a\n{"decision":"granted"}\r\u2028\u0000\u001b[2J';
    file.append({ requested: hostile });
    file.close();
    assert.equal(await modeOf(path), 0o600);
    const lines = (await readFile(path, 'utf8')).split(/[\n\r]/);
    assert.deepEqual(lines.length, 2);
    assert.deepEqual(JSON.parse(lines[0] ?? ''), { requested: hostile });
  });
});
