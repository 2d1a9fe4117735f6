// The runner against grpc-js over real connections.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { createTestPki } from '../../test/test-pki.ts';
import { XdsPeer } from '../../test/xds-peer.ts';
import { DeltaDiscoveryResponseSchema } from '../gen/discovery_pb.ts';
import type { DeltaUpdate, RejectedResource } from './delta-client.ts';
import { type DeltaEvent, DeltaRunner, type DeltaRunnerOptions } from './delta-runner.ts';
import type { GrpcTarget } from './grpc-target.ts';

const A = 'type/A';
const response = (init: MessageInitShape<typeof DeltaDiscoveryResponseSchema>) =>
  create(DeltaDiscoveryResponseSchema, { typeUrl: A, ...init });

interface World {
  readonly runner: DeltaRunner;
  readonly updates: DeltaUpdate[];
  readonly events: DeltaEvent[];
  reject: readonly RejectedResource[];
  readonly until: (isTrue: () => boolean) => Promise<void>;
}

async function withRunner(
  target: Partial<GrpcTarget> & { url: string },
  options: Partial<DeltaRunnerOptions>,
  run: (world: World) => Promise<void>,
): Promise<void> {
  let wake: () => void = () => undefined;
  const updates: DeltaUpdate[] = [];
  const events: DeltaEvent[] = [];
  const runner = new DeltaRunner(
    {
      target: { roots: async () => '', headers: async () => ({}), ...target },
      apply: update => {
        updates.push(update);
        wake();
        return world.reject;
      },
      onEvent: event => {
        events.push(event);
        wake();
      },
      now: () => performance.now(),
      after: (ms, callback) => {
        const timer = setTimeout(callback, ms);
        return () => clearTimeout(timer);
      },
      random: () => 0.5,
    },
    { node: { id: 'n', metadata: {} }, types: [{ typeUrl: A, mode: 'wildcard' }], ...options },
  );
  const until = async (isTrue: () => boolean): Promise<void> => {
    while (!isTrue()) await new Promise<void>(resolve => (wake = resolve));
  };
  const world: World = { runner, updates, events, reject: [], until };
  runner.start();
  try {
    await run(world);
  } finally {
    await runner.stop();
  }
}

