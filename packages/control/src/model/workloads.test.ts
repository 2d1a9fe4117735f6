// Pods, rule by rule: what they are, what they are called, which services they answer for, how gateways take traffic.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ApplicationTunnel_Protocol, NetworkMode, TunnelProtocol, WorkloadStatus } from '@ambit/wire/resources';
import type { Labels, Metadata, PodObject } from '../objects/types.ts';
import * as make from './model-fixture.ts';
import { podWorkloadName } from './names.ts';

const HTTP = 'a/s.a.svc.cluster.local';
const WEB = [{ name: 'web', containerPort: 8443, protocol: 'TCP' }];

describe('a pod', () => {
  const emitted: readonly (readonly [string, Partial<PodObject['status']>, boolean])[] = [
    ['running', {}, true],
    ['pending with an address', { phase: 'Pending', isReady: false }, true],
    ['succeeded', { phase: 'Succeeded' }, false],
    ['failed', { phase: 'Failed' }, false],
    ['without an address', { podIPs: [] }, false],
    ['with one unreadable address of two', { podIPs: ['10.0.0.1', 'x'] }, false],
  ];
  for (const [what, status, isThere] of emitted) {
    it(`${what} is ${isThere ? 'a' : 'no'} workload`, () => {
      assert.equal(make.modelOf([make.pod('x', {}, { status })]).counts.addresses, isThere ? 1 : 0);
    });
  }

  it('with an unreadable address is told of', () => {
    assert.deepEqual(make.codesOf(make.modelOf([make.pod('x', {}, { status: { podIPs: ['x'] } })])), [
      'pod.bad_address',
    ]);
  });

  const health: readonly (readonly [boolean, boolean, WorkloadStatus])[] = [
    [true, false, WorkloadStatus.HEALTHY],
    [false, false, WorkloadStatus.UNHEALTHY],
    [true, true, WorkloadStatus.UNHEALTHY],
  ];
  for (const [isReady, isDeleting, expected] of health) {
    it(`ready ${isReady}, deleting ${isDeleting}: status ${expected}`, () => {
      const model = make.modelOf([make.pod('x', {}, { metadata: { isDeleting }, status: { isReady } })]);
      assert.equal(make.podIn(model, 'x').status, expected);
    });
  }

  const tunnels: readonly (readonly [Labels, Labels, TunnelProtocol, boolean])[] = [
    [{}, {}, TunnelProtocol.NONE, false],
    [{}, { 'ambient.istio.io/redirection': 'enabled' }, TunnelProtocol.HBONE, false],
    [{}, { 'ambient.istio.io/redirection': 'disabled' }, TunnelProtocol.NONE, false],
    [{ 'networking.istio.io/tunnel': 'http' }, {}, TunnelProtocol.HBONE, true],
    [{ 'networking.istio.io/tunnel': 'x,http' }, {}, TunnelProtocol.HBONE, true],
    [{ 'security.istio.io/tlsMode': 'istio' }, {}, TunnelProtocol.NONE, false],
  ];
  for (const [labels, annotations, protocol, isNative] of tunnels) {
    it(`labelled ${JSON.stringify(labels)}, annotated ${JSON.stringify(annotations)}: tunnel ${protocol}`, () => {
      const workload = make.podIn(make.modelOf([make.pod('x', labels, { metadata: { annotations } })]), 'x');
      assert.deepEqual([workload.tunnelProtocol, workload.nativeTunnel], [protocol, isNative]);
    });
  }

  it('takes its place from the labels of its node', () => {
    const labels = { 'topology.kubernetes.io/region': 'r', 'topology.istio.io/subzone': 's' };
    const model = make.modelOf([
      make.node('n1', labels),
      make.pod('x'),
      make.pod('y', {}, { spec: { nodeName: 'n9' } }),
    ]);
    const { region, zone, subzone } = make.podIn(model, 'x').locality ?? {};
    assert.deepEqual([region, zone, subzone], ['r', '', 's']);
    assert.equal(make.podIn(model, 'y').locality, undefined);
  });

  it('has no place when its node says nothing', () => {
    assert.equal(make.podIn(make.modelOf([make.node('n1'), make.pod('x')]), 'x').locality, undefined);
  });

  it('is on the network that the root namespace is labelled with, not its own label', () => {
    const label = 'topology.istio.io/network';
    const model = make.modelOf([make.namespace('istio-system', { [label]: 'n1' }), make.pod('x', { [label]: 'n2' })]);
    assert.equal(make.podIn(model, 'x').network, 'n1');
    assert.deepEqual(model.address('Kubernetes//Pod/a/x')?.aliases, ['n1/10.0.0.1']);
  });

  it('carries another trust domain than the default, and the cluster, by name', () => {
    const model = make.modelOf([make.pod('x')], { trustDomain: 'td', clusterId: 'c1' });
    const workload = make.workloadIn(model, 'c1//Pod/a/x');
    assert.deepEqual([workload.trustDomain, workload.clusterId], ['td', 'c1']);
  });

  it('on the host network says so', () => {
    const model = make.modelOf([make.pod('x', {}, { spec: { hostNetwork: true } })]);
    assert.equal(make.podIn(model, 'x').networkMode, NetworkMode.HOST_NETWORK);
  });
});

