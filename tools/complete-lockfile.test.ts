import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { complete } from './complete-lockfile.mjs';

const parent = (optionalDependencies: Record<string, string>) => ({ 'node_modules/tool': { optionalDependencies } });

test('the lockfile of this repository has every platform package that npm ci will ask for', () => {
  const text = readFileSync(join(import.meta.dirname, '../package-lock.json'), 'utf8');
  const lock = JSON.parse(text) as { packages: Parameters<typeof complete>[0] };
  assert.deepEqual(complete(lock.packages).added, []);
});

test('a dropped platform package comes back with its version and the machine it is for', () => {
  const { packages, added } = complete(parent({ '@t/win32-x64-msvc': '1.2.3', '@t/linux-arm-musleabihf': '1.2.3' }));
  assert.deepEqual(added, ['@t/win32-x64-msvc', '@t/linux-arm-musleabihf']);
  assert.deepEqual(packages['node_modules/@t/win32-x64-msvc'], {
    version: '1.2.3',
    cpu: ['x64'],
    os: ['win32'],
    optional: true,
  });
  assert.deepEqual(packages['node_modules/@t/linux-arm-musleabihf'], {
    version: '1.2.3',
    cpu: ['arm'],
    libc: ['musl'],
    os: ['linux'],
    optional: true,
  });
});

test('packages that are there, nested or hoisted, stay as they are', () => {
  const there = {
    ...parent({ 'fsevents-darwin': '1.0.0' }),
    'node_modules/tool/node_modules/inner': {
      optionalDependencies: { 'fsevents-darwin': '1.0.0', 'deep-darwin': '1.0.0' },
    },
    'node_modules/tool/node_modules/fsevents-darwin': { version: '1.0.0' },
    'node_modules/deep-darwin': { version: '1.0.0' },
  };
  assert.deepEqual(complete(there).added, []);
});

test('a missing package for a machine that Ambit runs on is an error, not an entry', () => {
  assert.throws(() => complete(parent({ '@t/linux-x64-gnu': '1.2.3' })), /supports, but the registry does not have it/);
  assert.throws(() => complete(parent({ '@t/something': '1.2.3' })), /cannot tell the platform/);
});
