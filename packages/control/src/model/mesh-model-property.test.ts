// The promise of the model: after any sequence of changes, in any batches, its resources and diagnostics are those that a
// new model makes of the final objects, and the deltas it returned add up to the same. Names come from a small set, so
// that objects collide, refer to each other and replace each other all the time.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatRef, type KubeObject, type Labels, type ObjectChange, refOf } from '../objects/types.ts';
import { DEFAULT_SETTINGS, type MeshSettings } from '../settings.ts';
import { MeshModel } from './mesh-model.ts';
import * as make from './model-fixture.ts';
import type { ResourceDelta, XdsResource } from './resource.ts';

const SEED = 20_261_124;
const RUNS = 400;

const place = fc.constantFrom('a', 'a', 'a', 'b', 'istio-system');
const name = fc.constantFrom('x', 'x', 'y', 'z');
const hostname = fc.constantFrom(
  'x.a.svc.cluster.local',
  'y.b.svc.cluster.local',
  'h.example',
  'i.example',
  '*.j.example',
);
const time = fc.constantFrom(undefined, 1000, 2000);

function labelsFrom(...choices: readonly (readonly [string, readonly string[]])[]): fc.Arbitrary<Labels> {
  // Absent more often than any one value.
  const pairs = choices.map(([key, values]) => {
    const absent: readonly (readonly [string, string])[] = [];
    const present = values.map(value => [[key, value]] as const);
    return fc.constantFrom<readonly (readonly [string, string])[]>(absent, absent, ...present);
  });
  return fc.tuple(...pairs).map((chosen): Labels => Object.fromEntries(chosen.flat()));
}

const APP = ['app', ['p', 'q']] as const;
const WAYPOINT_LABELS = [
  ['istio.io/use-waypoint', ['x', 'y', 'none']],
  ['istio.io/use-waypoint-namespace', ['a', 'b']],
  ['istio.io/use-waypoint-canary', ['x', 'z']],
  ['istio.io/ingress-use-waypoint', ['true', 'no']],
] as const;
const INSTANCE = ['gateway.networking.k8s.io/gateway-name', ['x', 'y']] as const;
const NETWORK = ['topology.istio.io/network', ['n1', 'n2']] as const;
const REVISION = ['istio.io/rev', ['default', 'other']] as const;
const annotations = labelsFrom(
  ['istio.io/use-waypoint-canary-weight', ['30', '200']],
  ['networking.istio.io/traffic-distribution', ['PreferClose', 'PreferSameNode']],
  ['ambient.istio.io/redirection', ['enabled']],
);
const selector = labelsFrom(APP);

const namespaces = fc
  .record({ name: place, labels: labelsFrom(...WAYPOINT_LABELS, NETWORK, ['team', ['t']]), annotations })
  .map(of => make.namespace(of.name, of.labels, of.annotations));
const nodes = fc
  .record({ name: fc.constantFrom('n1', 'n2'), labels: labelsFrom(['topology.kubernetes.io/region', ['r', 's']]) })
  .map(of => make.node(of.name, of.labels));
const pods = fc
  .record({
    name,
    in: place,
    labels: labelsFrom(APP, ...WAYPOINT_LABELS, INSTANCE),
    annotations,
    uid: fc.constantFrom('', '', 'u'),
    nodeName: fc.constantFrom('n1', 'n2'),
    port: fc.constantFrom(8080, 9090),
    phase: fc.constantFrom('Running', 'Running', 'Running', 'Failed'),
    ip: fc.constantFrom('10.0.0.1', '10.0.0.2', 'fd00::1', 'nonsense'),
    account: fc.constantFrom('s', 't'),
  })
  .map(of =>
    make.pod(of.name, of.labels, {
      in: of.in,
      metadata: { annotations: of.annotations, uid: of.uid },
      spec: {
        nodeName: of.nodeName,
        serviceAccountName: of.account,
        ports: [{ name: 'web', containerPort: of.port, protocol: 'TCP' }],
      },
      status: { phase: of.phase, podIPs: [of.ip] },
    }),
  );
