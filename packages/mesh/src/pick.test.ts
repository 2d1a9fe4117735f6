import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { at, ip, seededRandom } from '../test/fixture.ts';
import { pickHop, resolveHop } from './pick.ts';
import type { Hop, HopGroup, HopsRoute } from './route.ts';

function hop(name: string, weight = 1, more: Partial<Hop> = {}): Hop {
  return {
    kind: 'hop',
    weight,
    protocol: 'TCP',
    dial: at('10.0.0.1:80'),
    authority: name,
    upstreamIdentities: [],
    finalIdentities: undefined,
    workload: undefined,
    service: undefined,
    originalDestination: at('10.0.0.1:80'),
    ...more,
  };
}

function route(...groups: readonly HopGroup[]): HopsRoute {
  return { kind: 'hops', groups, steps: [] };
}

const group = (tiers: readonly (readonly Hop[])[], weight = 1): HopGroup => ({ weight, tiers, deny: undefined });

function shares(of: HopsRoute, runs: number): Readonly<Record<string, number>> {
  const random = seededRandom(7);
  const counts: Record<string, number> = {};
  for (let run = 0; run < runs; run++) {
    const picked = pickHop(of, random);
    const name = picked.kind === 'hop' ? (picked.authority ?? '') : picked.reason;
    counts[name] = (counts[name] ?? 0) + 1 / runs;
  }
  return counts;
}

describe('pickHop', () => {
  test('S1: groups share connections by weight', () => {
    const counts = shares(route(group([[hop('a')]], 75), group([[hop('b')]], 25)), 10_000);
    assert.ok((counts['a'] ?? 0) > 0.7 && (counts['a'] ?? 0) < 0.8, JSON.stringify(counts));
  });

  test('hops of a tier share by weight and later tiers get nothing', () => {
    const counts = shares(route(group([[hop('a', 3), hop('b', 1)], [hop('c', 100)]])), 10_000);
    assert.ok(Math.abs((counts['a'] ?? 0) - 0.75) < 0.03, JSON.stringify(counts));
    assert.equal(counts['c'], undefined);
  });

  test('a hop that failed is left out, then its tier, then everything', () => {
    const [a, b, c] = [hop('a'), hop('b'), hop('c')];
    const of = route(group([[a, b], [c]]));
    assert.equal(
      pickHop(of, () => 0, new Set([a])),
      b,
    );
    assert.equal(
      pickHop(of, () => 0.99, new Set([a, b])),
      c,
    );
    const none = pickHop(of, () => 0, new Set([a, b, c]));
    assert.ok(none.kind === 'deny' && none.reason === 'route.no_healthy_endpoint');
  });

  test('a retry stays with the group of its first hop', () => {
    const [a, b] = [hop('a'), hop('b')];
    const of = route(group([[a]], 1), group([[b]], 1_000_000));
    const second = pickHop(of, () => 0.5, new Set([a]));
    assert.equal(second.kind, 'deny');
  });

  test('a refusing group refuses', () => {
    const deny = { kind: 'deny', reason: 'route.waypoint_unavailable', error: 'unknown waypoint' } as const;
    assert.equal(
      pickHop(route({ weight: 1, tiers: [], deny }), () => 0),
      deny,
    );
  });

  test('any draw and any weights give a hop that was allowed', () => {
    const weights = fc.array(
      fc.array(fc.double({ min: 1e-9, max: 1e9, noNaN: true }), { minLength: 1, maxLength: 5 }),
      {
        minLength: 1,
        maxLength: 3,
      },
    );
    const draw = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(weights, draw, fc.nat(), (tiers, number, skip) => {
        const hops = tiers.map(tier => tier.map((weight, index) => hop(String(index), weight)));
        const all = hops.flat();
        const excluded = new Set(all.slice(0, skip % all.length));
        const picked = pickHop(route(group(hops)), () => number, excluded);
        assert.ok(picked.kind === 'hop' && !excluded.has(picked));
        const firstLeft = hops.find(tier => tier.some(one => !excluded.has(one)));
        assert.ok(firstLeft?.includes(picked));
      }),
      { seed: 41, numRuns: 2000 },
    );
  });
});

describe('resolveHop', () => {
  test('fills in the address, and the authority where it is the workload’s own', () => {
    const dial = { hostname: 'db', port: 15008, family: 'ipv4', authorityPort: 5432 } as const;
    const direct = resolveHop(hop('', 1, { dial, authority: undefined }), ip('fd00::1'));
    assert.deepEqual([direct.dial, direct.authority], [at('[fd00::1]:15008'), '[fd00::1]:5432']);
    const waypoint = resolveHop(hop('10.0.0.9:80', 1, { dial: { ...dial, authorityPort: undefined } }), ip('10.0.0.2'));
    assert.deepEqual([waypoint.dial, waypoint.authority], [at('10.0.0.2:15008'), '10.0.0.9:80']);
  });

  test('leaves a hop with an address alone', () => {
    const one = hop('a');
    assert.equal(resolveHop(one, ip('10.0.0.2')), one);
  });
});
