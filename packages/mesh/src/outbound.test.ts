import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { at, balancer, gateway, mesh, pod, seededRandom, service } from '../test/fixture.ts';
import { formatSocketAddress } from './address.ts';
import type { OutboundInput } from './outbound.ts';
import { planOutbound, resolveOutbound } from './outbound.ts';
import type { Hop, OutboundRoute } from './route.ts';
import type { MeshState } from './state.ts';
import type { Workload } from './workload.ts';

const ILLEGAL_PORTS: ReadonlySet<number> = new Set([15001, 15006, 15008]);
const CLIENT = pod('client', { ips: ['127.0.0.1'], node: 'local-node', network: '' });

function input(destination: string, self: Workload | undefined = CLIENT, source = '127.0.0.1:40000'): OutboundInput {
  return {
    source: at(source),
    destination: at(destination),
    pod: { name: 'client', namespace: 'ns', serviceAccount: 'client' },
    self,
    network: '',
    illegalPorts: ILLEGAL_PORTS,
  };
}

/** The hops of the first group, tier by tier. */
function tiersOf(route: OutboundRoute): readonly (readonly Hop[])[] {
  assert.equal(route.kind, 'hops', JSON.stringify(route));
  return route.kind === 'hops' ? (route.groups[0]?.tiers ?? []) : [];
}

/** What a route does, in one line: protocol, what is dialled, authority. */
function summary(route: OutboundRoute): string {
  if (route.kind === 'deny') return `deny ${route.reason}: ${route.error}`;
  if (route.kind === 'passthrough') return `TCP ${formatSocketAddress(route.destination)}`;
  return tiersOf(route)
    .map(tier => tier.map(describeHop).join(' | '))
    .join(' then ');
}

function describeHop(hop: Hop): string {
  const dial = 'ip' in hop.dial ? formatSocketAddress(hop.dial) : `${hop.dial.hostname}:${hop.dial.port}`;
  return [hop.protocol, dial, hop.authority].filter(part => part !== undefined).join(' ');
}

function outcome(state: MeshState, destination: string, self = CLIENT, source?: string): string {
  return summary(resolveOutbound(state, input(destination, self, source)));
}

const spiffe = (account: string): string => `spiffe://cluster.local/ns/ns/sa/${account}`;

describe('O1..O7 guards', () => {
  test('the proxy’s own port on loopback is a loop', () => {
    assert.equal(
      outcome(mesh({ workloads: [CLIENT] }), '127.0.0.1:15001'),
      'deny route.loop: attempted recursive call to ourselves',
    );
    assert.match(outcome(mesh({ workloads: [CLIENT] }), '[::1]:15008'), /^deny route\.loop/);
  });

  test('another pod’s proxy port is an ordinary destination', () => {
    assert.equal(outcome(mesh({ workloads: [CLIENT] }), '10.9.9.9:15008'), 'TCP 10.9.9.9:15008');
  });

  test('an unknown local workload is refused with upstream’s words', () => {
    assert.equal(
      summary(resolveOutbound(mesh({}), { ...input('1.2.3.4:80'), self: undefined })),
      'deny identity.unknown_source: failed to fetch information about local workload: client.ns (client)',
    );
  });

  test('O1: an unknown destination passes through in plain text', () => {
    const result = resolveOutbound(mesh({ workloads: [CLIENT] }), input('1.2.3.4:80'));
    assert.equal(summary(result), 'TCP 1.2.3.4:80');
    assert.equal(result.kind === 'passthrough' && result.service, undefined);
  });
});