const services = fc
  .record({
    name,
    in: place,
    selector,
    labels: labelsFrom(...WAYPOINT_LABELS),
    annotations,
    targetPort: fc.constantFrom<string | number>('web', 8080),
    type: fc.constantFrom('ClusterIP', 'ClusterIP', 'ExternalName'),
    ip: fc.constantFrom('10.96.0.1', 'None', 'nonsense'),
    creationTime: time,
  })
  .map(of =>
    make.service(of.name, of.selector, {
      in: of.in,
      metadata: { labels: of.labels, annotations: of.annotations, creationTime: of.creationTime },
      spec: {
        type: of.type,
        clusterIPs: [of.ip],
        ports: [{ name: 'http', port: 80, targetPort: of.targetPort, protocol: 'TCP', appProtocol: '' }],
      },
    }),
  );
const slices = fc
  .record({
    name,
    in: place,
    service: name,
    pod: name,
    uid: fc.constantFrom('', '', 'u'),
    ip: fc.constantFrom('10.7.0.1', 'nonsense'),
  })
  .map(of =>
    make.slice(of.name, of.service, [make.podEndpoint(of.pod, of.uid, of.in), make.addressEndpoint(of.ip)], {
      in: of.in,
    }),
  );
const endpoints = fc
  .record({
    address: fc.constantFrom('10.8.0.1', '10.8.0.2', 'm.example'),
    labels: labelsFrom(APP, ...WAYPOINT_LABELS, INSTANCE),
    network: fc.constantFrom('', 'n1'),
  })
  .map(of => make.endpoint(of.address, { labels: of.labels, network: of.network }));
const workloadEntries = fc
  .record({ name, in: place, spec: endpoints, labels: labelsFrom(APP, ...WAYPOINT_LABELS, REVISION) })
  .map(of => make.workloadEntry(of.name, of.spec, { in: of.in, metadata: { labels: of.labels } }));
const serviceEntries = fc
  .record({
    name,
    in: place,
    hosts: fc.array(hostname, { minLength: 1, maxLength: 2 }),
    labels: labelsFrom(APP, ...WAYPOINT_LABELS, REVISION),
    addresses: fc.constantFrom<readonly string[]>([], [], ['10.5.0.1'], ['10.5.0.0/16'], ['nonsense'], ['240.240.0.9']),
    resolution: fc.constantFrom('STATIC', 'DNS', 'NONE', 'DYNAMIC_DNS'),
    workloadSelector: fc.option(selector, { nil: undefined }),
    endpoints: fc.array(endpoints, { maxLength: 2 }),
    creationTime: time,
  })
  .map(of =>
    make.serviceEntry(of.name, of.hosts, {
      in: of.in,
      metadata: { labels: of.labels, creationTime: of.creationTime },
      spec: {
        addresses: of.addresses,
        resolution: of.resolution,
        workloadSelector: of.workloadSelector,
        endpoints: of.endpoints,
      },
    }),
  );
const gateways = fc
  .record({
    name,
    in: place,
    labels: labelsFrom(['istio.io/waypoint-for', ['all', 'workload', 'none']], NETWORK),
    from: fc.constantFrom('All', 'Same', 'Selector'),
    address: fc.constantFrom<readonly string[]>([], ['10.96.1.1'], ['10.96.1.2'], ['gw.example']),
    className: fc.constantFrom('istio-waypoint', 'istio-remote'),
    annotations: labelsFrom(['ambient.istio.io/waypoint-inbound-binding', ['PROXY/15088', 'NONE']]),
  })
  .map(of =>
    make.gateway(of.name, {
      in: of.in,
      metadata: { labels: of.labels, annotations: of.annotations },
      gatewayClassName: of.className,
      listeners: [make.tunnelListener({ from: of.from, selector: { team: 't' } })],
      addresses: of.address.map(value => ({ type: value.includes('example') ? 'Hostname' : 'IPAddress', value })),
    }),
  );
const gatewayClasses = fc
  .record({ labels: labelsFrom(['istio.io/waypoint-for', ['all', 'workload']]) })
  .map(of => make.gatewayClass('istio-waypoint', of));
const policies = fc
  .record({
    name,
    in: place,
    selector: fc.option(selector, { nil: undefined }),
    action: fc.constantFrom('ALLOW', 'DENY', 'AUDIT'),
  })
  .map(
    (of): KubeObject => ({
      kind: 'AuthorizationPolicy',
      metadata: make.meta(of.name, of.in),
      spec: { action: of.action, selector: of.selector, targetRefs: [], rules: [] },
    }),
  );
