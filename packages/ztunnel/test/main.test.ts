import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Fd, SeqPacket } from '@ambit/native';
import { encodeRequest } from '@ambit/wire';
import { ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL, encodeAddress } from '@ambit/wire/resources';
import { XdsPeer } from '../../wire/test/xds-peer.ts';
import { checkCapabilities } from '../src/capabilities.ts';
import { generateDevRoot } from '../src/index.ts';
import { runZtunnel } from '../src/main.ts';
import { Collector } from './otlp-collector.ts';

const TINY_WORKER = new URL('./tiny-worker.ts', import.meta.url);
const MESH =
  'workloads: [{uid: w, name: web-1, namespace: shop, serviceAccount: web, workloadIps: [], services: {}}]\n';

interface Running {
  readonly status: Promise<number>;
  readonly signals: EventEmitter;
  readonly complaints: string[];
  /** The endpoint's answer. */
  readonly probe: () => Promise<string>;
  readonly log: () => string;
  readonly directory: string;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, resolve));
  const address = server.address();
  await new Promise(resolve => server.close(resolve));
  assert.ok(address !== null && typeof address === 'object');
  return address.port;
}

async function withProxy(
  makeEnv: (directory: string) => Promise<Record<string, string>> | Record<string, string>,
  run: (running: Running) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-main-'));
  const logPath = join(directory, 'log');
  const descriptor = openSync(logPath, 'w');
  const port = await freePort();
  const signals = new EventEmitter();
  const complaints: string[] = [];
  const env = { ZTUNNEL_WORKER_THREADS: '1', XDS_ADDRESS: '', NETWORK: '', ...(await makeEnv(directory)) };
  const status = runZtunnel(env, {
    signals,
    workerEntry: TINY_WORKER,
    readinessPort: port,
    logDescriptor: descriptor,
    complain: text => complaints.push(text),
  });
  const probe = async (): Promise<string> => {
    const response = await fetch(`http://127.0.0.1:${port}/healthz/ready`).catch(() => undefined);
    return response === undefined ? 'closed' : `${response.status} ${await response.text()}`;
  };
  try {
    await run({ status, signals, complaints, probe, log: () => readFileSync(logPath, 'utf8'), directory });
  } finally {
    signals.emit('SIGINT');
    signals.emit('SIGINT');
    await status;
    closeSync(descriptor);
    await rm(directory, { recursive: true });
  }
}

async function until(isTrue: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await isTrue())) await new Promise(resolve => setImmediate(resolve));
}

async function withRoot(directory: string): Promise<Record<string, string>> {
  const root = await generateDevRoot();
  const [cert, key] = [join(directory, 'root.pem'), join(directory, 'root.key')];
  await writeFile(cert, root.certPem);
  await writeFile(key, root.keyPem);
  return { AMBIT_DEV_CA_CERT: cert, AMBIT_DEV_CA_KEY: key };
}

const DEDICATED = { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'shop/web-1/web', LOCAL_XDS: MESH };

test('dedicated: gets ready, issues a certificate, drains at SIGTERM and ends with 0', () =>
  withProxy(
    async directory => ({ ...DEDICATED, ...(await withRoot(directory)), RUST_LOG: 'debug' }),
    async ({ status, signals, probe, log }) => {
      await until(async () => (await probe()) === '200 ready\n');
      await until(() => log().includes('certificate issued'));
      assert.match(log(), /local config initialized\tnum_workloads=1 num_policies=0/);
      signals.emit('SIGTERM');
      assert.equal(await status, 0);
      assert.equal(await probe(), 'closed');
      assert.match(log(), /shutdown complete/);
      assert.equal(signals.listenerCount('SIGTERM') + signals.listenerCount('SIGINT'), 0);
    },
  ));

test('without an authority the proxy never gets ready and says why', () =>
  withProxy(
    () => DEDICATED,
    async ({ probe, log }) => {
      await until(async () => (await probe()) === '500 not ready, pending: certificates\n');
      assert.match(log(), /\terror\tapp\tno certificate authority is configured: set AMBIT_DEV_CA_CERT/);
    },
  ));