describe('other networks', () => {
  const example = (fields: Parameters<typeof service>[1] = {}) =>
    service('example', { hostname: 'example.com', vips: ['/127.0.0.3'], ports: { 80: 8080 }, ...fields });
  const remote = (fields: Parameters<typeof pod>[1] = {}) =>
    pod('remote', { network: 'remote', protocol: 'HBONE', services: { 'ns/example.com': { 80: 8080 } }, ...fields });
  const byAddress = { networkGateway: gateway('remote/10.22.1.1', 15009) };
  const gatewayPod = pod('gateway', { ips: ['10.22.1.1'], network: 'remote', protocol: 'HBONE' });

  test('O2: a remote endpoint without a gateway is an error', () => {
    const state = mesh({ workloads: [CLIENT, remote({ ips: ['10.0.0.9'] })], services: [example()] });
    assert.match(
      outcome(state, '127.0.0.3:80'),
      /^deny route\.no_address: no valid routing destination for workload: /,
    );
    const addressless = mesh({ workloads: [CLIENT, remote()], services: [example()] });
    assert.equal(
      outcome(addressless, '127.0.0.3:80'),
      'deny route.no_healthy_endpoint: no healthy upstream: 127.0.0.3:80',
    );
  });

  test('O3: through a gateway by address', () => {
    const state = mesh({
      workloads: [CLIENT, remote(byAddress), gatewayPod],
      services: [example({ subjectAltNames: [spiffe('echo'), 'not a spiffe id'] })],
    });
    const result = resolveOutbound(state, input('127.0.0.3:80'));
    assert.equal(summary(result), 'DOUBLEHBONE 10.22.1.1:15009 example.com:80');
    const hop = tiersOf(result)[0]?.[0];
    assert.deepEqual(hop?.upstreamIdentities, [spiffe('gateway')]);
    assert.deepEqual(hop?.finalIdentities, [spiffe('echo')]);
    assert.equal(hop?.workload?.name, 'gateway');
    assert.equal(hop?.service?.hostname, 'example.com');
  });

  test('O4: through a gateway by host name, whose service maps the port', () => {
    const actual = pod('actual-gateway', {
      ips: ['127.0.0.5'],
      protocol: 'HBONE',
      services: { 'ns/gw.example.com': { 15009: 15008 } },
    });
    const state = mesh({
      workloads: [CLIENT, remote({ networkGateway: gateway('ns/gw.example.com', 15009) }), actual],
      services: [
        example(),
        service('gw', { hostname: 'gw.example.com', vips: ['/127.0.0.6'], ports: { 15009: 15008 } }),
      ],
    });
    assert.equal(outcome(state, '127.0.0.3:80'), 'DOUBLEHBONE 127.0.0.5:15008 example.com:80');
  });

  test('O5: a service waypoint on another network is reached through its gateway', () => {
    const waypoint = pod('waypoint', {
      network: 'remote',
      protocol: 'HBONE',
      services: { 'ns/wp': { 15008: 15008 } },
      ...byAddress,
    });
    const state = mesh({
      workloads: [CLIENT, waypoint, gatewayPod],
      services: [
        example({ waypoint: gateway('ns/wp') }),
        service('wp', { hostname: 'wp', ports: { 15008: 15008 }, subjectAltNames: [spiffe('waypoint')] }),
      ],
    });
    const result = resolveOutbound(state, input('127.0.0.3:80'));
    assert.equal(summary(result), 'DOUBLEHBONE 10.22.1.1:15009 example.com:80');
    assert.deepEqual(tiersOf(result)[0]?.[0]?.finalIdentities, [spiffe('waypoint')]);
  });

  const local = (status: 'Healthy' | 'Unhealthy') =>
    pod('local', { ips: ['127.0.0.2'], protocol: 'HBONE', status, services: { 'ns/example.com': { 80: 8080 } } });
  const failover = example({ loadBalancer: balancer('Failover', ['Network']) });

  test('O6: a healthy local endpoint comes before a remote one', () => {
    const state = mesh({ workloads: [CLIENT, local('Healthy'), remote(byAddress), gatewayPod], services: [failover] });
    assert.equal(
      outcome(state, '127.0.0.3:80'),
      'HBONE 127.0.0.2:15008 127.0.0.2:8080 then DOUBLEHBONE 10.22.1.1:15009 example.com:80',
    );
  });

  test('O7: an unhealthy local endpoint leaves the remote one', () => {
    const state = mesh({
      workloads: [CLIENT, local('Unhealthy'), remote(byAddress), gatewayPod],
      services: [failover],
    });
    assert.equal(outcome(state, '127.0.0.3:80'), 'DOUBLEHBONE 10.22.1.1:15009 example.com:80');
  });

  test('many endpoints behind one gateway become one hop with their weights added', () => {
    const remotes = [1, 2, 3].map(number =>
      pod(`remote-${number}`, {
        network: 'remote',
        capacity: number,
        services: { 'ns/example.com': { 80: 8080 } },
        ...byAddress,
      }),
    );
    const state = mesh({ workloads: [CLIENT, gatewayPod, ...remotes], services: [example()] });
    const [tier] = tiersOf(resolveOutbound(state, input('127.0.0.3:80')));
    assert.deepEqual(
      tier?.map(hop => hop.weight),
      [6],
    );
  });

  test('a missing gateway is named', () => {
    const state = mesh({ workloads: [CLIENT, remote(byAddress)], services: [example()] });
    assert.equal(
      outcome(state, '127.0.0.3:80'),
      'deny route.gateway_unavailable: unknown network gateway: gateway remote/10.22.1.1 not found',
    );
  });

  test('a pod of another network cannot be addressed itself', () => {
    const state = mesh({ workloads: [CLIENT, remote({ ips: ['10.0.0.9'], ...byAddress })], services: [] });
    assert.equal(outcome(state, '10.0.0.9:80'), 'TCP 10.0.0.9:80');
  });
});

