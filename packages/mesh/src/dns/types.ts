// Names in the mesh: what a client asks and what the view of the mesh says to it. Pure data, plain enough to be posted to
// a data worker; the packets are somebody else's.
import type { Ip } from '../address.ts';

/** Who asks: the local workload whose pod the query came from. */
export interface DnsClient {
  readonly namespace: string;
  /** Network of the workload; addresses of other networks are not told. */
  readonly network: string;
}

export interface DnsQuestion {
  /** Lower case, no dot at the end; the root is the empty text. */
  readonly name: string;
  /** Only these two are ever answered here; every other type is forwarded without asking. */
  readonly type: 'A' | 'AAAA';
}

/** Why a decision is what it is, for whoever explains it. */
export interface DnsStep {
  readonly what: string;
}

export type DnsDecision =
  /** Not the mesh's name: the node's resolvers answer. */
  | { readonly kind: 'forward'; readonly steps: readonly DnsStep[] }
  | {
      readonly kind: 'answer';
      /** A name to which the asked one is an alias; the addresses then stand under it. */
      readonly canonical: string | undefined;
      /** Empty: the name exists and has no such record (NOERROR without data). In no order that matters. */
      readonly addresses: readonly Ip[];
      readonly ttlSeconds: number;
      /** Host name of the service that answered. */
      readonly service: string;
      readonly steps: readonly DnsStep[];
    }
  /** The mesh does not know who asks: SERVFAIL. */
  | { readonly kind: 'unknown_client'; readonly steps: readonly DnsStep[] };

export interface DnsSettings {
  /** Such as `cluster.local`. */
  readonly clusterDomain: string;
  readonly ipv6: boolean;
  /** Namespace preferred when a host name exists in several (PREFERED_SERVICE_NAMESPACE). */
  readonly preferredNamespace: string | undefined;
  /** Domains that a resolver may have appended; undefined: those of a pod in the client's namespace. */
  readonly searchDomains: readonly string[] | undefined;
}

/**
 * Which decisions no longer hold after the mesh changed. All names that a question may stand for begin with the same label,
 * and a pod's name has its service's as the second: so a change is said by labels, and a busy mesh flushes little.
 */
export type StaleNames =
  | { readonly kind: 'all' }
  /** Decisions about names whose first or second label is one of these. */
  | { readonly kind: 'labels'; readonly labels: ReadonlySet<string> };
