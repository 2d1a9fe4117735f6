// Rates, the quiet time before a push, and the blocks of bytes that clients share; with a clock of the test's own.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { delta, makeWorkload, storeOf } from './holdings-testing.ts';
import type { XdsClock } from './options.ts';
import { PendingPush } from './pending-push.ts';
import type { SessionResponse } from './session.ts';
import { SharedEncodings } from './shared-encodings.ts';
import { TokenBucket } from '../token-bucket.ts';

class FakeClock implements XdsClock {
  #now = 0;
  readonly #timers = new Set<{ readonly at: number; readonly run: () => void }>();

  now(): number {
    return this.#now;
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const [due] = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#now = due.at;
      due.run();
    }
    this.#now = end;
  }
}

test('a bucket gives its burst, then its rate, and says how long to wait', () => {
  const bucket = new TokenBucket(10, 2, 0);
  assert.deepEqual([bucket.take(0), bucket.take(0), bucket.take(0)], [0, 0, undefined]);
  assert.equal(bucket.take(0, 1_000), 100);
  assert.equal(bucket.take(0, 150), undefined); // the next one is 200 ms away
  assert.equal(bucket.take(200), 0);
  assert.equal(bucket.take(10_000), 0);
  assert.equal(bucket.take(10_000), 0);
  assert.equal(bucket.take(10_000), undefined); // never more than the burst
});

test('a push waits for quiet, but not for ever, and carries the last state of each name', () => {
  const clock = new FakeClock();
  const pushes: Array<readonly [number, readonly string[]]> = [];
  const pending = new PendingPush(clock, { quietMs: 20, maxMs: 50 }, ({ addresses }) => {
    pushes.push([clock.now(), [...addresses.values()].map(resource => resource?.version ?? 'gone')]);
  });
  pending.add(delta([]));
  clock.advance(100);
  assert.deepEqual(pushes, []);
  pending.add(delta([makeWorkload('a', '1')]));
  clock.advance(19);
  pending.add(delta([makeWorkload('a', '2')]));
  clock.advance(20);
  assert.deepEqual(pushes.splice(0), [[139, ['2']]]);
  for (let i = 0; i < 10; i++) {
    pending.add(delta([makeWorkload('a', String(i))]));
    clock.advance(10);
  }
  assert.deepEqual(pushes.splice(0), [
    [189, ['4']],
    [239, ['9']],
  ]);
  pending.add(delta([], { addresses: ['a'] }));
  pending.close();
  clock.advance(100);
  assert.deepEqual(pushes, []);
});

test('clients that begin at the same state share its bytes, and only so many states are held', () => {
  const store = storeOf(makeWorkload('a', '1'));
  const encodings = new SharedEncodings(store, 1);
  const everything: SessionResponse = {
    type: 'address',
    typeUrl: 'type',
    nonce: '',
    resources: 'everything',
    removed: [],
    withAliases: false,
  };
  const first = encodings.encode(everything);
  const second = encodings.encode(everything);
  assert.equal(first.entries[0], second.entries[0]);
  let retries = 0;
  const retry = () => void retries++;
  assert.ok(encodings.hasRoom(retry));
  store.apply(delta([makeWorkload('b', '1')]));
  assert.equal(encodings.hasRoom(retry), false);
  first.release();
  first.release();
  assert.equal(retries, 0);
  second.release();
  assert.equal(retries, 1);
  assert.ok(encodings.hasRoom(retry));
  assert.notEqual(encodings.encode(everything).entries[0], first.entries[0]);
});

test('a resource that many clients are sent is encoded once', () => {
  const resources = [makeWorkload('a', '1')];
  const encodings = new SharedEncodings(storeOf(...resources), 1);
  const response: SessionResponse = {
    type: 'address',
    typeUrl: 'type',
    nonce: '',
    resources,
    removed: [],
    withAliases: false,
  };
  assert.equal(encodings.encode(response).entries[0], encodings.encode({ ...response, nonce: 'x' }).entries[0]);
  assert.notEqual(
    encodings.encode(response).entries[0],
    encodings.encode({ ...response, withAliases: true }).entries[0],
  );
});