describe('direct', () => {
  for (const [id, node] of [
    ['O8', 'remote-node'],
    ['O10', 'local-node'],
  ] as const) {
    test(`${id}: a TCP pod on ${node} is dialled in plain text`, () => {
      const state = mesh({ workloads: [CLIENT, pod('server', { ips: ['127.0.0.2'], node })] });
      assert.equal(outcome(state, '127.0.0.2:80'), 'TCP 127.0.0.2:80');
      assert.deepEqual(tiersOf(resolveOutbound(state, input('127.0.0.2:80')))[0]?.[0]?.upstreamIdentities, []);
    });
  }
  for (const [id, node] of [
    ['O9', 'remote-node'],
    ['O11', 'local-node'],
  ] as const) {
    test(`${id}: an HBONE pod on ${node} is dialled through the tunnel`, () => {
      const state = mesh({ workloads: [CLIENT, pod('server', { ips: ['127.0.0.2'], node, protocol: 'HBONE' })] });
      assert.equal(outcome(state, '127.0.0.2:80'), 'HBONE 127.0.0.2:15008 127.0.0.2:80');
      const [hop] = tiersOf(resolveOutbound(state, input('127.0.0.2:80')))[0] ?? [];
      assert.deepEqual(hop?.upstreamIdentities, [spiffe('server')]);
      assert.equal(hop?.service, undefined);
      assert.equal(hop?.workload?.name, 'server');
    });
  }

  test('the identities of the service come with the workload’s own, once each', () => {
    const server = pod('server', { ips: ['127.0.0.2'], protocol: 'HBONE', services: { 'ns/s': { 80: 80 } } });
    const state = mesh({
      workloads: [CLIENT, server],
      services: [
        service('s', {
          hostname: 's',
          vips: ['/10.0.0.1'],
          ports: { 80: 80 },
          subjectAltNames: [spiffe('other'), 'bogus', spiffe('server')],
        }),
      ],
    });
    const [hop] = tiersOf(resolveOutbound(state, input('10.0.0.1:80')))[0] ?? [];
    assert.deepEqual(hop?.upstreamIdentities, [spiffe('other'), spiffe('server')]);
  });

  test('O12: the client’s own waypoint plays no part', () => {
    const self = { ...CLIENT, waypoint: gateway('/127.0.0.10') };
    const state = mesh({ workloads: [self, pod('server', { ips: ['127.0.0.2'] })] });
    assert.equal(outcome(state, '127.0.0.2:80', self), 'TCP 127.0.0.2:80');
  });

  test('O16: a service without endpoints has no healthy upstream', () => {
    const state = mesh({
      workloads: [CLIENT],
      services: [service('s', { vips: ['/127.0.0.3'], ports: { 80: 8080 } })],
    });
    assert.equal(outcome(state, '127.0.0.3:80'), 'deny route.no_healthy_endpoint: no healthy upstream: 127.0.0.3:80');
  });

  test('a port the service does not have has no healthy upstream', () => {
    const server = pod('server', { ips: ['127.0.0.2'], services: { 'ns/s': { 80: 80 } } });
    const s = service('s', { hostname: 's', vips: ['/127.0.0.3'], ports: { 80: 80 } });
    assert.match(outcome(mesh({ workloads: [CLIENT, server], services: [s] }), '127.0.0.3:81'), /no healthy upstream/);
  });

  test('O17: a named port is served only by the pod that maps it', () => {
    const mapped = pod('mapped', { ips: ['127.0.0.2'], services: { 'ns/s': { 80: 1234 } } });
    const unmapped = pod('unmapped', { ips: ['127.0.0.4'], services: { 'ns/s': { 90: 90 } } });
    const s = service('s', { hostname: 's', vips: ['/127.0.0.3'], ports: { 80: 0 } });
    assert.equal(
      outcome(mesh({ workloads: [CLIENT, mapped, unmapped], services: [s] }), '127.0.0.3:80'),
      'TCP 127.0.0.2:1234',
    );
  });

  test('O17: an application tunnel does not stand in for a named port', () => {
    const tunnelled = pod('tunnelled', {
      ips: ['127.0.0.2'],
      applicationTunnel: { protocol: 'NONE', port: 9000 },
      services: { 'ns/s': {} },
    });
    const s = service('s', { hostname: 's', vips: ['/127.0.0.3'], ports: { 80: 0 } });
    assert.match(
      outcome(mesh({ workloads: [CLIENT, tunnelled], services: [s] }), '127.0.0.3:80'),
      /no_healthy_endpoint/,
    );
  });

  test('a workload with several addresses is dialled on the one that was asked for', () => {
    const many = pod('many', { ips: ['127.0.0.2', '127.0.0.7'], protocol: 'HBONE' });
    assert.equal(outcome(mesh({ workloads: [CLIENT, many] }), '127.0.0.7:80'), 'HBONE 127.0.0.7:15008 127.0.0.7:80');
  });

  test('an endpoint of the client’s own network without an address is left out, gateway or not', () => {
    const nowhere = pod('nowhere', { networkGateway: gateway('ns/gw'), services: { 'ns/s': { 80: 80 } } });
    const s = service('s', { hostname: 's', vips: ['/127.0.0.3'], ports: { 80: 80 } });
    assert.match(outcome(mesh({ workloads: [CLIENT, nowhere], services: [s] }), '127.0.0.3:80'), /no_healthy_endpoint/);
  });

  test('O18: host-network pods are found through a service and never by their shared address', () => {
    const shared = { ips: ['127.0.0.2'], networkMode: 'HostNetwork' as const };
    const one = pod('one', { ...shared, services: { 'ns/s': { 80: 80 } } });
    const two = pod('two', { ...shared, protocol: 'HBONE' });
    const s = service('s', { hostname: 's', vips: ['/127.0.0.3'], ports: { 80: 80 } });
    const state = mesh({ workloads: [CLIENT, one, two], services: [s] });
    const [hop] = tiersOf(resolveOutbound(state, input('127.0.0.3:80')))[0] ?? [];
    assert.equal(hop?.workload?.name, 'one');
    assert.equal(resolveOutbound(state, input('127.0.0.2:80')).kind, 'passthrough');
  });

  test('O19: a dual-stack pod is dialled on the family the client used', () => {
    const dual = pod('dual', { ips: ['127.0.0.2', 'ff06::c3'], protocol: 'HBONE' });
    const state = mesh({ workloads: [CLIENT, dual] });
    assert.equal(outcome(state, '127.0.0.2:80'), 'HBONE 127.0.0.2:15008 127.0.0.2:80');
    assert.equal(outcome(state, '[ff06::c3]:80'), 'HBONE [ff06::c3]:15008 [ff06::c3]:80');
  });

  for (const [families, toV4, toV6] of [
    ['IPv6', '[ff06::c3]', '[ff06::c3]'],
    ['IPv4', '127.0.0.2', '127.0.0.2'],
    ['Dual', '127.0.0.2', '[ff06::c3]'],
    [undefined, '127.0.0.2', '[ff06::c3]'],
  ] as const) {
    test(`O20: a service restricted to ${families ?? 'nothing'} picks ${toV4} for IPv4 and ${toV6} for IPv6`, () => {
      const dual = pod('dual', { ips: ['127.0.0.2', 'ff06::c3'], services: { 'ns/s': { 80: 80 } } });
      const s = service('s', {
        hostname: 's',
        vips: ['/127.0.0.3', '/ff06::c4'],
        ports: { 80: 80 },
        ipFamilies: families,
      });
      const state = mesh({ workloads: [CLIENT, dual], services: [s] });
      assert.equal(outcome(state, '127.0.0.3:80'), `TCP ${toV4}:80`);
      assert.equal(outcome(state, '[ff06::c4]:80'), `TCP ${toV6}:80`);
    });
  }

  test('O20: a workload without an address of a permitted family has no destination', () => {
    const v4 = pod('v4', { ips: ['127.0.0.2'], services: { 'ns/s': { 80: 80 } } });
    const s = service('s', { hostname: 's', vips: ['/127.0.0.3'], ports: { 80: 80 }, ipFamilies: 'IPv6' });
    assert.equal(
      outcome(mesh({ workloads: [CLIENT, v4], services: [s] }), '127.0.0.3:80'),
      'deny route.no_address: no valid routing destination for workload: Workload{v4 with uid cluster1//Pod/ns/v4 (TCP)}',
    );
  });

  test('O21: a PASSTHROUGH service keeps the destination and is reported', () => {
    const s = service('s', { vips: ['/127.0.0.3'], ports: { 80: 80 }, loadBalancer: balancer('Passthrough') });
    const result = resolveOutbound(mesh({ workloads: [CLIENT], services: [s] }), input('127.0.0.3:80'));
    assert.equal(summary(result), 'TCP 127.0.0.3:80');
    assert.equal(result.kind === 'passthrough' && result.service?.name, 's');
  });

  test('a workload known by host name is resolved when it is dialled', () => {
    const named = pod('named', { hostname: 'db.example.com', protocol: 'HBONE', services: { 'ns/s': { 80: 5432 } } });
    const s = service('s', { hostname: 's', vips: ['/127.0.0.3'], ports: { 80: 5432 } });
    const [hop] =
      tiersOf(resolveOutbound(mesh({ workloads: [CLIENT, named], services: [s] }), input('127.0.0.3:80')))[0] ?? [];
    assert.deepEqual(hop?.dial, { hostname: 'db.example.com', port: 15008, family: 'ipv4', authorityPort: 5432 });
    assert.equal(hop?.authority, undefined);
  });
});

