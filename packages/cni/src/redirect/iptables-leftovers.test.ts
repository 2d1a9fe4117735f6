import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { readLeftover, renderLeftoverRemoval } from './iptables-leftovers.ts';

const listing = {
  nftables: [
    { metainfo: {} },
    { table: { family: 'ip', name: 'nat' } },
    { chain: { name: 'OUTPUT', hook: 'output' } },
    { chain: { name: 'ISTIO_OUTPUT' } },
    { rule: { chain: 'OUTPUT', handle: 4, expr: [{ counter: null }, { jump: { target: 'DOCKER' } }] } },
    { rule: { chain: 'OUTPUT', handle: 7, expr: [{ counter: null }, { jump: { target: 'ISTIO_OUTPUT' } }] } },
    { rule: { chain: 'ISTIO_OUTPUT', handle: 9, expr: [{ xt: null }, { goto: { target: 'ISTIO_OUTPUT' } }] } },
  ],
};

test('chains of the names and the rules that lead there are found, others are not', () => {
  assert.deepEqual(readLeftover('ip', 'nat', listing), {
    family: 'ip',
    table: 'nat',
    chains: ['ISTIO_OUTPUT'],
    jumps: [{ chain: 'OUTPUT', handle: 7 }],
  });
});

test('removal takes jumps, then contents, then chains', () => {
  assert.deepEqual(renderLeftoverRemoval([readLeftover('ip', 'nat', listing)]).nftables, [
    { delete: { rule: { family: 'ip', table: 'nat', chain: 'OUTPUT', handle: 7 } } },
    { flush: { chain: { family: 'ip', table: 'nat', name: 'ISTIO_OUTPUT' } } },
    { delete: { chain: { family: 'ip', table: 'nat', name: 'ISTIO_OUTPUT' } } },
  ]);
});

test('any JSON is read', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.array(fc.jsonValue(), { maxLength: 4 }), (value, nftables) => {
      readLeftover('ip', 'nat', value);
      readLeftover('ip', 'nat', { nftables: [...nftables, { rule: value }, { chain: value }] });
    }),
    { seed: 55, numRuns: 300 },
  );
});
