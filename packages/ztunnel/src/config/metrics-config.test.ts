import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../config.ts';
import { readProxyConfig } from './proxy-config.ts';

const BASE = { NETWORK: '', XDS_ADDRESS: '' };
const INPUTS = { cores: 1, exists: () => false };

test('bounds of the metrics have defaults and limits', () => {
  const { statsPort, metricsMaxSeries, metricsIdleMs } = parseConfig(BASE, INPUTS);
  assert.deepEqual([statsPort, metricsMaxSeries, metricsIdleMs], [15_020, 50_000, 3_600_000]);
  const set = parseConfig({ ...BASE, AMBIT_METRICS_MAX_SERIES: '2000', AMBIT_METRICS_IDLE: '10m' }, INPUTS);
  const { statsAddress } = parseConfig({ ...BASE, AMBIT_METRICS_ADDRESS: '127.0.0.1' }, INPUTS);
  assert.equal(statsAddress, '127.0.0.1');
  assert.throws(() => parseConfig({ ...BASE, AMBIT_METRICS_ADDRESS: 'here' }, INPUTS), /not an address/);
  assert.deepEqual([set.metricsMaxSeries, set.metricsIdleMs], [2000, 600_000]);
  const few = { ...BASE, AMBIT_METRICS_MAX_SERIES: '5' };
  assert.throws(() => parseConfig(few, INPUTS), /AMBIT_METRICS_MAX_SERIES=5 \(must be at least 100\)/);
  assert.throws(() => parseConfig({ ...BASE, AMBIT_METRICS_IDLE: '0s' }, INPUTS), /AMBIT_METRICS_IDLE/);
});

test('the port is the proxy configuration’s', async () => {
  const proxyConfig = await readProxyConfig({ PROXY_CONFIG: '{"statsPort": 15999}' }, '/nonexistent');
  assert.equal(parseConfig(BASE, { ...INPUTS, proxyConfig }).statsPort, 15_999);
  await assert.rejects(
    readProxyConfig({ PROXY_CONFIG: '{"statsPort": "x"}' }, '/nonexistent'),
    /statsPort must be a port/,
  );
});
