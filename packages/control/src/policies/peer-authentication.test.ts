import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MtlsMode, PeerAuthenticationObject } from '../objects/types.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import { peerAuthenticationAttachments, peerAuthenticationDiagnostics, peerAuthenticationPolicies } from './index.ts';
import { asJson, peerAuthentication } from './policy-fixture.ts';

const ROOT = 'istio-system';
const STATIC = 'istio-system/istio_converted_static_strict';
const CONVERTED = 'shop/converted_peer_authentication_own';
const CART = { app: 'cart' };

function attached(...objects: readonly PeerAuthenticationObject[]): readonly string[] {
  return peerAuthenticationAttachments({ namespace: 'shop', labels: { app: 'cart' } }, objects, DEFAULT_SETTINGS);
}

function converted(...objects: readonly PeerAuthenticationObject[]): unknown {
  const found = peerAuthenticationPolicies(objects, DEFAULT_SETTINGS).find(({ key }) => key === CONVERTED);
  const json = asJson(found?.authorization);
  const groups: unknown = Object.entries(json ?? {}).find(([key]) => key === 'groups')?.[1];
  return groups;
}

const mesh = (mode: MtlsMode): PeerAuthenticationObject => peerAuthentication('default', mode, { namespace: ROOT });
const namespace = (mode: MtlsMode): PeerAuthenticationObject => peerAuthentication('default', mode);
const own = (mode: MtlsMode, ports: Readonly<Record<string, MtlsMode>> = {}): PeerAuthenticationObject =>
  peerAuthentication('own', mode, { selector: CART, ports });

test('the static policy exists with the first PeerAuthentication and not before', () => {
  assert.deepEqual(peerAuthenticationPolicies([], DEFAULT_SETTINGS), []);
  const [only, ...rest] = peerAuthenticationPolicies([namespace('PERMISSIVE')], DEFAULT_SETTINGS);
  assert.deepEqual(rest, []);
  assert.equal(only?.key, STATIC);
  assert.deepEqual(asJson(only?.authorization), {
    name: 'istio_converted_static_strict',
    namespace: ROOT,
    scope: 'WORKLOAD_SELECTOR',
    action: 'DENY',
    groups: [{ rules: [{ matches: [{ notPrincipals: [{ presence: {} }] }] }] }],
  });
});

const MODES: readonly (readonly [string, readonly PeerAuthenticationObject[], readonly string[]])[] = [
  ['nothing', [], []],
  ['strict mesh', [mesh('STRICT')], [STATIC]],
  ['strict mesh, permissive namespace', [mesh('STRICT'), namespace('PERMISSIVE')], []],
  ['strict mesh, disabled namespace', [mesh('STRICT'), namespace('DISABLE')], []],
  ['strict mesh, unset namespace', [mesh('STRICT'), namespace('UNSET')], [STATIC]],
  ['permissive mesh, strict namespace', [mesh('PERMISSIVE'), namespace('STRICT')], [STATIC]],
  ['strict mesh, permissive workload', [mesh('STRICT'), own('PERMISSIVE')], []],
  ['strict namespace, unset workload', [namespace('STRICT'), own('UNSET')], [STATIC]],
  ['strict workload', [own('STRICT')], [STATIC]],
  ['a selector in the root namespace', [peerAuthentication('r', 'STRICT', { namespace: ROOT, selector: CART })], []],
  ['a selector that misses', [peerAuthentication('m', 'STRICT', { selector: { app: 'web' } })], []],
  ['an empty selector counts as the namespace', [peerAuthentication('e', 'STRICT', { selector: {} })], [STATIC]],
  [
    'a root object with an empty selector, elsewhere',
    [peerAuthentication('e', 'STRICT', { namespace: ROOT, selector: {} })],
    [],
  ],
  ['another namespace', [peerAuthentication('o', 'STRICT', { namespace: 'plain' })], []],
  ['another revision', [peerAuthentication('v', 'STRICT', { labels: { 'istio.io/rev': 'x' } })], []],
  ['strict workload, exempt port', [own('STRICT', { 80: 'PERMISSIVE' })], [CONVERTED]],
  ['strict workload, disabled port', [own('STRICT', { 80: 'DISABLE' })], [CONVERTED]],
  ['strict workload, strict port', [own('STRICT', { 80: 'STRICT' })], [STATIC]],
  ['permissive workload, strict port', [own('PERMISSIVE', { 80: 'STRICT' })], [CONVERTED]],
  ['permissive workload, permissive port', [mesh('STRICT'), own('PERMISSIVE', { 80: 'PERMISSIVE' })], []],
  ['inherited strict, exempt port', [mesh('STRICT'), own('UNSET', { 80: 'PERMISSIVE' })], [CONVERTED]],
  [
    'inherited strict, disabled port: upstream exempts nothing',
    [mesh('STRICT'), own('UNSET', { 80: 'DISABLE' })],
    [STATIC],
  ],
  ['inherited strict, strict port', [mesh('STRICT'), own('UNSET', { 80: 'STRICT' })], [STATIC]],
  ['unset everywhere, strict port', [own('UNSET', { 80: 'STRICT' })], [CONVERTED]],
];

