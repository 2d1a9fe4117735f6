// The delta protocol, without a network: what is sent, when, in which order, and what is not.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { XdsResource } from '../model/resource.ts';
import { delta, Holdings, makePolicy, makeRequest, makeService, makeWorkload, storeOf } from './holdings-testing.ts';
import { DeltaSession, type SessionResponse, TYPE_URLS } from './session.ts';
import { XdsStore } from './store.ts';

const { address: ADDRESS, authorization: AUTHORIZATION } = TYPE_URLS;
const ON_DEMAND = { resourceNamesSubscribe: ['*'], resourceNamesUnsubscribe: ['*'] };

const sessionOf = (store: XdsStore, node = '') => new DeltaSession(store, { tag: 't', node, maxNames: 1_000 });

function names(response: SessionResponse | undefined): readonly string[] | 'everything' | undefined {
  if (response === undefined) return undefined;
  if (response.resources === 'everything') return response.resources;
  return response.resources.map(({ name }) => name).sort();
}

function push(store: XdsStore, session: DeltaSession, ...args: Parameters<typeof delta>): void {
  session.storeChanged(store.apply(delta(...args)));
}

test('a wildcard subscription gets everything in one response, and then only what changes', () => {
  const store = storeOf(makeWorkload('a', '1'), makeWorkload('b', '1'));
  const session = sessionOf(store);
  session.request(makeRequest(ADDRESS));
  assert.equal(names(session.next()), 'everything');
  assert.equal(session.next(), undefined);
  push(store, session, [makeWorkload('a', '2'), makeWorkload('b', '1')], { addresses: ['nobody'] });
  assert.deepEqual(names(session.next()), ['a']);
  push(store, session, [], { addresses: ['b'] });
  assert.deepEqual(session.next()?.removed, ['b']);
  assert.equal(session.next(), undefined);
});

test('an empty store is answered too: readiness waits for it', () => {
  const session = sessionOf(new XdsStore());
  session.request(makeRequest(AUTHORIZATION));
  assert.equal(session.next()?.typeUrl, AUTHORIZATION);
  assert.equal(session.next(), undefined);
});

test('a client that reports versions gets the difference, whoever gave it those versions', () => {
  const session = sessionOf(storeOf(makeWorkload('a', '2'), makeWorkload('b', '1'), makeWorkload('c', '1')));
  session.request(
    makeRequest(ADDRESS, { initialResourceVersions: { a: '1', b: '1', gone: '1' }, responseNonce: 'x-7' }),
  );
  const response = session.next();
  assert.deepEqual([names(response), response?.removed], [['a', 'c'], ['gone']]);
});

test('what changes and changes back, or comes and goes, before it was sent is not sent', () => {
  const store = storeOf(makeWorkload('a', '1'));
  const session = sessionOf(store);
  session.request(makeRequest(ADDRESS));
  session.next();
  push(store, session, [makeWorkload('a', '2'), makeWorkload('b', '1')]);
  push(store, session, [makeWorkload('a', '1')], { addresses: ['b'] });
  assert.equal(session.next(), undefined);
});

test('acks and nacks are recorded and answered by nothing; stale nonces count for nothing', () => {
  const store = storeOf(makeWorkload('a', '1'));
  const session = sessionOf(store);
  session.request(makeRequest(ADDRESS));
  const first = session.next()?.nonce ?? '';
  push(store, session, [makeWorkload('a', '2')]);
  const second = session.next()?.nonce ?? '';
  assert.notEqual(first, second);
  const errorDetail = {
    $typeName: 'envoy.service.discovery.v3.Status' as const,
    code: 0,
    message: 'a: bad',
    details: [],
  };
  const nack = session.request(makeRequest(ADDRESS, { responseNonce: first, errorDetail }));
  assert.deepEqual(nack, { kind: 'nack', typeUrl: ADDRESS, nack: { nonce: first, message: 'a: bad' } });
  assert.equal(session.request(makeRequest(ADDRESS, { responseNonce: first, errorDetail })).kind, 'none');
  assert.equal(session.request(makeRequest(ADDRESS, { responseNonce: 't-99', errorDetail })).kind, 'none');
  session.request(makeRequest(ADDRESS, { responseNonce: second }));
  assert.equal(session.next(), undefined);
  const [status] = session.status();
  assert.deepEqual([status?.nonceSent, status?.nonceAcked, status?.isPending], [second, second, false]);
});

test('an unknown type is answered once with nothing, and too many of them end the call', () => {
  const session = sessionOf(new XdsStore());
  assert.equal(session.request(makeRequest('type/x')).kind, 'unknown_type');
  assert.deepEqual(session.next()?.resources, []);
  assert.equal(session.request(makeRequest('type/x')).kind, 'none');
  assert.equal(session.next(), undefined);
  assert.throws(() => {
    for (let i = 0; i < 20; i++) session.request(makeRequest(`type/${i}`));
  }, /too many unknown types/);
});

