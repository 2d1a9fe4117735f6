import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Finding } from '@ambit/insight';
import { addFindingMetrics } from '../insight/finding-metrics.ts';
import { addAccessLogMetrics, addOtlpMetrics } from '../otlp/self-metrics.ts';
import { makeWorld, sample, textOf } from './metrics-testing.ts';
import { addBuildMetric, addNodeMetrics, type NodeReadings } from './node-metrics.ts';

type Xds = NonNullable<ReturnType<NodeReadings['xds']>>;

const XDS: Xds = {
  status: {
    state: 'connected',
    url: 'https://istiod',
    isReady: true,
    attempts: 1,
    sinceMs: 0,
    lastError: undefined,
    lastNack: undefined,
    known: {},
  },
  stats: {
    terminations: { ConnectionError: 3, Reconnect: 1, Error: 0, Complete: 2 },
    messages: new Map([['type.googleapis.com/istio.workload.Address', 7]]),
    messageBytes: new Map([['type.googleapis.com/istio.workload.Address', 4096]]),
    nacks: 2,
    rejectedResources: 5,
    demands: 9,
    demandsLate: 4,
  },
};

const READINGS: NodeReadings = {
  istioVersion: '1.30.0',
  version: '0.1.0',
  isShared: true,
  supervisor: () => ({
    workersReplaced: 1,
    pods: 3,
    podsOpened: 10,
    podsFailed: 2,
    podsClosed: 8,
    tunnelsMoved: 6,
    lookupsFailed: 0,
  }),
  pendingPods: () => 1,
  xds: () => XDS,
  certificates: () => ({
    stats: {
      identities: 5,
      available: 4,
      running: 0,
      issued: 11,
      failed: 3,
      timedOut: 1,
      dropped: 0,
      expired: 2,
      rootRotations: 0,
    },
    identities: [
      {
        identity: 'spiffe://td/ns/shop/sa/web',
        state: 'available',
        priority: 'Background',
        certChainPem: '',
        rootsPem: '',
        notBeforeMs: 0,
        notAfterMs: 1_700_000_000_999,
        nextRenewalMs: undefined,
        lastError: undefined,
      },
    ],
  }),
  logLinesDropped: () => 12,
  streamedRecordsDropped: () => 13,
};

function textFor(readings: Partial<NodeReadings> = {}): string {
  const { registry } = makeWorld();
  addBuildMetric(registry, { ...READINGS, ...readings });
  addNodeMetrics(registry, { ...READINGS, ...readings });
  return textOf(registry);
}

test('the control plane’s figures have upstream’s names, and ours beside them', () => {
  const text = textFor();
  assert.equal(sample(text, 'istio_xds_connection_terminations_total', 'reason="ConnectionError"'), 3);
  assert.equal(sample(text, 'istio_xds_connection_terminations_total', 'reason="Complete"'), 2);
  const url = 'url="type.googleapis.com/istio.workload.Address"';
  assert.equal(sample(text, 'istio_xds_message_total', url), 7);
  assert.equal(sample(text, 'istio_xds_message_bytes_total', url), 4096);
  assert.equal(sample(text, 'ambit_xds_connected'), 1);
  assert.equal(sample(text, 'ambit_xds_nacks_total'), 2);
  assert.equal(sample(text, 'ambit_xds_demands_total'), 9);
  assert.equal(sample(text, 'ambit_xds_demands_late_total'), 4);
});

test('a proxy without a control plane has no figures of it, one that waits says so', () => {
  assert.doesNotMatch(textFor({ xds: () => undefined }), /_xds_/);
  const waiting: Xds = { ...XDS, status: { ...XDS.status, state: 'waiting' } };
  assert.equal(sample(textFor({ xds: () => waiting }), 'ambit_xds_connected'), 0);
});

