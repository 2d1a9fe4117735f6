import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ControlError, type Diagnostic } from '@ambit/control';
import type { Output } from '../render/output.ts';
import { COLOUR, PLAIN } from '../render/style.ts';
import { describeFindings, lintStatus } from './control-lint.ts';
import { meshSettings, tellProblem } from './control-offline.ts';
import { describeResources, jsonPieces } from './control-render.ts';

const error: Diagnostic = {
  code: 'config.bad_field',
  severity: 'error',
  message: 'spec.action: action is "DENNY"',
  remedy: 'did you mean DENY?',
  place: { file: 'shop/policies.yaml', line: 6, column: 11 },
};
const warning: Diagnostic = { ...error, severity: 'warning', code: 'policy.no_members', place: undefined };
const note: Diagnostic = { ...error, severity: 'info', code: 'config.skipped_kind' };

test('findings are told by place, with the next step, and counted', () => {
  assert.equal(
    describeFindings({ objects: 1, diagnostics: [error, warning, note, note] }, PLAIN, false),
    `shop/policies.yaml:6:11  error  config.bad_field  spec.action: action is "DENNY"
  next  did you mean DENY?
–  warning  policy.no_members  spec.action: action is "DENNY"
  next  did you mean DENY?
1 object: 1 error, 1 warning, 2 notes (shown by --all)
`,
  );
  assert.equal(
    describeFindings({ objects: 17, diagnostics: [] }, PLAIN, false),
    '17 objects: nothing to complain about\n',
  );
  assert.match(describeFindings({ objects: 1, diagnostics: [note] }, PLAIN, true), /info {2}config\.skipped_kind/);
});

test('control characters of names do not reach the terminal, colour does', () => {
  const nasty = { ...error, message: 'a \u001B[2J b', place: { file: 'x\u001B[2J', line: 1, column: 1 } };
  assert.ok(!describeFindings({ objects: 1, diagnostics: [nasty] }, PLAIN, false).includes('\u001B'));
  assert.ok(describeFindings({ objects: 1, diagnostics: [error] }, COLOUR, false).includes('\u001B[31merror'));
});

test('errors fail, warnings only when strict, notes never', () => {
  assert.equal(lintStatus([error], false), 1);
  assert.equal(lintStatus([warning, note], false), 0);
  assert.equal(lintStatus([warning], true), 1);
  assert.equal(lintStatus([note], true), 0);
});

test('a rendering is one JSON document with a resource a line', () => {
  const rendered = {
    addresses: [
      { name: 'a', resource: { service: { name: 'x' } } },
      { name: 'b', resource: { workload: {} } },
    ],
    authorizations: [{ name: 'p', resource: {} }],
  };
  const text = [...jsonPieces(rendered)].join('');
  assert.deepEqual(JSON.parse(text), rendered);
  assert.equal(text.split('\n').length, 7);
  const none = { addresses: [], authorizations: [] };
  assert.deepEqual(JSON.parse([...jsonPieces(none)].join('')), none);
  assert.equal(
    describeResources(rendered),
    'KIND           NAME\nservice        a\nworkload       b\nauthorization  p\n',
  );
});

test('flags decide what the objects mean, and wrong ones are refused by name', () => {
  assert.equal(meshSettings(['x'], { trustDomain: 'example.org' }, ['table']).trustDomain, 'example.org');
  assert.throws(() => meshSettings([], {}, ['table']), { code: 'usage.no_paths' });
  assert.throws(() => meshSettings(['x'], { output: 'xml' }, ['table', 'json']), { code: 'usage.output' });
  assert.throws(() => meshSettings(['x'], { dryRunPolicies: 'perhaps' }, ['table']), { code: 'config.invalid' });
});

test('an unreadable path ends with 3, wrong usage with 2, both with the next step', () => {
  let told = '';
  const output: Output = {
    style: PLAIN,
    answer: () => assert.fail('there is no answer'),
    remark: text => {
      told += text;
    },
  };
  assert.equal(tellProblem(new ControlError('config.no_such_path', 'x: gone', { next: 'look' }), output), 3);
  assert.equal(tellProblem(new ControlError('usage.no_paths', 'nothing'), output), 2);
  assert.equal(told, 'error: x: gone  [config.no_such_path]\n  next    look\nerror: nothing  [usage.no_paths]\n');
});
