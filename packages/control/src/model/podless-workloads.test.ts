// Workloads that are no pods: WorkloadEntries, endpoints of ServiceEntries and EndpointSlices, gateways of networks.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NetworkMode, WorkloadStatus } from '@ambit/wire/resources';
import type { Metadata } from '../objects/types.ts';
import * as make from './model-fixture.ts';

const HTTP = 'a/s.a.svc.cluster.local';

describe('a WorkloadEntry', () => {
  const uid = 'Kubernetes/networking.istio.io/WorkloadEntry/a/w';

  it('carries what is written in it', () => {
    const spec = make.endpoint('10.8.0.1', {
      network: 'n2',
      weight: 3,
      locality: 'r/z',
      serviceAccount: 's',
      labels: { app: 'q' },
    });
    const workload = make.workloadIn(make.modelOf([make.workloadEntry('w', spec)]), uid);
    assert.deepEqual(
      [workload.network, workload.capacity, workload.locality?.zone, workload.serviceAccount, workload.canonicalName],
      ['n2', 3, 'z', 's', 'q'],
    );
    assert.equal(workload.status, WorkloadStatus.HEALTHY);
  });

  it('is labelled by its metadata before its spec', () => {
    const entry = make.workloadEntry('w', make.endpoint('10.8.0.1', { labels: { app: 'spec', version: 'v' } }), {
      metadata: { labels: { app: 'meta' } },
    });
    const { canonicalName, canonicalRevision } = make.workloadIn(make.modelOf([entry]), uid);
    assert.deepEqual([canonicalName, canonicalRevision], ['meta', 'v']);
  });

  it('has a host name when its address is none, and no weight when it has none', () => {
    const workload = make.workloadIn(make.modelOf([make.workloadEntry('w', make.endpoint('m.example'))]), uid);
    assert.deepEqual([workload.hostname, workload.addresses, workload.capacity], ['m.example', [], undefined]);
  });

  const ports: readonly (readonly [string | number, Readonly<Record<string, number>>, string[]])[] = [
    ['web', { web: 7 }, ['80:7']],
    ['web', { http: 7 }, []],
    [8080, { http: 7 }, ['80:7']],
    [8080, {}, ['80:8080']],
  ];
  for (const [targetPort, own, expected] of ports) {
    it(`with ports ${JSON.stringify(own)} answers target port ${targetPort} with ${expected.join() || 'nothing'}`, () => {
      const spec = { ports: [{ name: 'http', port: 80, targetPort, protocol: 'TCP', appProtocol: '' }] };
      const entry = make.workloadEntry('w', make.endpoint('10.8.0.1', { labels: { app: 'q' }, ports: own }));
      const workload = make.workloadIn(make.modelOf([make.service('s', { app: 'q' }, { spec }), entry]), uid);
      assert.deepEqual(make.portsFor(workload, HTTP), expected);
    });
  }

  it('is called by its registration group, or a label, or its name', () => {
    const called = (metadata: Partial<Metadata>): string =>
      make.workloadIn(make.modelOf([make.workloadEntry('w', make.endpoint('10.8.0.1'), { metadata })]), uid)
        .workloadName;
    assert.equal(called({}), 'w');
    assert.equal(called({ labels: { 'service.istio.io/workload-name': 'l' } }), 'l');
    assert.equal(called({ annotations: { 'istio.io/autoRegistrationGroup': 'g' } }), 'g');
  });
});

