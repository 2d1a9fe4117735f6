import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearestName } from './index.ts';

test('a few wrong letters find the name that was meant, in any case', () => {
  assert.equal(nearestName('selctor', ['rules', 'selector']), 'selector');
  assert.equal(nearestName('DNEY', ['ALLOW', 'DENY']), undefined);
  assert.equal(nearestName('DENI', ['ALLOW', 'DENY']), 'DENY');
  assert.equal(nearestName('Protcol', ['protocol']), 'protocol');
});

test('of two near names the nearer one wins', () => {
  assert.equal(nearestName('workloads', ['workload', 'workloads']), 'workloads');
});

test('a name that is merely alike gets no answer, so that no check takes it for misspelt', () => {
  assert.equal(nearestName('networking.istio.io/tunnel', ['networking.istio.io/traffic']), undefined);
  assert.equal(nearestName('tcp', ['http']), undefined);
});