describe('waypoints', () => {
  const waypoint = pod('waypoint', { ips: ['127.0.0.10'], protocol: 'HBONE' });
  const dualWaypoint = pod('dual-waypoint', { ips: ['127.0.0.11', 'ff06::c5'], protocol: 'HBONE' });
  const waypoints = [CLIENT, waypoint, dualWaypoint];

  test('O13: a pod with a waypoint is reached through it', () => {
    const server = pod('server', { ips: ['127.0.0.2'], protocol: 'HBONE', waypoint: gateway('/127.0.0.10') });
    const state = mesh({ workloads: [...waypoints, server] });
    assert.equal(outcome(state, '127.0.0.2:80'), 'HBONE 127.0.0.10:15008 127.0.0.2:80');
    const [hop] = tiersOf(resolveOutbound(state, input('127.0.0.2:80')))[0] ?? [];
    assert.deepEqual(hop?.upstreamIdentities, [spiffe('waypoint')]);
    assert.equal(hop?.workload?.name, 'waypoint');
  });

  test('O14: an IPv6 destination with an IPv4-addressed waypoint', () => {
    const server = pod('server', { ips: ['ff06::c3'], protocol: 'HBONE', waypoint: gateway('/127.0.0.11') });
    assert.equal(
      outcome(mesh({ workloads: [...waypoints, server] }), '[ff06::c3]:80'),
      'HBONE 127.0.0.11:15008 [ff06::c3]:80',
    );
  });

  test('a waypoint by host name is dialled on the client’s family', () => {
    const wp = service('wp', { hostname: 'wp', ports: { 15008: 15008 } });
    const endpoint = pod('wp-1', {
      ips: ['127.0.0.12', 'ff06::c6'],
      protocol: 'TCP',
      services: { 'ns/wp': { 15008: 15008 } },
    });
    const server = pod('server', { ips: ['ff06::c3'], protocol: 'HBONE', waypoint: gateway('ns/wp') });
    const state = mesh({ workloads: [CLIENT, endpoint, server], services: [wp] });
    assert.equal(outcome(state, '[ff06::c3]:80'), 'HBONE [ff06::c6]:15008 [ff06::c3]:80');
  });

  test('O15: a service with a waypoint is reached through it, asked for by its own address', () => {
    const s = service('s', { vips: ['/127.0.0.3'], ports: { 80: 80 }, waypoint: gateway('/127.0.0.10') });
    const state = mesh({ workloads: waypoints, services: [s] });
    const result = resolveOutbound(state, input('127.0.0.3:80'));
    assert.equal(summary(result), 'HBONE 127.0.0.10:15008 127.0.0.3:80');
    assert.equal(tiersOf(result)[0]?.[0]?.service?.name, 's');
  });

  test('O21: a PASSTHROUGH service with a waypoint goes to the waypoint', () => {
    const s = service('s', {
      vips: ['/127.0.0.3'],
      ports: { 80: 80 },
      loadBalancer: balancer('Passthrough'),
      waypoint: gateway('/127.0.0.10'),
    });
    assert.equal(
      outcome(mesh({ workloads: waypoints, services: [s] }), '127.0.0.3:80'),
      'HBONE 127.0.0.10:15008 127.0.0.3:80',
    );
  });

  test('service traffic ignores the waypoint of the workload', () => {
    const server = pod('server', {
      ips: ['127.0.0.2'],
      protocol: 'HBONE',
      waypoint: gateway('/127.0.0.10'),
      services: { 'ns/s': { 80: 8080 } },
    });
    const s = service('s', { hostname: 's', vips: ['/127.0.0.3'], ports: { 80: 8080 } });
    assert.equal(
      outcome(mesh({ workloads: [...waypoints, server], services: [s] }), '127.0.0.3:80'),
      'HBONE 127.0.0.2:15008 127.0.0.2:8080',
    );
  });

  test('a waypoint that cannot be found refuses the connection', () => {
    const s = service('s', { vips: ['/127.0.0.3'], ports: { 80: 80 }, waypoint: gateway('ns/nowhere') });
    assert.equal(
      outcome(mesh({ workloads: [CLIENT], services: [s] }), '127.0.0.3:80'),
      'deny route.waypoint_unavailable: unknown waypoint: waypoint ns/nowhere not found',
    );
  });

  test('a waypoint that calls the pod it serves goes straight there', () => {
    const server = pod('server', { ips: ['127.0.0.2'], protocol: 'HBONE', waypoint: gateway('/127.0.0.10') });
    const state = mesh({ workloads: [waypoint, server] });
    assert.equal(outcome(state, '127.0.0.2:80', waypoint, '127.0.0.10:1'), 'HBONE 127.0.0.2:15008 127.0.0.2:80');
    // Same workload, foreign source address: not the waypoint's own traffic.
    assert.equal(outcome(state, '127.0.0.2:80', waypoint, '127.0.0.99:1'), 'HBONE 127.0.0.10:15008 127.0.0.2:80');
    // Its source address with another identity: not the waypoint either.
    assert.equal(outcome(state, '127.0.0.2:80', CLIENT, '127.0.0.10:1'), 'HBONE 127.0.0.10:15008 127.0.0.2:80');
  });

  test('so does any endpoint of a waypoint service', () => {
    const wp = service('wp', { hostname: 'wp', vips: ['/127.0.0.20'], ports: { 15008: 15008 } });
    const endpoint = pod('wp-1', { ips: ['127.0.0.12'], protocol: 'HBONE', services: { 'ns/wp': { 15008: 15008 } } });
    for (const reference of [gateway('ns/wp'), gateway('/127.0.0.20')]) {
      const server = pod('server', { ips: ['127.0.0.2'], protocol: 'HBONE', waypoint: reference });
      const state = mesh({ workloads: [endpoint, server, CLIENT], services: [wp] });
      assert.equal(outcome(state, '127.0.0.2:80', endpoint, '127.0.0.12:1'), 'HBONE 127.0.0.2:15008 127.0.0.2:80');
      assert.equal(outcome(state, '127.0.0.2:80'), 'HBONE 127.0.0.12:15008 127.0.0.2:80');
    }
  });

  test('N15: a waypoint service without ports works for endpoints with an application tunnel port', () => {
    const wp = service('wp', { hostname: 'wp', vips: ['/127.0.0.20'] });
    const endpoint = pod('wp-1', {
      ips: ['127.0.0.12'],
      protocol: 'HBONE',
      applicationTunnel: { protocol: 'PROXY', port: 15088 },
      services: { 'ns/wp': {} },
    });
    const s = service('s', { vips: ['/127.0.0.3'], ports: { 80: 80 }, waypoint: gateway('/127.0.0.20') });
    assert.equal(
      outcome(mesh({ workloads: [CLIENT, endpoint], services: [wp, s] }), '127.0.0.3:80'),
      'HBONE 127.0.0.12:15008 127.0.0.3:80',
    );
  });

  test('S1: weighted waypoints become groups, zero weights fall through', () => {
    const other = pod('other', { ips: ['127.0.0.13'], protocol: 'HBONE' });
    const weighted = (first: number, second: number) =>
      service('s', {
        vips: ['/127.0.0.3'],
        ports: { 80: 80 },
        waypoint: gateway('/127.0.0.11'),
        weightedWaypoints: [
          { destination: gateway('/127.0.0.10'), weight: first },
          { destination: gateway('/127.0.0.13'), weight: second },
        ],
      });
    const groups = (first: number, second: number): unknown => {
      const state = mesh({ workloads: [...waypoints, other], services: [weighted(first, second)] });
      const result = resolveOutbound(state, input('127.0.0.3:80'));
      assert.equal(result.kind, 'hops');
      return result.kind === 'hops' && result.groups.map(group => [group.weight, group.tiers[0]?.[0]?.workload?.name]);
    };
    assert.deepEqual(groups(100, 0), [[100, 'waypoint']]);
    assert.deepEqual(groups(0, 100), [[100, 'other']]);
    assert.deepEqual(groups(0, 0), [[1, 'dual-waypoint']]);
    assert.deepEqual(groups(75, 25), [
      [75, 'waypoint'],
      [25, 'other'],
    ]);
  });

  test('a weighted waypoint that cannot be found refuses its own share only', () => {
    const s = service('s', {
      vips: ['/127.0.0.3'],
      ports: { 80: 80 },
      weightedWaypoints: [
        { destination: gateway('/127.0.0.10'), weight: 1 },
        { destination: gateway('ns/nowhere'), weight: 1 },
      ],
    });
    const state = mesh({ workloads: waypoints, services: [s] });
    const plans = [0.1, 0.9].map(draw => planOutbound(state, input('127.0.0.3:80'), () => draw));
    assert.deepEqual(
      plans.map(plan => plan.kind),
      ['hop', 'deny'],
    );
  });
});

