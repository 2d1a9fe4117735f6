import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Environment, parseConfig } from '../config.ts';
import { workerSettings } from '../worker-settings.ts';

const parse = (env: Environment, proxyMetadata?: ReadonlyArray<readonly [string, string]>) =>
  parseConfig(env, {
    cores: 1,
    ...(proxyMetadata === undefined
      ? {}
      : { proxyConfig: { concurrency: undefined, discoveryAddress: undefined, proxyMetadata } }),
  });

const DEDICATED = { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'ns/name/sa' };

test('DNS is on unless it is set to something other than true, in any case', () => {
  assert.deepEqual(parse({}).dnsProxy, { address: 'localhost', port: 15_053 });
  for (const value of ['true', 'TRUE', 'True']) assert.ok(parse({ ISTIO_META_DNS_CAPTURE: value }).dnsProxy);
  for (const value of ['false', '', 'yes', '1']) {
    const config = parse({ ISTIO_META_DNS_CAPTURE: value });
    assert.equal(config.dnsProxy, undefined);
    assert.equal(workerSettings(config, { opens: false, queries: false }).dns, undefined);
  }
});

test('the metadata of the proxy configuration counts, the environment counts more', () => {
  const off = [['DNS_CAPTURE', 'false']] as const;
  assert.equal(parse({}, off).dnsProxy, undefined);
  assert.equal(parse({}, off).sources.get('ISTIO_META_DNS_CAPTURE'), 'file');
  assert.ok(parse({ ISTIO_META_DNS_CAPTURE: 'true' }, off).dnsProxy);
  assert.equal(parse({}, [['ISTIO_META_DNS_PROXY_ADDR', 'localhost:53']]).dnsProxy?.port, 53);
});

test('the address is localhost with a port, or an address with one; anything else names variable and value', () => {
  const at = (text: string) => parse({ ISTIO_META_DNS_PROXY_ADDR: text }).dnsProxy;
  assert.deepEqual(at('localhost:5353'), { address: 'localhost', port: 5353 });
  assert.deepEqual(at('127.0.0.2:53'), { address: '127.0.0.2', port: 53 });
  assert.deepEqual(at('[::1]:53'), { address: '::1', port: 53 });
  for (const text of ['', 'localhost', 'localhost:0', 'localhost:70000', '127.0.0.1', 'host:53', '127.0.0.1:0']) {
    assert.throws(() => at(text), new RegExp(`ISTIO_META_DNS_PROXY_ADDR=${text} `));
  }
});

test('a port that the proxy has for something else is refused: more exact, it would get what is meant for the other', () => {
  for (const port of [15_001, 15_006, 15_008, 15_080]) {
    assert.throws(() => parse({ ISTIO_META_DNS_PROXY_ADDR: `localhost:${port}` }), /ISTIO_META_DNS_PROXY_ADDR.*own/);
  }
});

test('with XDS_ON_DEMAND it must be off', () => {
  assert.throws(() => parse({ XDS_ON_DEMAND: 'true' }), /XDS_ON_DEMAND=true .*ISTIO_META_DNS_CAPTURE=false/);
  assert.ok(parse({ XDS_ON_DEMAND: 'true', ISTIO_META_DNS_CAPTURE: 'false' }).xdsOnDemand);
});

test('a proxy with an address of its own listens there and not at localhost', () => {
  const config = parse({ ...DEDICATED, AMBIT_BIND_ADDRESS: '127.0.0.9' });
  assert.deepEqual(config.dnsProxy, { address: '127.0.0.9', port: 15_053 });
  assert.equal(parse({ AMBIT_RESOLV_CONF: '/x' }).resolvConf, '/x');
  assert.equal(parse({}).resolvConf, '/etc/resolv.conf');
});
