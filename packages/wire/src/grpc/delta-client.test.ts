import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { type DeltaDiscoveryRequest, DeltaDiscoveryResponseSchema } from '../gen/discovery_pb.ts';
import { DeltaClient, type RejectedResource } from './delta-client.ts';

const A = 'type/A';
const B = 'type/B';
const NODE = { id: 'ztunnel~1.1.1.1~p.n~n.svc.cluster.local', metadata: { NAME: 'p' } };
const response = (init: MessageInitShape<typeof DeltaDiscoveryResponseSchema>) =>
  create(DeltaDiscoveryResponseSchema, init);
const wildcard = () =>
  new DeltaClient(NODE, [
    { typeUrl: A, mode: 'wildcard' },
    { typeUrl: B, mode: 'wildcard' },
  ]);
const onDemand = (maxDemands = 100) => new DeltaClient(NODE, [{ typeUrl: A, mode: 'onDemand' }], { maxDemands });

describe('a stream', () => {
  test('opens with one request a type, in order, with the node in each', () => {
    const requests = wildcard().open();
    assert.deepEqual(
      requests.map(({ typeUrl }) => typeUrl),
      [A, B],
    );
    for (const { node, resourceNamesSubscribe, resourceNamesUnsubscribe } of requests) {
      assert.equal(node?.id, NODE.id);
      assert.deepEqual(node?.metadata, NODE.metadata);
      assert.deepEqual([...resourceNamesSubscribe, ...resourceNamesUnsubscribe], []);
    }
  });

  test('on demand it subscribes to everything and takes it back at once', () => {
    const [request] = onDemand().open();
    assert.deepEqual(request?.resourceNamesSubscribe, ['*']);
    assert.deepEqual(request?.resourceNamesUnsubscribe, ['*']);
  });

  test('a good response is acknowledged by nonce alone', () => {
    const client = wildcard();
    const { request, nack } = client.answer(
      response({ typeUrl: A, nonce: 'n1', resources: [{ name: 'a', version: '1' }] }),
      [],
    );
    assert.equal(nack, undefined);
    assert.equal(request.responseNonce, 'n1');
    assert.equal(request.errorDetail, undefined);
    assert.equal(request.node, undefined);
  });

  test('bad resources are named in the NACK, the others are known', () => {
    const client = wildcard();
    const { request, nack } = client.answer(
      response({
        typeUrl: A,
        nonce: 'n1',
        resources: [
          { name: 'a', version: '1' },
          { name: 'b', version: '1' },
          { name: 'c', version: '1' },
        ],
      }),
      [
        { name: 'a', reason: 'bad' },
        { name: 'c', reason: 'worse' },
      ],
    );
    assert.equal(nack, 'a: bad; c: worse');
    assert.equal(request.errorDetail?.message, nack);
    assert.deepEqual([...client.known(A)], [['b', '1']]);
  });

  test('a rejected resource keeps the version of the good one before it', () => {
    const client = wildcard();
    client.answer(response({ typeUrl: A, resources: [{ name: 'a', version: '1' }] }), []);
    client.answer(response({ typeUrl: A, resources: [{ name: 'a', version: '2' }] }), [{ name: 'a', reason: 'bad' }]);
    assert.deepEqual(client.open()[0]?.initialResourceVersions, { a: '1' });
  });

  test('a type nobody asked for is not acknowledged', () => {
    const { nack } = wildcard().answer(response({ typeUrl: 'type/C', nonce: 'n' }), []);
    assert.match(nack ?? '', /was not asked for/);
  });

  test('it is ready after a first response of each type, bad ones included', () => {
    const client = wildcard();
    client.answer(response({ typeUrl: B }), []);
    assert.equal(client.isReady, false);
    client.answer(response({ typeUrl: A, resources: [{ name: 'a' }] }), [{ name: 'a', reason: 'bad' }]);
    assert.equal(client.isReady, true);
  });
});

describe('demands', () => {
  test('a name is subscribed once and asked for again on a new stream', () => {
    const client = onDemand();
    const first = client.demand(A, '/10.0.0.1');
    assert.deepEqual(first.requests[0]?.resourceNamesSubscribe, ['/10.0.0.1']);
    assert.equal(first.isAnswered, false);
    assert.deepEqual(client.demand(A, '/10.0.0.1').requests, []);
    assert.deepEqual(client.open()[0]?.initialResourceVersions, { '/10.0.0.1': '' });
  });

  test('an alias, the name or a removal is the answer', () => {
    const client = onDemand();
    for (const name of ['x', 'y', 'z']) client.demand(A, name);
    client.answer(
      response({
        typeUrl: A,
        resources: [
          { name: 'uid', aliases: ['x'], version: '1' },
          { name: 'y', version: '1' },
        ],
        removedResources: ['z'],
      }),
      [],
    );
    for (const name of ['x', 'y', 'z']) assert.equal(client.demand(A, name).isAnswered, true, name);
    assert.deepEqual(client.open()[0]?.initialResourceVersions, { x: '', y: '1', z: '', uid: '1' });
  });

  test('the least recently wanted name makes room and takes with it what came by it alone', () => {
    const client = onDemand(2);
    client.demand(A, 'x');
    client.demand(A, 'y');
    client.answer(
      response({
        typeUrl: A,
        resources: [
          { name: 'u1', aliases: ['x'] },
          { name: 'u2', aliases: ['x', 'y'] },
        ],
      }),
      [],
    );
    const third = client.demand(A, 'z');
    assert.deepEqual(third.requests[0]?.resourceNamesUnsubscribe, ['x']);
    assert.deepEqual(third.dropped, ['u1']);
    assert.deepEqual([...client.demanded(A)], ['y', 'z']);
    client.demand(A, 'y');
    assert.deepEqual(client.demand(A, 'w').requests[0]?.resourceNamesUnsubscribe, ['z']);
  });

  test('with a wildcard subscription there is nothing to ask', () => {
    const outcome = wildcard().demand(A, 'x');
    assert.deepEqual(outcome, { requests: [], isAnswered: true, dropped: [] });
  });
});

