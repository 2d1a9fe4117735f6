import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSocketAddress, type SocketAddress, type WorkloadSummary } from '@ambit/mesh';
import type { ConnectionRecord, L7Request, RequestRecord } from '@ambit/proxy';
import fc from 'fast-check';
import { parseAccessFilter } from './access-log-filter.ts';
import { AccessLog, type AccessLogOptions } from './access-log-writer.ts';
import { FakeClock } from './fake-clock.ts';
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
  const log = new Log({ write: line => written.push(line), now: () => 0 }, { format, filter });
  const access = accessLog(log);
  for (const one of records) access.connection(one);
  return written;
}

function accessLog(log: Log, options: Partial<AccessLogOptions> = {}, clock = new FakeClock()): AccessLog {
  return new AccessLog(
    { connections: log.scope('access'), requests: log.scope('access.l7'), log: log.scope('ztunnel::access'), clock },
    { matches: () => true, sample: 1, linesPerSecond: Number.POSITIVE_INFINITY, ...options },
  );
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

function matches(text: string, one: ConnectionRecord): boolean {
  const parsed = parseAccessFilter(text);
  assert.equal(parsed.kind, 'filter', text);
  return parsed.kind === 'filter' && parsed.matches(one);
}

test('a filter chooses connections by who, where, which way and how they ended', () => {
  const clean = record({ service: { namespace: 'shop', name: 'cart', hostname: 'cart.shop.svc' } });
  const denied = record({ reason: 'policy.denied_by', error: 'denied' });
  const foreign = record({ destination: { address: at('10.0.0.2:80') }, direction: 'outbound', protocol: 'TCP' });
  const rows: readonly (readonly [filter: string, clean: boolean, denied: boolean, foreign: boolean])[] = [
    ['', true, true, true],
    [' ; , ', true, true, true],
    ['failed', false, true, false],
    ['denied', false, true, false],
    ['!failed', true, false, true],
    ['namespace=shop', true, true, true],
    ['destination.namespace=shop', true, true, false],
    ['namespace=sho*', true, true, true],
    ['namespace=sho', false, false, false],
    ['!destination.namespace=kube-*|shop', false, false, true],
    ['direction=inbound,!failed', true, false, false],
    ['failed;direction=outbound', false, true, true],
    ['workload=cart', true, true, false],
    ['destination.workload=cart-1', true, true, false],
    ['source.workload=web|x', true, true, true],
    ['service=cart.*', true, false, false],
    ['identity=spiffe:///ns/shop/*', true, true, true],
    ['protocol=TCP', false, false, true],
    ['reason=policy.*', false, true, false],
  ];
  for (const [filter, ...expected] of rows) {
    assert.deepEqual(
      [clean, denied, foreign].map(one => matches(filter, one)),
      expected,
      filter,
    );
  }
});

test('a filter that cannot be read says why, whatever is in it', () => {
  const rows = [
    ['namespase=shop', 'unknown condition "namespase"; did you mean namespace?'],
    ['failed,', undefined],
    ['namespace=', 'no value in namespace='],
    ['namespace=a||b', 'no value in namespace=a||b'],
    ['namespace', /^unknown condition "namespace"/],
    ['toString', /^unknown condition/],
    ['__proto__=x', /^unknown condition/],
    ['x'.repeat(1025), 'longer than 1024 characters'],
    ['failed,'.repeat(65), 'more than 64 conditions'],
  ] as const;
  for (const [text, why] of rows) {
    const parsed = parseAccessFilter(text);
    if (why === undefined) assert.equal(parsed.kind, 'filter');
    else if (typeof why === 'string') assert.deepEqual(parsed, { kind: 'error', why });
    else assert.match(parsed.kind === 'error' ? parsed.why : '', why);
  }
  fc.assert(
    fc.property(fc.string(), text => {
      const parsed = parseAccessFilter(text);
      if (parsed.kind === 'filter') parsed.matches(record({}));
    }),
    { seed: 5 },
  );
});

function silent(write: (line: string) => void = () => undefined): Log {
  const filter = LogFilter.parse('access=debug,access.l7=info,info');
  assert.ok(filter !== undefined);
  return new Log({ write, now: () => 0 }, { format: 'plain', filter });
}

test('a sample keeps a share of the clean connections, whole ones at both ends, and every failure', () => {
  const written: string[] = [];
  const access = accessLog(
    silent(line => written.push(line)),
    { sample: 0.25 },
  );
  for (let i = 0; i < 4000; i++) {
    access.connection(record({ event: 'open', id: `0-${i}` }));
    access.connection(record({ id: `0-${i}` }));
    access.connection(record({ id: `0-${i}`, error: 'x' }));
    access.connection(record({ id: `0-${i}`, event: 'refused', error: 'x' }));
  }
  const count = (what: string): number => written.filter(line => line.includes(what)).length;
  assert.equal(count('\terror\t') + count('\twarn\t'), 8000);
  const complete = count('\tinfo\t');
  assert.equal(count('connection opened'), complete);
  assert.ok(complete > 800 && complete < 1200, String(complete));
  assert.deepEqual(access.stats, {
    written: 8000 + 2 * complete,
    filtered: 0,
    sampledOut: 8000 - 2 * complete,
    dropped: 0,
  });

  const traced = (traceId: string): number => {
    const one = accessLog(silent(), { sample: 0.25 });
    // The two ends number their connections each in its own way.
    for (const id of ['0-1', '7-99']) one.connection(record({ id, traceId }));
    return one.stats.written;
  };
  assert.equal(traced(`${'a'.repeat(24)}3fffffff`), 2);
  assert.equal(traced(`${'a'.repeat(24)}40000000`), 0);
});

test('no more lines a second than allowed, the last fifth for failures, and the count of the rest is told', async () => {
  const written: string[] = [];
  const clock = new FakeClock();
  const access = accessLog(
    silent(line => written.push(line)),
    { linesPerSecond: 10 },
    clock,
  );
  for (let i = 0; i < 20; i++) access.connection(record({}));
  for (let i = 0; i < 20; i++) access.connection(record({ error: 'x' }));
  assert.equal(written.filter(line => line.includes('\tinfo\t')).length, 8);
  assert.equal(written.filter(line => line.includes('\terror\t')).length, 2);
  assert.equal(access.stats.dropped, 30);
  await clock.advance(1000);
  assert.match(written.at(-1) ?? '', /\twarn\taccess\tAccess log lines were left out.*dropped=30$/);
  for (let i = 0; i < 9; i++) access.connection(record({}));
  assert.deepEqual([access.stats.written, access.stats.dropped], [18, 31]);
  access.close();
  assert.match(written.at(-1) ?? '', /dropped=1$/);
  await clock.advance(5000);
  assert.equal(clock.nextInMs, undefined);
  const told = written.filter(line => line.includes('left out'));
  assert.equal(told.length, 2);
});

function request(more: Partial<L7Request> = {}): RequestRecord {
  return {
    connection: record({ event: 'progress', service: { namespace: 'shop', name: 'cart', hostname: 'cart.shop' } }),
    request: {
      protocol: 'http',
      startMs: 5,
      durationMs: 3.9,
      requestBytes: 100,
      responseBytes: 2000,
      status: 200,
      requestMessages: 0,
      responseMessages: 0,
      method: 'GET',
      path: '/items/1',
      authority: 'cart',
      traceparent: '00-0123456789abcdef0123456789abcdef-0123456789abcdef-01',
      ...more,
    },
    startedAtMs: Date.UTC(2026, 10, 23, 15, 7, 42, 0),
  };
}

test('a request has a line of its own, only where it is asked for by name', () => {
  const written: string[] = [];
  accessLog(silent(line => written.push(line))).request(request());
  assert.deepEqual(written, [
    '2026-11-23T15:07:42.003900Z\tinfo\taccess.l7\trequest complete\t' +
      'src.addr=10.77.0.1:46726 src.workload="web-1" src.namespace="shop" src.identity="spiffe:///ns/shop/sa/web" ' +
      'dst.addr=10.77.0.2:15008 dst.service="cart.shop" dst.workload="cart-1" dst.namespace="shop" ' +
      'dst.identity="spiffe:///ns/shop/sa/cart" direction="inbound" protocol="http" request_method="GET" ' +
      'request_path="/items/1" authority="cart" response_code=200 bytes_sent=2000 bytes_recv=100 duration="3ms" ' +
      'trace_id="0123456789abcdef0123456789abcdef"',
  ]);
  for (const text of ['info', 'trace', 'access=trace', 'access=debug,info']) {
    const filter = LogFilter.parse(text);
    assert.ok(filter !== undefined);
    const log = new Log({ write: line => assert.fail(line), now: () => 0 }, { format: 'plain', filter });
    accessLog(log).request(request());
  }
});

test('requests that the server failed are errors, whatever the protocol', () => {
  const rows: readonly (readonly [Partial<L7Request>, level: string, field: RegExp])[] = [
    [{ status: 404 }, 'info', / response_code=404 /],
    [{ status: 503 }, 'error', / response_code=503 /],
    [{ status: 0, flags: 'UC' }, 'error', / response_code=0 response_flags="UC" /],
    [{ status: 0, flags: 'DC' }, 'info', / response_flags="DC" /],
    [{ protocol: 'grpc', grpcStatus: 5 }, 'info', / grpc_status=5 /],
    [{ protocol: 'grpc', grpcStatus: 14 }, 'error', / grpc_status=14 /],
    [
      { protocol: 'postgresql', method: 'SELECT', path: '', authority: '', status: 0 },
      'info',
      /request_method="SELECT" bytes_sent/,
    ],
    [{ protocol: 'postgresql', method: 'SELECT', error: '42P01', status: 0 }, 'error', / error="42P01"$/],
  ];
  for (const [more, level, field] of rows) {
    const written: string[] = [];
    accessLog(silent(line => written.push(line))).request(request({ traceparent: undefined, ...more }));
    assert.equal(written[0]?.split('\t')[1], level, JSON.stringify(more));
    assert.match(written[0] ?? '', field);
  }
});
