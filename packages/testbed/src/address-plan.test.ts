import assert from 'node:assert/strict';
import { isIPv4, isIPv6 } from 'node:net';
import { test } from 'node:test';
import {
  MAX_NODES,
  MAX_PODS_PER_NODE,
  MAX_SERVICES,
  NumberPool,
  nodeAddress,
  podAddress,
  serviceAddress,
} from './address-plan.ts';
import { TestbedError } from './errors.ts';

test('every address of a full bed is valid and used once', () => {
  const seen = new Set<string>();
  const add = ({ ip4, ip6 }: { ip4: string; ip6: string }) => {
    assert.ok(isIPv4(ip4), ip4);
    assert.ok(isIPv6(ip6), ip6);
    seen.add(ip4).add(ip6);
  };
  let count = 0;
  for (const node of [1, 2, MAX_NODES]) {
    add(nodeAddress(node));
    for (let pod = 1; pod <= MAX_PODS_PER_NODE; pod++) add(podAddress(node, pod));
    count += 1 + MAX_PODS_PER_NODE;
  }
  for (let service = 1; service <= MAX_SERVICES; service++) add(serviceAddress(service));
  assert.equal(seen.size, 2 * (count + MAX_SERVICES));
});

test('a released number is given out last, and a full pool says so', () => {
  const pool = new NumberPool('pods', 3);
  assert.deepEqual([pool.take(), pool.take()], [1, 2]);
  pool.release(1);
  assert.deepEqual([pool.take(), pool.take()], [3, 1]);
  assert.throws(
    () => pool.take(),
    (error: unknown) => error instanceof TestbedError && error.code === 'testbed.limit',
  );
});
