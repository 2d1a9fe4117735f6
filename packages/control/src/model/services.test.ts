// Services and ServiceEntries: addresses, ports, load balancing, and who has a host name.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  AppProtocol,
  IPFamilies,
  LoadBalancing_HealthPolicy as Health,
  LoadBalancing_Mode as Mode,
  LoadBalancing_Scope as Scope,
} from '@ambit/wire/resources';
import type { Labels, ServiceEntryObject, ServiceObject } from '../objects/types.ts';
import * as make from './model-fixture.ts';
import { appProtocolOfEntry, appProtocolOfService } from './ports.ts';

const KEY = 'a/s.a.svc.cluster.local';
const HOST = 'a/h.example';
const DISTRIBUTION = 'networking.istio.io/traffic-distribution';

function serviceWith(spec: Partial<ServiceObject['spec']>, annotations: Labels = {}, ofNamespace: Labels = {}) {
  const objects = [make.namespace('a', {}, ofNamespace), make.service('s', {}, { spec, metadata: { annotations } })];
  return make.serviceIn(make.modelOf(objects), KEY);
}

function entryWith(spec: Partial<ServiceEntryObject['spec']>, labels: Labels = {}) {
  return make.serviceEntry('e', ['h.example'], { spec, metadata: { labels } });
}

describe('the protocol of a service port', () => {
  const cases: readonly (readonly [string, string, string, number, AppProtocol])[] = [
    ['http', '', 'TCP', 80, AppProtocol.HTTP11],
    ['http-web', '', 'TCP', 80, AppProtocol.HTTP11],
    ['HTTP2-x', '', 'TCP', 80, AppProtocol.HTTP2],
    ['grpc', '', 'TCP', 80, AppProtocol.GRPC],
    ['grpc-web', '', 'TCP', 80, AppProtocol.UNKNOWN],
    ['grpc-web-x', '', 'TCP', 80, AppProtocol.UNKNOWN],
    ['tls', '', 'TCP', 80, AppProtocol.TLS],
    ['https-x', '', 'TCP', 80, AppProtocol.TLS],
    ['tcp-pg', '', 'TCP', 80, AppProtocol.TCP],
    ['mysql', '', 'TCP', 3306, AppProtocol.UNKNOWN],
    ['redis-x', '', 'TCP', 25, AppProtocol.UNKNOWN],
    ['dns-tcp', '', 'TCP', 53, AppProtocol.TCP],
    ['db', '', 'TCP', 27017, AppProtocol.TCP],
    ['x', 'y', 'TCP', 25, AppProtocol.TCP],
    ['dns', '', 'UDP', 53, AppProtocol.UNKNOWN],
    ['kubernetes.io/h2c', '', 'TCP', 80, AppProtocol.UNKNOWN],
    ['httpx', '', 'TCP', 80, AppProtocol.UNKNOWN],
    ['', '', 'TCP', 3306, AppProtocol.TCP],
    ['', '', 'TCP', 80, AppProtocol.UNKNOWN],
    ['http', '', 'UDP', 80, AppProtocol.UNKNOWN],
    ['http', 'tcp', 'TCP', 80, AppProtocol.TCP],
    ['x', 'kubernetes.io/h2c', 'TCP', 80, AppProtocol.HTTP2],
    ['x', 'kubernetes.io/ws', 'TCP', 80, AppProtocol.HTTP11],
    ['x', 'kubernetes.io/wss', 'TCP', 80, AppProtocol.TLS],
  ];
  for (const [name, appProtocol, protocol, port, expected] of cases) {
    it(`named "${name}", appProtocol "${appProtocol}", ${protocol} ${port} is ${expected}`, () => {
      assert.equal(appProtocolOfService({ name, appProtocol, protocol, port, targetPort: undefined }), expected);
    });
  }

  it('of a ServiceEntry is the one it says', () => {
    assert.deepEqual(['HTTP', 'HTTPS', 'TLS', 'GRPC', 'HTTP2', 'TCP', 'MONGO', 'GRPC-WEB'].map(appProtocolOfEntry), [
      AppProtocol.HTTP11,
      AppProtocol.TLS,
      AppProtocol.TLS,
      AppProtocol.GRPC,
      AppProtocol.HTTP2,
      AppProtocol.TCP,
      0,
      0,
    ]);
  });
});

