import assert from 'node:assert/strict';
import { test } from 'node:test';
import { acceptsGzip, chooseFormat } from './negotiation.ts';

test('the best acceptable format wins', () => {
  const cases: ReadonlyArray<readonly [accept: string | undefined, format: string]> = [
    [undefined, 'prometheus'],
    ['', 'prometheus'],
    ['*/*', 'prometheus'],
    ['text/html, */*;q=0.1', 'prometheus'],
    ['application/json', 'prometheus'],
    ['application/openmetrics-text', 'openmetrics'],
    ['Application/OpenMetrics-Text; Version="1.0.0"', 'openmetrics'],
    ['application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.8', 'prometheus'],
    ['application/openmetrics-text;q=0.5,text/plain;q=0.5', 'openmetrics'],
    ['application/openmetrics-text;q=0', 'prometheus'],
    ['application/openmetrics-text;version=2.0.0', 'prometheus'],
    ['application/openmetrics-text;q=much', 'prometheus'],
    // As Prometheus 2.42 asks.
    [
      'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
      'openmetrics',
    ],
  ];
  for (const [accept, format] of cases) assert.equal(chooseFormat(accept), format, accept);
});

test('gzip is for those who ask for it', () => {
  assert.equal(acceptsGzip(undefined), false);
  assert.equal(acceptsGzip('br, *'), false);
  assert.equal(acceptsGzip('gzip;q=0'), false);
  assert.equal(acceptsGzip('br;q=1.0, GZIP;q=0.2'), true);
});