test('a changed mesh file is taken over, a broken one is reported and changes nothing', () =>
  withProxy(
    async directory => {
      const path = join(directory, 'mesh.yaml');
      await writeFile(path, MESH);
      const { LOCAL_XDS: _, ...rest } = DEDICATED;
      return { ...rest, LOCAL_XDS_PATH: path };
    },
    async ({ log, directory }) => {
      await until(() => log().includes('num_workloads=1'));
      const replace = async (text: string): Promise<void> => {
        await writeFile(join(directory, 'new'), text);
        await rename(join(directory, 'new'), join(directory, 'mesh.yaml'));
      };
      await replace('workloads: 7');
      await until(() => log().includes('the last good one stays'));
      await replace('workloads: []');
      await until(() => log().includes('num_workloads=0'));
    },
  ));

test('mistakes of the start are status 1 with code and next step', async () => {
  const cases: readonly (readonly [Record<string, string>, RegExp])[] = [
    [{ IPV6_ENABLED: 'maybe' }, /^error: invalid env var IPV6_ENABLED=maybe \(.*\)  \[config\.invalid\]\n$/],
    [{ RUST_LOG: '[x]=y' }, /RUST_LOG=\[x\]=y/],
    [{ XDS_ADDRESS: 'http://istiod:15010' }, /XDS_ADDRESS=.*must be https.*\[config\.invalid\]/],
    [{ ...DEDICATED, LOCAL_XDS: 'workloads: 3' }, /LOCAL_XDS:1:1: workloads: .*\[config\.invalid\]/],
    [
      { ...DEDICATED, PROXY_WORKLOAD_INFO: 'shop/fail-0/web' },
      /cannot open the proxy's ports: port 15008 is taken {2}\[enrol\.failed\]/,
    ],
  ];
  for (const [env, text] of cases) {
    await withProxy(
      () => env,
      async ({ status, complaints }) => {
        assert.equal(await status, 1);
        assert.match(complaints.join(''), text);
      },
    );
  }
});

function capabilityGap(): string | false {
  try {
    checkCapabilities(1337);
    return false;
  } catch (error) {
    return String(error);
  }
}

test('shared: ready when the agent has sent its snapshot, enrols a pod, and drains', { skip: capabilityGap() }, () =>
  withProxy(
    async directory => ({ ...(await withRoot(directory)), LOCAL_XDS: MESH, INPOD_UDS: join(directory, 'zds.sock') }),
    async ({ status, signals, probe, log, directory }) => {
      await until(async () => (await probe()) === '500 not ready, pending: workload proxy manager\n');
      using listener = SeqPacket.listen(join(directory, 'zds.sock'), 1);
      let agent: SeqPacket | undefined;
      await until(() => (agent ??= listener.accept()) !== undefined);
      assert.ok(agent !== undefined);
      using netns = new Fd(openSync('/proc/self/ns/net', 'r'));
      const info = { name: 'web-1', namespace: 'shop', serviceAccount: 'web' };
      agent.send(encodeRequest({ kind: 'add', uid: 'u', info }), [netns]);
      agent.send(encodeRequest({ kind: 'snapshotSent' }));
      await until(async () => (await probe()) === '200 ready\n');
      assert.match(log(), /Pod enrolled\tpod="shop\/web-1"/);
      signals.emit('SIGINT');
      assert.equal(await status, 0);
      agent.close();
    },
  ),
);

