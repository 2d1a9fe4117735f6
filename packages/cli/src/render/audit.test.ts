import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import type { AuditReport, FindingReport, PodReport } from '@ambit/cni';
import { auditTable } from './audit.ts';
import { COLOUR, PLAIN } from './style.ts';

const good: PodReport = {
  pod: 'shop/cart-1',
  uid: 'u1',
  member: true,
  status: 'enabled',
  rules: 'ok',
  listeners: 'ok',
  certificate: { notAfter: '2026-11-25T00:00:00Z', remainingSeconds: 41_000 },
  canary: { result: 'ok', seconds: 0.00091, group: 'X25519MLKEM768', cipher: 'TLS_AES_128_GCM_SHA256' },
};
const outsider: PodReport = {
  ...good,
  pod: 'plain/old',
  uid: 'u3',
  member: false,
  status: 'none',
  listeners: null,
  certificate: null,
  canary: null,
};
const job: PodReport = { ...good, pod: 'shop/job-7', uid: 'u2', canary: { result: 'plaintext', why: 'no route' } };
const drift: FindingReport = {
  code: 'audit.rules_drift',
  pod: 'shop/job-7',
  uid: 'u2',
  what: 'rule 3 of 7 in istio-output of table istio-ambient-nat is missing',
  remedy: 'they are programmed anew',
  since: '2026-11-24T12:00:00.000Z',
  repaired: true,
  repairedAfterSeconds: 0.213,
};
/** What begins a terminal's commands. */
const ESCAPE = '\u001B';

const report = (pods: readonly PodReport[], findings: readonly FindingReport[] = []): AuditReport => ({
  node: 'n1',
  at: '2026-11-24T12:00:00.000Z',
  clean: findings.length === 0,
  repairs: true,
  ztunnels: 1,
  hasCanary: true,
  lastRun: { at: '2026-11-24T12:00:00.000Z', seconds: 0.02 },
  pods,
  findings,
});

test('says of each pod what was proven, and of the rest that nothing is known', () => {
  assert.equal(
    auditTable(report([good, outsider]), PLAIN, 80),
    `NODE  POD          MEMBER  RULES  LISTENERS  CERTIFICATE  CANARY   FINDING
n1    shop/cart-1  yes     ok     ok         11 h         0.91 ms
n1    plain/old    no      none   –          –            –

n1: 2 pods, no finding
`,
  );
});

test('says what was wrong, where, and what was done', () => {
  assert.equal(
    auditTable(report([good, { ...job, rules: 'drift' }], [drift]), PLAIN, 80),
    `NODE  POD          MEMBER  RULES  LISTENERS  CERTIFICATE  CANARY     FINDING
n1    shop/cart-1  yes     ok     ok         11 h         0.91 ms
n1    shop/job-7   yes     DRIFT  ok         11 h         plaintext  rules_drift

shop/job-7  [audit.rules_drift]
  rule 3 of 7 in istio-output of table istio-ambient-nat is missing
  done  repaired 0.21 s after it was seen

n1: 2 pods, 1 finding (repaired)
`,
  );
});

test('fits 80 columns, whatever pods and findings are called', () => {
  const pod = 'a-namespace-with-a-long-name/a-deployment-with-a-long-name-6c5f9d7b8-x2x4z';
  const finding: FindingReport = {
    ...drift,
    pod,
    what: 'long '.repeat(60),
    repaired: false,
    repairedAfterSeconds: null,
  };
  const expiring: FindingReport = { ...finding, code: 'audit.certificate_expiring' };
  const text = auditTable(report([{ ...job, pod }], [finding, expiring]), PLAIN, 80);
  assert.match(text, /…\S+-x2x4z/, 'the end of the name stays');
  for (const line of text.split('\n').filter(each => !each.includes('[audit.'))) assert.ok(line.length <= 80, line);
  assert.match(text, /rules_drift \+1/);
});

test('a name does not reach the terminal as it is, and colour says what words say', () => {
  const evil = { ...job, pod: 'shop/\u001B[31mred' };
  assert.ok(!auditTable(report([evil], [{ ...drift, what: '\u001B]0;x' }]), PLAIN, 80).includes(ESCAPE));
  const open = { ...drift, repaired: false, repairedAfterSeconds: null };
  const coloured = auditTable(report([job], [open]), COLOUR, 80);
  const plain = auditTable(report([job], [open]), PLAIN, 80);
  assert.ok(coloured.includes(`${ESCAPE}[31m`));
  assert.equal(stripVTControlCharacters(coloured), plain);
});

test('a ztunnel that has no canaries is named as the reason why there are none', () => {
  const istio = { ...report([{ ...good, canary: null, certificate: null }]), hasCanary: false };
  const text = auditTable(istio, PLAIN, 80);
  assert.match(text, /n1: 1 pod, no finding · this ztunnel has no canaries/);
  assert.match(text, /yes +ok +ok +– +–\n/);
});
