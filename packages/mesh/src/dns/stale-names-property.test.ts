// A decision that was not said to be stale must be what one would decide now; and what did not matter must not be said.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { balancer, mesh, pod, service } from '../../test/fixture.ts';
import type { Service } from '../service.ts';
import type { MeshBatch, MeshState } from '../state.ts';
import type { Workload } from '../workload.ts';
import { resolveName } from './resolve-name.ts';
import { isStaleName } from './stale-names.ts';
import type { DnsClient, DnsDecision, DnsQuestion, DnsSettings, StaleNames } from './types.ts';

const SETTINGS: DnsSettings = {
  clusterDomain: 'cluster.local',
  ipv6: true,
  preferredNamespace: 'n2',
  searchDomains: undefined,
};
const HOSTS = ['a.n1.svc.cluster.local', 'A.n1.svc.cluster.local', 'b.n1.svc.cluster.local', 'a.B', '*.b'];
const NAMES = ['a.n1', 'a.n1', 'b.n1', 'a.b', 'x.b', 'p.a.n1', 'q.a.n1', 'r.b.n1', 'h.b.n1'];
const SUFFIXES = ['', '.svc.cluster.local', '.n1.svc.cluster.local', '.cluster.local'];

const anyService: fc.Arbitrary<Service> = fc
  .record({
    host: fc.constantFrom(...HOSTS),
    namespace: fc.constantFrom('n1', 'n2'),
    vips: fc.constantFrom([], [], ['/10.0.0.1'], ['/10.0.0.2', '/fd00::2'], ['far/10.0.0.3']),
    canonical: fc.boolean(),
    visibility: fc.constantFrom('Public', 'Public', 'Namespace'),
    ipFamilies: fc.constantFrom(undefined, undefined, 'IPv4', 'IPv6'),
    allowAll: fc.boolean(),
    declared: fc.constantFrom([], [], ['p'], ['p', 'q']),
  })
  .map(({ host, namespace, allowAll, declared, ...rest }) =>
    service(host, {
      hostname: host,
      namespace,
      loadBalancer: allowAll ? balancer('Standard', [], 'AllowAll') : undefined,
      endpoints: new Map(
        declared.map(name => [
          `u-${name}`,
          { workloadUid: `u-${name}`, port: new Map<number, number>(), status: 'Healthy' as const },
        ]),
      ),
      ...rest,
    }),
  );

const anyWorkload: fc.Arbitrary<Workload> = fc
  .record({
    name: fc.constantFrom('p', 'q', 'r'),
    ips: fc.constantFrom([], ['10.1.0.1'], ['10.1.0.2', 'fd00::9']),
    status: fc.constantFrom('Healthy', 'Healthy', 'Unhealthy'),
    network: fc.constantFrom('', '', 'far'),
    hostname: fc.constantFrom('', 'h', 'p.a.n1.svc.cluster.local'),
    node: fc.constantFrom('here', 'there'),
    member: fc.subarray(HOSTS, { maxLength: 2 }),
    namespace: fc.constantFrom('n1', 'n2'),
  })
  .map(({ name, member, namespace, ...rest }) =>
    pod(name, {
      ...rest,
      uid: `u-${name}`,
      services: Object.fromEntries(member.map(host => [`${namespace}/${host}`, { 80: 80 }])),
    }),
  );

/** Other values for one field of something that is there: changes that only a careful comparison notices. */
interface Alteration {
  readonly pick: number;
  readonly service?: Partial<Service>;
  readonly workload?: Partial<Workload>;
}

const anyAlteration: fc.Arbitrary<Alteration> = fc.oneof(
  fc.record({
    pick: fc.nat(),
    service: anyService.chain(({ vips, canonical, visibility, ipFamilies, loadBalancer, endpoints }) =>
      fc.constantFrom({ vips }, { canonical }, { visibility }, { ipFamilies }, { loadBalancer }, { endpoints }),
    ),
  }),
  fc.record({
    pick: fc.nat(),
    workload: anyWorkload.chain(({ name, workloadIps, status, network, hostname, services }) =>
      fc.constantFrom({ name }, { workloadIps }, { status }, { network }, { hostname }, { services }),
    ),
  }),
);

