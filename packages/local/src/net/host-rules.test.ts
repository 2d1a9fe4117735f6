import assert from 'node:assert/strict';
import { test } from 'node:test';
import { subnetsOf } from './address-plan.ts';
import { foreignAccepts, type ListedObject, localTable, ourAccepts } from './host-rules.ts';

const SUBNETS = subnetsOf(62);
const CHAIN = { family: 'ip', table: 'filter', name: 'FORWARD', type: 'filter', hook: 'forward', policy: 'drop' };

/** What nft would list after the commands. */
function applied(listed: readonly ListedObject[], commands: readonly object[]): ListedObject[] {
  const rules = commands.map((command, i) => {
    const { insert } = command as { insert: { rule: { family: string; table: string; chain: string; expr: unknown } } };
    return { rule: { ...insert.rule, handle: 100 + i } };
  });
  return [...listed, ...rules];
}

test('a foreign chain that drops what is forwarded gets one accepting rule each way, once', () => {
  const before: ListedObject[] = [{ chain: CHAIN }];
  const commands = foreignAccepts(before, SUBNETS);
  assert.equal(commands.length, 2);
  const after = applied(before, commands);
  assert.deepEqual(foreignAccepts(after, SUBNETS), []);
  assert.deepEqual(
    ourAccepts(after, SUBNETS).map(rule => (rule as { handle: number }).handle),
    [100, 101],
  );
});

test('so does one that accepts by its policy and refuses by a rule for all that is left; a rule with a condition is no such', () => {
  const chain = { chain: { ...CHAIN, policy: 'accept' } };
  const where = { family: 'ip', table: 'filter', chain: 'FORWARD', handle: 3 };
  const refusals = [
    [{ counter: null }, { xt: { type: 'target', name: 'REJECT' } }],
    [{ reject: { type: 'icmpx', expr: 'admin-prohibited' } }],
    [{ log: null }, { drop: null }],
  ];
  for (const expr of refusals) {
    const before: ListedObject[] = [chain, { rule: { ...where, expr } }];
    const commands = foreignAccepts(before, SUBNETS);
    assert.equal(commands.length, 2, JSON.stringify(expr));
    assert.deepEqual(foreignAccepts(applied(before, commands), SUBNETS), []);
  }
  const condition = { match: { op: '==', left: { meta: { key: 'iifname' } }, right: 'eth1' } };
  for (const expr of [[condition, { drop: null }], [{ xt: { type: 'target', name: 'LOG' } }], [{ counter: null }]]) {
    assert.deepEqual(foreignAccepts([chain, { rule: { ...where, expr } }], SUBNETS), []);
  }
});

test('chains that accept, other hooks and our own table are left alone', () => {
  const listed: ListedObject[] = [
    { chain: { ...CHAIN, policy: 'accept' } },
    { chain: { ...CHAIN, hook: 'input' } },
    { chain: { ...CHAIN, family: 'bridge' } },
    { chain: { ...CHAIN, table: 'ambit-local' } },
    { rule: { family: 'ip', table: 'filter', chain: 'FORWARD', handle: 3, expr: [{ accept: null }] } },
  ];
  assert.deepEqual(foreignAccepts(listed, SUBNETS), []);
  assert.deepEqual(ourAccepts(listed, SUBNETS), []);
});

test('only what leaves for elsewhere is translated', () => {
  const text = JSON.stringify(localTable(SUBNETS));
  assert.match(text, /"saddr".*"!=".*"daddr".*"masquerade"/);
  assert.equal(text.match(/masquerade/g)?.length, 2, 'one rule a family');
});