describe('the name of a pod for telemetry', () => {
  const hash = { 'pod-template-hash': '6d5f' };
  const cases: readonly (readonly [string, Partial<Metadata>, string])[] = [
    ['its own without a controller', { generateName: 'w-' }, 'x'],
    ['its own without a generated name', { controller: { kind: 'StatefulSet', name: 'db' } }, 'x'],
    ['the controller', { generateName: 'db-', controller: { kind: 'StatefulSet', name: 'db' } }, 'db'],
    ['the deployment', { generateName: 'w-', labels: hash, controller: { kind: 'ReplicaSet', name: 'w-6d5f' } }, 'w'],
    [
      'the replica set of another hash',
      { generateName: 'w-', labels: hash, controller: { kind: 'ReplicaSet', name: 'w-1' } },
      'w-1',
    ],
    [
      'the rollout',
      {
        generateName: 'w-',
        labels: { 'rollouts-pod-template-hash': '9' },
        controller: { kind: 'ReplicaSet', name: 'w-9' },
      },
      'w',
    ],
    [
      'the deployment config',
      {
        generateName: 'w-',
        labels: { deploymentconfig: 'dc' },
        controller: { kind: 'ReplicationController', name: 'dc-1' },
      },
      'dc',
    ],
    ['the cron job', { generateName: 'c-', controller: { kind: 'Job', name: 'c-27384756' } }, 'c'],
    ['the job', { generateName: 'c-', controller: { kind: 'Job', name: 'c-2738475' } }, 'c-2738475'],
    [
      'the label',
      { generateName: 'c-', labels: { 'service.istio.io/workload-name': 'l' }, controller: { kind: 'Job', name: 'j' } },
      'l',
    ],
  ];
  for (const [what, metadata, expected] of cases) {
    it(`is ${what}`, () => {
      assert.equal(podWorkloadName(make.pod('x', {}, { metadata })), expected);
    });
  }

  const canonical: readonly (readonly [Labels, string, string])[] = [
    [{}, 'x', 'latest'],
    [{ app: 'a', version: 'v' }, 'a', 'v'],
    [{ app: 'a', 'app.kubernetes.io/name': 'k', 'app.kubernetes.io/version': 'kv', version: 'v' }, 'k', 'kv'],
    [
      {
        'app.kubernetes.io/name': 'k',
        'service.istio.io/canonical-name': 'c',
        'service.istio.io/canonical-revision': 'r',
      },
      'c',
      'r',
    ],
  ];
  for (const [labels, name, revision] of canonical) {
    it(`has canonical name ${name} and revision ${revision} by labels`, () => {
      const workload = make.podIn(make.modelOf([make.pod('x', labels)]), 'x');
      assert.deepEqual([workload.canonicalName, workload.canonicalRevision], [name, revision]);
    });
  }
});

