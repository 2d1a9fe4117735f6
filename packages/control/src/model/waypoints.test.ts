// Which waypoint an object gets, and what is said when it gets none.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decodeAuthorizationMessage, authorizationToJson } from '@ambit/wire/resources';
import type { GatewayListener, KubeObject, Labels } from '../objects/types.ts';
import * as make from './model-fixture.ts';

const KEY = 'a/s.a.svc.cluster.local';
const FOR = 'istio.io/waypoint-for';
const USE = 'istio.io/use-waypoint';
const USE_NAMESPACE = 'istio.io/use-waypoint-namespace';
const CANARY = 'istio.io/use-waypoint-canary';
const WEIGHT = 'istio.io/use-waypoint-canary-weight';

function labelled(labels: Labels, annotations: Labels = {}): KubeObject {
  return make.service('s', {}, { metadata: { labels, annotations } });
}

/** The waypoint of Service `s`, as its last address byte or host name. */
function waypointOf(objects: readonly KubeObject[]): string | number | undefined {
  const destination = make.serviceIn(make.modelOf(objects), KEY).waypoint?.destination;
  return destination?.case === 'hostname'
    ? `${destination.value.namespace}/${destination.value.hostname}`
    : destination?.value?.address[3];
}

function at(last: number): { readonly addresses: readonly { readonly type: string; readonly value: string }[] } {
  return { addresses: [{ type: 'IPAddress', value: `10.96.1.${last}` }] };
}

const W = make.gateway('w', at(1));
const V = make.gateway('v', at(2));

describe('the waypoint of a service', () => {
  const cases: readonly (readonly [string, Labels, Labels, number | undefined])[] = [
    ['no label anywhere', {}, {}, undefined],
    ['its own label', { [USE]: 'w' }, {}, 1],
    ['the label of the namespace', {}, { [USE]: 'w' }, 1],
    ['its own label before that of the namespace', { [USE]: 'v' }, { [USE]: 'w' }, 2],
    ['none before that of the namespace', { [USE]: 'none' }, { [USE]: 'w' }, undefined],
    ['none in the namespace', {}, { [USE]: 'none' }, undefined],
    ['one that is absent, although the namespace has one', { [USE]: 'x' }, { [USE]: 'w' }, undefined],
    [
      'the label on a service of the mesh controller',
      { [USE]: 'w', 'gateway.istio.io/managed': 'istio.io-mesh-controller' },
      {},
      undefined,
    ],
    [
      'the label on a service of the east-west controller',
      { [USE]: 'w', 'gateway.istio.io/managed': 'istio.io-eastwest-controller' },
      {},
      undefined,
    ],
  ];
  for (const [what, own, ofNamespace, expected] of cases) {
    it(`with ${what} is ${expected}`, () => {
      assert.equal(waypointOf([W, V, make.namespace('a', ofNamespace), labelled(own)]), expected);
    });
  }

  it('is none for a ServiceEntry of a gateway either', () => {
    const entry = (labels: Labels) =>
      make.serviceEntry('e', ['h.example'], { metadata: { labels: { [USE]: 'w', ...labels } } });
    const hasWaypoint = (labels: Labels): boolean =>
      make.serviceIn(make.modelOf([W, entry(labels)]), 'a/h.example').waypoint !== undefined;
    assert.deepEqual(
      [hasWaypoint({}), hasWaypoint({ 'gateway.istio.io/managed': 'istio.io-mesh-controller' })],
      [true, false],
    );
  });

  it('is reached by host name if it has one, on port 15008', () => {
    const addresses = [
      { type: 'IPAddress', value: '10.96.1.1' },
      { type: 'Hostname', value: 'w.example' },
    ];
    assert.equal(waypointOf([make.gateway('w', { addresses }), labelled({ [USE]: 'w' })]), 'a/w.example');
    const model = make.modelOf([W, labelled({ [USE]: 'w' })]);
    assert.equal(make.serviceIn(model, KEY).waypoint?.hboneMtlsPort, 15008);
  });

  it('comes with the address of its gateway and goes with it', () => {
    const model = make.modelOf([make.gateway('w', { addresses: [] }), labelled({ [USE]: 'w' })]);
    assert.deepEqual(make.codesOf(model), ['waypoint.not_ready']);
    assert.deepEqual([...model.apply([make.put(W)]).addresses.keys()], [KEY]);
    assert.deepEqual(make.codesOf(model), []);
    assert.deepEqual([...model.apply([make.gone(W)]).addresses.keys()], [KEY]);
    assert.deepEqual(make.codesOf(model), ['waypoint.not_ready']);
  });

  const types: readonly (readonly [string | undefined, string | undefined, boolean, boolean])[] = [
    [undefined, undefined, true, false],
    ['service', undefined, true, false],
    ['workload', undefined, false, true],
    ['all', undefined, true, true],
    ['none', undefined, false, false],
    [undefined, 'workload', false, true],
    ['service', 'workload', true, false],
  ];
  for (const [own, ofClass, forService, forWorkload] of types) {
    it(`labelled for ${own}, its class for ${ofClass}: services ${forService}, workloads ${forWorkload}`, () => {
      const gateway = make.gateway('w', { ...at(1), metadata: { labels: own === undefined ? {} : { [FOR]: own } } });
      const ofClassLabels = ofClass === undefined ? {} : { [FOR]: ofClass };
      const objects = [
        gateway,
        make.gatewayClass('istio-waypoint', { labels: ofClassLabels }),
        labelled({ [USE]: 'w' }),
        make.pod('x', { [USE]: 'w' }),
      ];
      const model = make.modelOf(objects);
      assert.equal(make.serviceIn(model, KEY).waypoint !== undefined, forService);
      assert.equal(make.podIn(model, 'x').waypoint !== undefined, forWorkload);
      const refused = [forService, forWorkload]
        .filter(isTaken => !isTaken)
        .map(() => 'waypoint.unsupported_traffic_type');
      assert.deepEqual(make.codesOf(model), refused);
    });
  }

  it('that a pod inherits and that takes no workloads is silently none', () => {
    const model = make.modelOf([W, make.namespace('a', { [USE]: 'w' }), make.pod('x')]);
    assert.equal(make.podIn(model, 'x').waypoint, undefined);
    assert.deepEqual(make.codesOf(model), []);
  });
});

