import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { aliasesOf, expansionsOf, podSearchDomains, withoutDomain } from './aliases.ts';

const settings = { clusterDomain: 'cluster.local', namespace: 'ns1' };
const inPod = { ...settings, searchDomains: podSearchDomains('ns1', 'cluster.local') };
const names = (asked: string, searchDomains = inPod.searchDomains): readonly string[] =>
  aliasesOf(asked, { ...settings, searchDomains }).map(({ name }) => name);

describe('Q1: expansions by the number of labels', () => {
  const table: readonly (readonly [string, readonly string[]])[] = [
    ['', []],
    ['a', ['a.ns1.svc.cluster.local']],
    ['a.b', ['a.b.svc.cluster.local', 'a.b.ns1.svc.cluster.local']],
    ['a.ns2', ['a.ns2.svc.cluster.local', 'a.ns2.ns1.svc.cluster.local']],
    ['a.b.c', ['a.b.c.svc.cluster.local']],
    ['www.google.com', ['www.google.com.svc.cluster.local']],
    ['a.b.svc', ['a.b.svc.cluster.local', 'a.b.svc.svc.cluster.local']],
    ['a.b.c.svc', ['a.b.c.svc.cluster.local']],
    ['a.b.c.d', []],
    ['a.b.svc.cluster.local', []],
    ['a.b.c.d.e.f', []],
  ];
  for (const [name, expected] of table) {
    test(`"${name}"`, () => assert.deepEqual(expansionsOf(name, settings), expected));
  }
});

test('Q9: a domain is taken off at a dot and never leaves nothing', () => {
  assert.equal(withoutDomain('a.svc.cluster.local', 'svc.cluster.local'), 'a');
  assert.equal(withoutDomain('a.b.cluster.local', 'cluster.local'), 'a.b');
  assert.equal(withoutDomain('mycluster.local', 'cluster.local'), undefined);
  assert.equal(withoutDomain('cluster.local', 'cluster.local'), undefined);
  assert.equal(withoutDomain('.cluster.local', 'cluster.local'), undefined);
  assert.equal(withoutDomain('a.b', ''), undefined);
});

test('the asked name comes first, then its expansions, then what is left without each search domain', () => {
  assert.deepEqual(aliasesOf('a.ns1.svc.cluster.local', inPod), [
    { name: 'a.ns1.svc.cluster.local', stripped: undefined },
    { name: 'a', stripped: 'a' },
    { name: 'a.ns1', stripped: 'a.ns1' },
    { name: 'a.ns1.ns1.svc.cluster.local', stripped: 'a.ns1' },
    { name: 'a.ns1.svc', stripped: 'a.ns1.svc' },
    { name: 'a.ns1.svc.svc.cluster.local', stripped: 'a.ns1.svc' },
  ]);
});

test('a name without a search domain has its own expansions only', () => {
  assert.deepEqual(names('www.google.com'), ['www.google.com', 'www.google.com.svc.cluster.local']);
  assert.deepEqual(names('a'), ['a', 'a.ns1.svc.cluster.local']);
});

test('Q7: a list of its own replaces that of a pod', () => {
  assert.deepEqual(names('a.example.com', ['example.com']), [
    'a.example.com',
    'a.example.com.svc.cluster.local',
    'a',
    'a.ns1.svc.cluster.local',
  ]);
});

test('every alias begins with the label the question begins with, which staleness by label relies on', () => {
  for (const asked of ['x', 'x.y', 'x.y.z', 'x.y.svc', 'x.ns1.svc.cluster.local', 'x.y.z.ns1.svc.cluster.local']) {
    for (const alias of names(asked)) assert.equal(alias.split('.')[0], 'x');
  }
});
