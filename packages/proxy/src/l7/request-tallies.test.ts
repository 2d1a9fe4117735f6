import assert from 'node:assert/strict';
import { test } from 'node:test';
import { REQUEST_BUCKETS } from '../connection-record.ts';
import { RequestTallies } from './request-tallies.ts';
import type { L7Request } from './types.ts';

const NO_LABELS = { method: '', path: '' };

function request(more: Partial<L7Request> = {}): L7Request {
  return {
    protocol: 'http',
    startMs: 0,
    durationMs: 3,
    requestBytes: 100,
    responseBytes: 2000,
    status: 200,
    requestMessages: 0,
    responseMessages: 0,
    method: 'GET',
    path: '/',
    authority: '',
    ...more,
  };
}

test('requests that are alike are one tally, with each of them in one bucket of each histogram', () => {
  const tallies = new RequestTallies();
  for (const durationMs of [0.5, 0.6, 3, 10, 4e6]) tallies.add(request({ durationMs }), NO_LABELS);
  const { requests } = tallies.take();
  assert.equal(requests?.length, 1);
  const [tally] = requests;
  assert.ok(tally);
  assert.deepEqual([tally.count, tally.requestBytes, tally.responseBytes], [5, 500, 10_000]);
  assert.equal(tally.durations.length, REQUEST_BUCKETS.length + 1);
  assert.deepEqual(tally.durations.slice(0, 5), [1, 1, 1, 1, 0], 'bounds belong to their bucket');
  assert.equal(tally.durations.at(-1), 1, 'what is larger than all bounds');
  for (const sizes of [tally.requestSizes, tally.responseSizes]) {
    assert.equal(
      sizes.reduce((sum, count) => sum + count, 0),
      5,
    );
  }
  assert.equal(tallies.hasNews, false);
  assert.equal(tallies.take().requests, undefined, 'nothing is told twice');
});

test('what distinguishes requests keeps them apart, and kinds beyond the bound are only counted', () => {
  const tallies = new RequestTallies();
  tallies.add(request(), NO_LABELS);
  tallies.add(request({ status: 500 }), NO_LABELS);
  tallies.add(request({ protocol: 'grpc', grpcStatus: 0 }), NO_LABELS);
  tallies.add(request({ protocol: 'grpc', grpcStatus: 14 }), NO_LABELS);
  tallies.add(request({ flags: 'DC' }), NO_LABELS);
  tallies.add(request({ error: 'x' }), NO_LABELS);
  tallies.add(request(), { method: 'GET', path: '' });
  tallies.add(request(), { method: 'GET', path: '/a' });
  assert.equal(tallies.take().requests?.length, 8);
  for (let i = 0; i < 40; i++) tallies.add(request(), { method: '', path: `/${i}` });
  const told = tallies.take();
  assert.deepEqual([told.requests?.length, told.untalliedRequests], [32, 8]);
});

test('messages of a call that goes on are no request, and are not told again with its end', () => {
  const tallies = new RequestTallies();
  const call = { protocol: 'grpc', status: 200, method: 'POST', path: '/s/M' } as const;
  tallies.addMessages({ ...call, requestMessages: 3, responseMessages: 1 }, NO_LABELS);
  assert.ok(tallies.hasNews);
  const [early] = tallies.take().requests ?? [];
  assert.deepEqual([early?.count, early?.requestMessages, early?.responseMessages], [0, 3, 1]);
  const whole = { ...call, grpcStatus: 0, requestMessages: 4, responseMessages: 9 };
  tallies.add(request({ ...whole, toldRequestMessages: 3, toldResponseMessages: 1 }), NO_LABELS);
  const [end] = tallies.take().requests ?? [];
  assert.deepEqual([end?.count, end?.requestMessages, end?.responseMessages], [1, 1, 8]);
});

test('a request of which nothing is known is left out and counted', () => {
  const tallies = new RequestTallies();
  tallies.leaveOut();
  assert.ok(tallies.hasNews);
  assert.deepEqual(tallies.take(), { requests: undefined, untalliedRequests: 1 });
});
