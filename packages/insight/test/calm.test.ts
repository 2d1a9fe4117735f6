// False alarms on traffic that was real: the demo's shop at a low rate on a busy machine (web asks the cart about 20 times a
// second, the cart asks Redis, one caller from outside the mesh, one who is denied four times a minute), recorded from both
// node proxies as they wrote it and cut to what an edge table reads. It lasts a quarter of an hour, not an hour: the hours are
// simulated, in src/detect. Rules that first learn for 15 minutes (new edge, fan-out) are not put to the test by it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { brotliDecompressSync } from 'node:zlib';
import type { ConnectionRecord } from '@ambit/proxy';
import { Detector } from '../src/detect/detector.ts';
import type { Finding } from '../src/detect/finding.ts';
import { EdgeTable } from '../src/edge-table.ts';

interface Line {
  readonly atMs: number;
  readonly node: string;
  readonly record: ConnectionRecord;
}

const FILE = join(import.meta.dirname, 'calm.ndjson.br');
const LOOK_MS = 10_000;
const LEAST_MS = 15 * 60_000;
const LINES = brotliDecompressSync(readFileSync(FILE))
  .toString()
  .trimEnd()
  .split('\n')
  .map(line => JSON.parse(line) as Line);

/** What a node's detector finds while the recording goes by; `bend` may change its records. */
function replay(node: string, bend: (line: Line) => Line = line => line): Map<string, Finding> {
  const lines = LINES.filter(line => line.node === node).map(bend);
  const startMs = lines[0]?.atMs ?? 0;
  const table = new EdgeTable({ maxEdges: 1000 }, startMs);
  const detector = new Detector(startMs);
  const seen = new Map<string, Finding>();
  let lookMs = startMs + LOOK_MS;
  for (const { atMs, record } of lines) {
    for (; lookMs <= atMs; lookMs += LOOK_MS) {
      const { edges } = table.report(node, lookMs);
      for (const finding of detector.evaluate({ nowMs: lookMs, edges, certificates: [] })) {
        seen.set(`${finding.code} ${finding.subject}`, finding);
      }
    }
    table.add(record, atMs);
  }
  return seen;
}

describe('a recorded calm stretch of real traffic', () => {
  test('is as long and as busy as it is said to be', () => {
    assert.ok((LINES.at(-1)?.atMs ?? 0) - (LINES[0]?.atMs ?? 0) >= LEAST_MS);
    const requests = LINES.flatMap(({ record }) => record.fresh.requests ?? []);
    assert.ok(requests.reduce((sum, { count }) => sum + count, 0) > 20_000);
  });

  for (const node of ['n1', 'n2']) {
    test(`gives no finding on ${node}`, () => {
      assert.deepEqual([...replay(node).keys()], []);
    });
  }

  test('gives one as soon as its answers fail', () => {
    const failsMs = (LINES[0]?.atMs ?? 0) + 10 * 60_000;
    const found = replay('n1', line => {
      const { requests } = line.record.fresh;
      if (line.atMs < failsMs || line.record.l7 !== 'http' || requests === undefined) return line;
      const fresh = { ...line.record.fresh, requests: requests.map(tally => ({ ...tally, status: 503 })) };
      return { ...line, record: { ...line.record, fresh } };
    });
    assert.ok([...found.keys()].includes('detect.error_shift shop/web -> shop/cart:80'), [...found.keys()].join());
  });
});