describe('endpoints of a ServiceEntry', () => {
  const uid = (address: string): string => `Kubernetes/networking.istio.io/ServiceEntry/a/e/${address}`;

  it('are workloads of all its hosts', () => {
    const endpoints = [make.endpoint('10.8.0.1', { ports: { https: 8443 } })];
    const model = make.modelOf([make.serviceEntry('e', ['h.example', 'i.example'], { spec: { endpoints } })]);
    const workload = make.workloadIn(model, uid('10.8.0.1'));
    assert.deepEqual(Object.keys(workload.services), ['a/h.example', 'a/i.example']);
    assert.deepEqual(make.portsFor(workload, 'a/h.example'), ['443:8443']);
    assert.equal(workload.name, 'e');
  });

  const implicit: readonly (readonly [string, number])[] = [
    ['DNS', 2],
    ['DNS_ROUND_ROBIN', 2],
    ['DYNAMIC_DNS', 2],
    ['STATIC', 0],
    ['NONE', 0],
  ];
  for (const [resolution, count] of implicit) {
    it(`are ${count} when none are written and the resolution is ${resolution}`, () => {
      const model = make.modelOf([make.serviceEntry('e', ['h.example', 'i.example'], { spec: { resolution } })]);
      const workloads = [...model.addresses()].filter(({ kind }) => kind === 'workload');
      assert.equal(workloads.length, count);
      if (count > 0) {
        assert.deepEqual(Object.keys(make.workloadIn(model, uid('i.example')).services), ['a/i.example']);
        assert.equal(make.workloadIn(model, uid('i.example')).hostname, 'i.example');
      }
    });
  }

  it('are none when a selector finds them', () => {
    const spec = { resolution: 'DNS', workloadSelector: { app: 'q' } };
    assert.equal(make.modelOf([make.serviceEntry('e', ['h.example'], { spec })]).counts.addresses, 1);
  });

  it('keep a network of their own to themselves', () => {
    const endpoints = [make.endpoint('10.8.0.1', { network: 'n2' }), make.endpoint('10.8.0.2')];
    const model = make.modelOf([make.serviceEntry('e', ['h.example'], { spec: { endpoints } })]);
    assert.equal(make.workloadIn(model, uid('10.8.0.1')).network, 'n2');
    assert.equal(make.workloadIn(model, uid('10.8.0.2')).network, '');
  });

  it('count once when written twice, as the last says', () => {
    const endpoints = [make.endpoint('10.8.0.1', { weight: 1 }), make.endpoint('10.8.0.1', { weight: 2 })];
    const model = make.modelOf([make.serviceEntry('e', ['h.example'], { spec: { endpoints } })]);
    assert.equal(make.workloadIn(model, uid('10.8.0.1')).capacity, 2);
    assert.deepEqual(make.codesOf(model), ['service_entry.duplicate_endpoint']);
  });
});

describe('endpoints of an EndpointSlice', () => {
  const uid = 'Kubernetes/discovery.k8s.io/EndpointSlice/a/e/10.7.0.1';
  const plain = [make.addressEndpoint('10.7.0.1')];

  it('that are no pods are workloads on shared addresses', () => {
    const model = make.modelOf([make.service('s'), make.slice('e', 's', [...plain, ...plain, make.podEndpoint('x')])]);
    const workload = make.workloadIn(model, uid);
    assert.equal(workload.networkMode, NetworkMode.HOST_NETWORK);
    assert.equal(workload.name, 'e');
    assert.deepEqual(make.portsFor(workload, HTTP), ['80:9090']);
    assert.equal(model.counts.addresses, 2);
  });

  it('are unhealthy only when they say so', () => {
    const statusFor = (ready: boolean | undefined): WorkloadStatus =>
      make.workloadIn(
        make.modelOf([make.service('s'), make.slice('e', 's', [{ ...make.addressEndpoint('10.7.0.1'), ready }])]),
        uid,
      ).status;
    assert.deepEqual([undefined, true, false].map(statusFor), [
      WorkloadStatus.HEALTHY,
      WorkloadStatus.HEALTHY,
      WorkloadStatus.UNHEALTHY,
    ]);
  });

  it('join ports by the name of the service port, TCP only', () => {
    const ports = [
      { name: 'http', port: 1, protocol: 'UDP' },
      { name: 'http', port: 2, protocol: 'TCP' },
      { name: 'unknown', port: 3, protocol: 'TCP' },
    ];
    const model = make.modelOf([make.service('s'), make.slice('e', 's', plain, { ports })]);
    assert.deepEqual(make.portsFor(make.workloadIn(model, uid), HTTP), ['80:2']);
  });

  it('join by the name that is known for a port number, the last one', () => {
    const port = { port: 53, targetPort: undefined, appProtocol: '' };
    const spec = {
      ports: [
        { ...port, name: 'dns-tcp', protocol: 'TCP' },
        { ...port, name: 'dns', protocol: 'UDP' },
      ],
    };
    const ports = [{ name: 'dns-tcp', port: 5353, protocol: 'TCP' }];
    const joined = (services: typeof spec): readonly string[] =>
      make.portsFor(
        make.workloadIn(
          make.modelOf([make.service('s', {}, { spec: services }), make.slice('e', 's', plain, { ports })]),
          uid,
        ),
        HTTP,
      );
    assert.deepEqual(joined(spec), []);
    assert.deepEqual(joined({ ports: spec.ports.toReversed() }), ['53:5353']);
  });

  it('are none without a known service, for an alias, or as domain names', () => {
    const external = make.service('s', {}, { spec: { type: 'ExternalName', clusterIPs: [] } });
    assert.equal(make.modelOf([make.slice('e', 's', plain)]).counts.addresses, 0);
    assert.equal(make.modelOf([external, make.slice('e', 's', plain)]).counts.addresses, 0);
    assert.equal(
      make.modelOf([make.service('s'), make.slice('e', 's', plain, { addressType: 'FQDN' })]).counts.addresses,
      1,
    );
  });

  it('with an unreadable address are left out and told of', () => {
    const model = make.modelOf([make.service('s'), make.slice('e', 's', [make.addressEndpoint('x')])]);
    assert.deepEqual(make.codesOf(model), ['endpoint_slice.bad_address']);
  });
});

