// Proof that the rules in .dependency-cruiser.mjs bite. A small workspace is laid out in a temporary folder, once
// obeying every rule and once breaking each of them in a file of its own; the real configuration judges both.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { after, test } from 'node:test';

const ROOT = resolve(import.meta.dirname, '..');
const fixtures: string[] = [];
after(() => fixtures.forEach(folder => rmSync(folder, { recursive: true, force: true })));

/** Files of a workspace that keeps every rule; the broken ones are added to it. */
const GOOD = {
  'packages/mesh/src/index.ts': `export { one } from './one.ts';`,
  'packages/mesh/src/one.ts': `using file = { [Symbol.dispose]() {} };\nexport const one = [file].length;`,
  'packages/native/src/index.ts': `import koffi from 'koffi';\nexport const load = koffi;`,
  'packages/proxy/src/index.ts': `import { one } from '@ambit/mesh';\nexport const two = one + 1;`,
  'packages/testbed/src/index.ts': `export const bed = 1;`,
  'packages/ztunnel/src/index.ts': `export * from '@ambit/proxy';`,
  'packages/native/test/certificates.ts': `export const certificates = 1;`,
  'packages/proxy/test/shared.test.ts': `export * from '../../native/test/certificates.ts';`,
  'packages/ztunnel/test/mesh.e2e.test.ts': `import { bed } from '@ambit/testbed';\nexport const b = bed;`,
  'packages/cli/src/main.ts': `export const z = await import('@ambit/ztunnel');`,
  'packages/mesh/src/owner.ts': `import { owned } from './owned.ts';\nexport type Owner = typeof owned;`,
  'packages/mesh/src/owned.ts': `import type { Owner } from './owner.ts';\nexport const owned: Owner = 1;`,
  'packages/mesh/src/one.test.ts': `import { test } from 'node:test';\nimport fc from 'fast-check';\ntest('x', () => fc);`,
};

/** Harmless alone; the other half of a cycle, which is reported once. */
const OTHER_HALF = { 'packages/native/src/right.ts': `import { l } from './left.ts';\nexport const r = l;` };

/** One violation a file, and the rule that must name it. */
const BROKEN: readonly (readonly [path: string, rule: string, source: string])[] = [
  ['packages/mesh/src/up.ts', 'arrow-mesh', `import { two } from '@ambit/proxy';\nexport const t = two;`],
  [
    'packages/mesh/src/up-type.ts',
    'arrow-mesh',
    `import type { two } from '@ambit/proxy';\nexport type T = typeof two;`,
  ],
  ['packages/proxy/src/up.ts', 'arrow-proxy', `export const z = await import('@ambit/ztunnel');`],
  ['packages/ztunnel/src/bed.ts', 'arrow-ztunnel', `export * from '@ambit/testbed';`],
  ['packages/ztunnel/test/cli.test.ts', 'arrow-ztunnel-test', `export * from '@ambit/cli';`],
  ['packages/proxy/src/ffi.ts', 'door-koffi', `import koffi from 'koffi';\nexport const k = koffi;`],
  ['packages/cli/src/deep.ts', 'front-door', `export * from '../../mesh/src/one.ts';`],
  ['packages/ztunnel/test/deep.test.ts', 'front-door-test', `export * from '../../mesh/src/one.ts';`],
  ['packages/native/src/left.ts', 'no-cycle', `import { r } from './right.ts';\nexport const l = r;`],
  [
    'packages/mesh/src/reads.ts',
    'mesh-is-pure',
    `import { readFileSync } from 'node:fs';\nexport const r = readFileSync;`,
  ],
  ['packages/mesh/src/tested.ts', 'tests-stay-outside', `import './one.test.ts';\nexport {};`],
  ['packages/native/src/extra.ts', 'declared', `import fc from 'fast-check';\nexport const f = fc;`],
  ['packages/native/src/lost.ts', 'resolves', `import './nowhere.ts';\nexport {};`],
  ['packages/attic/src/index.ts', 'room-unlisted', `export * from '@ambit/mesh';`],
];

/** Lays the files out, links the packages as npm would, and returns "file rule" for each violation. */
function judge(files: Record<string, string>): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-arrows-'));
  fixtures.push(folder);
  const put = (path: string, text: string): void => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  };
  for (const [path, text] of Object.entries(files)) put(path, text);
  put('package.json', JSON.stringify({ devDependencies: { 'fast-check': '1' } }));
  for (const library of ['koffi', 'fast-check']) {
    put(`node_modules/${library}/package.json`, JSON.stringify({ name: library, version: '1.0.0', main: 'index.js' }));
    put(`node_modules/${library}/index.js`, 'module.exports = {};');
  }
  mkdirSync(join(folder, 'node_modules/@ambit'));
  for (const room of new Set(Object.keys(files).map(path => path.split('/')[1] ?? ''))) {
    const dependencies = room === 'native' || room === 'proxy' ? { koffi: '1' } : {};
    put(`packages/${room}/package.json`, JSON.stringify({ exports: './src/index.ts', dependencies }));
    symlinkSync(`../../packages/${room}`, join(folder, 'node_modules/@ambit', room));
  }
  const cruiser = join(ROOT, 'node_modules/dependency-cruiser/bin/dependency-cruiser.mjs');
  const config = join(ROOT, '.dependency-cruiser.mjs');
  const run = spawnSync(process.execPath, [cruiser, '--config', config, '--output-type', 'json', 'packages'], {
    cwd: folder,
    encoding: 'utf8',
  });
  assert.equal(run.stderr, '');
  const { summary } = JSON.parse(run.stdout) as { summary: { violations: { from: string; rule: { name: string } }[] } };
  return summary.violations.map(({ from, rule }) => `${from} ${rule.name}`);
}

test('a workspace that keeps the arrows passes', () => {
  assert.deepEqual(judge(GOOD), []);
});

test('each broken arrow is named, and nothing else is', () => {
  const files = { ...GOOD, ...OTHER_HALF, 'packages/cli/src/index.ts': 'export {};' };
  const found = judge({ ...files, ...Object.fromEntries(BROKEN.map(([path, , source]) => [path, source])) });
  assert.deepEqual(found.toSorted(), BROKEN.map(([path, rule]) => `${path} ${rule}`).toSorted());
});
