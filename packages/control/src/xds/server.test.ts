// The whole server over real sockets, with grpc-js as its client.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { type ClientDuplexStream, Client, credentials, type ServiceError, status } from '@grpc/grpc-js';
import { createGrpcHandler, grpcServerOptions, keepSessions } from '@ambit/wire/grpc-server';
import type { AuthOutcome } from '../auth/caller.ts';
import { SILENT_LOG } from '@ambit/log';
import { delta, makePolicy, makeWorkload } from './holdings-testing.ts';
import { DELTA_PATH, decodeResponse, encodeRequest, type PlainRequest } from './codec-testing.ts';
import type { XdsServerOptions } from './options.ts';
import { XdsServer } from './server.ts';
import { TYPE_URLS } from './session.ts';

const NODE = { id: 'ztunnel~10.0.0.9~zt-1.istio-system~istio-system.svc.cluster.local', NODE_NAME: 'n1' };
const { address: ADDRESS, authorization: AUTHORIZATION } = TYPE_URLS;

interface Fixture extends AsyncDisposable {
  readonly server: XdsServer;
  readonly port: number;
  readonly open: () => Peer;
}

/** A client's stream: responses are taken one by one, in order. */
class Peer {
  readonly stream: ClientDuplexStream<Buffer, Buffer>;
  readonly #arrived: AsyncIterator<Buffer>;

  constructor(client: Client) {
    const raw = (bytes: Buffer) => bytes;
    this.stream = client.makeBidiStreamRequest(DELTA_PATH, raw, raw);
    this.#arrived = this.stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  send(request: PlainRequest): void {
    this.stream.write(encodeRequest(request));
  }

  async next() {
    const turn = await this.#arrived.next();
    assert.ok(turn.done !== true, 'the stream ended');
    return decodeResponse(turn.value);
  }

  async code(): Promise<number> {
    return this.#arrived.next().then(
      () => assert.fail('a response came'),
      (error: ServiceError) => error.code,
    );
  }
}

async function serve(options: Partial<XdsServerOptions> = {}): Promise<Fixture> {
  const server = new XdsServer({
    log: SILENT_LOG,
    authenticate: undefined,
    debounce: { quietMs: 1, maxMs: 5 },
    ...options,
  });
  const listener = createServer(grpcServerOptions(), createGrpcHandler({ deltaResources: server.handler }));
  const keeper = keepSessions(listener);
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const clients: Client[] = [];
  return {
    server,
    port,
    open: () => {
      const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
        'grpc.use_local_subchannel_pool': 1,
      });
      clients.push(client);
      return new Peer(client);
    },
    [Symbol.asyncDispose]: async () => {
      server.close();
      for (const client of clients) client.close();
      keeper.close();
      listener.close();
      await once(listener, 'close');
    },
  };
}

test('a client gets the state, then each change, and its answers are told in the status', async () => {
  await using fixture = await serve();
  fixture.server.update(delta([makeWorkload('a', '1'), makePolicy('ns/p', '1')]));
  const peer = fixture.open();
  peer.send({ node: NODE, typeUrl: ADDRESS });
  const first = await peer.next();
  assert.deepEqual(first.resources, [{ name: 'a', version: '1', typeUrl: ADDRESS, value: 'a 1', aliases: [] }]);
  peer.send({ node: NODE, typeUrl: AUTHORIZATION });
  assert.deepEqual(
    (await peer.next()).resources.map(({ name }) => name),
    ['ns/p'],
  );
  peer.send({ typeUrl: ADDRESS, nonce: first.nonce, error: 'a: no good' });
  fixture.server.update(delta([makeWorkload('b', '1')], { addresses: ['a'] }));
  const second = await peer.next();
  assert.deepEqual([second.resources.map(({ name }) => name), second.removed], [['b'], ['a']]);
  const [client] = fixture.server.status().clients;
  assert.equal(client?.nodeName, 'n1');
  const [type] = client?.types ?? [];
  assert.deepEqual([type?.nonceSent, type?.nonceAcked, type?.lastNack?.message], [second.nonce, '', 'a: no good']);
  assert.equal(fixture.server.status().counters.nacks, 1);
});

