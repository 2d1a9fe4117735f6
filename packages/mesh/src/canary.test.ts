import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatSocketAddress, type Ip } from './address.ts';
import { CANARY_ADDRESSES, CANARY_PORT, isCanary, isCanaryAuthority, routeCanary } from './canary.ts';
import { createWorkload } from './workload.ts';

const V4 = { ip: CANARY_ADDRESSES.ipv4, port: CANARY_PORT };
const V6 = { ip: CANARY_ADDRESSES.ipv6, port: CANARY_PORT };

function pod(ips: readonly string[]) {
  return createWorkload({
    uid: 'c//Pod/shop/web',
    name: 'web',
    namespace: 'shop',
    serviceAccount: 'web',
    trustDomain: 'cluster.local',
    workloadIps: ips as readonly Ip[],
    protocol: 'TCP',
  });
}

function dialled(ips: readonly string[], source: string, destination = V4): string {
  const route = routeCanary(pod(ips), { ip: source as Ip, port: 40_000 }, destination, 15008);
  if (route.kind === 'deny') return route.reason;
  const dial = route.groups[0]?.tiers[0]?.[0]?.dial;
  return dial !== undefined && 'ip' in dial ? formatSocketAddress(dial) : 'none';
}

test('only its two addresses with its port are the canary', () => {
  assert.ok(isCanary(V4) && isCanary(V6));
  assert.ok(!isCanary({ ...V4, port: 80 }));
  assert.ok(!isCanary({ ip: '169.254.7.127' as Ip, port: CANARY_PORT }));
  assert.ok(isCanaryAuthority('169.254.7.128:15009'));
  assert.ok(isCanaryAuthority('[fd16:9254:7127:1337:ffff:ffff:ffff:fffe]:15009'));
  assert.ok(!isCanaryAuthority('169.254.7.128:80'));
});

test('it leads to the address the pod speaks from, to one of that family, or to any it has', () => {
  assert.equal(dialled(['10.0.0.1', 'fd00::1'], '10.0.0.1'), '10.0.0.1:15008');
  assert.equal(dialled(['10.0.0.1', 'fd00::1'], 'fd00::1', V6), '[fd00::1]:15008');
  assert.equal(dialled(['10.0.0.1', '10.0.0.2'], '10.0.0.2'), '10.0.0.2:15008');
  assert.equal(dialled(['fd00::1'], '169.254.1.1'), '[fd00::1]:15008');
  assert.equal(dialled([], '10.0.0.1'), 'route.no_address');
});

test('it is always in the tunnel, and expects the pod itself, whatever the mesh says the pod speaks', () => {
  const route = routeCanary(pod(['10.0.0.1']), { ip: '10.0.0.1' as Ip, port: 1 }, V4, 15008);
  assert.ok(route.kind === 'hops');
  const hop = route.groups[0]?.tiers[0]?.[0];
  assert.equal(hop?.protocol, 'HBONE');
  assert.deepEqual(hop?.upstreamIdentities, ['spiffe://cluster.local/ns/shop/sa/web']);
  assert.equal(hop?.authority, '169.254.7.128:15009');
});
