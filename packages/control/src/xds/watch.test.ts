import assert from 'node:assert/strict';
import { test } from 'node:test';
import { storeOf } from './holdings-testing.ts';
import { Watch } from './watch.ts';

test('a request of many names looks for the wildcard once, not once a name', () => {
  let searches = 0;
  class Counted extends Array<string> {
    override includes(name: string): boolean {
      searches++;
      return super.includes(name);
    }
  }
  const watch = new Watch('address', storeOf(), '', { subscribe: ['*'], unsubscribe: ['*'] }, new Map());
  const names = (prefix: string) => Array.from({ length: 1_000 }, (_, index) => `${prefix}/${index}`);
  watch.change({ subscribe: names('a'), unsubscribe: Counted.from(names('b')) });
  assert.equal(searches, 1);
  assert.equal(watch.subscribedCount, 1_000);
});