for (const [what, objects, expected] of MODES) {
  test(`attaches for ${what}: ${expected.join() || 'nothing'}`, () => {
    assert.deepEqual(attached(...objects), expected);
    assert.deepEqual(attached(...objects.toReversed()), expected);
  });
}

test('what is attached is always sent', () => {
  for (const [what, objects] of MODES) {
    const sent = new Set(peerAuthenticationPolicies(objects, DEFAULT_SETTINGS).map(({ key }) => key));
    for (const key of attached(...objects)) assert.ok(sent.has(key), `${what}: ${key}`);
  }
});

test('the oldest of a level wins, and the first by name among equals', () => {
  const old = peerAuthentication('z', 'STRICT', { creationTime: 1 });
  const young = peerAuthentication('a', 'PERMISSIVE', { creationTime: 2 });
  assert.deepEqual(attached(young, old), [STATIC]);
  const [a, b] = [peerAuthentication('a', 'PERMISSIVE'), peerAuthentication('b', 'STRICT')];
  assert.deepEqual(attached(b, a), []);
  const [first, second] = [
    peerAuthentication('first', 'PERMISSIVE', { selector: CART, creationTime: 1 }),
    peerAuthentication('second', 'STRICT', { selector: CART, creationTime: 2 }),
  ];
  assert.deepEqual(attached(second, first), []);
});

const NO_IDENTITY = { notPrincipals: [{ presence: {} }] };
const clause = (match: object): object => ({ matches: [match] });

test('exempt ports of a strict object are one group, in numeric order', () => {
  const exempt = own('STRICT', { 9090: 'DISABLE', 80: 'PERMISSIVE', 81: 'STRICT', 82: 'UNSET' });
  const rules = [clause(NO_IDENTITY), clause({ notDestinationPorts: [80] }), clause({ notDestinationPorts: [9090] })];
  for (const others of [[], [mesh('PERMISSIVE')], [mesh('STRICT'), namespace('DISABLE')], [namespace('UNSET')]]) {
    assert.deepEqual(converted(exempt, ...others), [{ rules }]);
  }
});

test('an inherited STRICT is said once more after the exempt ports of a strict object', () => {
  const expected = [{ rules: [clause(NO_IDENTITY), clause({ notDestinationPorts: [80] }), clause(NO_IDENTITY)] }];
  const exempt = own('STRICT', { 80: 'PERMISSIVE' });
  for (const others of [[mesh('STRICT')], [mesh('STRICT'), namespace('UNSET')], [namespace('STRICT')]]) {
    assert.deepEqual(converted(exempt, ...others), expected);
  }
});

test('exempt ports under an inherited STRICT are one group', () => {
  const expected = [{ rules: [clause({ notDestinationPorts: [80] }), clause(NO_IDENTITY)] }];
  assert.deepEqual(converted(mesh('STRICT'), own('UNSET', { 80: 'PERMISSIVE' })), expected);
  assert.deepEqual(converted(mesh('STRICT'), own('UNSET', { 80: 'DISABLE', 81: 'STRICT' })), expected);
  assert.deepEqual(converted(mesh('PERMISSIVE'), namespace('STRICT'), own('UNSET', { 80: 'PERMISSIVE' })), expected);
});

test('exempt ports of an unset object are not sent beside a namespace object without a mode', () => {
  const objects = [mesh('STRICT'), namespace('UNSET'), own('UNSET', { 80: 'PERMISSIVE' })];
  assert.equal(converted(...objects), undefined);
  assert.deepEqual(attached(...objects), [CONVERTED]);
});