describe('the services of a pod', () => {
  const named = { ports: [{ name: 'http', port: 80, targetPort: 'web', protocol: 'TCP', appProtocol: '' }] };

  it('resolve a named target port on each pod', () => {
    const model = make.modelOf([
      make.service('s', { app: 'q' }, { spec: named }),
      make.pod('x', { app: 'q' }, { spec: { ports: WEB } }),
      make.pod('y', { app: 'q' }, { spec: { ports: [{ name: 'web', containerPort: 1, protocol: 'UDP' }] } }),
    ]);
    assert.deepEqual(make.portsFor(make.podIn(model, 'x'), HTTP), ['80:8443']);
    // It stays an endpoint, but has nothing behind that port.
    assert.deepEqual(make.podIn(model, 'y').services[HTTP]?.ports, []);
  });

  it('are those of its namespace whose selector is not empty and matches', () => {
    const model = make.modelOf([
      make.service('s', { app: 'q' }),
      make.service('none', {}),
      make.service('more', { app: 'q', tier: 't' }),
      make.service('s', { app: 'q' }, { in: 'b' }),
      make.pod('x', { app: 'q' }),
    ]);
    assert.deepEqual(Object.keys(make.podIn(model, 'x').services), [HTTP]);
  });

  it('include a ServiceEntry with a workload selector, whose ports go by name', () => {
    const ports = [
      { number: 443, name: 'web', protocol: 'TLS', targetPort: 0 },
      { number: 90, name: 'other', protocol: 'TCP', targetPort: 0 },
      { number: 91, name: 'else', protocol: 'TCP', targetPort: 9100 },
    ];
    const model = make.modelOf([
      make.serviceEntry('e', ['h.example'], { spec: { workloadSelector: { app: 'q' }, ports } }),
      make.pod('x', { app: 'q' }, { spec: { ports: WEB } }),
    ]);
    assert.deepEqual(make.portsFor(make.podIn(model, 'x'), 'a/h.example'), ['443:8443', '90:90', '91:9100']);
  });

  const targets: readonly (readonly [string, string, string, boolean])[] = [
    ['the same name and uid', 'x', 'u', true],
    ['another uid', 'x', 'v', false],
    ['another name', 'y', 'u', false],
  ];
  for (const [what, name, uid, isBound] of targets) {
    it(`${isBound ? 'include' : 'leave out'} a service without selector whose slice names a pod of ${what}`, () => {
      const pod = make.pod('x', {}, { metadata: { uid: 'u' } });
      const model = make.modelOf([make.service('s'), make.slice('e', 's', [make.podEndpoint(name, uid)]), pod]);
      assert.equal(HTTP in make.podIn(model, 'x').services, isBound);
    });
  }

  it('do not follow from an address in a slice, nor from a slice that says no namespace of the pod', () => {
    const model = make.modelOf([
      make.service('s'),
      make.slice('e', 's', [make.addressEndpoint('10.0.0.1'), make.podEndpoint('x', '', '')]),
      make.pod('x'),
    ]);
    assert.deepEqual(make.podIn(model, 'x').services, {});
  });

  it('follow from a slice whose service selects others, or is of another namespace', () => {
    const model = make.modelOf([
      make.service('s', { app: 'other' }),
      make.slice('e', 's', [make.podEndpoint('x')]),
      make.service('s', { app: 'q' }, { in: 'b' }),
      make.slice('e', 's', [make.podEndpoint('x')], { in: 'b' }),
      make.pod('x', { app: 'q' }),
    ]);
    assert.deepEqual(Object.keys(make.podIn(model, 'x').services), [HTTP, 'b/s.b.svc.cluster.local']);
    model.apply([make.put(make.slice('e', 's', [], { in: 'b' }))]);
    assert.deepEqual(Object.keys(make.podIn(model, 'x').services), [HTTP]);
  });

  it('are known by port number: of two ports with one number the last gives both its names', () => {
    const port = { port: 53, appProtocol: '' };
    const udp = { ...port, name: 'dns', targetPort: 5353, protocol: 'UDP' };
    const tcp = { ...port, name: 'dns-tcp', targetPort: 'web', protocol: 'TCP' };
    const portsOf = (ports: readonly (typeof udp | typeof tcp)[]): readonly string[] => {
      const objects = [
        make.service('s', { app: 'q' }, { spec: { ports } }),
        make.pod('x', { app: 'q' }, { spec: { ports: WEB } }),
      ];
      return make.portsFor(make.podIn(make.modelOf(objects), 'x'), HTTP);
    };
    assert.deepEqual(portsOf([udp, tcp]), ['53:8443', '53:8443']);
    assert.deepEqual(portsOf([tcp, udp]), ['53:0', '53:5353']);
  });

  it('follow when a slice or its service comes and goes, and when the host name is lost to another', () => {
    const model = make.modelOf([make.service('s'), make.slice('e', 's', []), make.pod('x', { app: 'q' })]);
    const bound = (): string[] => Object.keys(make.podIn(model, 'x').services);
    assert.deepEqual(bound(), []);
    model.apply([make.put(make.slice('e', 's', [make.podEndpoint('x')]))]);
    assert.deepEqual(bound(), [HTTP]);
    model.apply([make.gone(make.service('s'))]);
    assert.deepEqual(bound(), []);
    model.apply([make.put(make.service('s', { app: 'none' }))]);
    assert.deepEqual(bound(), [HTTP]);
    model.apply([make.gone(make.slice('e', 's', []))]);
    assert.deepEqual(bound(), []);
    model.apply([make.put(make.slice('e', 's', [make.podEndpoint('x')]))]);
    assert.deepEqual(bound(), [HTTP]);
    const entry = (name: string, creationTime: number) =>
      make.serviceEntry(name, ['h.example'], {
        metadata: { creationTime },
        spec: { workloadSelector: name === 'young' ? { app: 'q' } : { app: 'z' } },
      });
    model.apply([make.put(entry('young', 2000))]);
    assert.deepEqual(bound(), ['a/h.example', HTTP]);
    model.apply([make.put(entry('old', 1000))]);
    assert.deepEqual(bound(), [HTTP]);
    model.apply([make.gone(entry('old', 1000))]);
    assert.deepEqual(bound(), ['a/h.example', HTTP]);
  });
});

