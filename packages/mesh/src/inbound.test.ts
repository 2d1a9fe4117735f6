import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { at, gateway, mesh, pod, service } from '../test/fixture.ts';
import { formatSocketAddress } from './address.ts';
import { parseHboneAuthority } from './authority.ts';
import {
  guessService,
  type InboundInput,
  planInbound,
  planPassthrough,
  resolveInbound,
  resolvePassthrough,
} from './inbound.ts';
import type { DeliverRoute, InboundRoute } from './inbound-route.ts';
import { createMatch, type Policy } from './policy.ts';
import type { MeshState } from './state.ts';
import type { Workload } from './workload.ts';

const ILLEGAL_PORTS: ReadonlySet<number> = new Set([15001, 15006, 15008]);
const SERVER_HOST = 'server.default.svc.cluster.local';
const WAYPOINT_HOST = 'waypoint.default.svc.cluster.local';

type Reference = 'none' | 'pod' | 'vip' | 'name';

/** Client 10.0.0.1, server 10.0.0.2 behind 10.10.0.1 (80 to 8080), waypoint 10.0.0.3 behind 10.10.0.2. */
function world(options: {
  readonly onWorkload?: Reference;
  readonly onService?: Reference;
  readonly weighted?: boolean;
  readonly tunnel?: Workload['applicationTunnel'];
}): MeshState {
  const references = {
    none: undefined,
    pod: gateway('/10.0.0.3'),
    vip: gateway('/10.10.0.2'),
    name: gateway(`default/${WAYPOINT_HOST}`),
  };
  const serviceWaypoint = references[options.onService ?? 'none'];
  const namespace = 'default';
  return mesh({
    workloads: [
      pod('client', { namespace, ips: ['10.0.0.1'] }),
      pod('server', {
        namespace,
        ips: ['10.0.0.2', 'fd00::2'],
        waypoint: references[options.onWorkload ?? 'none'],
        services: { [`default/${SERVER_HOST}`]: { 80: 8080 } },
      }),
      pod('waypoint', {
        namespace,
        ips: ['10.0.0.3', 'fd00::3'],
        applicationTunnel: options.tunnel,
        services: { [`default/${WAYPOINT_HOST}`]: { 15008: 15008 } },
      }),
    ],
    services: [
      service('server', {
        namespace,
        vips: ['/10.10.0.1'],
        ports: { 80: 8080, 90: 0 },
        waypoint: options.weighted === true ? undefined : serviceWaypoint,
        weightedWaypoints:
          options.weighted === true && serviceWaypoint !== undefined
            ? [{ destination: serviceWaypoint, weight: 1 }]
            : [],
      }),
      service('waypoint', { namespace, vips: ['/10.10.0.2'], ports: { 15008: 15008 } }),
    ],
  });
}

function arrival(
  state: MeshState,
  connectedTo: 'server' | 'waypoint',
  authority: string,
  more: Partial<InboundInput> = {},
): InboundInput {
  return {
    pod: { name: connectedTo, namespace: 'default', serviceAccount: connectedTo },
    self: state.workloadByUid(`cluster1//Pod/default/${connectedTo}`),
    network: '',
    illegalPorts: ILLEGAL_PORTS,
    preserveSource: true,
    connected: at(connectedTo === 'server' ? '10.0.0.2:15008' : '10.0.0.3:15008'),
    authority,
    ...more,
  };
}

function outcome(route: InboundRoute): string {
  if (route.kind === 'deny') return `${route.status} ${route.reason}: ${route.error}`;
  const proxied = route.proxyProtocol === undefined ? '' : ` for ${formatSocketAddress(route.proxyProtocol.target)}`;
  return `${formatSocketAddress(route.target)}${proxied}`;
}

function delivered(route: InboundRoute): DeliverRoute {
  assert.equal(route.kind, 'deliver', JSON.stringify(route));
  return route.kind === 'deliver' ? route : assert.fail();
}

