import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CniError } from '../errors.ts';
import { DEFAULT_SELECTORS, readSelectors, selectorMatches, selectorText } from './label-selector.ts';

const podHalf = (podSelector: unknown) => readSelectors([{ podSelector }])[0]?.pod ?? [];

test('an empty selector, and one that is absent, match everything', () => {
  for (const pair of [{}, { podSelector: {}, namespaceSelector: {} }, { podSelector: null }]) {
    const [read] = readSelectors([pair]);
    assert.ok(read && selectorMatches(read.pod, {}) && selectorMatches(read.namespace, { any: 'thing' }));
  }
});

test('every label of matchLabels must be there with its value', () => {
  const selector = podHalf({ matchLabels: { app: 'cart', tier: 'web' } });
  assert.equal(selectorMatches(selector, { app: 'cart', tier: 'web', more: '1' }), true);
  assert.equal(selectorMatches(selector, { app: 'cart' }), false);
  assert.equal(selectorMatches(selector, { app: 'cart', tier: 'db' }), false);
});

test('the four operators do as in Kubernetes, absent labels included', () => {
  const expression = (operator: string, values: string[] = []) =>
    podHalf({ matchExpressions: [{ key: 'app', operator, values }] });
  const outcomes = (operator: string, values?: string[]) =>
    [{ app: 'a' }, { app: 'z' }, {}].map(labels => selectorMatches(expression(operator, values), labels));
  assert.deepEqual(outcomes('In', ['a', 'b']), [true, false, false]);
  assert.deepEqual(outcomes('NotIn', ['a', 'b']), [false, true, true]);
  assert.deepEqual(outcomes('Exists'), [true, true, false]);
  assert.deepEqual(outcomes('DoesNotExist'), [false, false, true]);
});

test('a label that every object has by nature is not there', () => {
  assert.equal(selectorMatches(podHalf({ matchExpressions: [{ key: 'constructor', operator: 'Exists' }] }), {}), false);
});

test('selectors are shown as kubectl writes them', () => {
  assert.deepEqual(
    DEFAULT_SELECTORS.map(({ pod, namespace }) => [selectorText(pod), selectorText(namespace)]),
    [
      ['istio.io/dataplane-mode=ambient', 'everything'],
      ['istio.io/dataplane-mode!=none', 'istio.io/dataplane-mode=ambient'],
    ],
  );
  const expressions = [
    { key: 'a', operator: 'In', values: ['1', '2'] },
    { key: 'b', operator: 'Exists' },
    { key: 'c', operator: 'DoesNotExist' },
  ];
  assert.equal(selectorText(podHalf({ matchExpressions: expressions })), 'a in (1,2),b,!c');
});

test('the default selectors are what Istio chart says', () => {
  const chart = [
    { podSelector: { matchLabels: { 'istio.io/dataplane-mode': 'ambient' } } },
    {
      podSelector: { matchExpressions: [{ key: 'istio.io/dataplane-mode', operator: 'NotIn', values: ['none'] }] },
      namespaceSelector: { matchLabels: { 'istio.io/dataplane-mode': 'ambient' } },
    },
  ];
  assert.deepEqual(readSelectors(chart), DEFAULT_SELECTORS);
});

test('what is no selector is refused by path, a misspelt field above all', () => {
  const cases: [unknown, string][] = [
    [{}, 'enablement_selectors is not a list'],
    [[1], 'enablement_selectors[0] is not an object'],
    [[{ podSelektor: {} }], 'enablement_selectors[0].podSelektor is not a known field'],
    [[{ podSelector: { matchLabel: {} } }], 'enablement_selectors[0].podSelector.matchLabel is not a known field'],
    [[{ podSelector: { matchLabels: { a: 1 } } }], 'enablement_selectors[0].podSelector.matchLabels.a is not a string'],
    [[{ podSelector: { matchExpressions: [{ key: 'a', operator: 'in', values: ['b'] }] } }], 'operator is none of'],
    [[{ podSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] } }], 'values is empty'],
    [[{ podSelector: { matchExpressions: [{ key: 'a', operator: 'Exists', values: ['b'] }] } }], 'values is not empty'],
    [[{ podSelector: { matchExpressions: [{ operator: 'Exists' }] } }], 'key is not the name'],
    [Array.from({ length: 65 }, () => ({})), 'more than 64'],
  ];
  for (const [value, message] of cases) {
    assert.throws(
      () => readSelectors(value),
      (error: unknown) => error instanceof CniError && error.code === 'cni.config' && error.message.includes(message),
      message,
    );
  }
});

test('any JSON is either read or refused with cni.config', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.array(fc.jsonValue(), { maxLength: 3 }), (value, expressions) => {
      for (const selectors of [value, [{ podSelector: { matchExpressions: expressions } }]]) {
        try {
          for (const selector of readSelectors(selectors)) selectorMatches(selector.pod, {});
        } catch (error) {
          assert.ok(error instanceof CniError && error.code === 'cni.config', String(error));
        }
      }
    }),
    { seed: 51, numRuns: 300 },
  );
});
