import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { readProxyConfig } from './config/proxy-config.ts';
import { parseCpuCount, parseQuantity } from './config/quantity.ts';
import { type ThreadInputs, workerCount } from './config/threads.ts';
import { type Environment, parseConfig } from './config.ts';
import { ZtunnelError } from './errors.ts';
import { workerSettings } from './worker-settings.ts';

const parse = (env: Environment, cores = 4) => parseConfig(env, { cores });

function refused(env: Environment, text: RegExp, code = 'config.invalid'): void {
  assert.throws(
    () => parse(env),
    error => {
      assert.ok(error instanceof ZtunnelError);
      assert.equal(error.code, code);
      assert.match(error.message, text);
      return true;
    },
  );
}

test('an empty environment gives the upstream defaults', () => {
  const config = parse({});
  assert.equal(config.proxyMode, 'shared');
  assert.equal(config.clusterId, 'Kubernetes');
  assert.equal(config.packetMark, 1337);
  assert.equal(config.inpodUds, '/var/run/ztunnel/ztunnel.sock');
  assert.equal(config.poolMaxStreamsPerConnection, 100);
  assert.equal(config.poolUnusedReleaseMs, 300_000);
  assert.equal(config.streamWindowBytes, 524_288);
  assert.equal(config.connectionWindowBytes, 16_777_216);
  assert.equal(config.frameBytes, 1_048_576);
  assert.equal(config.keepaliveTimeMs, 180_000);
  assert.equal(config.keepaliveRetries, 9);
  assert.equal(config.terminationDeadlineMs, 5000);
  assert.equal(config.secretTtlMs, 86_400_000);
  assert.equal(config.originalSource, undefined);
  assert.equal(config.xds?.url, 'https://localhost:15012');
  assert.equal(config.ca?.url, 'https://localhost:15012');
  assert.equal(config.memoryBudgetBytes, 256 * 2 ** 20);
  assert.equal(config.tlsRecords, 'own');
  assert.equal(config.logFilter, 'info');
  assert.equal(config.logFormat, 'plain');
  assert.ok(Object.isFrozen(config));
});

test('the source of each value is remembered', () => {
  const { sources } = parse({ NETWORK: 'n' });
  assert.equal(sources.get('NETWORK'), 'env');
  assert.equal(sources.get('PACKET_MARK'), 'default');
});

test('cluster id prefers ISTIO_META_CLUSTER_ID', () => {
  assert.equal(parse({ CLUSTER_ID: 'a', ISTIO_META_CLUSTER_ID: 'b' }).clusterId, 'b');
  assert.equal(parse({ CLUSTER_ID: 'a' }).clusterId, 'a');
});

test('the preferred namespace is read under the name that upstream misspells', () => {
  assert.equal(parse({}).preferredServiceNamespace, undefined);
  assert.equal(parse({ PREFERED_SERVICE_NAMESPACE: '' }).preferredServiceNamespace, undefined);
  assert.equal(parse({ PREFERED_SERVICE_NAMESPACE: 'infra' }).preferredServiceNamespace, 'infra');
});

test('PACKET_MARK=0 is no mark, and dedicated mode has none by default', () => {
  assert.equal(parse({ PACKET_MARK: '0' }).packetMark, undefined);
  const dedicated = { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'ns/pod/sa' };
  assert.equal(parse(dedicated).packetMark, undefined);
  assert.deepEqual(parse(dedicated).dedicatedWorkload, { namespace: 'ns', name: 'pod', serviceAccount: 'sa' });
});