const PROXY = { protocol: 'PROXY', port: 15088 } as const;

describe('I1..I12: what may be asked of a workload', () => {
  const cases: readonly (readonly [string, 'server' | 'waypoint', string, Parameters<typeof world>[0], string])[] = [
    ['I1', 'server', '10.0.0.2:8080', {}, '10.0.0.2:8080'],
    ['I2', 'server', `${SERVER_HOST}:80`, {}, '10.0.0.2:8080'],
    ['I3', 'waypoint', '10.0.0.2:8080', { onWorkload: 'pod' }, '10.0.0.3:8080'],
    ['I4', 'waypoint', '10.0.0.2:8080', { onWorkload: 'vip' }, '10.0.0.3:8080'],
    ['I4 by name', 'waypoint', '10.0.0.2:8080', { onWorkload: 'name' }, '10.0.0.3:8080'],
    ['I5', 'waypoint', '10.0.0.2:8080', { onWorkload: 'vip', tunnel: PROXY }, '10.0.0.3:15088 for 10.0.0.2:8080'],
    ['I6', 'waypoint', '10.10.0.1:8080', { onService: 'pod' }, '10.0.0.3:8080'],
    ['I7', 'waypoint', '10.10.0.1:8080', { onService: 'vip' }, '10.0.0.3:8080'],
    ['I8', 'waypoint', '10.10.0.1:8080', { onService: 'vip', tunnel: PROXY }, '10.0.0.3:15088 for 10.10.0.1:8080'],
    ['I9', 'server', '10.0.0.1:8080', {}, '400 hbone.ip_mismatch: ip mismatch: 10.0.0.2 != 10.0.0.1'],
    ['I10', 'waypoint', '10.0.0.1:8080', {}, '400 hbone.ip_mismatch: ip mismatch: 10.0.0.3 != 10.0.0.1'],
    [
      'I11',
      'waypoint',
      '10.0.0.2:8080',
      { onService: 'pod' },
      '400 hbone.ip_mismatch: ip mismatch: 10.0.0.3 != 10.0.0.2',
    ],
    [
      'I12',
      'waypoint',
      '10.10.0.1:8080',
      { onWorkload: 'pod' },
      '400 hbone.ip_mismatch: ip mismatch: 10.0.0.3 != 10.10.0.1',
    ],
    ['weighted', 'waypoint', '10.10.0.1:8080', { onService: 'vip', weighted: true }, '10.0.0.3:8080'],
    [
      'unknown',
      'waypoint',
      '10.99.0.1:8080',
      { onService: 'vip' },
      '400 hbone.ip_mismatch: ip mismatch: 10.0.0.3 != 10.99.0.1',
    ],
  ];
  for (const [id, connectedTo, authority, options, expected] of cases) {
    test(`${id}: ${connectedTo} asked for ${authority} with ${JSON.stringify(options)}`, () => {
      const state = world(options);
      assert.equal(outcome(resolveInbound(state, arrival(state, connectedTo, authority))), expected);
    });
  }
});