describe('a Service', () => {
  it('that is an alias, or has an unreadable address, is none', () => {
    assert.equal(make.modelOf([make.service('s', {}, { spec: { type: 'ExternalName' } })]).counts.addresses, 0);
    const bad = make.modelOf([make.service('s', {}, { spec: { clusterIPs: ['x'] } })]);
    assert.equal(bad.counts.addresses, 0);
    assert.deepEqual(make.codesOf(bad), ['service.bad_address']);
  });

  it('has the IP families it names', () => {
    const familiesOf = (ipFamilies: string[]): IPFamilies => serviceWith({ ipFamilies }).ipFamilies;
    assert.deepEqual([[], ['IPv4'], ['IPv6'], ['IPv6', 'IPv4']].map(familiesOf), [
      IPFamilies.AUTOMATIC,
      IPFamilies.IPV4_ONLY,
      IPFamilies.IPV6_ONLY,
      IPFamilies.DUAL,
    ]);
  });

  it('has target port 0 for a named one and the port itself for none', () => {
    const port = { name: 'http', port: 80, protocol: 'TCP', appProtocol: '' };
    const targets = ['web', undefined, 8080].map(
      targetPort => serviceWith({ ports: [{ ...port, targetPort }] }).ports[0]?.targetPort,
    );
    assert.deepEqual(targets, [0, 80, 8080]);
  });

  it('follows the domain of the cluster', () => {
    assert.ok(make.modelOf([make.service('s')], { clusterDomain: 'd.example' }).address('a/s.a.svc.d.example'));
  });
});

describe('load balancing', () => {
  const zone = [Scope.NETWORK, Scope.REGION, Scope.ZONE];
  const nodes = [...zone, Scope.SUBZONE, Scope.NODE];
  const cases: readonly (readonly [
    string,
    Partial<ServiceObject['spec']>,
    Labels,
    Labels,
    readonly [readonly Scope[], Mode, Health] | undefined,
  ])[] = [
    ['nothing said', {}, {}, {}, undefined],
    [
      'local traffic only',
      { internalTrafficPolicy: 'Local', trafficDistribution: 'PreferClose' },
      {},
      {},
      [[Scope.NODE], Mode.STRICT, Health.ONLY_HEALTHY],
    ],
    ['PreferClose', { trafficDistribution: 'PreferClose' }, {}, {}, [zone, Mode.FAILOVER, Health.ONLY_HEALTHY]],
    ['PreferSameZone', { trafficDistribution: 'PreferSameZone' }, {}, {}, [zone, Mode.FAILOVER, Health.ONLY_HEALTHY]],
    ['PreferSameNode', { trafficDistribution: 'PreferSameNode' }, {}, {}, [nodes, Mode.FAILOVER, Health.ONLY_HEALTHY]],
    [
      'the annotation, in any case',
      {},
      { [DISTRIBUTION]: 'prefersamenode' },
      {},
      [nodes, Mode.FAILOVER, Health.ONLY_HEALTHY],
    ],
    [
      'the annotation of the namespace',
      {},
      {},
      { [DISTRIBUTION]: 'PreferClose' },
      [zone, Mode.FAILOVER, Health.ONLY_HEALTHY],
    ],
    [
      'a senseless annotation before the namespace',
      {},
      { [DISTRIBUTION]: 'x' },
      { [DISTRIBUTION]: 'PreferClose' },
      undefined,
    ],
    [
      'an empty annotation before the namespace',
      {},
      { [DISTRIBUTION]: '' },
      { [DISTRIBUTION]: 'PreferClose' },
      [zone, Mode.FAILOVER, Health.ONLY_HEALTHY],
    ],
    [
      'unready addresses alone',
      { publishNotReadyAddresses: true },
      {},
      {},
      [[], Mode.UNSPECIFIED_MODE, Health.ALLOW_ALL],
    ],
    [
      'unready addresses and a zone',
      { publishNotReadyAddresses: true, trafficDistribution: 'PreferClose' },
      {},
      {},
      [zone, Mode.FAILOVER, Health.ALLOW_ALL],
    ],
  ];
  for (const [what, spec, annotations, ofNamespace, expected] of cases) {
    it(`for ${what} is ${JSON.stringify(expected)}`, () => {
      const lb = serviceWith(spec, annotations, ofNamespace).loadBalancing;
      assert.deepEqual(lb && [lb.routingPreference, lb.mode, lb.healthPolicy], expected);
    });
  }

  it('of a ServiceEntry without resolution passes traffic on as addressed', () => {
    const lb = make.serviceIn(make.modelOf([entryWith({ resolution: 'NONE' })]), HOST).loadBalancing;
    assert.deepEqual([lb?.mode, lb?.healthPolicy], [Mode.PASSTHROUGH, Health.ALLOW_ALL]);
  });
});