describe('the waypoint of another namespace', () => {
  const user = labelled({ [USE]: 'w', [USE_NAMESPACE]: 'b' });
  const inB = (listeners: readonly GatewayListener[], annotations: Labels = {}) =>
    make.gateway('w', { ...at(3), in: 'b', listeners, metadata: { annotations } });
  const all = { from: 'All', selector: undefined };
  const team = (selector: Labels | undefined) => ({ from: 'Selector', selector });
  const plain: GatewayListener = { ...make.tunnelListener(all), protocol: 'HTTP', port: 80 };
  const cases: readonly (readonly [string, KubeObject, number | undefined])[] = [
    ['the same namespace only', inB([make.tunnelListener()]), undefined],
    ['all', inB([make.tunnelListener(all)]), 3],
    ['a selector that matches', inB([make.tunnelListener(team({ team: 't' }))]), 3],
    ['a selector for its name', inB([make.tunnelListener(team({ 'kubernetes.io/metadata.name': 'a' }))]), 3],
    ['a selector that does not', inB([make.tunnelListener(team({ team: 'u' }))]), undefined],
    ...(
      [
        ['In', ['t', 'u'], 3],
        ['In', ['u'], undefined],
        ['NotIn', ['u'], 3],
        ['NotIn', ['t'], undefined],
        ['Exists', [], 3],
        ['DoesNotExist', [], undefined],
      ] as const
    ).map(([operator, values, expected]): readonly [string, KubeObject, number | undefined] => [
      `the expression team ${operator} ${values.join()}`,
      inB([make.tunnelListener({ ...team({}), expressions: [{ key: 'team', operator, values }] })]),
      expected,
    ]),
    ['a selector that cannot be read', inB([make.tunnelListener(team(undefined))]), undefined],
    ['all on another listener', inB([plain]), undefined],
    [
      'all on the listener of its binding by port',
      inB([make.tunnelListener(), plain], { 'ambient.istio.io/waypoint-inbound-binding': 'NONE/80' }),
      3,
    ],
    [
      'all on its PROXY listener',
      inB([make.tunnelListener(), { ...plain, protocol: 'istio.io/PROXY' }], {
        'ambient.istio.io/waypoint-inbound-binding': 'PROXY',
      }),
      3,
    ],
  ];
  for (const [what, gateway, expected] of cases) {
    it(`that allows ${what} is ${expected}`, () => {
      const objects = [gateway, make.namespace('a', { team: 't' }), user];
      assert.equal(waypointOf(objects), expected);
      assert.deepEqual(
        make.codesOf(make.modelOf(objects)),
        expected === undefined ? ['waypoint.attachment_denied'] : [],
      );
    });
  }

  it('is given and taken by the labels of the namespace that asks', () => {
    const model = make.modelOf([inB([make.tunnelListener(team({ team: 't' }))]), make.namespace('a'), user]);
    const hasWaypoint = (): boolean => make.serviceIn(model, KEY).waypoint !== undefined;
    assert.equal(hasWaypoint(), false);
    model.apply([make.put(make.namespace('a', { team: 't' }))]);
    assert.equal(hasWaypoint(), true);
  });
});