test('changes within the quiet time arrive as one response', async () => {
  await using fixture = await serve({ debounce: { quietMs: 30, maxMs: 1_000 } });
  fixture.server.update(delta([]));
  const peer = fixture.open();
  peer.send({ node: NODE, typeUrl: ADDRESS });
  await peer.next();
  for (const name of ['a', 'b', 'c']) fixture.server.update(delta([makeWorkload(name, '1')]));
  assert.equal((await peer.next()).resources.length, 3);
});

test('a client that moves between two control planes is sent only what differs', async () => {
  await using left = await serve();
  await using right = await serve();
  left.server.update(delta([makeWorkload('a', '1'), makeWorkload('b', '1')]));
  right.server.update(delta([makeWorkload('a', '1'), makeWorkload('b', '2')]));
  const known: Record<string, string> = {};
  const counts: number[] = [];
  for (const fixture of [left, right, left, right]) {
    const peer = fixture.open();
    peer.send({ node: NODE, typeUrl: ADDRESS, known: { ...known } });
    const { resources } = await peer.next();
    for (const { name, version } of resources) known[name] = version;
    counts.push(resources.length);
    peer.stream.cancel();
    peer.stream.on('error', () => undefined);
  }
  assert.deepEqual(counts, [2, 1, 1, 1]);
});

test('a server without a state, and a closed one, turn clients away', async () => {
  await using fixture = await serve();
  assert.equal(await fixture.open().code(), status.UNAVAILABLE);
  fixture.server.update(delta([]));
  const peer = fixture.open();
  peer.send({ node: NODE, typeUrl: ADDRESS });
  await peer.next();
  fixture.server.close();
  assert.equal(await peer.code(), status.UNAVAILABLE);
  assert.equal(await fixture.open().code(), status.UNAVAILABLE);
});

test('a first request without a usable node id is refused', async () => {
  await using fixture = await serve();
  fixture.server.update(delta([]));
  for (const id of ['', 'ztunnel', 'ztunnel~1~2', '~a~b~c']) {
    const peer = fixture.open();
    peer.send({ node: { id }, typeUrl: ADDRESS });
    assert.equal(await peer.code(), status.INVALID_ARGUMENT, id);
  }
  assert.equal(fixture.server.status().counters.refused, 4);
});

test('a caller speaks for its own namespace, account and node only', async () => {
  let node: string | undefined;
  let outcome: AuthOutcome;
  const proven = (namespace: string, serviceAccount: string): AuthOutcome => ({
    kind: 'caller',
    caller: {
      identity: { trustDomain: 'cluster.local', namespace, serviceAccount },
      via: 'kubernetes',
      node,
      pod: undefined,
    },
  });
  await using fixture = await serve({ authenticate: { authenticate: async () => outcome } });
  fixture.server.update(delta([]));
  const attempt = async () => {
    const peer = fixture.open();
    peer.send({ node: { ...NODE, SERVICE_ACCOUNT: 'ztunnel' }, typeUrl: ADDRESS });
    return peer.code();
  };
  outcome = { kind: 'refused', code: 'auth.none', reason: 'for our log only' };
  assert.equal(await attempt(), status.UNAUTHENTICATED);
  outcome = proven('default', 'ztunnel');
  assert.equal(await attempt(), status.PERMISSION_DENIED);
  outcome = proven('istio-system', 'other');
  assert.equal(await attempt(), status.PERMISSION_DENIED);
  node = 'n2';
  outcome = proven('istio-system', 'ztunnel');
  assert.equal(await attempt(), status.PERMISSION_DENIED);
  node = 'n1';
  outcome = proven('istio-system', 'ztunnel');
  const peer = fixture.open();
  peer.send({ node: NODE, typeUrl: ADDRESS });
  await peer.next();
  assert.equal(fixture.server.status().clients[0]?.identity, 'spiffe://cluster.local/ns/istio-system/sa/ztunnel');
});

