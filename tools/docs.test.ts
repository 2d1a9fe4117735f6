// What the documents claim about the repository and a machine can check: links lead somewhere, named npm scripts exist,
// every dependency is explained with its version, every package is a room of the architecture.

import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { test } from 'node:test';

const ROOT = resolve(import.meta.dirname, '..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const pages = globSync(['*.md', 'docs/**/*.md', 'packages/*/*.md'], { cwd: ROOT }).toSorted();

interface Manifest {
  readonly scripts?: Record<string, string>;
  readonly dependencies?: Record<string, string>;
  readonly devDependencies?: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
}
const manifest = (path: string): Manifest => JSON.parse(read(path)) as Manifest;

test('links between pages lead to files', () => {
  const broken: string[] = [];
  for (const page of pages) {
    for (const [, target = ''] of read(page).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      if (!existsSync(join(ROOT, dirname(page), target))) broken.push(`${page}: ${target}`);
    }
  }
  assert.deepEqual(broken, []);
});

test('npm scripts that pages name exist', () => {
  const missing: string[] = [];
  for (const page of pages) {
    const own = `${dirname(page)}/package.json`;
    const scripts = {
      ...manifest('package.json').scripts,
      ...(existsSync(join(ROOT, own)) ? manifest(own).scripts : {}),
    };
    for (const [, name = ''] of read(page).matchAll(/npm run ([a-z:0-9]+)/g)) {
      if (scripts[name] === undefined) missing.push(`${page}: npm run ${name}`);
    }
  }
  assert.deepEqual(missing, []);
});

test('docs/dependencies.md lists every dependency with its version, and no other', () => {
  const used = new Set<string>();
  for (const path of ['package.json', ...globSync('packages/*/package.json', { cwd: ROOT })]) {
    const { dependencies, devDependencies, optionalDependencies } = manifest(path);
    for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies, ...optionalDependencies })) {
      if (!name.startsWith('@ambit/')) used.add(`${name} ${version}`);
    }
  }
  const rows = read('docs/dependencies.md').matchAll(/^\| ([^|]*\d) \|/gm);
  const listed = new Set([...rows].flatMap(([, cell = '']) => cell.split(', ')));
  assert.deepEqual(listed, used);
});

test('ARCHITECTURE.md has a row for every package, and for no other', () => {
  const rows =
    read('ARCHITECTURE.md')
      .split('## Threads')[0]
      ?.matchAll(/^\| `([a-z]+)` \|/gm) ?? [];
  const packages = globSync('packages/*/package.json', { cwd: ROOT }).map(path => path.split('/')[1] ?? '');
  assert.deepEqual(new Set([...rows].map(([, room = '']) => room)), new Set(packages));
});
