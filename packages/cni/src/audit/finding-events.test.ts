import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Finding } from './audit-types.ts';
import { findingEvent } from './finding-events.ts';
import { NODE } from './ledger.ts';

const FOUND: Finding = {
  code: 'audit.rules_drift',
  pod: 'shop/web-1',
  uid: 'u1',
  what: 'a rule is missing',
  remedy: 'the pod is enrolled anew',
  since: new Date(0),
  repaired: false,
};
const ABOUT = { uid: 'u1', namespace: 'shop', name: 'web-1' };

test('a finding is a warning with its remedy and its code', () => {
  assert.deepEqual(findingEvent({ kind: 'found', finding: FOUND, afterMs: 0 }), {
    ...ABOUT,
    type: 'Warning',
    reason: 'MeshRulesDrift',
    message: 'a rule is missing; the pod is enrolled anew  [audit.rules_drift]',
  });
});

test('its end is no warning, under a reason of its own', () => {
  const ends = [
    ['repaired', 'MeshRulesDriftRepaired', 'a rule is missing: repaired after 0.3 s  [audit.rules_drift]'],
    ['cleared', 'MeshRulesDriftGone', 'a rule is missing: gone after 0.3 s  [audit.rules_drift]'],
  ] as const;
  for (const [kind, reason, message] of ends) {
    const event = findingEvent({ kind, finding: FOUND, afterMs: 312 });
    assert.deepEqual(event, { ...ABOUT, type: 'Normal', reason, message });
  }
});

test('what concerns the node is no pod’s', () => {
  const finding: Finding = { ...FOUND, code: 'audit.ztunnel_down', pod: NODE.name, uid: NODE.uid };
  assert.equal(findingEvent({ kind: 'found', finding, afterMs: 0 }), undefined);
});