test('pods are counted where they come and go, and one that could not be opened never began nor ended', () => {
  const text = textFor();
  assert.equal(sample(text, 'workload_manager_active_proxy_count'), 3);
  assert.equal(sample(text, 'workload_manager_pending_proxy_count'), 1);
  assert.equal(sample(text, 'workload_manager_proxies_started_total'), 10);
  assert.equal(sample(text, 'workload_manager_proxies_stopped_total'), 6);
  assert.doesNotMatch(textFor({ isShared: false }), /workload_manager/);
});

test('certificates are shown by their end, in whole seconds, for as long as they are kept', () => {
  let identities = READINGS.certificates().identities;
  const { registry } = makeWorld();
  addNodeMetrics(registry, { ...READINGS, certificates: () => ({ ...READINGS.certificates(), identities }) });
  const name = 'ambit_certificate_expiry_timestamp_seconds';
  assert.equal(sample(textOf(registry), name, 'identity="spiffe://td/ns/shop/sa/web"'), 1_700_000_000);
  identities = [];
  const text = textOf(registry);
  assert.equal(sample(text, name), undefined);
  assert.equal(sample(text, 'ambit_certificates'), 5);
  assert.equal(sample(text, 'ambit_certificates_available'), 4);
  assert.equal(sample(text, 'ambit_certificates_issued_total'), 11);
  assert.equal(sample(text, 'ambit_certificate_requests_failed_total'), 3);
  assert.equal(sample(text, 'ambit_certificates_expired_total'), 2);
});

test('the process says what it lost and what it is', () => {
  const text = textFor();
  assert.equal(sample(text, 'ambit_log_lines_dropped_total'), 12);
  assert.equal(sample(text, 'ambit_record_stream_dropped_total'), 13);
  assert.equal(sample(text, 'ambit_workers_replaced_total'), 1);
  assert.equal(sample(text, 'ambit_tunnels_moved_total'), 6);
  assert.equal(sample(text, 'istio_build', 'component="ztunnel",tag="1.30.0"'), 1);
  assert.equal(sample(text, 'ambit_build', `version="0.1.0",node="${process.version}"`), 1);
});

test('findings are counted by code, and one that is over reads 0', () => {
  const { registry } = makeWorld();
  const finding = (code: Finding['code'], subject: string): Finding => ({
    code,
    subject,
    severity: 'warning',
    text: '',
    next: '',
    evidence: {},
    sinceMs: 0,
    lastMs: 0,
  });
  let findings = [finding('detect.new_edge', 'a'), finding('detect.new_edge', 'b'), finding('detect.fan_out', 'a')];
  addFindingMetrics(registry, () => findings);
  for (let round = 0; round < 2; round++) {
    const text = textOf(registry);
    assert.equal(sample(text, 'ambit_findings', 'code="detect.new_edge",severity="warning"'), 2);
    assert.equal(sample(text, 'ambit_findings', 'code="detect.fan_out"'), 1);
  }
  findings = findings.slice(0, 1);
  const text = textOf(registry);
  assert.equal(sample(text, 'ambit_findings', 'code="detect.new_edge"'), 1);
  assert.equal(sample(text, 'ambit_findings', 'code="detect.fan_out"'), 0);
});

test('telemetry counts what became of its own lines and items', () => {
  const { registry } = makeWorld();
  addAccessLogMetrics(registry, () => ({ written: 5, filtered: 4, sampledOut: 3, dropped: 2 }));
  const signal = { exported: 8, failed: 7, dropped: 6, queued: 1 };
  addOtlpMetrics(registry, { stats: { logs: signal, traces: signal, metrics: signal }, processDeaths: 2 });
  const text = textOf(registry);
  assert.equal(sample(text, 'ambit_access_log_lines_total', 'outcome="sampled_out"'), 3);
  assert.equal(sample(text, 'ambit_access_log_lines_total', 'outcome="written"'), 5);
  assert.equal(sample(text, 'ambit_otlp_items_total', 'signal="logs",outcome="failed"'), 7);
  assert.equal(sample(text, 'ambit_otlp_queue', 'signal="traces"'), 1);
  assert.equal(sample(text, 'ambit_otlp_process_deaths_total'), 2);
});