test('in one push a new policy goes before the addresses, a removed one after', () => {
  const store = storeOf(makeWorkload('a', '1'), makePolicy('old', '1'));
  const session = sessionOf(store);
  for (const type of [ADDRESS, AUTHORIZATION]) {
    session.request(makeRequest(type));
    session.next();
  }
  push(store, session, [makeWorkload('a', '2'), makePolicy('new', '1')], { authorizations: ['old'] });
  const sent = [session.next(), session.next(), session.next(), session.next()];
  assert.deepEqual(
    sent.map(response => [response?.type, names(response), response?.removed]),
    [
      ['authorization', ['new'], []],
      ['address', ['a'], []],
      ['authorization', [], ['old']],
      [undefined, undefined, undefined],
    ],
  );
});

const shop = () =>
  storeOf(
    makeService('shop/cart.svc', '1', ['10.1.0.1']),
    makeWorkload('cart-1', '1', { ips: ['10.0.0.1'], services: ['shop/cart.svc'] }),
    makeWorkload('cart-2', '1', { ips: ['10.0.0.2'], services: ['shop/cart.svc'] }),
    makeWorkload('web', '1', { ips: ['10.0.0.3'], node: 'n1' }),
    makeWorkload('host-a', '1', { ips: ['10.9.9.9'] }),
    makeWorkload('host-b', '1', { ips: ['10.9.9.9'] }),
  );

const QUESTIONS: ReadonlyArray<readonly [string, string, readonly string[]]> = [
  ['a uid', 'cart-1', ['cart-1']],
  ['an address', '/10.0.0.3', ['web']],
  ['an address that pods of the host network share', '/10.9.9.9', ['host-a', 'host-b']],
  ['a service, with its workloads', 'shop/cart.svc', ['cart-1', 'cart-2', 'shop/cart.svc']],
  ['a VIP, with the workloads behind it', '/10.1.0.1', ['cart-1', 'cart-2', 'shop/cart.svc']],
];
for (const [what, name, expected] of QUESTIONS) {
  test(`on demand: ${what}`, () => {
    const session = sessionOf(shop());
    session.request(makeRequest(ADDRESS, ON_DEMAND));
    assert.deepEqual(names(session.next()), []);
    session.request(makeRequest(ADDRESS, { resourceNamesSubscribe: [name] }));
    const answer = session.next();
    assert.deepEqual([names(answer), answer?.removed, answer?.withAliases], [expected, [], true]);
  });
}

test('on demand: a name nobody has is removed, stays asked for, and is sent when it appears', () => {
  const store = shop();
  const session = sessionOf(store);
  session.request(makeRequest(ADDRESS, ON_DEMAND));
  session.next();
  session.request(makeRequest(ADDRESS, { resourceNamesSubscribe: ['/10.0.0.77'] }));
  assert.deepEqual(session.next()?.removed, ['/10.0.0.77']);
  push(store, session, [makeWorkload('late', '1', { ips: ['10.0.0.77'] }), makeWorkload('other', '1')]);
  assert.deepEqual(names(session.next()), ['late']);
  push(store, session, [], { addresses: ['late', 'other'] });
  assert.deepEqual(session.next()?.removed, ['late']);
});

test('on demand: new workloads of a followed service, and those of the own node, come unasked', () => {
  const store = shop();
  const session = sessionOf(store, 'n1');
  session.request(makeRequest(ADDRESS, ON_DEMAND));
  assert.deepEqual(names(session.next()), ['web']);
  session.request(makeRequest(ADDRESS, { resourceNamesSubscribe: ['shop/cart.svc'] }));
  session.next();
  push(store, session, [
    makeWorkload('cart-3', '1', { services: ['shop/cart.svc'] }),
    makeWorkload('local', '1', { node: 'n1' }),
    makeWorkload('far', '1', { node: 'n2' }),
  ]);
  assert.deepEqual(names(session.next()), ['cart-3', 'local']);
});

test('on demand: a reconnecting client gets what changed, what vanished, and what it still waits for', () => {
  const session = sessionOf(shop());
  const initialResourceVersions = { 'cart-1': '0', 'cart-2': '1', gone: '1', '/10.0.0.3': '', '/10.0.0.99': '' };
  session.request(makeRequest(ADDRESS, { ...ON_DEMAND, initialResourceVersions }));
  const answer = session.next();
  assert.deepEqual(names(answer), ['cart-1', 'web']);
  assert.deepEqual([...(answer?.removed ?? [])].sort(), ['/10.0.0.99', 'gone']);
});

test('on demand: what went and comes back as it was is sent again', () => {
  const store = shop();
  const session = sessionOf(store);
  session.request(makeRequest(ADDRESS, { ...ON_DEMAND, resourceNamesSubscribe: ['*', 'web'] }));
  assert.deepEqual(names(session.next()), ['web']);
  push(store, session, [], { addresses: ['web'] });
  assert.deepEqual(session.next()?.removed, ['web']);
  push(store, session, [makeWorkload('web', '1')]);
  assert.deepEqual(names(session.next()), ['web']);
});

