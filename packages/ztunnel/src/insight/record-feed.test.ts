import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RecordFilter } from '@ambit/insight';
import type { ConnectionRecord } from '@ambit/proxy';
import { RecordFeed } from './record-feed.ts';

const ALL: RecordFilter = { isDeniedOnly: false, isFailedOnly: false, requests: false };

function record(id: string, more: Partial<ConnectionRecord> = {}): ConnectionRecord {
  return {
    event: 'close',
    id,
    pod: 'p',
    direction: 'outbound',
    protocol: 'TCP',
    startedAtMs: 0,
    source: { address: { ip: '10.0.0.1', port: 1 } as ConnectionRecord['source']['address'] },
    destination: { address: { ip: '10.0.0.2', port: 2 } as ConnectionRecord['source']['address'] },
    fresh: { opened: true, bytesToServer: 0, bytesToClient: 0, retransmits: 0, untalliedRequests: 0 },
    bytesToServer: 0,
    bytesToClient: 0,
    durationMs: 1,
    ...more,
  };
}

async function take(lines: AsyncIterator<string, unknown>): Promise<Array<Record<string, unknown>>> {
  const { value }: IteratorResult<unknown, unknown> = await lines.next();
  return String(value)
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as Record<string, unknown>);
}

test('a watcher sees what its filter lets through from the time it watches', async () => {
  const interests: unknown[] = [];
  const feed = new RecordFeed({ onInterest: interest => interests.push(interest) });
  feed.addRecords([record('before')]);
  const gone = new AbortController();
  const lines = feed.watch({ ...ALL, isFailedOnly: true }, gone.signal)[Symbol.asyncIterator]();
  assert.deepEqual(await take(lines), [], 'the head at once');
  feed.addRecords([record('fine'), record('bad', { reason: 'dial.refused' })]);
  assert.deepEqual(
    (await take(lines)).map(({ id, kind }) => [id, kind]),
    [['bad', 'connection']],
  );
  gone.abort();
  await lines.next();
  assert.deepEqual(interests, [
    { connections: true, requests: false },
    { connections: false, requests: false },
  ]);
});

test('a watcher that is behind loses lines and is told how many', async () => {
  const feed = new RecordFeed({ onInterest: () => undefined });
  const lines = feed.watch(ALL, new AbortController().signal)[Symbol.asyncIterator]();
  await lines.next();
  feed.addRecords(Array.from({ length: 5100 }, (_, i) => record(String(i))));
  const seen = await take(lines);
  assert.deepEqual([seen.length, seen.at(-1)], [5001, { kind: 'dropped', count: 100 }]);
  await lines.return?.();
});

test('what is kept for a watcher that never reads is bounded in bytes too, and it goes on when it reads again', async () => {
  const feed = new RecordFeed({ onInterest: () => undefined });
  const lines = feed.watch(ALL, new AbortController().signal)[Symbol.asyncIterator]();
  await lines.next();
  feed.addRecords(Array.from({ length: 3000 }, (_, i) => record(String(i), { error: 'e'.repeat(10_000) })));
  const seen = await take(lines);
  assert.ok(seen.length > 300 && seen.length * 10_000 < 4.5e6, `${seen.length} lines`);
  assert.deepEqual(seen.at(-1), { kind: 'dropped', count: 3000 - (seen.length - 1) });
  feed.addRecords([record('next')]);
  assert.deepEqual(
    (await take(lines)).map(({ id }) => id),
    ['next'],
  );
  await lines.return?.();
});

test('watchers are bounded, and one that left makes room', async () => {
  const feed = new RecordFeed({ onInterest: () => undefined });
  const watchers = Array.from({ length: 8 }, () =>
    feed.watch(ALL, new AbortController().signal)[Symbol.asyncIterator](),
  );
  for (const watcher of watchers) await watcher.next();
  assert.equal(feed.isFull, true);
  await watchers[0]?.return?.();
  assert.equal(feed.isFull, false);
  for (const watcher of watchers) await watcher.return?.();
});
