import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ip } from '../test/fixture.ts';
import { parseCidr } from './address.ts';
import { createMatch, type Policy } from './policy.ts';
import { authorize, compilePolicies } from './rbac.ts';
import { explainPolicies } from './rbac-explain.ts';

const request = {
  sourceIp: ip('10.0.0.1'),
  identity: { trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'stranger' },
  destinationIp: ip('10.0.0.2'),
  destinationPort: 80,
};
const base = { namespace: 'shop', scope: 'Namespace', dryRun: false } as const;
const callers: Policy = {
  ...base,
  name: 'cart-callers',
  action: 'Allow',
  rules: [
    [[createMatch({ serviceAccounts: [{ namespace: 'shop', serviceAccount: 'web' }], destinationPorts: [80] })]],
    [
      [
        createMatch({ namespaces: [{ kind: 'exact', value: 'plain' }] }),
        createMatch({ principals: [{ kind: 'suffix', value: '/sa/x' }] }),
      ],
    ],
  ],
};
const blocks: Policy = {
  ...base,
  name: 'blocks',
  action: 'Deny',
  rules: [
    [
      [
        createMatch({
          notSourceIps: ['10.0.0.0/8', '11.0.0.0/8', '::/0', '12.0.0.0/8'].map(
            text => parseCidr(text) ?? assert.fail(),
          ),
        }),
      ],
    ],
  ],
};

test('each rule says what it wants, DENY policies come first', () => {
  const explained = explainPolicies([callers, blocks], request);
  assert.deepEqual(
    explained.map(one => [one.policy, one.matched, one.rules.map(rule => rule.wants)]),
    [
      ['shop/blocks', false, ['source not 10.0.0.0/8 or 11.0.0.0/8 or ::/0 or 1 more']],
      ['shop/cart-callers', false, ['service account shop/web and port 80', 'namespace plain, or principal */sa/x']],
    ],
  );
});

test('a rule that matches wants nothing, and the first failing condition is the one shown', () => {
  const two: Policy = {
    ...base,
    name: 'two',
    action: 'Allow',
    rules: [
      [[createMatch({ destinationPorts: [80] })], [createMatch({ namespaces: [{ kind: 'prefix', value: 'x' }] })]],
      [],
    ],
  };
  const [explained] = explainPolicies([two], request);
  assert.deepEqual(explained?.rules, [
    { matched: false, wants: 'namespace x*' },
    { matched: true, wants: '' },
  ]);
  assert.equal(explained?.matched, authorize(compilePolicies([two]), request).allowed);
});
