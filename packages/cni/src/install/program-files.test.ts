import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import { CniError } from '../errors.ts';
import { programFiles } from './program-files.ts';

/** Among our packages, since modules of others are refused; it is not there. */
const ROOM = join(import.meta.dirname, 'room');

function carried(files: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
  const read = (path: string) => files[relative(ROOM, path)] ?? readFileSync(path, 'utf8');
  return programFiles(join(ROOM, 'main.ts'), read);
}

test('carries what an entry needs, without types, and runs elsewhere', t => {
  const files = carried({
    'main.ts': [
      "import { type Ip, parseIp } from '@ambit/mesh';",
      "import type { Never } from './never.ts';",
      'import {',
      '  twice,',
      "} from './deep/twice.ts';",
      "const ip: Ip | undefined = parseIp('10.0.0.1');",
      'const never: Never | undefined = undefined;',
      'process.stdout.write(`${twice(String(ip))} ${String(never)}`);',
    ].join('\n'),
    'never.ts': 'export type Never = string;',
    'deep/twice.ts': "export { twice } from './again.ts';",
    'deep/again.ts': 'export function twice(text: string): string {\n  return text + text;\n}\n',
  });
  assert.ok(![...files.keys()].some(name => name.includes('never') || name.includes('mesh-index')));
  const elsewhere = mkdtempSync(join(tmpdir(), 'ambit-program-'));
  t.after(() => rmSync(elsewhere, { recursive: true }));
  for (const [name, text] of files) writeFileSync(join(elsewhere, name), text);
  const [main = ''] = files.keys();
  const said = execFileSync(process.execPath, [join(elsewhere, main)], { encoding: 'utf8', cwd: elsewhere });
  assert.equal(said, '10.0.0.110.0.0.1 undefined');
});

for (const [what, text] of [
  ['a package of others', "import { x } from 'yaml';"],
  ['an import while it runs', "const x = await import('./x.ts');"],
  ['a whole room', "import * as mesh from '@ambit/mesh';"],
  ['a name that a room does not have', "import { nothing } from '@ambit/mesh';"],
  ['a file outside our packages', "import { x } from '../../../../../../x.ts';"],
] as const) {
  test(`refuses ${what}`, () => {
    assert.throws(
      () => carried({ 'main.ts': text }),
      (error: unknown) => error instanceof CniError && error.code === 'cni.config',
    );
  });
}
