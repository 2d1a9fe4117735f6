// Keeps a route small. A worker holds one route per (pod, destination) and draws from it; a service of 10 000 endpoints
// would make that route megabytes. Beyond the limit each client keeps its own fixed sample: a hash of client and endpoint
// decides, so different clients keep different ones and together they still reach every endpoint evenly.

/** Endpoints kept of the tier that serves connections. */
export const FIRST_TIER_LIMIT = 1024;
/** Endpoints kept of each later tier, which only serve when dials fail. */
export const LATER_TIER_LIMIT = 64;

const HASH_RANGE = 2 ** 32;
const MARGIN = 1.3;

export function limitTier<T extends { readonly workload: { readonly uid: string } }>(
  tier: readonly T[],
  limit: number,
  clientUid: string,
): readonly T[] {
  if (tier.length <= limit) return tier;
  const seed = fnv1a(0x811c9dc5, clientUid);
  const hashed = tier.map(item => ({ item, hash: mix(fnv1a(seed, item.workload.uid)) }));
  // Hashes are uniform, so the smallest `limit` of them nearly always lie below this line: sort only those.
  const line = (HASH_RANGE * limit * MARGIN) / tier.length;
  const low = hashed.filter(entry => entry.hash < line);
  const enough = low.length >= limit ? low : hashed;
  enough.sort((a, b) => a.hash - b.hash);
  return enough.slice(0, limit).map(entry => entry.item);
}

function fnv1a(seed: number, text: string): number {
  let hash = seed;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** FNV leaves the order of similar texts nearly as it was; this spreads the last characters over all bits. */
function mix(hash: number): number {
  let mixed = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