type Change = MeshBatch | Alteration | 'replaceAll';

const anyChange: fc.Arbitrary<Change> = fc.oneof(
  { weight: 40, arbitrary: anyAlteration },
  { weight: 10, arbitrary: fc.record({ upsertServices: fc.array(anyService, { maxLength: 2 }) }) },
  { weight: 10, arbitrary: fc.record({ upsertWorkloads: fc.array(anyWorkload, { maxLength: 2 }) }) },
  {
    weight: 10,
    arbitrary: fc.record({
      removeAddresses: fc.array(fc.constantFrom('u-p', 'u-q', ...HOSTS.flatMap(host => [`n1/${host}`, `n2/${host}`])), {
        maxLength: 2,
      }),
    }),
  },
  { weight: 1, arbitrary: fc.constant('replaceAll' as const) },
);

function change(state: MeshState, by: Change): void {
  if (by === 'replaceAll') state.replaceAll({ services: [], workloads: [], policies: [] });
  else if ('pick' in by) state.applyBatch(alter(state, by));
  else state.applyBatch(by);
}

function alter(state: MeshState, { pick, service: ofService, workload: ofWorkload }: Alteration): MeshBatch {
  const services = [...state.services()];
  const workloads = [...state.workloads()];
  const altered = services[pick % services.length];
  const moved = workloads[pick % workloads.length];
  return {
    upsertServices: altered === undefined || ofService === undefined ? [] : [{ ...altered, ...ofService }],
    upsertWorkloads: moved === undefined || ofWorkload === undefined ? [] : [{ ...moved, ...ofWorkload }],
  };
}

interface Asked {
  readonly client: DnsClient;
  readonly question: DnsQuestion;
}

const anyQuestion: fc.Arbitrary<Asked> = fc.record({
  client: fc.record({ namespace: fc.constantFrom('n1', 'n2'), network: fc.constantFrom('', 'far') }),
  question: fc.record({
    name: fc.tuple(fc.constantFrom(...NAMES), fc.constantFrom(...SUFFIXES)).map(parts => parts.join('')),
    type: fc.constantFrom('A', 'AAAA'),
  }),
});

/** Without the steps, which may say more after a change that did not matter, and in no order. */
function essence(decision: DnsDecision): unknown {
  if (decision.kind !== 'answer') return decision.kind;
  const { steps: _, ...rest } = decision;
  return { ...rest, addresses: decision.addresses.toSorted() };
}

const decide = (state: MeshState, { client, question }: Asked): unknown =>
  essence(resolveName(state, client, question, SETTINGS));

test('what was told holds until its name is said to be stale', () => {
  fc.assert(
    fc.property(
      fc.array(anyService, { minLength: 3, maxLength: 6 }),
      fc.array(anyWorkload, { minLength: 2, maxLength: 4 }),
      fc.array(anyQuestion, { minLength: 8, maxLength: 20 }),
      fc.array(anyChange, { minLength: 1, maxLength: 8 }),
      (services, workloads, questions, changes) => {
        const state = mesh({ services, workloads });
        const told = new Map(questions.map(asked => [asked, decide(state, asked)]));
        for (const each of changes) {
          change(state, each);
          const stale = state.takeStaleNames();
          for (const [asked, decision] of told) {
            const now = decide(state, asked);
            if (stale !== undefined && isStaleName(stale, asked.question.name)) told.set(asked, now);
            else assert.deepEqual(now, decision, `stale without a word: ${JSON.stringify(asked)}`);
          }
        }
      },
    ),
    { seed: 20261124, numRuns: 600 },
  );
});

test('an index that follows the mesh answers as one made of it anew', () => {
  fc.assert(
    fc.property(
      fc.array(anyChange, { minLength: 1, maxLength: 12 }),
      fc.array(anyQuestion, { minLength: 1, maxLength: 12 }),
      (changes, questions) => {
        const state = mesh({});
        assert.equal(state.names.hasWildcards, false);
        for (const each of changes) {
          change(state, each);
        }
        const anew = mesh({ services: [...state.services()], workloads: [...state.workloads()] });
        for (const asked of questions) assert.deepEqual(decide(state, asked), decide(anew, asked));
      },
    ),
    { seed: 20261125, numRuns: 400 },
  );
});