const ZTUNNEL = { trustDomain: 'cluster.local', namespace: 'istio-system', serviceAccount: 'ztunnel' };
const STRANGER: AuthOutcome = { kind: 'refused', code: 'auth.none', reason: '' };

test('a stream ends when its certificate or local token is not good any more, and no other does', async () => {
  let outcome: AuthOutcome;
  const proven = (via: 'certificate' | 'local_token' | 'kubernetes'): AuthOutcome => ({
    kind: 'caller',
    caller: { identity: ZTUNNEL, via, node: undefined, pod: undefined },
  });
  await using fixture = await serve({ authenticate: { authenticate: async () => outcome } });
  fixture.server.update(delta([]));
  const open = async (via: 'certificate' | 'local_token' | 'kubernetes') => {
    outcome = proven(via);
    const peer = fixture.open();
    peer.send({ node: { ...NODE, id: `ztunnel~10.0.0.9~${via}.istio-system~d` }, typeUrl: ADDRESS });
    await peer.next();
    return peer;
  };
  const [certificate, token, reviewed] = [
    await open('certificate'),
    await open('local_token'),
    await open('kubernetes'),
  ];
  await fixture.server.recheck();
  outcome = { kind: 'refused', code: 'auth.unavailable', reason: 'nobody can say' };
  await fixture.server.recheck();
  assert.equal(fixture.server.status().clients.length, 3);
  outcome = { kind: 'refused', code: 'auth.revoked', reason: '' };
  await fixture.server.recheck();
  assert.equal(await certificate.code(), status.UNAUTHENTICATED);
  assert.equal(await token.code(), status.UNAUTHENTICATED);
  fixture.server.update(delta([makeWorkload('a', '1')]));
  assert.equal((await reviewed.next()).resources.length, 1);
});

test('strangers take nothing from the rate of those who are proven, and cannot flood the log', async () => {
  let outcome: AuthOutcome = STRANGER;
  let warnings = 0;
  const log = { ...SILENT_LOG, scope: () => ({ ...SILENT_LOG, warn: () => void warnings++ }) };
  await using fixture = await serve({
    log,
    authenticate: { authenticate: async () => outcome },
    limits: { connectBurst: 1, connectsPerSecond: 0.001 },
  });
  fixture.server.update(delta([]));
  for (let i = 0; i < 40; i++) assert.equal(await fixture.open().code(), status.UNAUTHENTICATED);
  assert.ok(warnings >= 20 && warnings < 30, String(warnings));
  outcome = { kind: 'caller', caller: { identity: ZTUNNEL, via: 'certificate', node: undefined, pod: undefined } };
  const peer = fixture.open();
  peer.send({ node: NODE, typeUrl: ADDRESS });
  await peer.next();
});

test('one caller does not take the places of all, whatever it calls its nodes', async () => {
  let node: string | undefined = 'n1';
  const authenticate = {
    authenticate: async (): Promise<AuthOutcome> => ({
      kind: 'caller',
      caller: { identity: ZTUNNEL, via: 'kubernetes', node, pod: undefined },
    }),
  };
  await using fixture = await serve({ authenticate, limits: { maxClients: 9, maxOfCaller: 2 } });
  fixture.server.update(delta([]));
  let streams = 0;
  const open = () => {
    const peer = fixture.open();
    streams += 1;
    peer.send({ node: { id: `ztunnel~10.0.0.9~${streams}.istio-system~d` }, typeUrl: ADDRESS });
    return peer;
  };
  const first = open();
  await first.next();
  await open().next();
  assert.equal(await open().code(), status.RESOURCE_EXHAUSTED);
  node = 'n2';
  await open().next();
  node = undefined;
  for (let i = 0; i < 3; i++) await open().next();
  assert.equal(await open().code(), status.RESOURCE_EXHAUSTED);
  node = 'n1';
  first.stream.on('error', () => undefined);
  first.stream.cancel();
  while (fixture.server.status().clients.length > 5) await new Promise(resolve => setImmediate(resolve));
  await open().next();
});

