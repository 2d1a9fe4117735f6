import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { ConnectionRecord } from '@ambit/proxy';
import { connection, HOUR_MS, makeWorld, NOTHING, sample, samplesOf, textOf, workload } from './metrics-testing.ts';
import { TrafficMetrics } from './traffic-metrics.ts';

function world() {
  const { registry, pass } = makeWorld();
  const traffic = new TrafficMetrics(registry);
  return { registry, pass, traffic, text: () => textOf(registry) };
}

const opened = { ...NOTHING, opened: true };

/** Lines of upstream's recording about connections, in its order. */
function golden(file: string): { readonly headers: readonly string[]; readonly samples: Map<string, number> } {
  const text = readFileSync(new URL(`../../test/golden/${file}.metrics.txt`, import.meta.url), 'utf8');
  const lines = text.split('\n').filter(line => /istio_tcp_(?!sockets)/.test(line));
  return { headers: lines.filter(line => line.startsWith('#')), samples: samplesOf(lines.join('\n')) };
}

function check(file: string, text: string): void {
  const { headers, samples } = golden(file);
  const ours = text.split('\n').filter(line => line.startsWith('#') && line.includes('istio_tcp'));
  assert.deepEqual(ours, headers);
  const counted = new Map([...samplesOf(text)].filter(([name]) => name.startsWith('istio_tcp')));
  assert.deepEqual(counted, samples);
}

test('the client side counts and labels what upstream recorded', () => {
  const { traffic, text } = world();
  traffic.fold(connection({ fresh: { ...opened, bytesToServer: 78, bytesToClient: 149 } }));
  traffic.fold(connection({ id: '0-2', fresh: opened, reason: 'hbone.status', error: 'http status: 503' }));
  traffic.fold(connection({ id: '0-3', fresh: opened, reason: 'hbone.status', error: 'http status: 401' }));
  check('outbound', text());
});

test('the server side counts and labels what upstream recorded', () => {
  const { traffic, text } = world();
  const inbound = { direction: 'inbound' } as const;
  traffic.fold(connection({ ...inbound, fresh: { ...opened, bytesToServer: 78, bytesToClient: 149 } }));
  traffic.fold(connection({ ...inbound, id: '0-2', fresh: opened, reason: 'dial.refused', error: 'refused' }));
  traffic.fold(connection({ ...inbound, id: '0-3', fresh: opened, reason: 'policy.denied_by', error: 'denied' }));
  check('inbound', text());
});

test('a long connection is opened once, its bytes are added as they are told, and it is closed once', () => {
  const { traffic, text } = world();
  traffic.fold(connection({ event: 'progress', fresh: { ...opened, bytesToServer: 10 } }));
  traffic.fold(connection({ event: 'progress', fresh: { ...NOTHING, bytesToServer: 5, bytesToClient: 7 } }));
  traffic.fold(connection({ fresh: { ...NOTHING, bytesToClient: 1, retransmits: 3 }, connectMs: 4 }));
  const values = (name: string): number | undefined => sample(text(), name);
  assert.equal(values('istio_tcp_connections_opened_total'), 1);
  assert.equal(values('istio_tcp_connections_closed_total'), 1);
  assert.equal(values('istio_tcp_received_bytes_total'), 15);
  assert.equal(values('istio_tcp_sent_bytes_total'), 8);
  assert.equal(values('istio_tcp_connections_failed_total'), undefined);
  assert.equal(values('ambit_tcp_retransmitted_segments_total'), 3);
  assert.equal(values('ambit_connect_duration_seconds_count'), 1);
});

test('a refusal moves none of upstream’s metrics and is counted by its reason', () => {
  const { traffic, text } = world();
  traffic.fold(connection({ event: 'refused', reason: 'route.no_healthy_endpoint', error: 'x' }));
  const counted = [...samplesOf(text())];
  assert.deepEqual(counted, [
    ['ambit_connections_refused_total{reporter="source",reason="route.no_healthy_endpoint"}', 1],
  ]);
});