const peerAuthentications = fc
  .record({
    name,
    in: place,
    selector: fc.option(selector, { nil: undefined }),
    mtls: fc.constantFrom('UNSET' as const, 'STRICT' as const, 'PERMISSIVE' as const),
    port: fc.constantFrom('STRICT' as const, 'PERMISSIVE' as const),
    creationTime: time,
  })
  .map(
    (of): KubeObject => ({
      kind: 'PeerAuthentication',
      metadata: make.meta(of.name, of.in, { creationTime: of.creationTime }),
      spec: { selector: of.selector, mtls: of.mtls, portLevelMtls: { 8080: of.port } },
    }),
  );

const anyObject: fc.Arbitrary<KubeObject> = fc.oneof(
  { weight: 2, arbitrary: namespaces },
  { weight: 1, arbitrary: nodes },
  { weight: 4, arbitrary: pods },
  { weight: 3, arbitrary: services },
  { weight: 2, arbitrary: slices },
  { weight: 2, arbitrary: workloadEntries },
  { weight: 4, arbitrary: serviceEntries },
  { weight: 3, arbitrary: gateways },
  { weight: 1, arbitrary: gatewayClasses },
  { weight: 2, arbitrary: policies },
  { weight: 2, arbitrary: peerAuthentications },
);
const change: fc.Arbitrary<ObjectChange> = fc
  .tuple(anyObject, fc.boolean(), fc.boolean())
  .map(([object, a, b]) => (a && b ? make.gone(object) : make.put(object)));
// Long enough for objects to meet: fast-check's usual arrays are far too short for that.
const batches = fc.array(fc.array(change, { minLength: 1, maxLength: 4 }), {
  minLength: 1,
  maxLength: 30,
  size: 'max',
});

interface Outcome {
  readonly addresses: Record<string, string>;
  readonly authorizations: Record<string, string>;
}

function textOf(resource: XdsResource): string {
  const { version, aliases, services: ofServices, node: onNode, value } = resource;
  return JSON.stringify([version, aliases, ofServices, onNode, Buffer.from(value).toString('hex')]);
}

function outcome(addresses: Iterable<XdsResource>, authorizations: Iterable<XdsResource>): Outcome {
  const table = (all: Iterable<XdsResource>): Record<string, string> =>
    Object.fromEntries([...all].map(one => [one.name, textOf(one)] as const).sort(([a], [b]) => (a < b ? -1 : 1)));
  return { addresses: table(addresses), authorizations: table(authorizations) };
}

/** What a subscriber holds who followed the deltas. */
class Follower {
  readonly addresses = new Map<string, XdsResource>();
  readonly authorizations = new Map<string, XdsResource>();

  follow(delta: ResourceDelta): void {
    for (const kind of ['addresses', 'authorizations'] as const) {
      for (const [key, resource] of delta[kind]) {
        const held = this[kind].get(key);
        assert.notDeepEqual(held?.value, resource?.value, `${key} is in the delta but did not change`);
        if (resource === undefined) this[kind].delete(key);
        else this[kind].set(key, resource);
      }
    }
  }
}

function check(settings: MeshSettings, sequence: readonly (readonly ObjectChange[])[]): void {
  const model = new MeshModel(settings);
  const follower = new Follower();
  const objects = new Map<string, KubeObject>();
  for (const batch of sequence) {
    follower.follow(model.apply(batch));
    for (const { ref, object } of batch) {
      if (object === undefined) objects.delete(formatRef(ref));
      else objects.set(formatRef(ref), object);
    }
  }
  // In another order, too: the outcome must not depend on it.
  const fresh = new MeshModel(settings);
  fresh.apply([...objects.values()].toReversed().map(object => ({ ref: refOf(object), object })));
  const state = outcome(model.addresses(), model.authorizations());
  assert.deepEqual(state, outcome(fresh.addresses(), fresh.authorizations()));
  assert.deepEqual(outcome(follower.addresses.values(), follower.authorizations.values()), state);
  assert.deepEqual(model.diagnostics(), fresh.diagnostics());
}

describe('the model, changed step by step', () => {
  for (const autoAllowWaypoints of [false, true]) {
    it(`equals a new model of the final objects (autoAllowWaypoints ${autoAllowWaypoints})`, () => {
      const settings = { ...DEFAULT_SETTINGS, autoAllowWaypoints };
      fc.assert(
        fc.property(batches, sequence => check(settings, sequence)),
        { seed: SEED, numRuns: RUNS },
      );
    });
  }
});
