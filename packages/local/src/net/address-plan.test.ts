import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf, chooseSubnets, MAX_WORKLOADS, NumberPool, subnetsOf } from './address-plan.ts';

test('the usual network is taken, and the next when the host uses any part of it', () => {
  assert.equal(chooseSubnets(['0.0.0.0/0', '::/0', '192.168.1.0/24']).ip4, '10.62.0.0/16');
  assert.equal(chooseSubnets(['10.62.3.0/24']).ip4, '10.63.0.0/16');
  assert.equal(chooseSubnets(['10.62.3.7/32', 'fd00:63::1/128']).ip4, '10.64.0.0/16');
  assert.equal(chooseSubnets(['10.48.0.0/12']).ip4, '10.64.0.0/16');
  assert.throws(() => chooseSubnets(['10.0.0.0/8']), { code: 'local.no_subnet' });
});

test('both addresses of a workload say its number', () => {
  assert.deepEqual(addressOf(subnetsOf(62), 2), { ip4: '10.62.0.2', ip6: 'fd00:62::2' });
  assert.deepEqual(addressOf(subnetsOf(62), 0xf001), { ip4: '10.62.240.1', ip6: 'fd00:62::f001' });
});

test('numbers are unique, come again last, and are bounded', () => {
  const pool = NumberPool.workloads();
  pool.reserve(3);
  const [a, b] = [pool.take(), pool.take()];
  assert.deepEqual([a, b], [4, 5], 'after the highest that is known');
  pool.release(a);
  assert.equal(pool.take(), 6, 'not the one that was just given back');
  const rest = Array.from({ length: MAX_WORKLOADS - 3 }, () => pool.take());
  assert.equal(new Set([3, b, 6, ...rest]).size, MAX_WORKLOADS);
  assert.throws(() => pool.take(), { code: 'local.addresses_used_up' });
});