describe('S2..S5', () => {
  const plain = world({});

  for (const authority of [
    '',
    '10.0.0.2',
    '10.0.0.2:',
    '10.0.0.2:http',
    ':80',
    'a b:80',
    '[::1:80',
    'x:99999',
    'x:-1',
  ]) {
    test(`S2: refuses the authority ${JSON.stringify(authority)}`, () => {
      const result = resolveInbound(plain, arrival(plain, 'server', authority));
      assert.match(outcome(result), /^400 hbone\.no_authority: no valid authority pseudo header: /);
    });
  }

  test('S2: a refused authority cannot smuggle control characters into the log', () => {
    const result = resolveInbound(plain, arrival(plain, 'server', `a\r\nb\u001b[31m${'x'.repeat(5000)}`));
    assert.ok(result.kind === 'deny');
    assert.match(result.error, /^[\x20-\x7e]{1,200}$/);
  });

  test('S3: an unknown local workload is 503', () => {
    const input = { ...arrival(plain, 'server', '10.0.0.2:80'), self: undefined };
    assert.equal(
      outcome(resolveInbound(plain, input)),
      '503 identity.unknown_source: failed to fetch information about local workload: server.default (server)',
    );
  });

  test('S4: a mapped authority equals its IPv4 address', () => {
    assert.equal(outcome(resolveInbound(plain, arrival(plain, 'server', '[::ffff:10.0.0.2]:80'))), '10.0.0.2:80');
  });

  test('S4: an IPv6 authority is compared in canonical form', () => {
    const input = arrival(plain, 'server', '[FD00:0::2]:80', { connected: at('[fd00::2]:15008') });
    assert.equal(outcome(resolveInbound(plain, input)), '[fd00::2]:80');
  });

  test('S4: a workload with an application tunnel is handed whatever is asked for', () => {
    const state = world({ tunnel: PROXY });
    const result = resolveInbound(state, arrival(state, 'waypoint', '10.99.0.1:443'));
    assert.equal(outcome(result), '10.0.0.3:15088 for 10.99.0.1:443');
  });

  test('S4: one of several waypoints is a waypoint', () => {
    const state = world({});
    const server = state.service('default', SERVER_HOST) ?? assert.fail();
    const weightedWaypoints = [{ destination: gateway('/10.10.0.2'), weight: 1 }];
    state.applyBatch({ upsertServices: [{ ...server, waypoint: gateway('default/another'), weightedWaypoints }] });
    assert.equal(outcome(resolveInbound(state, arrival(state, 'waypoint', '10.10.0.1:80'))), '10.0.0.3:80');
  });

  test('S5: an unknown host is 503', () => {
    assert.equal(
      outcome(resolveInbound(plain, arrival(plain, 'server', 'nobody.example:80'))),
      '503 route.unknown_host: no service or workload for hostname: nobody.example',
    );
  });

  test('S5: a port that cannot be mapped is 503', () => {
    for (const port of [81, 90]) {
      assert.equal(
        outcome(resolveInbound(plain, arrival(plain, 'server', `${SERVER_HOST}:${port}`))),
        `503 route.no_port: requested service ${SERVER_HOST}:${port} found, but cannot resolve port`,
      );
    }
  });

  test('S5: our own endpoint map decides a named port', () => {
    const state = mesh({
      workloads: [
        pod('server', { namespace: 'default', ips: ['10.0.0.2'], services: { 'default/h.example': { 80: 1234 } } }),
      ],
      services: [service('h', { namespace: 'default', hostname: 'h.example', ports: { 80: 0 } })],
    });
    assert.equal(outcome(resolveInbound(state, arrival(state, 'server', 'h.example:80'))), '10.0.0.2:1234');
  });

  test('S5: the proxy’s own ports cannot be reached', () => {
    for (const port of ILLEGAL_PORTS) {
      assert.equal(
        outcome(resolveInbound(plain, arrival(plain, 'server', `10.0.0.2:${port}`))),
        '503 route.illegal_port: attempted recursive call to ourselves',
      );
    }
  });

  test('S5: an application tunnel may use a port that is otherwise illegal', () => {
    const state = world({ onService: 'vip', tunnel: { protocol: 'NONE', port: 15008 } });
    assert.equal(outcome(resolveInbound(state, arrival(state, 'waypoint', '10.10.0.1:80'))), '10.0.0.3:15008');
  });

  test('S5: a PROXY tunnel asked by name announces the best address of the service', () => {
    const vips = ['other/10.9.0.1', '/fd00::9', '/10.10.0.9'];
    const self = pod('waypoint', { namespace: 'default', ips: ['10.0.0.3'], applicationTunnel: PROXY });
    const withVips = (addresses: readonly string[]): MeshState =>
      mesh({
        workloads: [self],
        services: [service('h', { namespace: 'default', hostname: 'h.example', vips: addresses, ports: { 80: 8080 } })],
      });
    const ask = (addresses: readonly string[]): string => {
      const state = withVips(addresses);
      return outcome(resolveInbound(state, arrival(state, 'waypoint', 'h.example:80')));
    };
    assert.equal(ask(vips), '10.0.0.3:15088 for 10.10.0.9:80');
    assert.equal(ask(vips.slice(0, 2)), '10.0.0.3:15088 for [fd00::9]:80');
    assert.equal(ask(vips.slice(0, 1)), '10.0.0.3:15088 for 10.9.0.1:80');
    assert.equal(ask([]), '503 route.no_vip: requested service h.example found, but has no IP addresses');
  });
});