describe('a canary', () => {
  const cases: readonly (readonly [string, Labels, Labels, readonly number[], readonly string[]])[] = [
    ['with a weight', { [USE]: 'w', [CANARY]: 'v' }, { [WEIGHT]: '30' }, [70, 30], []],
    ['without a weight', { [USE]: 'w', [CANARY]: 'v' }, {}, [100, 0], []],
    ['of weight 101', { [USE]: 'w', [CANARY]: 'v' }, { [WEIGHT]: '101' }, [], ['waypoint.canary_bad_weight']],
    [
      'of a weight that is no number',
      { [USE]: 'w', [CANARY]: 'v' },
      { [WEIGHT]: '1.5' },
      [],
      ['waypoint.canary_bad_weight'],
    ],
    ['that is the waypoint itself', { [USE]: 'w', [CANARY]: 'w' }, { [WEIGHT]: '1' }, [], ['waypoint.canary_same']],
    ['that is absent', { [USE]: 'w', [CANARY]: 'x' }, { [WEIGHT]: '1' }, [], ['waypoint.canary_not_ready']],
    [
      'for workloads only',
      { [USE]: 'w', [CANARY]: 'u' },
      { [WEIGHT]: '1' },
      [],
      ['waypoint.canary_unsupported_traffic_type'],
    ],
    [
      'of a namespace that denies',
      { [USE]: 'w', [CANARY]: 'v', 'istio.io/use-waypoint-canary-namespace': 'b' },
      { [WEIGHT]: '1' },
      [],
      ['waypoint.canary_attachment_denied'],
    ],
    ['called none', { [USE]: 'w', [CANARY]: 'none' }, { [WEIGHT]: '1' }, [], []],
    ['without a waypoint of its own', { [CANARY]: 'v' }, { [WEIGHT]: '1' }, [], []],
  ];
  const U = make.gateway('u', { ...at(4), metadata: { labels: { [FOR]: 'workload' } } });
  for (const [what, labels, annotations, weights, codes] of cases) {
    it(`${what} gives weights ${JSON.stringify(weights)}`, () => {
      const model = make.modelOf([W, V, U, make.gateway('v', { in: 'b' }), labelled(labels, annotations)]);
      const service = make.serviceIn(model, KEY);
      assert.deepEqual(
        service.weightedWaypoints.map(({ weight }) => weight),
        weights,
      );
      assert.equal(service.waypoint !== undefined, USE in labels);
      assert.deepEqual(make.codesOf(model), codes);
    });
  }

  it('comes from the namespace when the waypoint does', () => {
    const ofNamespace = make.namespace('a', { [USE]: 'w', [CANARY]: 'v' }, { [WEIGHT]: '5' });
    const weightsOf = (labels: Labels): number =>
      make.serviceIn(make.modelOf([W, V, ofNamespace, labelled(labels)]), KEY).weightedWaypoints.length;
    assert.deepEqual([weightsOf({}), weightsOf({ [USE]: 'w' })], [2, 0]);
  });

  it('may be an own one beside an inherited waypoint, with its weight or that of the namespace', () => {
    const ofNamespace = make.namespace('a', { [USE]: 'w', [CANARY]: 'x' }, { [WEIGHT]: '5' });
    const weightsOf = (annotations: Labels): readonly number[] =>
      make
        .serviceIn(make.modelOf([W, V, ofNamespace, labelled({ [CANARY]: 'v' }, annotations)]), KEY)
        .weightedWaypoints.map(({ weight }) => weight);
    assert.deepEqual(weightsOf({}), [95, 5]);
    assert.deepEqual(weightsOf({ [WEIGHT]: '20' }), [80, 20]);
  });
});