test('strict ports are not sent while the mesh is STRICT and the namespace is silent, whatever the object says', () => {
  const silent = [mesh('STRICT'), namespace('UNSET')];
  for (const mode of ['UNSET', 'PERMISSIVE', 'DISABLE', 'STRICT'] as const) {
    assert.equal(converted(mesh('STRICT'), own(mode, { 80: 'STRICT' })), undefined);
    assert.equal(converted(...silent, own(mode, { 80: 'STRICT' })), undefined);
  }
  assert.deepEqual(attached(...silent, own('PERMISSIVE', { 80: 'STRICT' })), [CONVERTED]);
});

test('strict ports of a permissive object are sent under a STRICT of the namespace', () => {
  const expected = [{ rules: [clause({ ...NO_IDENTITY, destinationPorts: [80] })] }];
  assert.deepEqual(converted(namespace('STRICT'), own('PERMISSIVE', { 80: 'STRICT' })), expected);
  assert.deepEqual(converted(mesh('STRICT'), namespace('STRICT'), own('DISABLE', { 80: 'STRICT' })), expected);
});

test('a selector without labels is converted, yet is no level for others and attached to nobody', () => {
  const empty = peerAuthentication('own', 'UNSET', { selector: {}, ports: { 80: 'STRICT' } });
  assert.deepEqual(converted(empty), [{ rules: [clause({ ...NO_IDENTITY, destinationPorts: [80] })] }]);
  assert.deepEqual(attached(empty), []);
  const level = peerAuthentication('level', 'STRICT', { selector: {} });
  assert.equal(converted(level, own('UNSET', { 80: 'PERMISSIVE' })), undefined);
});

test('strict ports of a permissive object are a group each', () => {
  const expected = [
    { rules: [clause({ ...NO_IDENTITY, destinationPorts: [80] })] },
    { rules: [clause({ ...NO_IDENTITY, destinationPorts: [8080] })] },
  ];
  const ports = { 8080: 'STRICT', 80: 'STRICT', 81: 'PERMISSIVE' } as const;
  for (const object of [own('PERMISSIVE', ports), own('DISABLE', ports), own('UNSET', ports)]) {
    assert.deepEqual(converted(object), expected);
  }
});

test('ports that change nothing are not converted, nor those without a selector', () => {
  assert.equal(converted(own('STRICT', { 80: 'STRICT' })), undefined);
  assert.equal(converted(own('PERMISSIVE', { 80: 'DISABLE' })), undefined);
  assert.equal(converted(peerAuthentication('own', 'STRICT', { ports: { 80: 'PERMISSIVE' } })), undefined);
});

test('a policy that is attached and not sent is reported', () => {
  const codes = (...objects: readonly PeerAuthenticationObject[]): readonly string[] =>
    peerAuthenticationDiagnostics(objects, DEFAULT_SETTINGS).map(({ code, ref }) => `${ref?.name} ${code}`);
  const expected = ['own peer_authentication.ports_not_sent'];
  assert.deepEqual(codes(mesh('STRICT'), own('PERMISSIVE', { 80: 'STRICT' })), expected);
  assert.deepEqual(codes(mesh('STRICT'), namespace('UNSET'), own('UNSET', { 80: 'PERMISSIVE' })), expected);
  assert.deepEqual(codes(mesh('STRICT'), own('UNSET', { 80: 'PERMISSIVE' })), []);
  assert.deepEqual(codes(mesh('STRICT'), namespace('STRICT'), own('PERMISSIVE', { 80: 'STRICT' })), []);
});

test('what has no effect is reported with its place', () => {
  const objects = [
    peerAuthentication('a', 'STRICT', { ports: { 80: 'STRICT' } }),
    peerAuthentication('b', 'STRICT'),
    peerAuthentication('c', 'STRICT', { namespace: ROOT, selector: CART }),
    peerAuthentication('d', 'UNSET', { selector: CART, ports: { 80: 'DISABLE', http: 'STRICT' } }),
    peerAuthentication('e', 'STRICT', { selector: CART }),
    peerAuthentication('f', 'STRICT', { selector: { app: 'other' } }),
  ];
  const found = peerAuthenticationDiagnostics(objects, DEFAULT_SETTINGS);
  assert.deepEqual(
    found.map(({ code, path, ref }) => `${ref?.name} ${code} ${path}`),
    [
      'a peer_authentication.ports_without_selector spec.portLevelMtls',
      'b peer_authentication.shadowed metadata.name',
      'c peer_authentication.root_selector spec.selector',
      'd peer_authentication.bad_port spec.portLevelMtls["http"]',
      'd peer_authentication.port_disable spec.portLevelMtls',
      'e peer_authentication.shadowed metadata.name',
    ],
  );
});
