// What the certificate manager knows of one identity, and which of two identities goes first. Plain data and pure
// functions.
import type { Cancel } from '../clock.ts';
import type { IssuedCertificate } from './certificate-authority.ts';

/** What there is for an identity now. Names are those of upstream's config_dump. */
export type CertificateState =
  | { readonly kind: 'initializing' }
  | { readonly kind: 'available'; readonly certificate: IssuedCertificate }
  /** `code` is a reason code, when whoever failed gave one. */
  | { readonly kind: 'unavailable'; readonly error: string; readonly code?: string };

/** Who waits: a pod of this node, a workload that will have one, nobody yet (the present certificate is good). */
export type Priority = 'RealTime' | 'Warmup' | 'Background';

/** For whom an identity is kept: a pod that runs, or a workload record that names this node. */
export type Holder = 'pod' | 'workload';

export interface LastError {
  readonly message: string;
  readonly code: string | undefined;
  readonly atMs: number;
}

/** A request that is under way. */
export interface Attempt {
  readonly abort: AbortController;
  readonly cancelDeadline: Cancel;
}

/** Mutable; private to the manager. */
export interface Entry {
  state: CertificateState;
  readonly holders: Set<Holder>;
  attempt: Attempt | undefined;
  /** When the next request is due; has no meaning while one is under way. */
  dueAtMs: number;
  /** When the last request began. */
  askedAtMs: number;
  /** In a row. */
  failures: number;
  lastError: LastError | undefined;
  /** `bundleKey` of the roots in use. */
  bundle: string;
}

export function createEntry(holder: Holder, nowMs: number): Entry {
  return {
    state: { kind: 'initializing' },
    holders: new Set([holder]),
    attempt: undefined,
    dueAtMs: nowMs,
    askedAtMs: Number.NEGATIVE_INFINITY,
    failures: 0,
    lastError: undefined,
    bundle: '',
  };
}

export function priorityOf(entry: Entry): Priority {
  if (entry.state.kind === 'available') return 'Background';
  return entry.holders.has('pod') ? 'RealTime' : 'Warmup';
}

const RANK = { RealTime: 0, Warmup: 1, Background: 2 } as const satisfies Record<Priority, number>;

/** Of two that are due. */
export function goesBefore(a: Entry, b: Entry): boolean {
  const difference = RANK[priorityOf(a)] - RANK[priorityOf(b)];
  return difference < 0 || (difference === 0 && a.dueAtMs < b.dueAtMs);
}

/** What may be shown of an identity: everything but its private key. */
export interface IdentityReport {
  readonly identity: string;
  readonly state: CertificateState['kind'];
  /** Of the next request. */
  readonly priority: Priority;
  /** Leaf first, then intermediates; empty without a certificate. */
  readonly certChainPem: string;
  readonly rootsPem: string;
  /** Of the leaf; times in milliseconds since the Unix epoch. */
  readonly notBeforeMs: number | undefined;
  readonly notAfterMs: number | undefined;
  /** When the CA is asked again; undefined while it is being asked. */
  readonly nextRenewalMs: number | undefined;
  /** Of the last request that failed since the last one that did not. */
  readonly lastError: LastError | undefined;
}

export function reportOf(identity: string, entry: Entry, state: CertificateState): IdentityReport {
  const certificate = state.kind === 'available' ? state.certificate : undefined;
  return {
    identity,
    state: state.kind,
    priority: priorityOf(entry),
    certChainPem: certificate?.material.certChainPem ?? '',
    rootsPem: certificate?.material.rootsPem ?? '',
    notBeforeMs: certificate?.notBeforeMs,
    notAfterMs: certificate?.notAfterMs,
    nextRenewalMs: entry.attempt === undefined ? entry.dueAtMs : undefined,
    lastError: entry.lastError,
  };
}
