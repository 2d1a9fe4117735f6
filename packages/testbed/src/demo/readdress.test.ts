import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readdress, readdressObjects } from './readdress.ts';

const MAP = new Map([
  ['10.61.1.1', '127.0.0.2'],
  ['fd00:61:1::1', '127.0.0.1'],
]);

test('whole addresses are replaced, longer ones that contain them are not', () => {
  const text =
    'podIP: 10.61.1.1\n[{"ip":"10.61.1.1"},{ip: fd00:61:1::1}] 10.61.1.10 110.61.1.1 fd00:61:1::12 1fd00:61:1::1';
  assert.equal(
    readdress(text, MAP),
    'podIP: 127.0.0.2\n[{"ip":"127.0.0.2"},{ip: 127.0.0.1}] 10.61.1.10 110.61.1.1 fd00:61:1::12 1fd00:61:1::1',
  );
});

test('files without such an address are read where they are, and what is no object file is left out', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'readdress-'));
  try {
    await writeFile(join(directory, 'a.yaml'), 'ip: 10.61.1.1\n');
    await writeFile(join(directory, 'b.yaml'), 'ip: 10.61.1.2\n');
    for (const name of ['.c.yaml', 'd.txt']) await writeFile(join(directory, name), '10.61.1.1');
    const copies = join(directory, 'copies');
    const paths = await readdressObjects(directory, MAP, copies);
    assert.deepEqual(paths, [join(copies, 'a.yaml'), join(directory, 'b.yaml')]);
    assert.equal(await readFile(join(copies, 'a.yaml'), 'utf8'), 'ip: 127.0.0.2\n');
  } finally {
    await rm(directory, { recursive: true });
  }
});