test('a control plane feeds it: not ready before the first state, ready after, untouched when it goes away', async () => {
  const peer = await XdsPeer.start();
  const { LOCAL_XDS: _, ...dedicated } = DEDICATED;
  await withProxy(
    async directory => ({
      ...dedicated,
      ...(await withRoot(directory)),
      XDS_ADDRESS: `http://127.0.0.1:${peer.port}`,
      AUTH_TOKEN: 'literal',
    }),
    async ({ probe, log, signals, status }) => {
      const stream = await peer.nextStream();
      const opening = await stream.received(2);
      assert.deepEqual(
        opening.map(({ typeUrl }) => typeUrl),
        [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL],
      );
      assert.equal(stream.metadata.get('authorization')[0], 'Bearer literal');
      assert.equal(stream.metadata.get('clusterid')[0], 'Kubernetes');
      const web = { uid: 'w', name: 'web-1', namespace: 'shop', serviceAccount: 'web' };
      const value = encodeAddress({ type: { case: 'workload', value: web } });
      const other = encodeAddress({ type: { case: 'workload', value: { ...web, uid: 'v', name: 'cart-1' } } });
      stream.sendResources(ADDRESS_TYPE_URL, 'n1', [
        { name: 'w', value },
        { name: 'v', value: other },
        { name: 'x', value: Uint8Array.of(255) },
      ]);
      const requests = await stream.received(3);
      assert.match(requests[2]?.errorDetail?.message ?? '', /^x: address: not an istio\.workload\.Address message$/);
      assert.equal(await probe(), '500 not ready, pending: dns proxy, proxy, state manager\n');
      stream.sendResources(AUTHORIZATION_TYPE_URL, 'n2', []);
      await until(async () => (await probe()) === '200 ready\n');
      assert.match(log(), /xds\.bad_resource/);
      peer.stop();
      await until(() => peer.accepted === 1 && stream.ended);
      assert.equal(await probe(), '200 ready\n');
      signals.emit('SIGTERM');
      assert.equal(await status, 0);
    },
  );
});

test('it can be stopped while it waits for a control plane', () =>
  withProxy(
    () => ({ ...DEDICATED, XDS_ADDRESS: 'http://127.0.0.1:1' }),
    async ({ probe, signals, status }) => {
      await until(async () => (await probe()).includes('state manager'));
      signals.emit('SIGTERM');
      assert.equal(await status, 0);
    },
  ));

test('the admin port profiles all threads, blocked workers too, and ends the process when asked', async () => {
  const port = await freePort();
  const at = `http://127.0.0.1:${port}`;
  await withProxy(
    async directory => ({
      ...DEDICATED,
      ...(await withRoot(directory)),
      PROXY_CONFIG: `{proxyMetadata: {}, proxyAdminPort: ${port}}`,
    }),
    async ({ probe, status, log }) => {
      await until(async () => (await probe()) === '200 ready\n');
      const cpu = await fetch(`${at}/debug/pprof/profile?seconds=1&frequency=1000`);
      assert.equal(cpu.status, 200);
      const profile = Buffer.from(await cpu.arrayBuffer());
      assert.ok(!profile.includes('left out'), profile.toString('latin1'));
      assert.equal(
        await (await fetch(`${at}/debug/pprof/heap/profiling?activate=true`)).text(),
        'heap profiling active: true\n',
      );
      const heap = await fetch(`${at}/debug/pprof/heap`);
      assert.equal(heap.status, 200);
      assert.ok(!Buffer.from(await heap.arrayBuffer()).includes('left out'));
      const dump = (await (await fetch(`${at}/config_dump`)).json()) as Record<string, unknown>;
      assert.deepEqual(dump.workloadState, {
        dedicated: {
          connections: { inbound: [], outbound: [] },
          info: { name: 'web-1', namespace: 'shop', serviceAccount: 'web' },
          state: 'Up',
        },
      });
      assert.equal((dump.staticConfig as { workloads: unknown[] }).workloads.length, 1);
      const quit = await fetch(`${at}/quitquitquit`, { method: 'POST' });
      assert.equal(await quit.text(), 'shutdown now\n');
      assert.equal(await status, 0);
      assert.match(log(), /Shutdown requested, draining\tcause="\/quitquitquit"/);
    },
  );
});

test('with a collector in its environment it sends metrics there, and its end waits for no collector', async () => {
  const collector = await Collector.start();
  try {
    await withProxy(
      async directory => ({
        ...DEDICATED,
        ...(await withRoot(directory)),
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.httpUrl,
        OTEL_METRIC_EXPORT_INTERVAL: '1000',
        NODE_NAME: 'n1',
      }),
      async ({ signals, status }) => {
        await collector.until(() => collector.items.metrics.some(({ name }) => name === 'istio_build'));
        assert.equal(collector.resources[0]?.['k8s.node.name'], 'n1');
        collector.manner = 'hang';
        const before = collector.requests;
        await collector.until(() => collector.requests > before);
        signals.emit('SIGTERM');
        assert.equal(await status, 0);
      },
    );
  } finally {
    collector.close();
  }
});