describe('what does not matter makes nothing stale:', () => {
  const behind = (name: string, fields: Parameters<typeof pod>[1] = {}): Workload =>
    pod(name, {
      ips: ['10.1.0.1'],
      services: { 'n1/vip.n1.svc.cluster.local': { 80: 80 }, 'n1/bare.n1.svc.cluster.local': { 80: 80 } },
      ...fields,
    });
  const vip = service('vip', { namespace: 'n1', vips: ['/10.0.0.1'], ports: { 80: 80 } });
  const bare = service('bare', { namespace: 'n1' });
  const asked = (): MeshState => {
    const state = mesh({ services: [vip, bare], workloads: [behind('p')] });
    assert.equal(state.names.named('vip.n1.svc.cluster.local').length, 1);
    return state;
  };
  const after = (batch: MeshBatch): StaleNames | undefined => {
    const state = asked();
    state.applyBatch(batch);
    return state.takeStaleNames();
  };
  const only = (label: string): StaleNames => ({ kind: 'labels', labels: new Set([label]) });

  test('a service that is told again, or with other ports', () => {
    assert.equal(after({ upsertServices: [vip] }), undefined);
    assert.equal(
      after({ upsertServices: [service('vip', { namespace: 'n1', vips: ['/10.0.0.1'], ports: { 80: 81 } })] }),
      undefined,
    );
  });
  test('a pod that is told again, or with other labels of its traffic', () => {
    assert.equal(after({ upsertWorkloads: [behind('p')] }), undefined);
    assert.equal(after({ upsertWorkloads: [behind('p', { capacity: 7, node: 'n' })] }), undefined);
  });
  test('a pod behind a service with an address of its own', () => {
    const services = { 'n1/vip.n1.svc.cluster.local': { 80: 80 } };
    assert.equal(after({ upsertWorkloads: [behind('new', { services })] }), undefined);
  });
  test('a policy', () => assert.equal(after({ removePolicies: ['x'] }), undefined));
  test('and what matters concerns its own label only', () => {
    assert.deepEqual(after({ upsertWorkloads: [behind('new')] }), only('bare'));
    assert.deepEqual(after({ removeWorkloads: [pod('p').uid] }), only('bare'));
    assert.deepEqual(after({ removeServices: ['n1/vip.n1.svc.cluster.local'] }), only('vip'));
  });
  test('nothing is noted before anybody asks for names', () => {
    const state = mesh({ services: [vip] });
    state.replaceAll({ services: [bare], workloads: [], policies: [] });
    assert.equal(state.takeStaleNames(), undefined);
  });
});

describe('a pod\u2019s own name follows', () => {
  const bare = service('bare', { namespace: 'n1' });
  const member = (fields: Parameters<typeof pod>[1]): Workload =>
    pod('p', { ips: ['10.1.0.1'], services: { 'n1/bare.n1.svc.cluster.local': { 80: 80 } }, ...fields });
  const asked: Asked = {
    client: { namespace: 'n1', network: '' },
    question: { name: 'p.bare.n1.svc.cluster.local', type: 'A' },
  };
  const told = (address: string) => ({
    kind: 'answer',
    canonical: undefined,
    addresses: [address],
    ttlSeconds: 5,
    service: bare.hostname,
  });

  test('its address and its health', () => {
    const state = mesh({ services: [bare], workloads: [member({})] });
    assert.deepEqual(decide(state, asked), told('10.1.0.1'));
    state.applyBatch({ upsertWorkloads: [member({ ips: ['10.1.0.2'] })] });
    assert.deepEqual(decide(state, asked), told('10.1.0.2'));
    state.applyBatch({ upsertWorkloads: [member({ ips: ['10.1.0.2'], status: 'Unhealthy' })] });
    assert.equal(decide(state, asked), 'forward');
    state.takeStaleNames();
    state.applyBatch({ upsertServices: [{ ...bare, loadBalancer: balancer('Standard', [], 'AllowAll') }] });
    assert.deepEqual(state.takeStaleNames(), { kind: 'labels', labels: new Set(['bare']) });
    assert.deepEqual(decide(state, asked), told('10.1.0.2'));
  });
});
