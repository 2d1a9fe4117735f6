import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ConnectionRecord } from '@ambit/proxy';
import { ZtunnelError } from './errors.ts';
import { RecordStream } from './record-stream.ts';

const directory = mkdtempSync(join(tmpdir(), 'ambit-records-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));

function record(id: string): ConnectionRecord {
  const address = { ip: '10.0.0.1', port: 80 } as ConnectionRecord['source']['address'];
  return {
    event: 'open',
    id,
    pod: 'p',
    direction: 'inbound',
    protocol: 'TCP',
    startedAtMs: 0,
    source: { address },
    destination: { address },
    fresh: { opened: true, bytesToServer: 78, bytesToClient: 149, retransmits: 0, untalliedRequests: 0 },
    bytesToServer: 0,
    bytesToClient: 0,
    durationMs: 0,
  };
}

test('records are appended to a file, one JSON line each', async () => {
  const path = join(directory, 'file');
  for (const id of ['0-1', '0-2']) {
    const stream = RecordStream.open(path);
    stream.write(record(id));
    await stream.close();
  }
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  assert.deepEqual(
    lines.map(line => JSON.parse(line) as unknown),
    [record('0-1'), record('0-2')],
  );
});

test('a FIFO that nobody reads costs records and nothing else', async () => {
  const path = join(directory, 'fifo');
  assert.equal(spawnSync('mkfifo', [path]).status, 0);
  const stream = RecordStream.open(path);
  for (let i = 0; i < 12_000; i++) stream.write(record(String(i)));
  assert.equal(stream.dropped, 2_000);
  const reader = openSync(path, 'r');
  await new Promise(resolve => setImmediate(resolve));
  const bytes = Buffer.alloc(65_536);
  assert.match(bytes.toString('utf8', 0, readSync(reader, bytes)), /^\{"event":"open","id":"0"/);
  await stream.close();
});

test('a path that cannot be opened is a mistake of the configuration', () => {
  assert.throws(
    () => RecordStream.open(join(directory, 'no', 'such')),
    (error: unknown) => error instanceof ZtunnelError && error.code === 'config.invalid',
  );
});