test('plaintext proves nobody, and names the destination by what the mesh says', () => {
  const { traffic, text } = world();
  const plain: Partial<ConnectionRecord> = { protocol: 'TCP', direction: 'inbound', fresh: opened };
  traffic.fold(connection(plain));
  const labels = text();
  assert.match(labels, /source_principal="unknown"/);
  assert.match(labels, /destination_principal="spiffe:\/\/\/ns\/shop\/sa\/cart"/);
  assert.match(labels, /connection_security_policy="unknown"/);
});

test('a tunnel that could not be dialled has the identity that would have been shown', () => {
  const { traffic, text } = world();
  const { source } = connection();
  const record = connection({ source: { ...source, identity: undefined }, fresh: opened, reason: 'dial.timeout' });
  traffic.fold(record);
  assert.equal(sample(text(), 'istio_tcp_connections_failed_total', 'response_flags="NETWORK_POLICY"'), 1);
  assert.equal(sample(text(), 'istio_tcp_connections_failed_total', 'source_principal="spiffe:///ns/shop/sa/web"'), 1);
});

test('an application that does not answer is no NetworkPolicy', () => {
  const { traffic, text } = world();
  traffic.fold(connection({ direction: 'inbound', fresh: opened, reason: 'dial.timeout' }));
  traffic.fold(connection({ id: '0-2', protocol: 'TCP', fresh: opened, reason: 'dial.timeout' }));
  assert.doesNotMatch(text(), /NETWORK_POLICY/);
});

test('the place is left out when neither side is known, and told as far as it is else', () => {
  const { traffic, text } = world();
  const nobody = { address: connection().source.address };
  traffic.fold(connection({ source: nobody, destination: nobody, fresh: opened }));
  assert.doesNotMatch(text(), /_zone=/);
  const source = { ...connection().source, workload: workload('web', { region: 'r1', zone: 'z1' }) };
  traffic.fold(connection({ source, fresh: opened }));
  assert.match(text(), /source_region="r1",source_zone="z1",destination_region="unknown",destination_zone="unknown"/);
});

test('a peer known by baggage alone is called by its workload', () => {
  const { traffic, text } = world();
  const known = workload('web', { uid: '', name: '', canonicalName: 'site' });
  traffic.fold(
    connection({ direction: 'inbound', source: { ...connection().source, workload: known }, fresh: opened }),
  );
  assert.match(text(), /source_canonical_service="site".*source_app="web"/);
});

test('a connection at rest keeps its series, and its end lets them go', () => {
  const { traffic, registry, pass, text } = world();
  traffic.fold(connection({ event: 'progress', fresh: opened }));
  pass(5 * HOUR_MS);
  registry.sweep();
  assert.equal(sample(text(), 'istio_tcp_connections_opened_total'), 1);
  traffic.fold(connection());
  pass(HOUR_MS);
  registry.sweep();
  assert.equal(text(), '# EOF\n');
});

test('a connection whose labels changed while it lived lets both series go', () => {
  const { traffic, registry, pass, text } = world();
  traffic.fold(connection({ event: 'progress', fresh: opened }));
  const destination = { ...connection().destination, workload: workload('cart', { canonicalRevision: 'v3' }) };
  traffic.fold(connection({ event: 'progress', destination, fresh: { ...NOTHING, bytesToServer: 1 } }));
  pass(HOUR_MS);
  registry.sweep();
  assert.equal(sample(text(), 'istio_tcp_connections_opened_total'), undefined);
  traffic.fold(connection({ destination }));
  pass(HOUR_MS);
  registry.sweep();
  assert.equal(text(), '# EOF\n');
});

test('connections that ended with their worker do not keep series for ever, those of other workers do', () => {
  const { traffic, registry, pass, text } = world();
  const to = (name: string): Partial<ConnectionRecord> => ({
    event: 'progress',
    destination: { ...connection().destination, workload: workload(name) },
    fresh: opened,
  });
  traffic.fold(connection({ ...to('lost'), id: '1-7' }));
  traffic.fold(connection({ ...to('kept'), id: '11-7' }));
  traffic.forgetWorker(1);
  pass(HOUR_MS);
  registry.sweep();
  assert.equal(sample(text(), 'istio_tcp_connections_opened_total', 'destination_workload="lost"'), undefined);
  assert.equal(sample(text(), 'istio_tcp_connections_opened_total', 'destination_workload="kept"'), 1);
});