describe('addresses of a ServiceEntry', () => {
  it('are what it names; a block is masked and carries its length', () => {
    const model = make.modelOf([entryWith({ addresses: ['10.5.6.7/16', '10.6.0.1', '10.6.0.2/32', 'fd00::1/64'] })]);
    assert.deepEqual(model.address(HOST)?.aliases, ['/10.5.0.0/16', '/10.6.0.1', '/10.6.0.2', '/fd00::/64']);
    const { addresses } = make.serviceIn(model, HOST);
    assert.deepEqual(
      addresses.map(({ length }) => length),
      [16, undefined, undefined, 64],
    );
    assert.deepEqual([...(addresses[0]?.address ?? [])], [10, 5, 0, 0]);
  });

  it('take the whole object down when one cannot be read', () => {
    const model = make.modelOf([entryWith({ addresses: ['10.5.0.1', 'x'], endpoints: [make.endpoint('10.8.0.1')] })]);
    assert.equal(model.counts.addresses, 0);
    assert.deepEqual(
      model.diagnostics().map(({ code, path }) => [code, path]),
      [['service_entry.bad_address', 'spec.addresses[1]']],
    );
  });

  const automatic: readonly (readonly [string, ServiceEntryObject, number])[] = [
    ['a static one', entryWith({}), 2],
    ['no resolution', entryWith({ resolution: 'NONE' }), 0],
    ['its own addresses', entryWith({ addresses: ['10.5.0.1'] }), 1],
    ['the label off', entryWith({}, { 'networking.istio.io/enable-autoallocate-ip': 'False' }), 0],
    ['the label on', entryWith({}, { 'networking.istio.io/enable-autoallocate-ip': 'true' }), 2],
  ];
  for (const [what, entry, count] of automatic) {
    it(`are ${count} for ${what}`, () => {
      assert.equal(make.serviceIn(make.modelOf([entry]), HOST).addresses.length, count);
    });
  }

  it('are those of the status only when allocation is switched off', () => {
    const off = { allocateAddresses: false };
    const count = (...addresses: ServiceEntryObject['status']['addresses']): number =>
      make.serviceIn(make.modelOf([make.serviceEntry('e', ['h.example'], { status: { addresses } })], off), HOST)
        .addresses.length;
    assert.equal(count(), 0);
    assert.equal(count({ value: '240.240.0.7', host: 'h.example' }), 1);
  });

  it('are allocated for a wildcard only if each name is resolved when it is used', () => {
    const addressesFor = (resolution: string): number =>
      make.serviceIn(make.modelOf([make.serviceEntry('e', ['*.example'], { spec: { resolution } })]), 'a/*.example')
        .addresses.length;
    assert.deepEqual(['DYNAMIC_DNS', 'DNS'].map(addressesFor), [2, 0]);
  });

  it('are those of the status when it has some for the host', () => {
    const addresses = [
      { value: '240.240.0.7', host: 'h.example' },
      { value: '240.240.0.8', host: 'other.example' },
      { value: '240.240.0.9', host: '' },
    ];
    const model = make.modelOf([make.serviceEntry('e', ['h.example'], { status: { addresses } })]);
    assert.deepEqual(model.address(HOST)?.aliases, ['/240.240.0.7']);
  });

  it('give way, and only then change, when another object names one of them', () => {
    const model = make.modelOf([entryWith({})]);
    const [before = ''] = model.address(HOST)?.aliases ?? [];
    const other = make.serviceEntry('f', ['i.example'], { in: 'b', spec: { addresses: [before.slice(1)] } });
    const delta = model.apply([make.put(other)]);
    assert.deepEqual([...delta.addresses.keys()].sort(), [HOST, 'b/i.example']);
    assert.ok(!model.address(HOST)?.aliases.includes(before));
  });
});

describe('a host name', () => {
  const host = 's.a.svc.cluster.local';
  const claim = (name: string, where: string, creationTime: number, hosts: readonly string[] = [host]) =>
    make.serviceEntry(name, hosts, { in: where, metadata: { creationTime } });

  it('belongs to the Service in its namespace, whatever the ages', () => {
    const model = make.modelOf([claim('e', 'a', 1), make.service('s', {}, { metadata: { creationTime: 9 } })]);
    assert.equal(make.serviceIn(model, KEY).name, 's');
    assert.deepEqual(make.codesOf(model), ['service_entry.host_taken']);
  });

  it('belongs to the oldest ServiceEntry of a namespace, then to the first by name', () => {
    const hosts = ['h.example'];
    assert.equal(make.serviceIn(make.modelOf([claim('y', 'a', 2, hosts), claim('z', 'a', 1, hosts)]), HOST).name, 'z');
    assert.equal(make.serviceIn(make.modelOf([claim('z', 'a', 1, hosts), claim('y', 'a', 1, hosts)]), HOST).name, 'y');
  });

  it('is claimed by a namespace for itself, and one claim is canonical', () => {
    const model = make.modelOf([claim('e', 'b', 1), make.service('s'), claim('f', 'c', 0)]);
    const isCanonical = (where: string): boolean => make.serviceIn(model, `${where}/${host}`).canonical;
    assert.deepEqual(['a', 'b', 'c'].map(isCanonical), [true, false, false]);
    model.apply([make.gone(make.service('s'))]);
    assert.deepEqual(['b', 'c'].map(isCanonical), [false, true]);
  });

  it('lost takes the endpoints of the object with it, one of two hosts does not', () => {
    const entry = make.serviceEntry('e', ['h.example', host], {
      spec: { endpoints: [make.endpoint('10.8.0.1')] },
      metadata: { creationTime: 5 },
    });
    const uid = 'Kubernetes/networking.istio.io/ServiceEntry/a/e/10.8.0.1';
    const model = make.modelOf([entry, make.service('s')]);
    assert.deepEqual(Object.keys(make.workloadIn(model, uid).services), [HOST]);
    model.apply([make.put(claim('older', 'a', 1, ['h.example']))]);
    assert.equal(model.address(uid), undefined);
  });
});