test('dedicated mode without workload info is refused', () => {
  refused({ PROXY_MODE: 'dedicated' }, /^invalid env var PROXY_WORKLOAD_INFO= \(/);
  refused({ PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'ns/pod' }, /PROXY_WORKLOAD_INFO=ns\/pod/);
});

test('mistakes name variable, value and reason', () => {
  refused({ IPV6_ENABLED: 'yes' }, /^invalid env var IPV6_ENABLED=yes \(expected true or false\)$/);
  refused({ KEEPALIVE_TIME: '5 parsecs' }, /^invalid env var KEEPALIVE_TIME=5 parsecs \(expected a duration/);
  refused({ PACKET_MARK: '0x539' }, /^invalid env var PACKET_MARK=0x539 \(expected a whole number\)$/);
  refused({ PACKET_MARK: '4294967296' }, /at most 4294967295/);
  refused({ PROXY_MODE: 'sidecar' }, /expected shared or dedicated/);
  refused({ LOCAL_XDS_PATH: 'a', LOCAL_XDS: 'b' }, /only one of them/);
  refused({ HTTP2_FRAME_SIZE: '100' }, /HTTP\/2 allows/);
  refused({ XDS_ADDRESS: 'http://[' }, /expected a URI/);
  refused({ AMBIT_MEMORY_BUDGET: '1Mi' }, /must be from/);
  refused({ AMBIT_DEV_CA_CERT: 'x' }, /AMBIT_DEV_CA_KEY must be set too/);
  refused({ AMBIT_DEV_CA_KEY: 'x' }, /AMBIT_DEV_CA_CERT must be set too/);
});

test('exact-true variables are never errors', () => {
  assert.equal(parse({ AUTHZ_POLICY_INFO_LOGGING: 'TRUE' }).policyInfoLogging, false);
  assert.equal(parse({ AUTHZ_POLICY_INFO_LOGGING: 'true' }).policyInfoLogging, true);
  assert.equal(parse({ COMPLIANCE_POLICY: 'pqc' }).postQuantumOnly, true);
});

test('an unknown AMBIT_ name is an error that names the nearest', () => {
  refused({ AMBIT_MEMORY_BUGDET: '1' }, /unknown name; did you mean AMBIT_MEMORY_BUDGET\?/);
  refused({ AMBIT_X: '1' }, /unknown name/);
  parse({ AMBIT_SANDBOX: '1' });
});

test('hardening that this version lacks is refused, the rest is warned about', () => {
  refused({ FAKE_CA: 'true' }, /AMBIT_DEV_CA_CERT/, 'config.unsupported');
  assert.equal(parse({ CRL_PATH: '', FAKE_CA: 'false' }).crlPath, undefined);
  assert.equal(parse({ CRL_PATH: '/crl' }).crlPath, '/crl');
  assert.deepEqual(parse({ TLS12_ENABLED: 'true' }).warnings, [
    'TLS12_ENABLED=true has no effect: only TLS 1.3 is spoken',
  ]);
});

test('termination deadline leaves room in the grace period and never underflows', () => {
  const deadline = (seconds: string) => parse({ TERMINATION_GRACE_PERIOD_SECONDS: seconds }).terminationDeadlineMs;
  assert.equal(deadline('30'), 25_000);
  assert.equal(deadline('11'), 6000);
  assert.equal(deadline('10'), 9000);
  assert.equal(deadline('1'), 1000);
  assert.equal(deadline('0'), 1000);
  assert.equal(
    parse({ TERMINATION_GRACE_PERIOD_SECONDS: '30', CONNECTION_TERMINATION_DEADLINE: '2s' }).terminationDeadlineMs,
    2000,
  );
});

test('XDS address: empty is none, a missing scheme is https, the cluster has its own default', () => {
  assert.equal(parse({ XDS_ADDRESS: '' }).xds, undefined);
  assert.equal(parse({ XDS_ADDRESS: 'istiod:15012' }).xds?.url, 'https://istiod:15012');
  assert.equal(parse({ KUBERNETES_SERVICE_HOST: 'x' }).xds?.url, 'https://istiod.istio-system.svc:15012');
});

test('without port reuse one worker owns the ports', () => {
  const config = parse({ INPOD_PORT_REUSE: 'false', ZTUNNEL_WORKER_THREADS: '4' });
  assert.equal(config.workers, 1);
  assert.match(config.warnings[0] ?? '', /one worker/);
});

const threads = (inputs: Partial<ThreadInputs>) =>
  workerCount({
    workerThreads: undefined,
    concurrency: undefined,
    resourceLimit: undefined,
    resourceRequest: undefined,
    cpuLimit: undefined,
    cores: 4,
    ...inputs,
  });

test('F2: worker threads by number, percentage and resources', () => {
  assert.equal(threads({ workerThreads: '3' }), 3);
  assert.equal(threads({ workerThreads: '0', cores: 12 }), 12);
  assert.equal(threads({ workerThreads: '30%', cores: 16 }), 5);
  assert.equal(threads({ workerThreads: '10%', cores: 4 }), 1);
  assert.equal(threads({ workerThreads: '100%', cores: 4 }), 4);
  assert.equal(parse({ ZTUNNEL_RESOURCE_CPU_LIMIT: '500m' }).workers, 1);
  assert.equal(parse({ ZTUNNEL_RESOURCE_CPU_LIMIT: '2500m' }).workers, 3);
  assert.equal(parse({ ZTUNNEL_RESOURCE_CPU_LIMIT: '1.5' }).workers, 2);
  assert.equal(threads({ cores: 32 }), 8);
  assert.equal(threads({ cores: 4 }), 2);
  assert.equal(threads({ cores: 4, resourceRequest: 8 }), 8);
  assert.equal(threads({ resourceLimit: 4, resourceRequest: 8 }), 8);
  assert.equal(threads({ cpuLimit: 32, cores: 4 }), 8);
  assert.equal(threads({ workerThreads: '50%', resourceLimit: 6, cores: 64 }), 3);
  assert.equal(threads({ concurrency: 5 }), 5);
  assert.equal(threads({ concurrency: 0, cores: 7 }), 7);
  assert.equal(threads({ workerThreads: '1', concurrency: 5 }), 1);
  for (const bad of ['0%', '101%', '-1', 'many', '', '1.5', '99999']) {
    assert.equal(typeof threads({ workerThreads: bad }), 'object', bad);
  }
  refused({ ZTUNNEL_WORKER_THREADS: '0%' }, /^invalid env var ZTUNNEL_WORKER_THREADS=0% \(a percentage/);
});

test('quantities of Kubernetes', () => {
  assert.equal(parseCpuCount('500m'), 1);
  assert.equal(parseCpuCount('2'), 2);
  assert.equal(parseCpuCount('1000m'), 1);
  assert.equal(parseQuantity('256Mi'), 268_435_456);
  assert.equal(parseQuantity('1G'), 1e9);
  assert.equal(parseQuantity('-1'), undefined);
  assert.equal(parseQuantity('1 Mi'), undefined);
});

test('any text in any variable either parses or is a config error', () => {
  const names = ['KEEPALIVE_TIME', 'ZTUNNEL_WORKER_THREADS', 'AMBIT_MEMORY_BUDGET', 'XDS_ADDRESS', 'PACKET_MARK'];
  fc.assert(
    fc.property(fc.constantFrom(...names), fc.string({ unit: 'binary', maxLength: 80 }), (name, value) => {
      try {
        const config = parse({ [name]: value });
        assert.ok(Number.isInteger(config.workers) && config.workers >= 1);
        assert.ok(config.keepaliveTimeMs >= 0);
      } catch (error) {
        assert.ok(error instanceof ZtunnelError, String(error));
        assert.ok(error.message.startsWith(`invalid env var ${name}=`));
      }
    }),
    { seed: 7, numRuns: 500 },
  );
});

test('F1: concurrency and discoveryAddress from mesh file and PROXY_CONFIG', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-mesh-'));
  try {
    const file = join(directory, 'mesh');
    await writeFile(file, 'defaultConfig:\n  concurrency: 3\n  discoveryAddress: istiod.x:15012\n');
    assert.deepEqual(await readProxyConfig({}, file), { concurrency: 3, discoveryAddress: 'istiod.x:15012' });
    const both = await readProxyConfig({ PROXY_CONFIG: '{"concurrency": 5}' }, file);
    assert.deepEqual(both, { concurrency: 5, discoveryAddress: 'istiod.x:15012' });
    const config = parseConfig({}, { cores: 4, proxyConfig: both });
    assert.equal(config.workers, 5);
    assert.equal(config.xds?.url, 'https://istiod.x:15012');
    assert.equal(config.sources.get('XDS_ADDRESS'), 'file');
    const none = { concurrency: undefined, discoveryAddress: undefined };
    assert.deepEqual(await readProxyConfig({ PROXY_CONFIG: '' }, join(directory, 'none')), none);
    await assert.rejects(readProxyConfig({ PROXY_CONFIG: '{' }, join(directory, 'none')), { code: 'config.invalid' });
    await assert.rejects(readProxyConfig({ PROXY_CONFIG: 'concurrency: x' }, file), { code: 'config.invalid' });
  } finally {
    await rm(directory, { recursive: true });
  }
});

test('the SOCKS5 port is on loopback, on the address of this proxy where there are several, or refused', () => {
  const dedicated = { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'ns/name/sa', UNSTABLE_ENABLE_SOCKS5: 'true' };
  const at = (env: Record<string, string>): unknown =>
    workerSettings(parseConfig(env, { cores: 2 }), { opens: false, queries: false }).socks5;
  assert.deepEqual(at(dedicated), { ip: '127.0.0.1', port: 15_080 });
  assert.deepEqual(at({ ...dedicated, AMBIT_BIND_ADDRESS: '127.0.0.2' }), { ip: '127.0.0.2', port: 15_080 });
  assert.throws(() => at({ ...dedicated, AMBIT_BIND_ADDRESS: '192.0.2.1' }), /UNSTABLE_ENABLE_SOCKS5.*192\.0\.2\.1/);
});

test('an address of its own and a forward are for dedicated mode, and must be addresses', () => {
  const dedicated = { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'shop/web/web', XDS_ADDRESS: '' };
  const env = { ...dedicated, AMBIT_BIND_ADDRESS: '127.0.0.2', AMBIT_FORWARD: '127.0.0.3:8080' };
  const { bindAddress, forward } = parseConfig(env, { cores: 2 });
  assert.deepEqual([bindAddress, forward], ['127.0.0.2', { ip: '127.0.0.3', port: 8080 }]);
  for (const broken of [
    { ...env, PROXY_MODE: 'shared' },
    { ...env, AMBIT_BIND_ADDRESS: 'localhost' },
    { ...env, AMBIT_FORWARD: '127.0.0.3' },
  ]) {
    assert.throws(() => parseConfig(broken, { cores: 2 }), /AMBIT_(BIND_ADDRESS|FORWARD)/);
  }
});
