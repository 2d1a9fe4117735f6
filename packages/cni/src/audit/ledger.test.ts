import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import type { Condition } from './check-pod.ts';
import { Ledger, type LedgerEvent, NODE } from './ledger.ts';

const WEB = { uid: 'u1', name: 'shop/web' };
const drift: Condition = { code: 'audit.rules_drift', what: 'x', remedy: 'y', repair: 'enrol', graceMs: 200 };
const down: Condition = { code: 'audit.ztunnel_down', what: 'x', remedy: 'y', repair: 'none', graceMs: 0 };

describe('the ledger', () => {
  let clock: number;
  let events: LedgerEvent[];
  let ledger: Ledger;
  beforeEach(() => {
    clock = 1_000_000;
    events = [];
    ledger = new Ledger(
      () => clock,
      event => events.push(event),
    );
  });
  const told = () => events.map(({ kind, finding, afterMs }) => `${kind} ${finding.pod} ${finding.code} ${afterMs}`);

  test('a condition is a finding when it has lasted its grace, and dates from when it was first seen', () => {
    assert.deepEqual(ledger.observe(WEB, [drift]), []);
    assert.equal(ledger.secondLookAt(WEB), clock + 200);
    assert.deepEqual(ledger.findings(), []);
    clock += 200;
    assert.deepEqual(ledger.observe(WEB, [drift]), [drift]);
    assert.deepEqual(told(), ['found shop/web audit.rules_drift 0']);
    assert.equal(ledger.findings()[0]?.since.getTime(), 1_000_000);
    assert.equal(ledger.secondLookAt(WEB), undefined);
  });

  test('one that is gone at the second look never was', () => {
    ledger.observe(WEB, [drift]);
    ledger.observe(WEB, []);
    clock += 10_000;
    assert.deepEqual(ledger.observe(WEB, [drift]), []);
    assert.deepEqual(told(), []);
  });

  test('a finding that ends by itself is told of and forgotten', () => {
    ledger.observe(NODE, [down]);
    clock += 5_000;
    ledger.observe(NODE, []);
    assert.deepEqual(told(), ['found node audit.ztunnel_down 0', 'cleared node audit.ztunnel_down 5000']);
    assert.deepEqual(ledger.findings(), []);
  });

  test('one that was treated is repaired, and stays listed for a minute behind those that are open', () => {
    ledger.observe(WEB, [{ ...drift, graceMs: 0 }]);
    ledger.treated(WEB, ['audit.rules_drift']);
    clock += 300;
    ledger.observe(WEB, []);
    ledger.observe(NODE, [down]);
    assert.deepEqual(
      ledger.findings().map(({ code, repaired, repairedAfterMs }) => [code, repaired, repairedAfterMs]),
      [
        ['audit.ztunnel_down', false, undefined],
        ['audit.rules_drift', true, 300],
      ],
    );
    clock += 60_000;
    ledger.prune(new Set(['u1']));
    assert.deepEqual(
      ledger.findings().map(({ code }) => code),
      ['audit.ztunnel_down'],
    );
  });

  test('what comes back is a new finding', () => {
    for (let i = 0; i < 2; i++) {
      ledger.observe(WEB, [{ ...drift, graceMs: 0 }]);
      ledger.treated(WEB, ['audit.rules_drift']);
      clock += 100;
      ledger.observe(WEB, []);
    }
    assert.deepEqual(
      events.map(({ kind }) => kind),
      ['found', 'repaired', 'found', 'repaired'],
    );
  });

  test('what was found of a pod that is no more is over', () => {
    ledger.observe(WEB, [{ ...drift, graceMs: 0 }]);
    ledger.prune(new Set());
    assert.deepEqual(told(), ['found shop/web audit.rules_drift 0', 'cleared shop/web audit.rules_drift 0']);
    assert.deepEqual(ledger.findings(), []);
  });
});
