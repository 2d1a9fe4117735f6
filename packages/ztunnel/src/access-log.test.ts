import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSocketAddress, type SocketAddress, type WorkloadSummary } from '@ambit/mesh';
import type { ConnectionRecord } from '@ambit/proxy';
import { logAccess } from './access-log.ts';
import { Log, LogFilter } from './log.ts';

function at(text: string): SocketAddress {
  const address = parseSocketAddress(text);
  assert.ok(address !== undefined, text);
  return address;
}

function workload(name: string, more: Partial<WorkloadSummary> = {}): WorkloadSummary {
  return {
    uid: `Kubernetes//Pod/shop/${name}-1`,
    name: `${name}-1`,
    namespace: 'shop',
    serviceAccount: name,
    trustDomain: '',
    workloadName: name,
    workloadType: 'deployment',
    canonicalName: name,
    canonicalRevision: 'v1',
    cluster: 'Kubernetes',
    node: 'n1',
    region: '',
    zone: '',
    ...more,
  };
}

function record(more: Partial<ConnectionRecord>): ConnectionRecord {
  return {
    event: 'close',
    id: '0-1',
    pod: 'p',
    direction: 'inbound',
    protocol: 'HBONE',
    startedAtMs: Date.UTC(2026, 10, 23, 15, 7, 42, 0),
    source: { address: at('10.77.0.1:46726'), workload: workload('web'), identity: 'spiffe:///ns/shop/sa/web' },
    destination: { address: at('10.77.0.2:15008'), workload: workload('cart'), identity: 'spiffe:///ns/shop/sa/cart' },
    hboneAuthority: '10.77.0.2:5281',
    fresh: { opened: true, bytesToServer: 78, bytesToClient: 149, retransmits: 0, untalliedRequests: 0 },
    bytesToServer: 78,
    bytesToClient: 149,
    durationMs: 2.678,
    ...more,
  };
}

function lines(format: 'plain' | 'json', filterText: string, ...records: readonly ConnectionRecord[]): string[] {
  const filter = LogFilter.parse(filterText);
  assert.ok(filter !== undefined);
  const written: string[] = [];
  const log = new Log({ write: line => written.push(line), now: () => 0 }, { format, filter }).scope('access');
  for (const one of records) logAccess(log, one);
  return written;
}

// Recorded from upstream's ztunnel (Aug 2026); times apart, since those are the recording's own.
const GOLDEN = {
  inboundOk:
    '"scope":"access","message":"connection complete","src.addr":"10.77.0.1:46726","src.workload":"web-1","src.namespace":"shop","src.identity":"spiffe:///ns/shop/sa/web","src.cluster":"Kubernetes","dst.addr":"10.77.0.2:15008","dst.hbone_addr":"10.77.0.2:5281","dst.workload":"cart-1","dst.namespace":"shop","dst.identity":"spiffe:///ns/shop/sa/cart","dst.cluster":"Kubernetes","direction":"inbound","bytes_sent":149,"bytes_recv":78,"duration":"2ms"}',
  inboundDenied:
    '"scope":"access","message":"connection complete","src.addr":"10.77.0.1:46726","src.workload":"web-1","src.namespace":"shop","src.identity":"spiffe:///ns/shop/sa/web","src.cluster":"Kubernetes","dst.addr":"10.77.0.2:15008","dst.hbone_addr":"10.77.0.2:5299","dst.workload":"cart-1","dst.namespace":"shop","dst.identity":"spiffe:///ns/shop/sa/cart","dst.cluster":"Kubernetes","direction":"inbound","bytes_sent":0,"bytes_recv":0,"duration":"0ms","error":"connection closed due to policy rejection: explicitly denied by: shop/no-5299"}',
  outboundOk:
    '"scope":"access","message":"connection complete","src.addr":"10.77.0.1:53172","src.workload":"web-1","src.namespace":"shop","src.identity":"spiffe:///ns/shop/sa/web","src.cluster":"Kubernetes","dst.addr":"10.77.0.2:15008","dst.hbone_addr":"10.77.0.2:5281","dst.workload":"cart-1","dst.namespace":"shop","dst.identity":"spiffe:///ns/shop/sa/cart","dst.cluster":"Kubernetes","direction":"outbound","bytes_sent":78,"bytes_recv":149,"duration":"82ms"}',
} as const;

