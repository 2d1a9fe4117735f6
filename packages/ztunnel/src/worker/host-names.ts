// Addresses of endpoints that have only a host name, found when somebody connects (outbound-inbound.md 5.4). Asked of the
// node's resolvers in the proxy's own network and never of the mesh: there the name may be that of the service in front of
// the endpoint, whose automatic address leads back here. Kept as long as the resolver says; who asks for the same waits for
// the one answer. Host names are absolute: no search list is tried.
import type { Ip, IpFamily } from '@ambit/mesh';
import type { HostAddresses } from '../dns/host-addresses.ts';

export type HostOutcome =
  /** At least one, in no order that matters; of the wanted family unless there is none. */
  | { readonly kind: 'found'; readonly addresses: readonly Ip[] }
  | { readonly kind: 'failed'; readonly reason: 'dns.lookup_failed' | 'dns.no_addresses'; readonly error: string };

export interface HostNamesDeps {
  /** Asks resolvers for addresses of one family. `then` is called once, perhaps before this returns. */
  readonly resolve: (hostname: string, family: IpFamily, then: (found: HostAddresses) => void) => void;
  readonly nowMs: () => number;
}

interface Kept {
  readonly outcome: HostOutcome;
  readonly untilMs: number;
}

/** As upstream's cache. */
const MAX_KEPT = 4096;
/** Names asked for at once; more come of a resolver that hangs, and would only wait longer. */
const MAX_ASKING = 1024;
/** A name that does not resolve is asked for once a second, however many connections want it. */
const FAILURE_KEPT_MS = 1000;

export class HostNames {
  readonly #deps: HostNamesDeps;
  /** Undefined: both families may be asked for. */
  readonly #only: IpFamily | undefined;
  readonly #kept = new Map<string, Kept>();
  readonly #asking = new Map<string, Array<(outcome: HostOutcome) => void>>();

  /** Without IPv6 only IPv4 addresses are looked up (`IPV6_ENABLED`). */
  constructor(deps: HostNamesDeps, options: { readonly ipv6: boolean }) {
    this.#deps = deps;
    this.#only = options.ipv6 ? undefined : 'ipv4';
  }

  /** `then` is called once, perhaps before this returns. */
  lookup(hostname: string, wanted: IpFamily, then: (outcome: HostOutcome) => void): void {
    const family = this.#only ?? wanted;
    const key = `${family} ${hostname}`;
    const kept = this.#kept.get(key);
    if (kept !== undefined && this.#deps.nowMs() < kept.untilMs) {
      then(kept.outcome);
      return;
    }
    const waiting = this.#asking.get(key);
    if (waiting !== undefined) {
      waiting.push(then);
      return;
    }
    if (this.#asking.size >= MAX_ASKING) {
      then({ kind: 'failed', reason: 'dns.lookup_failed', error: 'too many host names are being looked up' });
      return;
    }
    this.#asking.set(key, [then]);
    this.#ask(key, hostname, family);
  }

  /** The wanted family first; the other one is better than nothing. */
  #ask(key: string, hostname: string, family: IpFamily): void {
    const { resolve } = this.#deps;
    resolve(hostname, family, first => {
      const other: IpFamily = family === 'ipv4' ? 'ipv6' : 'ipv4';
      if (hasAddresses(first) || this.#only !== undefined) this.#answer(key, hostname, first, first);
      else resolve(hostname, other, second => this.#answer(key, hostname, first, second));
    });
  }

  #answer(key: string, hostname: string, first: HostAddresses, last: HostAddresses): void {
    const outcome = outcomeOf(hostname, first, last);
    const ttlMs = last.kind === 'addresses' && outcome.kind === 'found' ? last.ttlSeconds * 1000 : FAILURE_KEPT_MS;
    this.#kept.delete(key);
    this.#kept.set(key, { outcome, untilMs: this.#deps.nowMs() + ttlMs });
    if (this.#kept.size > MAX_KEPT) {
      const oldest = this.#kept.keys().next();
      if (oldest.done !== true) this.#kept.delete(oldest.value);
    }
    const waiting = this.#asking.get(key) ?? [];
    this.#asking.delete(key);
    for (const then of waiting) then(outcome);
  }
}

/** The same addresses from a random one on: load spreads over all, and one that fails is followed by its neighbour. */
export function startingAnywhere(addresses: readonly Ip[], random: () => number): readonly Ip[] {
  const start = Math.floor(random() * addresses.length);
  return [...addresses.slice(start), ...addresses.slice(0, start)];
}

function hasAddresses(found: HostAddresses): boolean {
  return found.kind === 'addresses' && found.addresses.length > 0;
}

function outcomeOf(hostname: string, first: HostAddresses, last: HostAddresses): HostOutcome {
  if (last.kind === 'addresses' && last.addresses.length > 0) return { kind: 'found', addresses: last.addresses };
  const failure = [first, last].find(found => found.kind === 'failed');
  if (failure?.kind === 'failed') {
    return { kind: 'failed', reason: 'dns.lookup_failed', error: `dns lookup failed: ${failure.error}` };
  }
  return { kind: 'failed', reason: 'dns.no_addresses', error: `dns lookup of ${hostname} gave no addresses` };
}
