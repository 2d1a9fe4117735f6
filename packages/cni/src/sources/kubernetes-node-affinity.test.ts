import assert from 'node:assert/strict';
import { test } from 'node:test';
import { choosesNodes, mayRunOn } from './kubernetes-node-affinity.ts';

const NODE = { name: 'n1', labels: { zone: 'a', size: '8', gpu: '' } };

const affinity = (...nodeSelectorTerms: readonly object[]): object => ({
  affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } } },
});
const expressions = (...matchExpressions: readonly object[]): object => ({ matchExpressions });
const need = (key: string, operator: string, ...values: readonly string[]): object => ({ key, operator, values });

test('a template that names no nodes runs on all', () => {
  const preferred = { affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{}] } } };
  for (const spec of [{}, undefined, { nodeSelector: {} }, preferred]) {
    assert.equal(choosesNodes(spec), false);
    assert.equal(mayRunOn(spec, NODE), true);
  }
});

test('a node selector must hold whole, and beside it one term of the affinity', () => {
  const cases: readonly [object, boolean][] = [
    [{ nodeSelector: { zone: 'a', gpu: '' } }, true],
    [{ nodeSelector: { zone: 'a', arch: 'arm' } }, false],
    [{ nodeSelector: { constructor: 'x' } }, false],
    [{ nodeSelector: { zone: 'a' }, ...affinity(expressions(need('zone', 'In', 'b'))) }, false],
    [affinity(expressions(need('zone', 'In', 'b')), expressions(need('zone', 'In', 'b', 'a'))), true],
    [affinity(expressions(need('zone', 'In', 'a'), need('gpu', 'DoesNotExist'))), false],
    [affinity(), false],
    [affinity({}), false],
  ];
  for (const [spec, expected] of cases) {
    assert.equal(choosesNodes(spec), true);
    assert.equal(mayRunOn(spec, NODE), expected, JSON.stringify(spec));
  }
});

test('every operator is as the scheduler has it', () => {
  const cases: readonly [object, boolean][] = [
    [need('zone', 'NotIn', 'b'), true],
    [need('none', 'NotIn', 'b'), true],
    [need('none', 'In', 'b'), false],
    [need('gpu', 'Exists'), true],
    [need('none', 'DoesNotExist'), true],
    [need('size', 'Gt', '7'), true],
    [need('size', 'Gt', '8'), false],
    [need('size', 'Lt', '9'), true],
    [need('zone', 'Lt', '9'), false],
    [need('none', 'Gt', '1'), false],
    [need('size', 'Like', '8'), false],
  ];
  for (const [each, expected] of cases) {
    assert.equal(mayRunOn(affinity(expressions(each)), NODE), expected, JSON.stringify(each));
  }
});

test('the one field is the name', () => {
  const named = (key: string, name: string): object => affinity({ matchFields: [need(key, 'In', name)] });
  assert.equal(mayRunOn(named('metadata.name', 'n1'), NODE), true);
  assert.equal(mayRunOn(named('metadata.name', 'n2'), NODE), false);
  assert.equal(mayRunOn(named('metadata.uid', 'n1'), NODE), false);
});