describe('ingress', () => {
  const INGRESS = 'istio.io/ingress-use-waypoint';
  const cases: readonly (readonly [Labels, Labels, boolean])[] = [
    [{ [USE]: 'w', [INGRESS]: 'true' }, {}, true],
    [{ [USE]: 'w' }, { [INGRESS]: 'true' }, true],
    [{ [USE]: 'w', [INGRESS]: 'false' }, { [INGRESS]: 'true' }, false],
    [{ [USE]: 'w', [INGRESS]: 'yes' }, {}, false],
    [{ [INGRESS]: 'true' }, {}, false],
  ];
  for (const [own, ofNamespace, expected] of cases) {
    it(`${expected ? 'uses' : 'passes by'} the waypoint with ${JSON.stringify([own, ofNamespace])}`, () => {
      const model = make.modelOf([W, make.namespace('a', ofNamespace), labelled(own)]);
      assert.equal(make.serviceIn(model, KEY).ingressUseWaypoint, expected);
    });
  }
});

describe('the policy that lets a waypoint through', () => {
  const instance = make.pod(
    'i',
    { 'gateway.networking.k8s.io/gateway-name': 'w' },
    { spec: { serviceAccountName: 'wsa' } },
  );
  const backend = make.pod('x', { app: 'q' });
  const service = make.service('s', { app: 'q' }, { metadata: { labels: { [USE]: 'w' } } });
  const policy = 'a/istio_allow_waypoint_a_w';

  it('is absent unless asked for', () => {
    const model = make.modelOf([W, instance, backend, service]);
    assert.equal(model.authorization(policy), undefined);
    assert.deepEqual(make.podIn(model, 'x').authorizationPolicies, []);
  });

  it('names the identities of the instances, and is listed by the workloads behind', () => {
    const model = make.modelOf([W, instance, backend, service], { autoAllowWaypoints: true });
    const value = model.authorization(policy)?.value;
    assert.ok(value);
    assert.deepEqual(authorizationToJson(decodeAuthorizationMessage(value)), {
      name: 'istio_allow_waypoint_a_w',
      namespace: 'a',
      scope: 'WORKLOAD_SELECTOR',
      groups: [{ rules: [{ matches: [{ principals: [{ exact: 'cluster.local/ns/a/sa/wsa' }] }] }] }],
    });
    assert.deepEqual(make.podIn(model, 'x').authorizationPolicies, [policy]);
  });

  it('stands last for the own waypoint of a workload, after those of its services', () => {
    const all = { labels: { [FOR]: 'all' } };
    const own = [make.gateway('a', { ...at(5), metadata: all }), make.gateway('w', { ...at(1), metadata: all })];
    const instances = [instance, make.pod('j', { 'gateway.networking.k8s.io/gateway-name': 'a' })];
    const objects = [...own, ...instances, service, make.pod('x', { app: 'q', [USE]: 'a' })];
    const model = make.modelOf(objects, { autoAllowWaypoints: true });
    assert.deepEqual(make.podIn(model, 'x').authorizationPolicies, [policy, 'a/istio_allow_waypoint_a_a']);
  });

  it('comes and goes with the first and last instance and with the label of the service', () => {
    const model = make.modelOf([W, backend, service], { autoAllowWaypoints: true });
    const listed = (): readonly string[] => make.podIn(model, 'x').authorizationPolicies;
    assert.deepEqual(listed(), []);
    model.apply([make.put(instance)]);
    assert.deepEqual(listed(), [policy]);
    model.apply([make.put(make.service('s', { app: 'q' }))]);
    assert.deepEqual(listed(), []);
    model.apply([make.put(service)]);
    assert.deepEqual(listed(), [policy]);
    model.apply([make.gone(instance)]);
    assert.deepEqual(listed(), []);
    assert.equal(model.authorization(policy), undefined);
  });
});
