// What metrics make of what peers, mesh files and broken workers may tell them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_LABEL_CHARACTERS } from './label-text.ts';
import { connection, makeWorld, NOTHING, sample, samplesOf, textOf, workload } from './metrics-testing.ts';
import { TrafficMetrics } from './traffic-metrics.ts';

const opened = { ...NOTHING, opened: true };
const LABEL = /[A-Za-z_][A-Za-z0-9_]*="(?:[^"\\\n]|\\["\\n])*"/;
const LINE = new RegExp(`^[a-z_]+(?:\\{${LABEL.source}(?:,${LABEL.source})*\\})? [0-9.e+-]+$`);

test('whatever a peer is called, each sample stays one line that readers can read', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 40 }),
    fc.constantFrom('a"} 1\nup 0', '\\', '\r\n# EOF', '\ud800', '\0'),
  );
  const named = fc.property(text, text, text, (name, identity, account) => {
    const { registry } = makeWorld();
    const traffic = new TrafficMetrics(registry);
    const source = { ...connection().source, workload: workload(name), identity };
    const destination = { ...connection().destination, workload: workload('x', { serviceAccount: account }) };
    traffic.fold(connection({ source, destination, fresh: opened }));
    const body = textOf(registry, 'prometheus');
    assert.ok(body.isWellFormed());
    for (const line of body.split('\n')) {
      if (line !== '' && !line.startsWith('# ')) assert.match(line, LINE);
    }
    assert.equal(sample(body, 'istio_tcp_connections_opened_total'), 1);
  });
  fc.assert(named, { seed: 1503, numRuns: 300 });
});

test('names of a megabyte cost no more than the longest that are shown', () => {
  const { registry } = makeWorld();
  const traffic = new TrafficMetrics(registry);
  const huge = 'n'.repeat(1 << 20);
  const source = { ...connection().source, workload: workload(huge), identity: huge };
  traffic.fold(connection({ source, fresh: opened }));
  const lines = textOf(registry).split('\n');
  assert.ok(Math.max(...lines.map(line => line.length)) < 27 * (MAX_LABEL_CHARACTERS + 40));
});

test('numbers that can be none are left out and counted, and spoil no series', () => {
  const { registry } = makeWorld();
  const traffic = new TrafficMetrics(registry);
  traffic.fold(connection({ event: 'progress', fresh: { ...opened, bytesToServer: 10 } }));
  for (const bad of [-5, Number.NaN, Infinity]) {
    traffic.fold(connection({ fresh: { ...opened, bytesToServer: bad, bytesToClient: bad }, connectMs: bad }));
  }
  const text = textOf(registry);
  assert.equal(sample(text, 'istio_tcp_received_bytes_total'), 10);
  assert.equal(sample(text, 'istio_tcp_sent_bytes_total'), 0);
  assert.equal(sample(text, 'ambit_connect_duration_seconds_count'), undefined);
  for (const value of samplesOf(text).values()) assert.ok(value >= 0 && value < Infinity);
  assert.equal(registry.refused, 9);
});

test('a counter that is read from elsewhere survives a reading that is none', () => {
  const { registry } = makeWorld();
  const table = registry.lasting({ labels: [], metrics: [{ name: 'n', help: 'N.', type: 'counter' }] });
  for (const value of [5, Number.NaN, -1, 7]) table.set(table.row([]), 0, value);
  assert.equal(sample(textOf(registry), 'n_total'), 7);
});
