import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bundleKey, RootBundles } from './root-bundles.ts';

const HOUR_MS = 3_600_000;
const block = (body: string): string => `-----BEGIN CERTIFICATE-----\n${body}\n-----END CERTIFICATE-----\n`;

test('order, line ends, comments and repetitions do not make another bundle', () => {
  const key = bundleKey(block('QQ==') + block('Qg=='));
  assert.equal(bundleKey(`# new\r\n${block('Qg==')}${block('QQ==').replaceAll('\n', '\r\n')}${block('QQ==')}`), key);
  assert.notEqual(bundleKey(block('QQ==')), key);
});

test('the first bundle is no rotation, another one is, once', () => {
  const bundles = new RootBundles();
  assert.deepEqual(
    ['a', 'a', 'b', 'b', 'a', 'b'].map((bundle, minute) => bundles.observe(bundle, minute * 60_000)),
    [false, false, true, false, false, false],
  );
});

test('a bundle that comes back after an hour is a rotation again', () => {
  const bundles = new RootBundles();
  bundles.observe('a', 0);
  assert.equal(bundles.observe('b', 1), true);
  assert.equal(bundles.observe('a', HOUR_MS + 2), true);
});

test('the bundle in use is not a rotation, however long nobody renewed', () => {
  const bundles = new RootBundles();
  bundles.observe('a', 0);
  assert.equal(bundles.observe('a', 12 * HOUR_MS), false);
});