test('JSON lines equal the recorded ones: inbound, denied, outbound', () => {
  const denied = record({
    hboneAuthority: '10.77.0.2:5299',
    bytesToServer: 0,
    bytesToClient: 0,
    durationMs: 0.4,
    reason: 'policy.denied_by',
    error: 'connection closed due to policy rejection: explicitly denied by: shop/no-5299',
  });
  const outbound = record({
    direction: 'outbound',
    durationMs: 82.2,
    source: { ...record({}).source, address: at('10.77.0.1:53172') },
  });
  const withoutTime = lines('json', 'info', record({}), denied, outbound).map(line =>
    line.replace(/"time":"[^"]*",/, ''),
  );
  assert.deepEqual(withoutTime, [
    `{"level":"info",${GOLDEN.inboundOk}`,
    `{"level":"error",${GOLDEN.inboundDenied}`,
    `{"level":"info",${GOLDEN.outboundOk}`,
  ]);
});

test('plain lines quote what upstream quotes, and the time is that of the event', () => {
  const [line] = lines(
    'plain',
    'info',
    record({ service: { namespace: 'shop', name: 'cart', hostname: 'cart.shop' } }),
  );
  assert.equal(
    line,
    '2026-11-23T15:07:42.002678Z\tinfo\taccess\tconnection complete\t' +
      'src.addr=10.77.0.1:46726 src.workload="web-1" src.namespace="shop" src.identity="spiffe:///ns/shop/sa/web" ' +
      'src.cluster="Kubernetes" dst.addr=10.77.0.2:15008 dst.hbone_addr=10.77.0.2:5281 dst.service="cart.shop" ' +
      'dst.workload="cart-1" dst.namespace="shop" dst.identity="spiffe:///ns/shop/sa/cart" dst.cluster="Kubernetes" ' +
      'direction="inbound" bytes_sent=149 bytes_recv=78 duration="2ms"',
  );
});

test('an open is at debug, without bytes and duration', () => {
  const open = record({ event: 'open', durationMs: 0 });
  assert.deepEqual(lines('json', 'info', open), []);
  const [line] = lines('json', 'access=debug,info', open);
  assert.match(line ?? '', /^\{"level":"debug",.*"message":"connection opened",.*"direction":"inbound"\}$/);
});

test('a refusal is a warning with addresses, direction and error only', () => {
  const refused = record({ event: 'refused', direction: 'outbound', error: 'no healthy upstream: 10.0.0.9:80' });
  const [line] = lines('plain', 'info', refused);
  assert.match(
    line ?? '',
    /\twarn\taccess\tconnection failed\tsrc\.addr=10\.77\.0\.1:46726 dst\.addr=10\.77\.0\.2:15008 direction="outbound" error="no healthy upstream: 10\.0\.0\.9:80"$/,
  );
});

test('unknown sides leave their fields out, IPv6 is bracketed', () => {
  const bare = record({
    protocol: 'TCP',
    hboneAuthority: undefined,
    source: { address: at('[fd00::1]:1') },
    destination: { address: at('[fd00::2]:80') },
  });
  const [line] = lines('plain', 'info', bare);
  assert.match(line ?? '', /\tsrc\.addr=\[fd00::1\]:1 dst\.addr=\[fd00::2\]:80 direction="inbound" bytes_sent=149/);
});

test('a workload known from baggage alone is named as upstream names it', () => {
  const remote = workload('cart', { name: '', workloadName: 'cart-deploy', canonicalName: 'cart-app' });
  const fromBaggage = record({
    source: { address: at('10.0.0.1:1'), workload: remote },
    destination: { address: at('10.0.0.2:2'), workload: remote },
  });
  assert.match(lines('plain', 'info', fromBaggage)[0] ?? '', /src\.workload="cart-app" .*dst\.workload="cart-deploy"/);
});

test('off silences the access log', () => {
  assert.deepEqual(lines('json', 'access=off,info', record({})), []);
});
