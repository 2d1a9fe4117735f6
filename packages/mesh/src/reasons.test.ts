import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isReasonCode, REASONS, reasonOf, responseFlagOf } from './reasons.ts';

const AREAS = 'policy identity tls hbone route dial dns peer drain limit enrol audit config'.split(' ');

test('every code is area.cause with a known area', () => {
  for (const { code } of REASONS) {
    assert.match(code, /^[a-z]+\.[a-z_]+$/);
    assert.ok(AREAS.includes(code.split('.')[0] ?? ''), code);
  }
});

test('sentences begin in lower case, nothing ends in a full stop, and no sentence is used twice', () => {
  for (const { code, sentence, hint } of REASONS) {
    for (const text of [sentence, hint]) {
      assert.ok(text.length > 15 && !text.endsWith('.'), code);
    }
    assert.match(sentence, /^[a-z]/, code);
  }
  assert.equal(new Set(REASONS.map(reason => reason.sentence)).size, REASONS.length);
});

test('flags are those upstream puts into metrics', () => {
  assert.equal(responseFlagOf('policy.denied_by'), 'DENY');
  assert.equal(responseFlagOf('policy.changed'), 'DENY');
  assert.equal(responseFlagOf('dial.refused'), 'CONNECT');
  assert.equal(responseFlagOf('dial.timeout'), 'NETWORK_POLICY');
  assert.equal(responseFlagOf('identity.unavailable'), 'IDENTITY_ERROR');
  assert.equal(responseFlagOf('identity.revoked'), 'CERT_REVOKED');
  assert.equal(responseFlagOf('drain.deadline'), '-');
});

test('a code is recognised, and nothing else', () => {
  assert.ok(REASONS.every(reason => isReasonCode(reason.code)));
  for (const text of ['', 'policy', 'policy.', 'toString', '__proto__', 'policy.denied_by '])
    assert.ok(!isReasonCode(text));
  assert.equal(reasonOf('route.loop').code, 'route.loop');
});
