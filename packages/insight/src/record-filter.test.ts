import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ip } from '@ambit/mesh';
import type { ConnectionRecord, L7Request } from '@ambit/proxy';
import { matchesRecord, matchesRequest, readRecordFilter } from './record-filter.ts';
import { record } from './record-testing.ts';

function filterOf(query: string) {
  const reading = readRecordFilter(new URLSearchParams(query));
  assert.equal(reading.kind, 'filter', query);
  return reading.filter;
}

const passes = (query: string, more: Partial<ConnectionRecord> = {}): boolean =>
  matchesRecord(filterOf(query), record(more));

test('without a word everything passes', () => {
  assert.equal(passes(''), true);
});

test('an end goes by workload, pod, bare name, namespace or address', () => {
  for (const from of ['shop/web', 'shop/web-1', 'web', 'shop/', '10.0.0.1'])
    assert.equal(passes(`from=${from}`), true, from);
  for (const from of ['shop/cart', 'bank/web', 'we', '10.0.0.2']) assert.equal(passes(`from=${from}`), false, from);
  for (const to of ['shop/cart', 'cart', 'cart.shop.svc.cluster.local', '10.96.0.1', '10.0.0.2']) {
    assert.equal(passes(`to=${to}`), true, to);
  }
  assert.equal(passes('to=shop/web'), false);
});

test('a service is found although another workload answers for it', () => {
  const gateway = { address: { ip: '10.9.9.9' as Ip, port: 1 } };
  assert.equal(passes('to=shop/cart', { destination: gateway }), true);
  assert.equal(passes('to=bank/cart', { destination: gateway }), false);
});

test('a namespace is that of either end', () => {
  assert.equal(passes('namespace=shop'), true);
  assert.equal(passes('namespace=bank'), false);
});

test('denials are failures, and only policies deny', () => {
  const denied = { reason: 'policy.no_allow_match' } as const;
  const failed = { reason: 'dial.refused' } as const;
  const elsewhere = { reason: 'hbone.refused_stream', error: 'http status: 401 Unauthorized' } as const;
  assert.deepEqual([passes('denied', denied), passes('denied', failed), passes('denied')], [true, false, false]);
  assert.equal(passes('denied', elsewhere), true);
  assert.deepEqual([passes('failed', denied), passes('failed', failed), passes('failed')], [true, true, false]);
  assert.equal(passes('denied=false', failed), true);
});

test('requests are shown when they are asked for, and by their own errors', () => {
  const base: L7Request = {
    protocol: 'http',
    startMs: 0,
    durationMs: 1,
    requestBytes: 1,
    responseBytes: 1,
    status: 200,
    requestMessages: 0,
    responseMessages: 0,
    method: 'GET',
    path: '/',
    authority: '',
  };
  const shows = (query: string, more: Partial<L7Request> = {}): boolean =>
    matchesRequest(filterOf(query), { connection: record(), request: { ...base, ...more }, startedAtMs: 0 });
  assert.deepEqual([shows(''), shows('l7'), shows('l7&from=shop/cart')], [false, true, false]);
  assert.deepEqual([shows('l7&failed'), shows('l7&failed', { status: 503 })], [false, true]);
  assert.equal(shows('l7&failed', { protocol: 'grpc', grpcStatus: 5 }), true);
});

test('what means nothing is refused', () => {
  for (const query of ['form=web', 'from=', `to=${'x'.repeat(300)}`]) {
    const reading = readRecordFilter(new URLSearchParams(query));
    assert.equal(reading.kind, 'invalid', query);
  }
});