describe('an instance of a gateway', () => {
  const labels = { 'gateway.networking.k8s.io/gateway-name': 'g', 'istio.io/use-waypoint': 'w' };
  const binding = 'ambient.istio.io/waypoint-inbound-binding';
  const tunnelFor = (text: string): readonly [ApplicationTunnel_Protocol, number] | undefined => {
    const all = make.gateway('w', { metadata: { labels: { 'istio.io/waypoint-for': 'all' } } });
    const model = make.modelOf([
      make.gateway('g', { metadata: { annotations: { [binding]: text } } }),
      all,
      make.pod('x', labels),
    ]);
    const { applicationTunnel: tunnel, waypoint } = make.podIn(model, 'x');
    assert.equal(waypoint, undefined);
    return tunnel && [tunnel.protocol, tunnel.port];
  };

  it('has no waypoint and is handed the tunnel as its gateway asks', () => {
    assert.deepEqual(tunnelFor('PROXY/15088'), [ApplicationTunnel_Protocol.PROXY, 15088]);
    assert.deepEqual(tunnelFor('PROXY'), [ApplicationTunnel_Protocol.PROXY, 0]);
    assert.deepEqual(tunnelFor('NONE/80'), [ApplicationTunnel_Protocol.NONE, 80]);
    assert.deepEqual(tunnelFor('PROXY/x'), [ApplicationTunnel_Protocol.PROXY, 0]);
    assert.equal(tunnelFor('OTHER/80'), undefined);
    assert.equal(tunnelFor('PROXY/80/90'), undefined);
  });

  it('that is not there, or has no address yet, is a pod like others', () => {
    const all = make.gateway('w', { metadata: { labels: { 'istio.io/waypoint-for': 'all' } } });
    const model = make.modelOf([all, make.pod('x', labels)]);
    const hasWaypoint = (): boolean => make.podIn(model, 'x').waypoint !== undefined;
    assert.equal(hasWaypoint(), true);
    model.apply([make.put(make.gateway('g'))]);
    assert.equal(hasWaypoint(), false);
    model.apply([make.put(make.gateway('g', { addresses: [] }))]);
    assert.equal(hasWaypoint(), true);
  });

  it('takes the binding of the class when the gateway has none', () => {
    const objects = [
      make.gatewayClass('istio-waypoint', { annotations: { [binding]: 'PROXY/1' } }),
      make.gateway('g'),
      make.pod('x', labels),
    ];
    assert.equal(make.podIn(make.modelOf(objects), 'x').applicationTunnel?.port, 1);
  });
});
