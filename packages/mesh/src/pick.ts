// Draws the hop of one connection from a route. This runs in a data worker for every connection, so it allocates nothing
// but a refusal. Randomness is injected: `random()` is uniform in [0, 1).
import { formatIpPort, type Ip } from './address.ts';
import type { Denial, Hop, HopGroup, HopsRoute } from './route.ts';

const EXHAUSTED: Denial = Object.freeze({
  kind: 'deny',
  reason: 'route.no_healthy_endpoint',
  error: 'no healthy upstream: every endpoint was tried',
});

/**
 * A hop of the first tier that has one left, by weight. `exclude` holds hops that already failed for this connection; a
 * retry stays in the group its first hop came from, so that a share given to one waypoint never leaks to another.
 */
export function pickHop(route: HopsRoute, random: () => number, exclude?: ReadonlySet<Hop>): Hop | Denial {
  const isRetry = exclude !== undefined && exclude.size > 0;
  const group = (isRetry ? triedGroup(route, exclude) : undefined) ?? drawGroup(route.groups, random);
  if (group === undefined) return EXHAUSTED;
  if (group.deny !== undefined) return group.deny;
  for (const tier of group.tiers) {
    const hop = drawHop(tier, random, isRetry ? exclude : undefined);
    if (hop !== undefined) return hop;
  }
  return EXHAUSTED;
}

/** The same hop with the address its host name resolved to. A hop that has an address is returned as it is. */
export function resolveHop(hop: Hop, ip: Ip): Hop {
  if ('ip' in hop.dial) return hop;
  const { port, authorityPort } = hop.dial;
  const authority = authorityPort === undefined ? hop.authority : formatIpPort(ip, authorityPort);
  return { ...hop, dial: { ip, port }, authority };
}

function triedGroup(route: HopsRoute, tried: ReadonlySet<Hop>): HopGroup | undefined {
  if (route.groups.length === 1) return route.groups[0];
  return route.groups.find(group => group.tiers.some(tier => tier.some(hop => tried.has(hop))));
}

function drawGroup(groups: readonly HopGroup[], random: () => number): HopGroup | undefined {
  if (groups.length === 1) return groups[0];
  let total = 0;
  for (const group of groups) total += group.weight;
  if (!(total > 0)) return undefined;
  let left = random() * total;
  for (const group of groups) {
    left -= group.weight;
    if (left < 0) return group;
  }
  return groups.at(-1);
}

function drawHop(tier: readonly Hop[], random: () => number, exclude: ReadonlySet<Hop> | undefined): Hop | undefined {
  let total = 0;
  for (const hop of tier) if (exclude === undefined || !exclude.has(hop)) total += hop.weight;
  if (!(total > 0)) return undefined;
  let left = random() * total;
  let last: Hop | undefined;
  for (const hop of tier) {
    if (hop.weight <= 0 || exclude?.has(hop) === true) continue;
    left -= hop.weight;
    if (left < 0) return hop;
    last = hop;
  }
  // Rounding may leave a sliver behind the last hop.
  return last;
}
