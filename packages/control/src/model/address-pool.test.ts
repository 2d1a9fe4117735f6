import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseIp } from '@ambit/mesh';
import fc from 'fast-check';
import { AddressPool } from './address-pool.ts';

const SEED = 240_240;

function ip(text: string): NonNullable<ReturnType<typeof parseIp>> {
  const parsed = parseIp(text);
  assert.ok(parsed);
  return parsed;
}

/** Every key with its addresses, as text. */
function assignments(pool: AddressPool, keys: readonly string[]): Record<string, readonly string[]> {
  return Object.fromEntries([...new Set(keys)].sort().map(key => [key, pool.addressesOf(key)]));
}

describe('AddressPool', () => {
  it('gives each host one address of each family, the same in every process', () => {
    const pool = new AddressPool();
    pool.acquire('ns/host.example');
    const [v4, v6] = pool.addressesOf('ns/host.example');
    assert.match(v4 ?? '', /^240\.240\.\d+\.\d+$/);
    assert.match(v6 ?? '', /^2001:2::[0-9a-f]+$/);
    const other = new AddressPool();
    other.acquire('ns/another.example');
    other.acquire('ns/host.example');
    assert.deepEqual(other.addressesOf('ns/host.example'), [v4, v6]);
  });

  it('has nothing for a host that did not ask or gave its addresses back', () => {
    const pool = new AddressPool();
    assert.deepEqual(pool.addressesOf('k'), []);
    pool.acquire('k');
    pool.acquire('k');
    pool.release('k');
    assert.equal(pool.addressesOf('k').length, 2);
    pool.release('k');
    assert.deepEqual(pool.addressesOf('k'), []);
  });

  it('moves a host away from an address that an object names, and back when that is gone', () => {
    const pool = new AddressPool();
    pool.acquire('k');
    const before = pool.addressesOf('k');
    assert.deepEqual(pool.settle(), ['k']);
    for (const address of before) pool.reserve(address);
    assert.deepEqual(pool.settle(), ['k']);
    assert.notDeepEqual(pool.addressesOf('k'), before);
    for (const address of before) pool.unreserve(address);
    assert.deepEqual(pool.addressesOf('k'), before);
  });

  it('ignores addresses outside of the pool', () => {
    const pool = new AddressPool();
    for (const text of ['10.0.0.1', '240.241.0.1', '240.240.0.0', '240.240.255.255', '2001:db8::1', '2001:2::1:1']) {
      pool.reserve(ip(text));
      pool.unreserve(ip(text));
    }
    pool.acquire('k');
    assert.equal(pool.addressesOf('k').length, 2);
  });

  // Neighbouring slots are reserved around the wish of every key, so that they all walk through the same crowd.
  it('assigns by the set of wishes, whatever the order of arrival and departure', () => {
    const keys = Array.from({ length: 12 }, (_, index) => `ns/h${index}`);
    const probe = new AddressPool();
    for (const key of keys) probe.acquire(key);
    const named = keys.slice(0, 6).flatMap(key => probe.addressesOf(key).slice(0, 1));
    const action = fc.oneof(
      fc.constantFrom(...keys).map(key => ({ kind: 'host', key }) as const),
      fc.constantFrom(...named).map(address => ({ kind: 'named', address }) as const),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60, size: 'max' }), actions => {
        const pool = new AddressPool();
        const hosts = new Set<string>();
        const reserved = new Set<(typeof named)[number]>();
        for (const one of actions) {
          if (one.kind === 'host') {
            if (hosts.delete(one.key)) pool.release(one.key);
            else pool.acquire(hosts.add(one.key) && one.key);
          } else if (reserved.delete(one.address)) pool.unreserve(one.address);
          else pool.reserve(reserved.add(one.address) && one.address);
        }
        const fresh = new AddressPool();
        for (const key of [...hosts].sort().toReversed()) fresh.acquire(key);
        for (const address of reserved) fresh.reserve(address);
        assert.deepEqual(assignments(pool, keys), assignments(fresh, keys));
        const given = [...hosts].flatMap(key => pool.addressesOf(key));
        assert.equal(new Set(given).size, hosts.size * 2);
      }),
      { seed: SEED, numRuns: 300 },
    );
  });

  it('assigns by the set of wishes in a crowd where most collide', () => {
    // 9000 of 65 534 slots: some hundreds of wishes meet.
    const keys = Array.from({ length: 9000 }, (_, index) => `ns/crowd${index}`);
    const forth = new AddressPool();
    const back = new AddressPool();
    for (const key of keys) forth.acquire(key);
    for (const key of keys.toReversed()) back.acquire(key);
    assert.deepEqual(assignments(forth, keys), assignments(back, keys));
    for (const key of keys.slice(0, 4500)) forth.release(key);
    const half = new AddressPool();
    for (const key of keys.slice(4500)) half.acquire(key);
    assert.deepEqual(assignments(forth, keys), assignments(half, keys));
  });
});