/** A server that does what the protocol says: it sends differences and believes acknowledgements. */
class ModelServer {
  readonly resources = new Map<string, string>();
  /** What the server thinks that the client has; undefined without a stream. */
  #sent: Map<string, string> | undefined;
  readonly #unanswered = new Set<string>();
  #nonce = 0;

  onOpen(request: DeltaDiscoveryRequest): void {
    this.#sent = new Map(Object.entries(request.initialResourceVersions));
  }

  onClose(): void {
    this.#sent = undefined;
    this.#unanswered.clear();
  }

  get isConnected(): boolean {
    return this.#sent !== undefined;
  }

  push(): ReturnType<typeof response> | undefined {
    const sent = this.#sent;
    if (sent === undefined) return undefined;
    const resources = [...this.resources].filter(([name, version]) => sent.get(name) !== version);
    const removedResources = [...sent.keys()].filter(name => !this.resources.has(name));
    for (const [name, version] of resources) sent.set(name, version);
    for (const name of removedResources) sent.delete(name);
    const nonce = String(++this.#nonce);
    this.#unanswered.add(nonce);
    return response({
      typeUrl: A,
      nonce,
      resources: resources.map(([name, version]) => ({ name, version })),
      removedResources,
    });
  }

  onAnswer(request: DeltaDiscoveryRequest): void {
    assert.ok(this.#unanswered.delete(request.responseNonce), 'each response is answered once');
  }

  get isAnswered(): boolean {
    return this.#unanswered.size === 0;
  }
}

type Command =
  | { readonly kind: 'set'; readonly name: string; readonly version: string }
  | { readonly kind: 'delete'; readonly name: string }
  | { readonly kind: 'push'; readonly bad: string | undefined }
  | { readonly kind: 'loseAnswer' }
  | { readonly kind: 'disconnect' }
  | { readonly kind: 'connect' };

const names = fc.constantFrom('a', 'b', 'c', 'd');
const command: fc.Arbitrary<Command> = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), name: names, version: fc.constantFrom('1', '2', '3') }),
  fc.record({ kind: fc.constant('delete' as const), name: names }),
  fc.record({ kind: fc.constant('push' as const), bad: fc.option(names, { nil: undefined, freq: 3 }) }),
  fc.record({ kind: fc.constant('loseAnswer' as const) }),
  fc.record({ kind: fc.constant('disconnect' as const) }),
  fc.record({ kind: fc.constant('connect' as const) }),
);

test('whatever the order of changes, pushes, NACKs and disconnects, the client ends with what the server has', () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60 }), commands => {
      const server = new ModelServer();
      const client = new DeltaClient(NODE, [{ typeUrl: A, mode: 'wildcard' }]);
      /** What whoever applies updates holds. */
      const applied = new Map<string, string>();
      const connect = (): void => {
        server.onClose();
        const [request] = client.open();
        assert.ok(request);
        server.onOpen(request);
      };
      const push = (bad: string | undefined, isLost: boolean): void => {
        const message = server.push();
        if (message === undefined) return;
        const update = client.read(message);
        const rejected: RejectedResource[] = [];
        for (const { name, version } of update.resources) {
          if (name === bad) rejected.push({ name, reason: 'no' });
          else applied.set(name, version);
        }
        for (const name of update.removed) applied.delete(name);
        const { request } = client.answer(message, rejected);
        if (isLost) server.onClose();
        else server.onAnswer(request);
        assert.deepEqual(new Map(client.known(A)), applied, 'versions told are versions held');
      };
      for (const step of commands) {
        if (step.kind === 'set') server.resources.set(step.name, step.version);
        else if (step.kind === 'delete') server.resources.delete(step.name);
        else if (step.kind === 'push') push(step.bad, false);
        else if (step.kind === 'loseAnswer') push(undefined, true);
        else if (step.kind === 'disconnect') server.onClose();
        else connect();
      }
      // A resource once rejected comes again on a new stream only: the server believes it sent.
      connect();
      push(undefined, false);
      assert.deepEqual(applied, server.resources);
      assert.equal(server.isAnswered, true);
    }),
    { seed: 2024, numRuns: 1000 },
  );
});