test('on demand: a service that appears brings workloads that were there before it', () => {
  const store = storeOf(makeWorkload('early', '1', { services: ['shop/new.svc'] }));
  const session = sessionOf(store);
  session.request(makeRequest(ADDRESS, { ...ON_DEMAND, resourceNamesSubscribe: ['*', 'shop/new.svc'] }));
  assert.deepEqual(session.next()?.removed, ['shop/new.svc']);
  push(store, session, [makeService('shop/new.svc', '1')]);
  assert.deepEqual(names(session.next()), ['early', 'shop/new.svc']);
});

test('on demand: following too many names ends the call', () => {
  const session = new DeltaSession(shop(), { tag: 't', node: '', maxNames: 3 });
  session.request(makeRequest(ADDRESS, ON_DEMAND));
  assert.throws(
    () => session.request(makeRequest(ADDRESS, { resourceNamesSubscribe: ['a', 'b', 'c', 'd'] })),
    /at most 3 names/,
  );
});

const NAMES = ['a', 'b', 'c', 'd'];
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('set' as const),
      name: fc.constantFrom(...NAMES),
      version: fc.constantFrom('1', '2', '3'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('remove' as const), name: fc.constantFrom(...NAMES) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('deliver' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('reply' as const),
      isNack: fc.boolean(),
      nonce: fc.constantFrom('last', 'stale'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reconnect' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('ask' as const), name: fc.constantFrom(...NAMES) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('star' as const), isOn: fc.boolean() }) },
);

function resourceFor(name: string, version: string): XdsResource {
  // `a` is a service with `b` behind it at some versions and `c` at others.
  if (name === 'a') return makeService(name, version);
  return makeWorkload(name, version, { services: (name === 'b') === (version === '1') ? ['a'] : [] });
}

test('whatever happens, a client ends with the resources it follows, and is not sent again what it holds', () => {
  fc.assert(
    fc.property(fc.boolean(), fc.array(step, { maxLength: 40 }), (startsWild, steps) => {
      const store = new XdsStore();
      const holdings = new Holdings();
      let session = sessionOf(store);
      let isWild = startsWild;
      let lastNonce = '';
      const asked = new Set<string>();
      const mayRepeat = new Set<string>();
      const connect = () => {
        session = sessionOf(store);
        const initialResourceVersions = Object.fromEntries(holdings.versions);
        for (const name of isWild ? [] : holdings.versions.keys()) asked.add(name);
        const wanted = isWild ? [] : [...asked];
        for (const name of wanted) mayRepeat.add(name);
        const subscription = isWild
          ? {}
          : { resourceNamesSubscribe: ['*', ...wanted], resourceNamesUnsubscribe: ['*'] };
        session.request(makeRequest(ADDRESS, { ...subscription, initialResourceVersions }));
      };
      const deliver = () => {
        for (let response = session.next(); response !== undefined; response = session.next()) {
          lastNonce = response.nonce;
          holdings.apply(response, store, 'address');
        }
        // A name that is asked for brings along what belongs to it, whether held or not.
        if (mayRepeat.size === 0) assert.deepEqual(holdings.repeated, []);
        holdings.repeated.length = 0;
        mayRepeat.clear();
      };
      connect();
      for (const turn of steps) {
        switch (turn.do) {
          case 'set':
            push(store, session, [resourceFor(turn.name, turn.version)]);
            break;
          case 'remove':
            push(store, session, [], { addresses: [turn.name] });
            break;
          case 'deliver':
            deliver();
            break;
          case 'reply': {
            const errorDetail = {
              $typeName: 'envoy.service.discovery.v3.Status' as const,
              code: 0,
              message: 'no',
              details: [],
            };
            const responseNonce = turn.nonce === 'last' ? lastNonce : 'old-1';
            session.request(makeRequest(ADDRESS, { responseNonce, ...(turn.isNack ? { errorDetail } : {}) }));
            break;
          }
          case 'reconnect':
            connect();
            break;
          case 'ask':
            asked.add(turn.name);
            mayRepeat.add(turn.name);
            session.request(makeRequest(ADDRESS, { resourceNamesSubscribe: [turn.name] }));
            break;
          case 'star':
            if (turn.isOn) session.request(makeRequest(ADDRESS, { resourceNamesSubscribe: ['*'] }));
            else {
              session.request(makeRequest(ADDRESS, { resourceNamesUnsubscribe: ['*'] }));
              // It lets go of what it did not name.
              for (const name of holdings.versions.keys()) if (!asked.has(name)) holdings.versions.delete(name);
              for (const name of asked) mayRepeat.add(name);
            }
            isWild = turn.isOn;
            break;
        }
      }
      deliver();
      const expected = [...store.resources('address').values()]
        .filter(({ name }) => isWild || asked.has(name))
        .map(({ name, version }) => [name, version]);
      const held = [...holdings.versions].filter(([name]) => isWild || asked.has(name));
      assert.deepEqual(new Map(held), new Map(expected as [string, string][]));
      // What came along unasked is true as well.
      for (const [name, version] of holdings.versions) {
        if (!isWild) assert.equal(store.resources('address').get(name)?.version, version, name);
      }
    }),
    { seed: 44, numRuns: 3_000 },
  );
});
