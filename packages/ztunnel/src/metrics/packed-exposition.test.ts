import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32, gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import type { TextFormat } from './family-text.ts';
import { GzipFrame, gzipPart, joinCrc } from './gzip-parts.ts';
import type { MetricRegistry } from './metric-registry.ts';
import { HOUR_MS, makeWorld, textOf } from './metrics-testing.ts';
import { PackedBlocks, packedExposition } from './packed-exposition.ts';

function unpacked(registry: MetricRegistry, kept: PackedBlocks, format: TextFormat = 'openmetrics'): string {
  const pieces = Array.from(packedExposition(registry, format, kept), piece => Uint8Array.from(piece));
  return gunzipSync(Buffer.concat(pieces)).toString();
}

function world() {
  const { registry, pass } = makeWorld(100_000);
  const table = registry.table({
    labels: ['who'],
    metrics: [
      { name: 'hits', help: 'Hits.', type: 'counter' },
      { name: 'time', help: 'Time.', type: 'histogram', bounds: [1, 2] },
    ],
  });
  const grow = (from: number, to: number): void => {
    for (let index = from; index < to; index++) {
      const row = table.row([`ü${index}${'x'.repeat(index % 200)}`]);
      table.add(row, 0, index);
      if (index % 3 === 0) table.observe(row, 1, index % 4);
    }
  };
  return { registry, pass, table, grow };
}

test('checksums of parts make the checksum of the whole', () => {
  const bytes = fc.uint8Array({ maxLength: 3000 });
  const joined = fc.property(bytes, bytes, (a, b) => {
    assert.equal(joinCrc(crc32(a), crc32(b), b.length), crc32(Buffer.concat([a, b])));
  });
  fc.assert(joined, { seed: 1501, numRuns: 300 });
  const long = Buffer.alloc(70_000_003, 'ambit');
  assert.equal(joinCrc(crc32('x'), crc32(long), long.length), crc32(long, crc32('x')));
});

test('parts that were packed apart are one gzip member, whatever their sizes', () => {
  const parts = fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 5000 }), { maxLength: 6 }), texts => {
    const frame = new GzipFrame();
    const packed = texts.map(gzipPart);
    for (const part of packed) frame.add(part);
    const whole = Buffer.concat([frame.head, ...packed.map(part => part.packed), frame.tail()]);
    assert.deepEqual(gunzipSync(whole), Buffer.concat(texts));
  });
  fc.assert(parts, { seed: 1502, numRuns: 200 });
});

test('the packed text is the plain text, also when it is asked for again and after every kind of change', () => {
  const { registry, pass, table, grow } = world();
  const kept = new PackedBlocks();
  const check = (): void => {
    for (const format of ['openmetrics', 'prometheus'] as const) {
      assert.equal(unpacked(registry, kept, format), textOf(registry, format));
    }
  };
  check();
  grow(0, 1000);
  check();
  check();
  grow(500, 501);
  check();
  grow(1000, 1100);
  check();
  pass(HOUR_MS - 1000);
  for (let index = 0; index < 1000; index += 7) grow(index, index + 1);
  pass(1000);
  assert.ok(registry.sweep() > 900);
  check();
  grow(0, 300);
  check();
  table.clear();
  check();
});

test('what did not change is not packed again, and what changed alone is', () => {
  const { registry, table, grow } = world();
  grow(0, 1280);
  const kept = new PackedBlocks();
  const [column] = table.columns;
  assert.ok(column);
  unpacked(registry, kept);
  const packedAgain = (): number => {
    let count = 0;
    for (const block of table.blocks()) {
      kept.get(block, column, 'prometheus', () => {
        count++;
        return gzipPart(Buffer.from('x'));
      });
    }
    return count;
  };
  assert.equal(packedAgain(), 0);
  // No news for anybody.
  table.add(table.row(['ü0']), 0, 0);
  assert.equal(packedAgain(), 0);
  table.add(table.row(['ü0']), 0, 1);
  assert.equal(packedAgain(), 1);
});

test('what is kept is bounded, and gone once nobody asks', () => {
  const { registry, grow } = world();
  grow(0, 5000);
  const small = new PackedBlocks(20_000);
  assert.equal(unpacked(registry, small), textOf(registry));
  assert.ok(small.bytes > 0 && small.bytes <= 20_000);
  grow(1, 5000);
  assert.equal(unpacked(registry, small), textOf(registry));
  assert.ok(small.bytes > 0 && small.bytes <= 20_000);
  const kept = new PackedBlocks();
  unpacked(registry, kept);
  kept.sweep(HOUR_MS);
  assert.ok(kept.bytes > 0);
  kept.sweep(0);
  assert.equal(kept.bytes, 0);
});
