// What the main thread and a data worker say to each other about names. The decision is the main thread's: a worker asks
// once for each (namespace and network of the asking workload, name, type) and keeps the answer until it is told to forget.
import type { DnsDecision, DnsQuestion, Ip, StaleNames } from '@ambit/mesh';

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

export type DnsToWorker =
  /** Made from the view as it is when it is sent, so a `forgetNames` that follows covers it. `unknown_client` is not kept. */
  | { readonly type: 'dnsDecision'; readonly id: number; readonly decision: DnsDecision }
  /** Decisions about these names are stale. */
  | { readonly type: 'forgetNames'; readonly stale: StaleNames }
  /** Where to forward; replaces what was sent before. Until the first one nothing can be forwarded. */
  | { readonly type: 'resolvers'; readonly set: ResolverSet }
  /** One `dnsRecords` message was taken. */
  | { readonly type: 'dnsRecordsTaken' };

export type DnsFromWorker =
  | { readonly type: 'needDns'; readonly id: number; readonly uid: string; readonly question: DnsQuestion }
  | { readonly type: 'dnsRecords'; readonly records: readonly DnsRecord[] };
