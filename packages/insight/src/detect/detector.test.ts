import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Finding } from './finding.ts';
import { CALM, Traffic, type TrafficEdge } from './traffic-testing.ts';

const MINUTE = 60;
const SHOP: readonly TrafficEdge[] = [
  { source: 'web', destination: 'cart', mood: CALM },
  { source: 'web', destination: 'search', mood: { ...CALM, rate: 0.5, medianMs: 40 } },
  { source: 'cart', destination: 'db', mood: { ...CALM, rate: 12, medianMs: 1.5, errorShare: 0.0005 } },
  { source: 'job', destination: 'cart', mood: { ...CALM, rate: 0.05, medianMs: 300 } },
  { source: 'stranger', destination: 'db', mood: { ...CALM, rate: 0, deniedPerMinute: 2 } },
];
const SEEDS = [1, 2, 3, 5, 8, 13, 21, 34];

/** A mesh that has been calm for `minutes`. */
function calm(seed: number, minutes: number): Traffic {
  const traffic = new Traffic(seed, SHOP);
  traffic.run(minutes * MINUTE);
  return traffic;
}

function found(findings: ReadonlyMap<string, Finding>, code: Finding['code']): Finding | undefined {
  return [...findings.values()].find(finding => finding.code === code);
}

test('a calm hour gives no finding, whichever it is', () => {
  for (const seed of SEEDS) {
    const findings = new Traffic(seed, SHOP).run(60 * MINUTE);
    assert.deepEqual([...findings.keys()], [], `seed ${seed}`);
  }
});

describe('what is injected after twenty calm minutes is found, and nothing else is', () => {
  const cases: ReadonlyArray<
    [code: Finding['code'], withinSeconds: number, inject: (traffic: Traffic) => void, next: RegExp]
  > = [
    ['detect.denied_surge', 60, t => void (t.mood('search').deniedPerMinute = 40), /^ambit why shop\/web /],
    ['detect.plaintext_returned', 20, t => void (t.mood('cart').plaintext = true), /^ambit audit/],
    ['detect.handshake_failures', 90, t => void (t.mood('search').handshakeFailuresPerMinute = 20), /^ambit why/],
    ['detect.latency_shift', 200, t => void (t.mood('cart').medianMs = 120), /^ambit tap --to shop\/cart/],
    ['detect.error_shift', 90, t => void (t.mood('db').errorShare = 0.3), /--failed/],
    [
      'detect.new_edge',
      20,
      t => t.add({ source: 'job', destination: 'db', mood: CALM }),
      /^ambit why shop\/job shop\/db:80/,
    ],
  ];
  for (const [code, withinSeconds, inject, next] of cases) {
    test(code, () => {
      for (const seed of SEEDS.slice(0, 4)) {
        const traffic = calm(seed, 20);
        const before = traffic.nowMs;
        inject(traffic);
        const findings = traffic.run(withinSeconds);
        const finding = found(findings, code);
        assert.ok(finding, `seed ${seed}: ${[...findings.keys()].join(', ')}`);
        assert.match(finding.next, next);
        assert.ok(finding.sinceMs >= before && finding.text.length > 20);
        // A service that fails for another reason than being slow or refused is nothing else as well.
        assert.deepEqual([...new Set([...findings.values()].map(each => each.code))], [code], `seed ${seed}`);
      }
    });
  }
});

test('a finding ends when what it is about does, and not at once', () => {
  const traffic = calm(1, 20);
  traffic.mood('search').deniedPerMinute = 40;
  assert.ok(found(traffic.run(2 * MINUTE), 'detect.denied_surge'));
  traffic.mood('search').deniedPerMinute = 0;
  assert.ok(found(traffic.run(20), 'detect.denied_surge'));
  traffic.run(6 * MINUTE);
  assert.equal(found(traffic.run(MINUTE), 'detect.denied_surge'), undefined);
});

test('a source that suddenly talks to many is found, one that always did is not', () => {
  const traffic = calm(2, 20);
  for (let i = 0; i < 30; i++) traffic.add({ source: 'job', destination: `x${i}`, mood: { ...CALM, rate: 0.2 } });
  const findings = traffic.run(MINUTE);
  const finding = found(findings, 'detect.fan_out');
  assert.equal(finding?.subject, 'shop/job');
  assert.equal(finding.evidence['destinations'], 31);
  const news = [...findings.values()].filter(({ code }) => code === 'detect.new_edge');
  assert.ok(news.length <= 2, 'thirty edges are not thirty findings');

  const many = Array.from({ length: 30 }, (_, i) => ({ source: 'crawler', destination: `x${i}`, mood: CALM }));
  const usual = new Traffic(3, many);
  assert.deepEqual([...usual.run(30 * MINUTE).keys()], []);
});

test('a certificate that should have been renewed is found, one in the middle of its life is not', () => {
  const traffic = calm(1, 1);
  const hour = 3_600_000;
  const { nowMs } = traffic;
  const life = (identity: string, passed: number, left: number) => ({
    identity,
    notBeforeMs: nowMs - passed * hour,
    notAfterMs: nowMs + left * hour,
  });
  traffic.certificates = [life('spiffe://t/ns/shop/sa/web', 13, 11), life('spiffe://t/ns/shop/sa/cart', 20, 4)];
  const findings = traffic.run(10);
  assert.deepEqual([...findings.keys()], ['detect.certificate_expiring spiffe://t/ns/shop/sa/cart']);
  assert.match([...findings.values()][0]?.text ?? '', /runs out in 2\d\d min/);
});

test('findings are bounded', () => {
  const traffic = new Traffic(1, []);
  traffic.certificates = Array.from({ length: 500 }, (_, i) => ({
    identity: `spiffe://t/${i}`,
    notBeforeMs: 0,
    notAfterMs: 1,
  }));
  assert.equal(traffic.run(10).size, 100);
});