describe('routes as data', () => {
  const endpoints = Array.from({ length: 3000 }, (_, index) =>
    pod(`e${index}`, {
      ips: [`10.1.${index >> 8}.${index & 255}`],
      protocol: 'HBONE',
      services: { 'ns/big': { 80: 8080 } },
    }),
  );
  const big = service('big', { hostname: 'big', vips: ['/10.0.0.1'], ports: { 80: 8080 } });
  const state = mesh({ workloads: [CLIENT, ...endpoints], services: [big] });

  test('survive structured cloning', () => {
    const result = resolveOutbound(state, input('10.0.0.1:80'));
    assert.deepEqual(structuredClone(result), result);
  });

  test('of a huge service keep a fixed sample that differs between clients', () => {
    const names = (self: Workload): readonly string[] =>
      (tiersOf(resolveOutbound(state, input('10.0.0.1:80', self)))[0] ?? []).map(hop => hop.workload?.name ?? '');
    const [first, again, other] = [names(CLIENT), names(CLIENT), names(pod('second'))];
    assert.equal(first.length, 1024);
    assert.deepEqual(again, first);
    const common = other.filter(name => first.includes(name)).length;
    // Two independent thirds of 3000 share about 350; a shared order would share all 1024.
    assert.ok(common > 200 && common < 500, String(common));
  });

  test('a plan names the hop that was drawn and why', () => {
    const plan = planOutbound(state, input('10.0.0.1:80'), seededRandom(1));
    assert.equal(plan.kind, 'hop');
    assert.equal(plan.kind === 'hop' && plan.alternatives, 1023);
    assert.match(
      plan.steps.map(entry => entry.text).join('\n'),
      /is service ns\/big[^]*3000 endpoints[^]*must be spiffe:/,
    );
  });
});

