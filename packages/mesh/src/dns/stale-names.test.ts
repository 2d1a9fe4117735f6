import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isStaleName } from './stale-names.ts';

const stale = (...labels: string[]) => ({ kind: 'labels', labels: new Set(labels) }) as const;

test('a name is stale by its first or its second label and by no other', () => {
  assert.ok(isStaleName(stale('db'), 'db'));
  assert.ok(isStaleName(stale('db'), 'db.ns.svc.cluster.local'));
  assert.ok(isStaleName(stale('db'), 'db-0.db'));
  assert.ok(isStaleName(stale('db'), 'db-0.db.ns.svc.cluster.local'));
  assert.ok(!isStaleName(stale('db'), 'a.b.db'));
  assert.ok(!isStaleName(stale('db'), 'web.ns.svc.cluster.local'));
  assert.ok(!isStaleName(stale('db'), 'dbx'));
  assert.ok(!isStaleName(stale('db'), ''));
  assert.ok(!isStaleName(stale(), 'db'));
});

test('all names are stale when anything may have changed', () => {
  assert.ok(isStaleName({ kind: 'all' }, ''));
  assert.ok(isStaleName({ kind: 'all' }, 'db.ns'));
});
