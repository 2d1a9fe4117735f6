// What goes wrong around the control plane while traffic flows: it is killed, it is another one than before, somebody
// reconnects to it in a loop. What the nodes hold stays in force, and what changed meanwhile arrives afterwards.
import assert from 'node:assert/strict';
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { after, before, describe, test } from 'node:test';
import { type ControlProcess, type Pod, sandboxSkip, type Testbed, type ZtunnelProcess } from '@ambit/testbed';
import { ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL } from '@ambit/wire/resources';
import {
  ECHO,
  Load,
  makeBed,
  policyYaml,
  serveEcho,
  startControl,
  type Syncz,
  until,
  untilSynced,
} from './control-mesh.ts';
import { linesOf, startOurs } from './e2e-mesh.ts';
import { Net, tryEcho } from './e2e-net.ts';

const CLOSED = 7001;
const DELTA_PATH = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
const DENY = policyYaml('no-7001', 'shop', {
  action: 'DENY',
  rules: [{ to: [{ operation: { ports: [String(CLOSED)] } }] }],
});

describe('faults of the control plane', { skip: sandboxSkip() }, () => {
  const closers = new AsyncDisposableStack();
  let bed: Testbed;
  let peers: Net;
  let control: ControlProcess;
  let ztunnels: readonly [ZtunnelProcess, ZtunnelProcess];
  let web: Pod;
  let cart: Pod;

  before(async () => {
    peers = closers.use(new Net());
    bed = closers.use(await makeBed());
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    for (const port of [ECHO, CLOSED]) serveEcho(peers, cart, port);
    control = await startControl(bed);
    ztunnels = await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
    await untilSynced(control);
  });

  after(async () => closers.disposeAsync());

  async function kill(): Promise<void> {
    control.process.kill('SIGKILL');
    await control.ended;
  }

  test('killed and started again under load it costs no request, and only what changed is sent', async () => {
    const whole = addressBytes(await untilSynced(control));
    const load = new Load(peers, web, [cart.ip4, ECHO]);
    await load.more(200);
    await kill();
    await load.more(1000);
    await bed.writeObjects('deny.yaml', DENY);
    assert.equal(await tryEcho(peers, web, cart.ip4, CLOSED), 'ok');
    control = await startControl(bed);
    const resumed = await untilSynced(control, 2, 40_000);
    assert.notEqual(await tryEcho(peers, web, cart.ip4, CLOSED), 'ok');
    await load.more(200);
    const { kept, fresh, failures } = await load.stop();
    assert.deepEqual(failures, []);
    assert.ok(kept > 500 && fresh > 500, `${kept} and ${fresh} exchanges`);
    // An answer without resources has a type, a nonce and a version.
    const again = addressBytes(resumed);
    assert.ok(again < 2 * 200 && again < whole / 3, `${again} of ${whole} bytes came again`);
    for (const ztunnel of ztunnels) {
      assert.equal(linesOf(ztunnel).filter(({ message }) => message === 'handling RBAC update shop/no-7001').length, 1);
      assert.equal(ztunnel.isRunning, true);
    }
    await bed.writeObjects('deny.yaml', '');
    await until(async () => (await tryEcho(peers, web, cart.ip4, CLOSED)) === 'ok', 'the policy is gone');
  });

  test('a node that reconnects in a loop is turned away, and costs the other nodes nothing', async () => {
    const started = await untilSynced(control);
    const { plainPort } = control;
    assert.ok(plainPort !== undefined);
    const load = new Load(peers, web, [cart.ip4, ECHO]);
    const { accepted, refusals } = await reconnect(plainPort, 200);
    // Ten at once, then one every two seconds.
    assert.ok(accepted >= 1 && accepted < 50, `${accepted} of 200 were let in`);
    assert.equal(accepted + (refusals.get(status.RESOURCE_EXHAUSTED) ?? 0), 200, JSON.stringify([...refusals]));
    await bed.writeObjects('deny.yaml', DENY);
    await until(async () => (await tryEcho(peers, web, cart.ip4, CLOSED)) !== 'ok', 'a change still arrives');
    await bed.writeObjects('deny.yaml', '');
    await until(async () => (await tryEcho(peers, web, cart.ip4, CLOSED)) === 'ok', 'the policy is gone');
    assert.deepEqual((await load.stop()).failures, []);
    const now = await untilSynced(control);
    assert.ok(now.counters.refused >= 200 - accepted);
    const streams = ({ clients }: Syncz) => clients.map(({ node, since }) => `${node} ${since}`);
    assert.deepEqual(streams(now), streams(started), 'the streams of the nodes are those of before');
  });
});

/** Opens a stream as one node again and again, each as soon as the last one ended, and asks for policies on it. */
async function reconnect(
  port: number,
  times: number,
): Promise<{ readonly accepted: number; readonly refusals: ReadonlyMap<status, number> }> {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  const id = 'ztunnel~10.9.9.9~looper.istio-system~istio-system.svc.cluster.local';
  // DeltaDiscoveryRequest: node, whose first field is its id, and type_url.
  const request = Buffer.concat([textField(1, textField(1, id)), textField(2, AUTHORIZATION_TYPE_URL)]);
  const refusals = new Map<status, number>();
  let accepted = 0;
  for (let turn = 0; turn < times; turn++) {
    const call = client.makeBidiStreamRequest(
      DELTA_PATH,
      (bytes: Buffer) => bytes,
      bytes => bytes,
      new Metadata(),
    );
    const { promise, resolve } = Promise.withResolvers<status>();
    call.once('data', () => resolve(status.OK));
    call.on('error', (error: ServiceError) => resolve(error.code));
    call.write(request);
    const outcome = await promise;
    call.cancel();
    if (outcome === status.OK) accepted++;
    else refusals.set(outcome, (refusals.get(outcome) ?? 0) + 1);
  }
  client.close();
  return { accepted, refusals };
}

/** Bytes of addresses that went to all nodes. */
function addressBytes({ clients }: Syncz): number {
  const types = clients.flatMap(client => client.types);
  return types.filter(type => type.typeUrl === ADDRESS_TYPE_URL).reduce((sum, type) => sum + type.bytesSent, 0);
}

/** A protobuf field of up to 127 bytes. */
function textField(number: number, content: string | Buffer): Buffer {
  const bytes = Buffer.from(content);
  assert.ok(bytes.length < 128);
  return Buffer.from([(number << 3) | 2, bytes.length, ...bytes]);
}