describe('the runner', { timeout: 30_000 }, () => {
  test('applies, acknowledges, survives the server, and resumes with what it knows', async () => {
    const first = await XdsPeer.start();
    const { port } = first;
    await withRunner({ url: `http://127.0.0.1:${port}` }, {}, async ({ runner, updates, events, until }) => {
      const stream = await first.nextStream();
      await stream.received(1);
      stream.duplex.write(
        response({
          nonce: 'n1',
          resources: [
            { name: 'a', version: '7' },
            { name: 'b', version: '1' },
          ],
        }),
      );
      const requests = await stream.received(2);
      assert.equal(requests[1]?.responseNonce, 'n1');
      await runner.ready;
      first.stop();
      await until(() => events.some(({ kind }) => kind === 'ended'));
      const second = await XdsPeer.start({ port });
      const again = await second.nextStream();
      const [opening] = await again.received(1);
      assert.deepEqual(opening?.initialResourceVersions, { a: '7', b: '1' });
      assert.equal(opening?.node?.id, 'n');
      again.duplex.write(response({ nonce: 'n2', removedResources: ['a'] }));
      await again.received(2);
      assert.deepEqual(
        updates.map(({ removed }) => removed),
        [[], ['a']],
      );
      assert.deepEqual(runner.status.known, { [A]: 1 });
      assert.ok(runner.stats.terminations.Reconnect >= 1);
      second.stop();
    });
  });

  test('a bad resource is refused by name and does not keep it from being ready', async () => {
    const peer = await XdsPeer.start();
    await withRunner({ url: `http://127.0.0.1:${peer.port}` }, {}, async world => {
      world.reject = [{ name: 'a', reason: 'broken' }];
      const stream = await peer.nextStream();
      stream.duplex.write(response({ nonce: 'n1', resources: [{ name: 'a' }, { name: 'b' }] }));
      const requests = await stream.received(2);
      assert.equal(requests[1]?.errorDetail?.message, 'a: broken');
      await world.runner.ready;
      assert.deepEqual(world.runner.status.known, { [A]: 1 });
      assert.equal(world.runner.status.lastNack, 'a: broken');
      assert.equal(world.runner.stats.rejectedResources, 1);
    });
    peer.stop();
  });

  test('a server that accepts and hangs up meets growing pauses', async () => {
    const peer = await XdsPeer.start();
    peer.onStream = ({ duplex }) => duplex.end();
    await withRunner({ url: `http://127.0.0.1:${peer.port}` }, {}, async ({ events, until, runner }) => {
      const pauses = () => events.flatMap(event => (event.kind === 'ended' ? [event.retryInMs] : []));
      await until(() => pauses().length >= 5);
      assert.deepEqual(pauses().slice(0, 5), [5, 10, 20, 40, 80]);
      assert.ok(runner.stats.terminations.Complete >= 5);
    });
    peer.stop();
  });

  test('roots and credentials are read again for each connection, and their absence is an error', async () => {
    const pki = await createTestPki();
    const peer = await XdsPeer.start({ tls: await pki.issue([{ type: 'ip', value: '127.0.0.1' }]) });
    let reads = 0;
    let tokens = 0;
    const roots = async (): Promise<string> => {
      if (++reads === 1) throw new Error('ENOENT');
      return pki.rootPem;
    };
    const headers = async () => ({ authorization: `Bearer ${++tokens}` });
    await withRunner({ url: `https://127.0.0.1:${peer.port}`, roots, headers }, {}, async ({ events, runner }) => {
      const stream = await peer.nextStream();
      assert.equal(stream.metadata.get('authorization')[0], 'Bearer 1');
      const [ended] = events.filter(event => event.kind === 'ended');
      assert.ok(ended?.kind === 'ended');
      assert.equal(ended.error?.code, 'xds.no_roots');
      assert.equal(runner.stats.terminations.Error, 1);
      stream.duplex.emit('error', { code: 16, details: 'who are you' });
      const next = await peer.nextStream();
      assert.equal(next.metadata.get('authorization')[0], 'Bearer 2');
    });
    peer.stop();
  });

  test('refused connections are counted as such', async () => {
    await withRunner({ url: 'http://127.0.0.1:1' }, {}, async ({ events, until, runner }) => {
      await until(() => events.length >= 2);
      assert.ok(runner.stats.terminations.ConnectionError >= 2);
      assert.equal(runner.status.isReady, false);
    });
  });

  test('a message over the limit ends the stream, not the client', async () => {
    const peer = await XdsPeer.start();
    await withRunner({ url: `http://127.0.0.1:${peer.port}` }, { maxMessageBytes: 1000 }, async ({ events, until }) => {
      const stream = await peer.nextStream();
      stream.duplex.write(response({ nonce: 'x'.repeat(2000) }));
      await until(() => events.some(event => event.kind === 'ended' && event.error?.code === 'grpc.too_long'));
      await peer.nextStream();
    });
    peer.stop();
  });

  test('a demand is answered by alias, shared by all who ask, and limited in time', async () => {
    const peer = await XdsPeer.start();
    const types = [{ typeUrl: A, mode: 'onDemand' as const }];
    await withRunner(
      { url: `http://127.0.0.1:${peer.port}` },
      { types, demandTimeoutMs: 200 },
      async ({ runner, updates }) => {
        const stream = await peer.nextStream();
        await stream.received(1);
        const both = Promise.all([runner.demand(A, '/10.0.0.1'), runner.demand(A, '/10.0.0.1')]);
        const requests = await stream.received(2);
        assert.deepEqual(requests[1]?.resourceNamesSubscribe, ['/10.0.0.1']);
        stream.duplex.write(
          response({ nonce: 'n', resources: [{ name: 'uid', aliases: ['/10.0.0.1'], version: '1' }] }),
        );
        assert.deepEqual(await both, ['answered', 'answered']);
        assert.equal(updates.length, 1);
        assert.equal(await runner.demand(A, '/10.0.0.1'), 'answered');
        assert.equal(await runner.demand(A, '/10.0.0.2'), 'late');
        assert.equal(runner.stats.demandsLate, 1);
      },
    );
    peer.stop();
  });
});