test('a host that is both workload and service follows upstream: no service waypoint, balanced as the service', () => {
  const both = pod('both', { ips: ['127.0.0.2'], services: { 'ns/s': { 80: 8080 } } });
  const s = service('s', {
    hostname: 's',
    vips: ['/127.0.0.2'],
    ports: { 80: 8080 },
    waypoint: gateway('/127.0.0.10'),
  });
  assert.equal(outcome(mesh({ workloads: [CLIENT, both], services: [s] }), '127.0.0.2:80'), 'TCP 127.0.0.2:8080');
});

test('a service of the client’s namespace wins its address', () => {
  const backend = (namespace: string, address: string) =>
    pod(`b-${namespace}`, { namespace, ips: [address], services: { [`${namespace}/s`]: { 80: 80 } } });
  const s = (namespace: string) =>
    service('s', {
      namespace,
      hostname: 's',
      vips: ['/10.0.0.1'],
      ports: { 80: 80 },
      canonical: namespace === 'other',
    });
  const state = mesh({
    workloads: [CLIENT, backend('ns', '10.1.0.1'), backend('other', '10.1.0.2')],
    services: [s('other'), s('ns')],
  });
  assert.equal(outcome(state, '10.0.0.1:80'), 'TCP 10.1.0.1:80');
});
