// What a record costs, counted and not timed: foreign calls and JavaScript memory.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { openssl } from './openssl.ts';
import { createOwnRecords } from './own-records.ts';
import { Slab } from './slab.ts';

const cipher = 'aes-128-gcm';
const [one, two] = [randomBytes(32), randomBytes(32)];
const client = createOwnRecords({ role: 'client', cipher, readSecret: one, writeSecret: two });
const server = createOwnRecords({ role: 'server', cipher, readSecret: two, writeSecret: one });
const slab = Slab.allocate(20_000);

function exchange(times: number): void {
  for (let i = 0; i < times; i++) {
    const sealed = client.seal(slab, 0, 1000);
    if (server.open(slab, 0, sealed) !== 1000) assert.fail('refused');
  }
}

describe('one record', () => {
  it('is sealed with five foreign calls and opened with five', () => {
    // The bound functions are fields of one object, which every record reads: wrap them all.
    const lib: Record<string, unknown> = openssl();
    const originals = { ...lib };
    let calls = 0;
    for (const [name, original] of Object.entries(originals)) {
      if (typeof original !== 'function') continue;
      lib[name] = (...args: unknown[]): unknown => {
        calls++;
        return Reflect.apply(original, undefined, args) as unknown;
      };
    }
    try {
      const sealed = client.seal(slab, 0, 1000);
      assert.equal(calls, 5);
      assert.equal(server.open(slab, 0, sealed), 1000);
      assert.equal(calls, 10);
    } finally {
      Object.assign(lib, originals);
    }
  });

  it('allocates nothing: less than a tenth of an object each over many', () => {
    exchange(20_000);
    const before = process.memoryUsage().heapUsed;
    exchange(20_000);
    const perRecord = (process.memoryUsage().heapUsed - before) / 40_000;
    assert.ok(perRecord < 4, `${perRecord} bytes of heap a record`);
  });
});
