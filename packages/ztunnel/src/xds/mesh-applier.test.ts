import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MeshState } from '@ambit/mesh';
import type { DeltaResource, DeltaUpdate } from '@ambit/wire/grpc';
import {
  Action,
  ADDRESS_TYPE_URL,
  AUTHORIZATION_TYPE_URL,
  type AuthorizationInit,
  encodeAddress,
  encodeAuthorization,
  Scope,
  TunnelProtocol,
} from '@ambit/wire/resources';
import { Log, LogFilter } from '../log.ts';
import type { MeshChange } from '../supervisor.ts';
import { MeshApplier } from './mesh-applier.ts';

const WEB = 'spiffe://cluster.local/ns/shop/sa/web';

function world() {
  const filter = LogFilter.parse('info');
  assert.ok(filter !== undefined);
  const lines: string[] = [];
  const log = new Log({ write: line => void lines.push(line), now: () => 0 }, { format: 'plain', filter });
  const state = new MeshState();
  const changes: MeshChange[] = [];
  const certificates: string[] = [];
  const applier = new MeshApplier(
    {
      state,
      prefetcher: {
        prefetch: identity => void certificates.push(`+${identity}`),
        forgetPrefetched: identity => void certificates.push(`-${identity}`),
      },
      onChange: change => void changes.push(change),
      log: log.scope('x'),
    },
    { localNode: 'n1' },
  );
  return { state, applier, changes, certificates, lines };
}

const resource = (name: string, value: Uint8Array, typeUrl = ADDRESS_TYPE_URL): DeltaResource => ({
  name,
  version: '1',
  aliases: [],
  typeUrl,
  value,
});
const pod = (uid: string, fields: { node?: string; serviceAccount?: string; tunnelProtocol?: TunnelProtocol } = {}) =>
  resource(
    uid,
    encodeAddress({
      type: {
        case: 'workload',
        value: {
          uid,
          name: uid,
          namespace: 'shop',
          serviceAccount: 'web',
          node: 'n1',
          tunnelProtocol: TunnelProtocol.HBONE,
          ...fields,
        },
      },
    }),
  );
const addresses = (resources: readonly DeltaResource[], removed: readonly string[] = []): DeltaUpdate => ({
  typeUrl: ADDRESS_TYPE_URL,
  resources,
  removed,
});
const policy = (name: string, init: AuthorizationInit): DeltaResource =>
  resource(name, encodeAuthorization(init), AUTHORIZATION_TYPE_URL);

test('what does not decode is left out and named, the rest is applied in one step', async () => {
  const { state, applier, changes, lines } = world();
  const rejected = await applier.apply(
    addresses([pod('a'), resource('b', Uint8Array.of(255)), pod('c'), resource('d', new Uint8Array(), '')]),
  );
  assert.deepEqual(
    rejected.map(({ name }) => name),
    ['b', 'd'],
  );
  assert.equal(state.counts.workloads, 2);
  assert.equal(state.version, 1);
  assert.deepEqual(changes, [{ addresses: true, policies: false }]);
  assert.match(lines.join(''), /xds\.bad_resource/);
});

test('a resource that turns bad keeps its last good version', async () => {
  const { state, applier } = world();
  await applier.apply(addresses([pod('a')]));
  await applier.apply(addresses([pod('a', { tunnelProtocol: TunnelProtocol.LEGACY_ISTIO_MTLS })]));
  assert.equal(state.workloadByUid('a')?.protocol, 'HBONE');
});

test('an absent policy is no policy, least of all an empty one', async () => {
  const { state, applier } = world();
  const absent = resource('shop/p', new Uint8Array(), '');
  const rejected = await applier.apply({ typeUrl: AUTHORIZATION_TYPE_URL, resources: [absent], removed: [] });
  assert.equal(rejected.length, 1);
  assert.equal(state.counts.policies, 0);
});

test('policies come, are reported where they make no sense, and go', async () => {
  const { state, applier, changes, lines } = world();
  const odd = policy('shop/p', {
    name: 'p',
    namespace: 'shop',
    scope: Scope.NAMESPACE,
    action: Action.ALLOW,
    groups: [{ rules: [{ matches: [{ namespaces: [{}] }] }] }],
  });
  await applier.apply({ typeUrl: AUTHORIZATION_TYPE_URL, resources: [odd], removed: [] });
  assert.equal(state.counts.policies, 1);
  assert.match(lines.join(''), /policy\.invalid_value/);
  await applier.apply({ typeUrl: AUTHORIZATION_TYPE_URL, resources: [], removed: ['shop/p'] });
  assert.equal(state.counts.policies, 0);
  assert.deepEqual(changes, [
    { addresses: false, policies: true },
    { addresses: false, policies: true },
  ]);
});

test('a removal of what was never there changes nothing', async () => {
  const { applier, changes } = world();
  await applier.apply(addresses([], ['/10.0.0.1']));
  assert.deepEqual(changes, [{ addresses: false, policies: false }]);
});

test('certificates are held for HBONE workloads of this node, once an identity, until the last is gone', async () => {
  const { applier, certificates } = world();
  await applier.apply(
    addresses([pod('a'), pod('b'), pod('c', { node: 'n2' }), pod('d', { tunnelProtocol: TunnelProtocol.NONE })]),
  );
  assert.deepEqual(certificates, [`+${WEB}`]);
  await applier.apply(addresses([pod('a')], ['b']));
  assert.deepEqual(certificates, [`+${WEB}`]);
  await applier.apply(addresses([pod('a', { serviceAccount: 'cart' })]));
  assert.deepEqual(certificates, [`+${WEB}`, '+spiffe://cluster.local/ns/shop/sa/cart', `-${WEB}`]);
});

test('a huge update lets the event loop breathe and is not seen by halves', async () => {
  const { state, applier } = world();
  let isDone = false;
  let turns = 0;
  const watch = (): void => {
    if (isDone) return;
    turns++;
    assert.equal(state.counts.workloads, 0, 'nothing shows before all does');
    setImmediate(watch);
  };
  const applied = applier.apply(addresses(Array.from({ length: 20_000 }, (_, index) => pod(`p${index}`))));
  setImmediate(watch);
  await applied;
  isDone = true;
  assert.ok(turns > 1);
  assert.equal(state.counts.workloads, 20_000);
});