describe('network gateways', () => {
  const labels = { 'topology.istio.io/network': 'n2' };
  const remote = (value: string, name = 'g') =>
    make.gateway(name, {
      gatewayClassName: 'istio-remote',
      metadata: { labels },
      addresses: [{ type: value.includes('example') ? 'Hostname' : 'IPAddress', value }],
    });

  it('are workloads, and the way to workloads on their network', () => {
    const entry = make.workloadEntry('w', make.endpoint('10.8.0.1', { network: 'n2' }));
    const model = make.modelOf([remote('10.99.0.1'), entry, make.pod('x')]);
    const gateway = make.workloadIn(model, 'NetworkGateway/n2/10.99.0.1/15008');
    assert.deepEqual([gateway.namespace, gateway.serviceAccount, gateway.network], ['a', 'g-istio-remote', 'n2']);
    const workload = make.workloadIn(model, 'Kubernetes/networking.istio.io/WorkloadEntry/a/w');
    assert.equal(workload.networkGateway?.destination.case, 'address');
    assert.equal(workload.networkGateway?.hboneMtlsPort, 15008);
    assert.equal(make.podIn(model, 'x').networkGateway, undefined);
  });

  it('may be a host name, and go away', () => {
    const entry = make.workloadEntry('w', make.endpoint('10.8.0.1', { network: 'n2' }));
    const model = make.modelOf([entry, remote('gw.example')]);
    const uid = 'Kubernetes/networking.istio.io/WorkloadEntry/a/w';
    assert.equal(make.workloadIn(model, uid).networkGateway?.destination.case, 'hostname');
    const delta = model.apply([make.gone(remote('gw.example'))]);
    assert.deepEqual([...delta.addresses.keys()].sort(), [uid, 'NetworkGateway/n2/gw.example/15008'].sort());
    assert.equal(make.workloadIn(model, uid).networkGateway, undefined);
  });

  it('count once when two Gateways name one address', () => {
    const model = make.modelOf([remote('10.99.0.1', 'g'), remote('10.99.0.1', 'h')]);
    assert.equal(model.counts.addresses, 1);
    model.apply([make.gone(remote('10.99.0.1', 'g'))]);
    assert.equal(make.workloadIn(model, 'NetworkGateway/n2/10.99.0.1/15008').serviceAccount, 'h-istio-remote');
  });
});
