// Ranking endpoints by how close they are to the client. Health and usability are decided before (selection.ts), the
// draw after (pick.ts). Empty localities compare equal, as upstream has it.
import type { LoadBalancer, RoutingScope } from './service.ts';
import type { Workload } from './workload.ts';

export interface Rank {
  /** Higher is closer. */
  readonly rank: number;
  /** Whether every preference matched. */
  readonly isFullMatch: boolean;
}

/**
 * Walks the preferences and counts matches until the first mismatch. NETWORK as the first preference is special: a match
 * outweighs all others together, and a mismatch does not end the walk, so remote endpoints are ranked among themselves.
 */
export function rankWorkload(preferences: readonly RoutingScope[], client: Workload, candidate: Workload): Rank {
  let matched = 0;
  let bonus = 0;
  for (const [index, scope] of preferences.entries()) {
    const matches = scopeOf(scope, client) === scopeOf(scope, candidate);
    if (matches) matched++;
    if (index === 0 && scope === 'Network') {
      if (matches) bonus = preferences.length - 1;
    } else if (!matches) break;
  }
  return { rank: matched + bonus, isFullMatch: matched === preferences.length };
}

/**
 * Groups candidates into tiers, best first, each in the order given. Without preferences all are one tier. STRICT keeps
 * only full matches. FAILOVER keeps all: a client uses the first tier, and later ones once all of it failed to connect.
 */
export function tierByLocality<T extends { readonly workload: Workload }>(
  candidates: readonly T[],
  loadBalancer: LoadBalancer | undefined,
  client: Workload,
): readonly (readonly T[])[] {
  if (candidates.length === 0) return [];
  if (loadBalancer === undefined || loadBalancer.mode === 'Standard') return [candidates];
  const preferences = loadBalancer.routingPreferences;
  const tiers = new Map<number, T[]>();
  for (const candidate of candidates) {
    const { rank, isFullMatch } = rankWorkload(preferences, client, candidate.workload);
    if (loadBalancer.mode === 'Strict' && !isFullMatch) continue;
    const tier = tiers.get(rank);
    if (tier === undefined) tiers.set(rank, [candidate]);
    else tier.push(candidate);
  }
  return [...tiers].toSorted(([a], [b]) => b - a).map(([, tier]) => tier);
}

function scopeOf(scope: RoutingScope, workload: Workload): string {
  switch (scope) {
    case 'Region':
      return workload.locality.region;
    case 'Zone':
      return workload.locality.zone;
    case 'Subzone':
      return workload.locality.subzone;
    case 'Node':
      return workload.node;
    case 'Cluster':
      return workload.clusterId;
    case 'Network':
      return workload.network;
  }
}
