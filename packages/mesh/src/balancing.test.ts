import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { balancer, pod } from '../test/fixture.ts';
import { rankWorkload, tierByLocality } from './balancing.ts';
import type { RoutingScope } from './service.ts';
import type { Workload } from './workload.ts';

const PREFERENCES: readonly RoutingScope[] = ['Network', 'Region', 'Zone'];

function placed(name: string, network: string, region: string, zone: string, node = '', clusterId = ''): Workload {
  return pod(name, { network, node, clusterId, locality: { region, zone, subzone: '' } });
}

const client = placed('client', 'net', 'r', 'z');
const candidates = {
  all: placed('all', 'net', 'r', 'z'),
  region: placed('region', 'net', 'r', 'other'),
  network: placed('network', 'net', 'other', 'z'),
  remoteZone: placed('remoteZone', 'far', 'r', 'z'),
  remoteRegion: placed('remoteRegion', 'far', 'r', 'other'),
  nothing: placed('nothing', 'far', 'other', 'z'),
};

function names(
  mode: 'Standard' | 'Strict' | 'Failover' | 'Passthrough',
  of: readonly Workload[],
  preferences = PREFERENCES,
) {
  const tiers = tierByLocality(
    of.map(workload => ({ workload })),
    balancer(mode, preferences),
    client,
  );
  return tiers.map(tier => tier.map(({ workload }) => workload.name));
}

test('ranks over [network, region, zone] are those upstream documents', () => {
  const ranks = Object.values(candidates).map(candidate => rankWorkload(PREFERENCES, client, candidate).rank);
  assert.deepEqual(ranks, [5, 4, 3, 2, 1, 0]);
});

test('only a full match satisfies STRICT, and the network bonus does not make one', () => {
  const full = Object.values(candidates).map(candidate => rankWorkload(PREFERENCES, client, candidate).isFullMatch);
  assert.deepEqual(full, [true, false, false, false, false, false]);
});

test('a network preference that is not the first has no bonus and ends the walk', () => {
  const order: readonly RoutingScope[] = ['Region', 'Network', 'Zone'];
  assert.deepEqual(rankWorkload(order, client, candidates.remoteZone), { rank: 1, isFullMatch: false });
  assert.deepEqual(rankWorkload(order, client, candidates.all), { rank: 3, isFullMatch: true });
});

test('empty localities are equal', () => {
  assert.equal(rankWorkload(['Region'], pod('a'), pod('b')).isFullMatch, true);
});

test('node, cluster and subzone are compared as they are', () => {
  const one = placed('one', '', '', '', 'n1', 'c1');
  assert.equal(rankWorkload(['Node', 'Cluster', 'Subzone'], one, placed('two', '', '', '', 'n1', 'c1')).rank, 3);
  assert.equal(rankWorkload(['Node', 'Cluster'], one, placed('two', '', '', '', 'n1', 'c2')).rank, 1);
});

describe('S5: choosing', () => {
  const { all, region, network, remoteZone, nothing } = candidates;
  test('STRICT without a match is empty, with one it is that', () => {
    assert.deepEqual(names('Strict', [region, network, remoteZone]), []);
    assert.deepEqual(names('Strict', [all, region]), [['all']]);
  });
  test('FAILOVER prefers the best and keeps the rest behind it', () => {
    assert.deepEqual(names('Failover', [nothing]), [['nothing']]);
    assert.deepEqual(names('Failover', [nothing, region, all]), [['all'], ['region'], ['nothing']]);
    assert.deepEqual(names('Failover', [remoteZone, nothing]), [['remoteZone'], ['nothing']]);
    assert.deepEqual(names('Passthrough', [region, all]), [['all'], ['region']]);
  });
  test('without preferences everything is equal', () => {
    assert.deepEqual(names('Standard', [nothing, all]), [['nothing', 'all']]);
    assert.deepEqual(names('Failover', [nothing, all], []), [['nothing', 'all']]);
    assert.deepEqual(tierByLocality([{ workload: all }], undefined, client), [[{ workload: all }]]);
  });
});

describe('whatever the placement', () => {
  const spot = fc.constantFrom('a', 'b', '');
  const workload = fc.tuple(spot, spot, spot, spot, spot).map(([n, r, z, node, c]) => placed('w', n, r, z, node, c));
  const scopes: readonly RoutingScope[] = ['Region', 'Zone', 'Subzone', 'Node', 'Cluster', 'Network'];
  const preferences = fc.shuffledSubarray([...scopes]);

  test('nothing ranks above the client itself, and the client is a full match', () => {
    fc.assert(
      fc.property(preferences, workload, workload, (order, self, other) => {
        const best = rankWorkload(order, self, self);
        const rank = rankWorkload(order, self, other);
        assert.ok(best.isFullMatch);
        assert.ok(rank.rank >= 0 && rank.rank <= best.rank);
        assert.equal(rank.isFullMatch, rank.rank === best.rank);
      }),
      { seed: 31, numRuns: 2000 },
    );
  });

  test('with the network first, every local endpoint ranks above every remote one', () => {
    fc.assert(
      fc.property(preferences, workload, workload, workload, (order, self, local, remote) => {
        const first: readonly RoutingScope[] = ['Network', ...order.filter(scope => scope !== 'Network')];
        const near = rankWorkload(first, self, { ...local, network: self.network });
        const far = rankWorkload(first, self, { ...remote, network: `${self.network}!` });
        assert.ok(near.rank > far.rank || first.length === 1);
      }),
      { seed: 32, numRuns: 2000 },
    );
  });

  test('FAILOVER loses and repeats nobody, and orders tiers by rank', () => {
    fc.assert(
      fc.property(preferences, workload, fc.array(workload, { maxLength: 12 }), (order, self, others) => {
        const items = others.map(other => ({ workload: other }));
        const tiers = tierByLocality(items, balancer('Failover', order), self);
        assert.deepEqual(new Set(tiers.flat()), new Set(items));
        assert.equal(tiers.flat().length, items.length);
        const ranks = tiers.map(tier => new Set(tier.map(item => rankWorkload(order, self, item.workload).rank)));
        assert.ok(ranks.every(set => set.size === 1));
        const flat = ranks.flatMap(set => [...set]);
        assert.deepEqual(
          flat,
          flat.toSorted((a, b) => b - a),
        );
      }),
      { seed: 33, numRuns: 1000 },
    );
  });
});
