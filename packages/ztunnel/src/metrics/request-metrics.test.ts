import assert from 'node:assert/strict';
import { test } from 'node:test';
import { REQUEST_BUCKETS, type RequestTally } from '@ambit/proxy';
import { connection, makeWorld, NOTHING, sample, textOf } from './metrics-testing.ts';
import { REQUEST_BOUNDS, RequestMetrics } from './request-metrics.ts';

const NO_COUNTS = REQUEST_BUCKETS.map(() => 0);

function tally(fields: Partial<RequestTally> = {}): RequestTally {
  const counts = [...NO_COUNTS, 0];
  counts[2] = 2;
  return {
    protocol: 'http',
    status: 200,
    method: '',
    path: '',
    count: 2,
    durationSumMs: 6.5,
    durations: counts,
    requestBytes: 9,
    requestSizes: counts,
    responseBytes: 8,
    responseSizes: counts,
    requestMessages: 0,
    responseMessages: 0,
    ...fields,
  };
}

function fold(...requests: RequestTally[]): string {
  const { registry } = makeWorld();
  const metrics = new RequestMetrics(registry);
  for (let round = 0; round < 2; round++) {
    metrics.fold(connection({ event: 'progress', fresh: { ...NOTHING, requests, untalliedRequests: 3 } }));
  }
  return textOf(registry);
}

test('the limits are those that workers tally by', () => {
  assert.deepEqual(REQUEST_BOUNDS, REQUEST_BUCKETS);
});

test('HTTP requests have Istio’s names and standard labels', () => {
  const text = fold(tally());
  assert.equal(sample(text, 'istio_requests_total', 'response_code="200"'), 4);
  assert.match(
    text,
    /istio_requests_total\{reporter="source",source_workload="web",.*destination_cluster="Kubernetes",request_protocol="http",response_code="200",response_flags="-",connection_security_policy="mutual_tls"\} 4\n/,
  );
  assert.equal(sample(text, 'istio_request_duration_milliseconds_sum'), 13);
  assert.equal(sample(text, 'istio_request_duration_milliseconds_bucket', 'le="1.0"'), 0);
  assert.equal(sample(text, 'istio_request_duration_milliseconds_bucket', 'le="5.0"'), 4);
  assert.equal(sample(text, 'istio_request_bytes_sum'), 18);
  assert.equal(sample(text, 'istio_response_bytes_sum'), 16);
  assert.doesNotMatch(text, /istio_request_messages|request_method|request_path/);
  assert.equal(sample(text, 'ambit_requests_untallied_total'), 6);
});

test('gRPC adds status and messages; method and path are there when asked for', () => {
  const text = fold(
    tally({ protocol: 'grpc', grpcStatus: 14, flags: 'UC', requestMessages: 5, method: 'POST', path: '/a.B/*' }),
  );
  assert.match(text, /request_protocol="grpc",response_code="200",grpc_response_status="14",response_flags="UC"/);
  assert.match(text, /request_method="POST",request_path="\/a\.B\/\*"\} 4\n/);
  assert.equal(sample(text, 'istio_request_messages_total'), 10);
  assert.equal(sample(text, 'istio_response_messages_total'), 0);
});

test('commands of databases have metrics of their own', () => {
  const text = fold(
    tally({ protocol: 'postgresql', method: 'SELECT', status: 0 }),
    tally({ protocol: 'redis', method: 'GET', error: 'ERR' }),
  );
  assert.equal(sample(text, 'ambit_db_requests_total', 'protocol="postgresql",command="SELECT"}'), 4);
  assert.equal(sample(text, 'ambit_db_requests_total', 'protocol="redis",command="GET",error="ERR"}'), 4);
  assert.equal(sample(text, 'ambit_db_request_duration_seconds_count', 'protocol="redis"'), 4);
  assert.doesNotMatch(text, /istio_requests/);
});

test('what was not understood is no request', () => {
  assert.doesNotMatch(fold(tally({ protocol: 'tls' }), tally({ protocol: 'unknown' })), /istio_|ambit_db/);
});
