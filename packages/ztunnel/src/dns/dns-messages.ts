// What the main thread and a data worker say to each other about names. The decision is the main thread's: a worker asks
// once for each (namespace and network of the asking workload, name, type) and keeps the answer until it is told to forget.
import type { DnsDecision, DnsQuestion, Ip, StaleNames, WorkloadSummary } from '@ambit/mesh';

/** A name server of resolv.conf. */
export interface Resolver {
  readonly ip: Ip;
  readonly port: number;
}

/** What of resolv.conf(5) concerns forwarding. */
export interface ResolverSet {
  /** At most three, as in glibc; none: everything that has to be forwarded fails. */
  readonly resolvers: readonly Resolver[];
  /** Wait for one answer, 1 s to 30 s. */
  readonly timeoutMs: number;
  /** Rounds over all resolvers, 1 to 5. */
  readonly attempts: number;
  /** Begin each question with another resolver. */
  readonly rotate: boolean;
}

/** Of the DNS proxy; part of the worker's settings. */
export interface DnsProxySettings {
  /** `localhost`: 127.0.0.1 and, where the pod has it, ::1. Else the one address. */
  readonly address: Ip | 'localhost';
  readonly port: number;
  /** Whether ::1 is tried at all. */
  readonly ipv6: boolean;
  /** Whether somebody reads `dnsRecords`. */
  readonly recordQueries: boolean;
}

export type DnsResult =
  | 'success'
  | 'no records'
  | 'forwarded'
  | 'forwarding failed'
  | 'unknown client'
  /** More questions of the pod are under way than it may have. */
  | 'too many questions';

/** One answered question, for the log. */
export interface DnsRecord {
  readonly uid: string;
  /** Name of the type, such as `AAAA`, or `TYPE65280`. */
  readonly query: string;
  /** As asked, lower case, no dot at the end. */
  readonly domain: string;
  readonly result: DnsResult;
  /** Why forwarding failed. */
  readonly error: string | undefined;
  /** Addresses in the answer; 0 when forwarded. */
  readonly endpoints: number;
}

/** Questions of one type and protocol, as `istio_dns_*` count them. */
export interface DnsCellCounts {
  /** `AAAA`; `UNKNOWN` for every type without a name here. */
  readonly query: string;
  readonly protocol: 'udp' | 'tcp';
  readonly requests: number;
  readonly upstreamRequests: number;
  /** Forwarded without an answer that says anything; NXDOMAIN is an answer. */
  readonly upstreamFailures: number;
  /** Of forwarded questions that ended, all together. */
  readonly durationSeconds: number;
  /** How many of them ended in each bucket (`DURATION_BUCKETS` and one more for the rest), not cumulative. */
  readonly durations: readonly number[];
}

/** What one worker counted for one pod since it told the last time; everything is to be added up. */
export interface DnsPodCounts {
  readonly uid: string;
  /** The pod as the mesh last described it to the worker; undefined: it never did. */
  readonly source: WorkloadSummary | undefined;
  /** At most one for each type with a name and protocol; those without news are left out. */
  readonly cells: readonly DnsCellCounts[];
  /**
   * Look-ups of host names for connections (`istio_on_demand_dns_total`), failed ones and such as a kept answer served
   * included. At most 64 names; what was looked up beyond them has the name undefined.
   */
  readonly onDemand: readonly { readonly hostname: string | undefined; readonly count: number }[];
  /** Answers given from what a resolver had said before. */
  readonly keptAnswers: number;
  /** Messages that are no query. */
  readonly garbage: number;
  /** Questions refused because too many were under way. */
  readonly refused: number;
  readonly refusedConnections: number;
  /** What came to the port of a question and was no answer to it. */
  readonly unsolicited: number;
}

export type DnsToWorker =
  /** Made from the view as it is when it is sent, so a `forgetNames` that follows covers it. `unknown_client` is not kept. */
  | { readonly type: 'dnsDecision'; readonly id: number; readonly decision: DnsDecision }
  /**
   * Which names may be the mesh's (`MeshLabels`); replaces what was sent before. Until the first one every name may be. Labels
   * are added to it before anything is decided by them.
   */
  | { readonly type: 'meshLabels'; readonly bits: SharedArrayBuffer }
  /** Decisions about these names are stale. */
  | { readonly type: 'forgetNames'; readonly stale: StaleNames }
  /** Where to forward; replaces what was sent before. Until the first one nothing can be forwarded. */
  | { readonly type: 'resolvers'; readonly set: ResolverSet }
  /** One `dnsRecords` message was taken. */
  | { readonly type: 'dnsRecordsTaken' }
  /** The last `dnsCounts` message was taken. */
  | { readonly type: 'dnsCountsTaken' };

export type DnsFromWorker =
  | { readonly type: 'needDns'; readonly id: number; readonly uid: string; readonly question: DnsQuestion }
  | { readonly type: 'dnsRecords'; readonly records: readonly DnsRecord[] }
  /**
   * Sent at most once a second, when asked for (`tell`), and before a pod is reported closed. Not sent while the main thread
   * has not taken the one before, unless it asks: counts wait in the worker and none is lost, save with the worker itself.
   */
  | { readonly type: 'dnsCounts'; readonly counts: readonly DnsPodCounts[] };
