import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DnsPodCounts } from '../dns/dns-messages.ts';
import { DnsMetrics } from './dns-metrics.ts';
import { makeWorld, sample, textOf, workload } from './metrics-testing.ts';

const COUNTS: DnsPodCounts = {
  uid: 'p',
  source: workload('web'),
  cells: [
    {
      query: 'AAAA',
      protocol: 'udp',
      requests: 5,
      upstreamRequests: 2,
      upstreamFailures: 1,
      durationSeconds: 0.25,
      durations: [0, 1, 0, 1, 0, 0, 0],
    },
    {
      query: 'A',
      protocol: 'tcp',
      requests: 1,
      upstreamRequests: 0,
      upstreamFailures: 0,
      durationSeconds: 0,
      durations: [0, 0, 0, 0, 0, 0, 0],
    },
  ],
  onDemand: [
    { hostname: 'example.org', count: 2 },
    { hostname: undefined, count: 9 },
  ],
  keptAnswers: 3,
  garbage: 0,
  refused: 0,
  refusedConnections: 0,
  unsolicited: 0,
};

test('differences add up under upstream’s names and labels', () => {
  const { registry } = makeWorld();
  const dns = new DnsMetrics(registry);
  dns.fold([COUNTS, COUNTS]);
  const text = textOf(registry);
  const labels =
    '{request_query_type="aaaa",request_protocol="udp",source_canonical_service="web",source_canonical_revision="v1"}';
  assert.equal(sample(text, 'istio_dns_requests_total', labels), 10);
  assert.equal(sample(text, 'istio_dns_upstream_requests_total', labels), 4);
  assert.equal(sample(text, 'istio_dns_upstream_failures_total', labels), 2);
  assert.equal(sample(text, 'istio_dns_upstream_request_duration_seconds_sum', labels), 0.5);
  assert.equal(sample(text, 'istio_dns_upstream_request_duration_seconds_bucket', 'le="0.001"'), 2);
  assert.equal(sample(text, 'istio_dns_upstream_requests_total', 'request_protocol="tcp"'), undefined);
  assert.equal(sample(text, 'istio_on_demand_dns_total', 'hostname="example.org"'), 4);
  assert.equal(sample(text, 'istio_on_demand_dns_total', 'hostname="overflow"'), 18);
  assert.equal(sample(text, 'ambit_dns_kept_answers_total'), 6);
});

test('a pod that the mesh does not know is unknown', () => {
  const { registry } = makeWorld();
  new DnsMetrics(registry).fold([{ ...COUNTS, source: undefined }]);
  assert.match(textOf(registry), /source_canonical_service="unknown",source_canonical_revision="unknown"/);
});