describe('how the application is dialled (9.3)', () => {
  test('a PROXY tunnel is dialled on the loopback of its family, from the loopback', () => {
    const state = world({ onService: 'vip', tunnel: PROXY });
    const v4 = delivered(resolveInbound(state, arrival(state, 'waypoint', '10.10.0.1:80')));
    assert.deepEqual([v4.dial, v4.bindSource], [at('127.0.0.1:15088'), 'loopback']);
    const v6 = arrival(state, 'waypoint', '10.10.0.1:80', { connected: at('[fd00::3]:15008') });
    assert.deepEqual(delivered(resolveInbound(state, v6)).dial, at('[::1]:15088'));
  });

  test('unless that is switched off', () => {
    const state = world({ onService: 'vip', tunnel: PROXY });
    const input = arrival(state, 'waypoint', '10.10.0.1:80', { localhostAppTunnel: false });
    const route = delivered(resolveInbound(state, input));
    assert.deepEqual([route.dial, route.bindSource], [at('10.0.0.3:15088'), 'client']);
  });

  test('a NONE tunnel only moves the port', () => {
    const state = world({ onService: 'vip', tunnel: { protocol: 'NONE', port: 9000 } });
    const route = delivered(resolveInbound(state, arrival(state, 'waypoint', '10.10.0.1:80')));
    assert.deepEqual([route.dial, route.bindSource, route.proxyProtocol], [at('10.0.0.3:9000'), 'client', undefined]);
  });

  test('the client’s address is kept only where that is wanted', () => {
    const state = world({});
    const kept = delivered(resolveInbound(state, arrival(state, 'server', '10.0.0.2:80')));
    const plain = delivered(resolveInbound(state, arrival(state, 'server', '10.0.0.2:80', { preserveSource: false })));
    assert.deepEqual([kept.bindSource, plain.bindSource], ['client', 'none']);
  });
});

describe('the service to report (9.4)', () => {
  const namespace = 'default';
  const state = mesh({
    workloads: [
      pod('server', {
        namespace,
        ips: ['10.0.0.2'],
        services: { 'default/a': { 80: 8080 }, 'default/b': { 90: 9090 }, 'default/gone': { 1: 1 } },
      }),
    ],
    services: [
      service('a', { namespace, hostname: 'a', ports: { 80: 8080 } }),
      service('b', { namespace, hostname: 'b', ports: { 90: 0 } }),
    ],
  });
  const route = delivered(resolveInbound(state, arrival(state, 'server', '10.0.0.2:9090')));

  test('is the one the client named, if it is a candidate', () => {
    assert.equal(guessService(route, 'a', 9090)?.name, 'a');
    assert.equal(guessService(route, 'evil', 9090)?.name, 'b');
  });

  test('is else the first with that port, also one only the endpoint maps', () => {
    assert.equal(guessService(route, undefined, 8080)?.name, 'a');
    assert.equal(guessService(route, undefined, 9090)?.name, 'b');
    assert.equal(guessService(route, undefined, 1), undefined);
  });
});

