import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { test } from 'node:test';
import { type ConfigInputs, parseConfig } from '../config.ts';
import type { Environment } from './env-reader.ts';
import { ZtunnelError } from '../errors.ts';

const parse = (env: Environment, inputs: Partial<ConfigInputs> = {}) =>
  parseConfig(env, { cores: 2, exists: () => false, ...inputs });

function refused(env: Environment, text: RegExp): void {
  assert.throws(
    () => parse(env),
    error => {
      assert.ok(error instanceof ZtunnelError);
      assert.equal(error.code, 'config.invalid');
      assert.match(error.message, text);
      return true;
    },
  );
}

test('http is for this machine only', () => {
  for (const url of ['http://127.0.0.1:15010', 'http://[::1]:15010', 'http://localhost:15010', 'unix:/run/xds']) {
    assert.equal(parse({ XDS_ADDRESS: url }).xds?.url, url);
    assert.equal(parse({ CA_ADDRESS: url }).ca?.url, url);
  }
  refused({ XDS_ADDRESS: 'http://istiod.istio-system.svc:15010' }, /must be https/);
  refused({ CA_ADDRESS: 'http://10.0.0.1:15010' }, /CA_ADDRESS=.*must be https/);
});

test('the CA has its own address, which discoveryAddress does not move', () => {
  const proxyConfig = { concurrency: undefined, discoveryAddress: 'istiod.x:15012' };
  const config = parse({}, { proxyConfig });
  assert.equal(config.xds?.url, 'https://istiod.x:15012');
  assert.equal(config.ca?.url, 'https://localhost:15012');
  assert.equal(parse({ CA_ADDRESS: '' }).ca, undefined);
  assert.equal(parse({ XDS_ADDRESS: '' }).ca, undefined);
  assert.equal(parse({ XDS_ADDRESS: '', CA_ADDRESS: 'ca:1' }).ca?.url, 'https://ca:1');
});

test('roots are a path, SYSTEM or PEM; a path that does not exist stays a path', () => {
  assert.deepEqual(parse({}).xds?.roots, { kind: 'file', path: './var/run/secrets/istio/root-cert.pem' });
  assert.deepEqual(parse({ XDS_ROOT_CA: '/not/there' }).xds?.roots, { kind: 'file', path: '/not/there' });
  assert.deepEqual(parse({ CA_ROOT_CA: 'SYSTEM' }).ca?.roots, { kind: 'system' });
  const pem = '-----BEGIN CERTIFICATE-----\n';
  assert.deepEqual(parse({ XDS_ROOT_CA: pem }).xds?.roots, { kind: 'pem', pem });
});

test('the token is a file that exists, else a literal, and a path that names nothing is a mistake', () => {
  assert.equal(parse({}).authToken, undefined);
  const all = { exists: () => true };
  assert.deepEqual(parse({}, all).authToken, { kind: 'file', path: './var/run/secrets/tokens/istio-token' });
  assert.deepEqual(parse({ AUTH_TOKEN: 'here' }, all).authToken, { kind: 'file', path: 'here' });
  const { authToken } = parse({ AUTH_TOKEN: 'eyJ.x.y\n' });
  assert.ok(authToken?.kind === 'literal');
  assert.equal(authToken.token.reveal(), 'eyJ.x.y');
  for (const path of ['/no', './no', '../no']) refused({ AUTH_TOKEN: path }, /there is no such file/);
  refused({ AUTH_TOKEN: '' }, /not a usable token/);
});

test('secrets do not show, however the configuration is printed', () => {
  const config = parse({ AUTH_TOKEN: 'hush-token', XDS_HEADER_X_KEY: 'hush-header' });
  assert.doesNotMatch(
    inspect(config, { depth: 9 }) + JSON.stringify({ ...config, all: [...(config.xds?.headers ?? [])] }),
    /hush/,
  );
  assert.equal(config.xds?.headers.get('x_key')?.reveal(), 'hush-header');
});

test('header names and values must be usable, and complaints do not repeat the value', () => {
  refused({ XDS_HEADER_AUTHORIZATION: 'x' }, /not a usable header name/);
  refused({ 'CA_HEADER_A B': 'x' }, /not a usable header name/);
  refused({ XDS_HEADER_A: 'hush\nhush' }, /^(?!.*hush).*not a usable header value/);
});

test('metadata: proxy configuration under ISTIO_META, JSON beside it, what is no JSON is warned of', () => {
  const proxyMetadata = [
    ['ISTIO_META_A', 'file'],
    ['B', 'file'],
  ] as const;
  const config = parse(
    { ISTIO_META_A: 'env', ISTIO_METAJSON_J: '{"n": 1}', ISTIO_METAJSON_K: '{' },
    { proxyConfig: { concurrency: undefined, discoveryAddress: undefined, proxyMetadata } },
  );
  assert.deepEqual(
    [...config.proxyMetadata],
    [
      ['A', 'env'],
      ['B', 'file'],
    ],
  );
  assert.deepEqual([...config.proxyMetadataJson], [['J', { n: 1 }]]);
  assert.match(config.warnings.join(), /ISTIO_METAJSON_K is not JSON/);
});

test('alternative names and on-demand are as upstream', () => {
  const config = parse({
    ALT_XDS_HOSTNAME: 'a',
    ALT_CA_HOSTNAME: 'b',
    XDS_ON_DEMAND: 'true',
    ISTIO_META_DNS_CAPTURE: 'false',
    INSTANCE_IP: '10.0.0.1',
  });
  assert.deepEqual(
    [config.xds?.altName, config.ca?.altName, config.xdsOnDemand, config.instanceIp],
    ['a', 'b', true, '10.0.0.1'],
  );
  refused({ INSTANCE_IP: 'x' }, /INSTANCE_IP/);
});
