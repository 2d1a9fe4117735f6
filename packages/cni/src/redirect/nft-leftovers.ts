// Tables that an agent with the nftables back end left in a namespace which iptables programs now. Acts in the namespace
// the thread is in; where the kernel or the system has no nftables there can be none.
import { Nftables, runNft } from '@ambit/native';
import { REDIRECT_TABLES, renderNftRemoval } from './nft-redirect.ts';
import { areAbsent } from './nft-tables.ts';
import type { Drift } from './redirect-plan.ts';
import { orThrow } from './visit.ts';

export function nftLeftoverDrift(): readonly Drift[] {
  return hasTables() ? [{ part: 'rules', what: 'tables istio-ambient-* of nftables are left over' }] : [];
}

/** @throws CniError enrol.rules */
export function removeNftLeftovers(): void {
  if (!hasTables()) return;
  orThrow('enrol.rules', 'tables of the nftables back end cannot be removed', () => runNft(renderNftRemoval()));
}

function hasTables(): boolean {
  if (!Nftables.available()) return false;
  try {
    return !areAbsent(REDIRECT_TABLES);
  } catch {
    return false; // a kernel without nf_tables
  }
}
