import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readGoBoolean, redirectPlanOf } from './overrides.ts';

const probeSnat = { ip: '169.254.7.127', ip6: 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff' };
const defaults = { dnsCapture: true, ipv6: true, probeSnat };
const of = (annotations: Record<string, string>, from = defaults) => redirectPlanOf({ annotations }, from);

test('without annotations the plan is that of the node', () => {
  assert.deepEqual(of({}), {
    plan: { dnsCapture: true, bypassInbound: false, virtualInterfaces: [], ipv6: true, probeSnat },
    warnings: [],
  });
});

test('DNS capture is overridden both ways', () => {
  assert.equal(of({ 'ambient.istio.io/dns-capture': 'false' }).plan.dnsCapture, false);
  assert.equal(of({ 'ambient.istio.io/dns-capture': 'T' }, { ...defaults, dnsCapture: false }).plan.dnsCapture, true);
});

test('inbound capture is bypassed only by a true annotation', () => {
  assert.equal(of({ 'ambient.istio.io/bypass-inbound-capture': '1' }).plan.bypassInbound, true);
  assert.equal(of({ 'ambient.istio.io/bypass-inbound-capture': 'false' }).plan.bypassInbound, false);
});

test('booleans are read as Go reads them', () => {
  for (const text of ['1', 't', 'T', 'TRUE', 'true', 'True']) assert.equal(readGoBoolean(text), true, text);
  for (const text of ['0', 'f', 'F', 'FALSE', 'false', 'False']) assert.equal(readGoBoolean(text), false, text);
  for (const text of ['', 'yes', 'tRUE', ' true', 'on']) assert.equal(readGoBoolean(text), undefined, text);
});

test('an annotation that cannot be read changes nothing and is named', () => {
  const { plan, warnings } = of({ 'ambient.istio.io/dns-capture': 'nope\n' });
  assert.equal(plan.dnsCapture, true);
  assert.deepEqual(warnings, [
    'annotation ambient.istio.io/dns-capture is neither true nor false and is ignored: "nope\\n"',
  ]);
});

test('virtual interfaces are trimmed, blanks and repetitions dropped, order kept', () => {
  const { plan, warnings } = of({ 'istio.io/reroute-virtual-interfaces': ' net1, ,k6t-eth0,net1,tap+ ,' });
  assert.deepEqual(plan.virtualInterfaces, ['net1', 'k6t-eth0', 'tap+']);
  assert.deepEqual(warnings, []);
});

test('what cannot be the name of an interface gets into no rule', () => {
  const names = ['a b', 'sixteen-letters-', 'x/y', '-j', '"', 'a*b', '*', 'é'];
  const { plan, warnings } = of({ 'istio.io/reroute-virtual-interfaces': names.join(',') });
  assert.deepEqual(plan.virtualInterfaces, []);
  assert.equal(warnings.length, names.length);
});

test('the number of virtual interfaces is bounded', () => {
  const names = Array.from({ length: 70 }, (_, i) => `net${i}`);
  const { plan, warnings } = of({ 'istio.io/reroute-virtual-interfaces': names.join(',') });
  assert.equal(plan.virtualInterfaces.length, 64);
  assert.equal(warnings.length, 1);
});
