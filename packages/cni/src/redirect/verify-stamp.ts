// The proof of a clean state: cheap to take again, and different after any commit to nftables (iptables-nft included), any
// change of routing rules or of table 100, for another plan, and in another namespace.
import { hash } from 'node:crypto';
import { type NetNs, nftGeneration } from '@ambit/native';
import type { VerifyStamp } from './redirect-plan.ts';
import type { RoutingState } from './redirect-routes.ts';
import { orThrow } from './visit.ts';

/** Inside the namespace. @param key the plan as text @throws CniError enrol.rules */
export function takeStamp(netns: NetNs, key: string, routing: RoutingState): VerifyStamp {
  const generation = orThrow('enrol.rules', 'the generation of the rules cannot be read', () => nftGeneration());
  const { dev, ino } = netns.identity;
  return { generation, digest: hash('sha256', `${dev}:${ino}\n${key}\n${JSON.stringify(routing)}`) };
}

export function sameStamp(a: VerifyStamp, b: VerifyStamp): boolean {
  return a.generation === b.generation && a.digest === b.digest;
}