describe('with policies', () => {
  const denyPlain: Policy = {
    name: 'strict',
    namespace: 'default',
    scope: 'Namespace',
    action: 'Deny',
    dryRun: false,
    rules: [[[createMatch({ notPrincipals: [{ kind: 'presence' }] })]]],
  };
  const state = world({});
  state.applyBatch({ upsertPolicies: [{ key: 'default/strict', policy: denyPlain }] });
  const identity = { trustDomain: 'cluster.local', namespace: 'default', serviceAccount: 'client' };

  test('S6: a denied stream is 401', () => {
    const input = { ...arrival(state, 'server', '10.0.0.2:80'), source: at('10.0.0.1:1') };
    const denied = planInbound(state, { ...input, identity: undefined });
    assert.deepEqual(denied.kind === 'deny' && [denied.status, denied.reason], [401, 'policy.denied_by']);
    const allowed = planInbound(state, { ...input, identity });
    assert.equal(allowed.kind, 'deliver');
  });

  test('P5: plain text has no identity', () => {
    const base = arrival(state, 'server', '');
    const input = { ...base, destination: at('10.0.0.2:80'), source: at('10.0.0.1:1') };
    const plan = planPassthrough(state, input);
    assert.equal(
      plan.kind === 'deny' && plan.error,
      'connection closed due to policy rejection: explicitly denied by: default/strict',
    );
  });

  test('policies see the application tunnel’s port', () => {
    const onPort: Policy = { ...denyPlain, name: 'port', rules: [[[createMatch({ destinationPorts: [15088] })]]] };
    const tunnelled = world({ onService: 'vip', tunnel: PROXY });
    tunnelled.applyBatch({ upsertPolicies: [{ key: 'default/port', policy: onPort }] });
    const input = { ...arrival(tunnelled, 'waypoint', '10.10.0.1:80'), source: at('10.0.0.1:1'), identity };
    assert.equal(planInbound(tunnelled, input).kind, 'deny');
  });

  test('a client that is the workload itself is not imitated', () => {
    const input = { ...arrival(state, 'server', '10.0.0.2:80'), source: at('10.0.0.2:1'), identity };
    const plan = planInbound(state, input);
    assert.equal(plan.kind === 'deliver' && plan.bindSource, 'none');
  });
});

describe('plain text (15006)', () => {
  const state = world({});
  const input = (destination: string) => ({ ...arrival(state, 'server', ''), destination: at(destination) });

  test('P1: the proxy’s own ports are refused', () => {
    assert.match(outcome(resolvePassthrough(state, input('10.0.0.2:15008'))), /^503 route\.illegal_port/);
  });

  test('P2: an unknown workload is refused', () => {
    assert.match(
      outcome(resolvePassthrough(state, { ...input('10.0.0.2:80'), self: undefined })),
      /^503 identity\.unknown_source/,
    );
  });

  test('P6: everything else goes where it was going', () => {
    const route = delivered(resolvePassthrough(state, input('10.0.0.2:8080')));
    assert.deepEqual([route.target, route.dial], [at('10.0.0.2:8080'), at('10.0.0.2:8080')]);
    assert.equal(guessService(route, undefined, 8080)?.name, 'server');
  });
});

test('parseHboneAuthority reads addresses and host names', () => {
  assert.deepEqual(parseHboneAuthority('10.0.0.1:80'), { kind: 'address', address: at('10.0.0.1:80') });
  assert.deepEqual(parseHboneAuthority('[fd00::1]:80'), { kind: 'address', address: at('[fd00::1]:80') });
  assert.deepEqual(parseHboneAuthority('a.b:65535'), { kind: 'hostname', hostname: 'a.b', port: 65535 });
  for (const text of [`${'a'.repeat(254)}:1`, 'a:b:1', 'user@host:1', 'a/b:1', '-a:1', 'a:', 'a']) {
    assert.equal(parseHboneAuthority(text), undefined, text);
  }
});