test('a node that reconnects in a loop, and clients beyond the bound, are turned away', async () => {
  await using fixture = await serve({ limits: { nodeConnectBurst: 2, nodeConnectsPerSecond: 0.001, maxClients: 2 } });
  fixture.server.update(delta([]));
  for (let i = 0; i < 2; i++) {
    const peer = fixture.open();
    peer.send({ node: NODE, typeUrl: ADDRESS });
    await peer.next();
    peer.stream.on('error', () => undefined);
    if (i === 0) peer.stream.cancel();
  }
  const third = fixture.open();
  third.send({ node: NODE, typeUrl: ADDRESS });
  assert.equal(await third.code(), status.RESOURCE_EXHAUSTED);
  const other = fixture.open();
  other.send({ node: { ...NODE, id: 'ztunnel~10.0.0.8~b.istio-system~d' }, typeUrl: ADDRESS });
  await other.next();
  const beyond = fixture.open();
  assert.equal(await beyond.code(), status.RESOURCE_EXHAUSTED);
});

test('a client that takes no bytes is dropped, and the others are served meanwhile', async () => {
  const isStuck = Promise.withResolvers<void>();
  const log = { ...SILENT_LOG, scope: () => ({ ...SILENT_LOG, warn: () => isStuck.resolve() }) };
  await using fixture = await serve({ log, limits: { stuckMs: 150 } });
  const big = { ...makeWorkload('big', '1'), value: Buffer.alloc(2 * 1024 * 1024) };
  fixture.server.update(delta([big]));
  const session = connect(`http://127.0.0.1:${fixture.port}`);
  const stuck = session.request({ ':method': 'POST', ':path': DELTA_PATH, 'content-type': 'application/grpc' });
  stuck.on('error', () => undefined);
  const request = encodeRequest({ node: { ...NODE, id: 'ztunnel~10.0.0.8~stuck.istio-system~d' }, typeUrl: ADDRESS });
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(request.length, 1);
  stuck.write(Buffer.concat([prefix, request]));
  const peer = fixture.open();
  peer.send({ node: NODE, typeUrl: ADDRESS });
  assert.equal((await peer.next()).resources.length, 1);
  await isStuck.promise;
  fixture.server.update(delta([makeWorkload('small', '1')]));
  assert.deepEqual(
    (await peer.next()).resources.map(({ name }) => name),
    ['small'],
  );
  assert.equal(fixture.server.status().counters.dropped, 1);
  assert.deepEqual(
    fixture.server.status().clients.map(({ node }) => node),
    [NODE.id],
  );
  session.destroy();
});

test('an on-demand client is told aliases, a wildcard client is not', async () => {
  await using fixture = await serve();
  fixture.server.update(delta([makeWorkload('a', '1', { ips: ['10.0.0.1'] })]));
  const peer = fixture.open();
  peer.send({ node: NODE, typeUrl: ADDRESS, subscribe: ['*'], unsubscribe: ['*'] });
  assert.deepEqual((await peer.next()).resources, []);
  peer.send({ typeUrl: ADDRESS, subscribe: ['/10.0.0.1', '/10.0.0.2'] });
  const answer = await peer.next();
  assert.deepEqual(
    answer.resources.map(({ name, aliases }) => [name, aliases]),
    [['a', ['/10.0.0.1']]],
  );
  assert.deepEqual(answer.removed, ['/10.0.0.2']);
  assert.equal(fixture.server.status().clients[0]?.types[0]?.mode, 'on_demand');
});
