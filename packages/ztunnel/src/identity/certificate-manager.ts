// Keeps a usable certificate for each wanted identity: fetched on first need, renewed around half life with jitter,
// retried with back-off, in use until it expires. Security fails closed: once a certificate has expired without a
// successor its identity is unavailable, and whoever needs it is refused. Keys live in memory only.
// At most `concurrency` requests run at once, each with a deadline, so that a CA that hangs holds up nothing for long.
import { type Cancel, backoffMs, type Clock } from '../clock.ts';
import { errorText, ZtunnelError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { CertificateAuthority, IssuedCertificate } from './certificate-authority.ts';
import {
  type Attempt,
  type CertificateState,
  createEntry,
  type Entry,
  goesBefore,
  type Holder,
  type IdentityReport,
  reportOf,
} from './certificate-state.ts';
import { bundleKey, RootBundles } from './root-bundles.ts';

export type { CertificateState, IdentityReport } from './certificate-state.ts';

export interface CertificateManagerDeps {
  readonly authority: CertificateAuthority;
  readonly clock: Clock;
  readonly random: () => number;
  /**
   * Each change to `available` (also a renewal) or `unavailable` of an identity that a pod holds, and the present state
   * when a pod begins to hold one that is known already.
   */
  readonly onChange: (identity: string, state: CertificateState) => void;
  readonly log: Logger;
}

export interface CertificateManagerOptions {
  /** Requests to the authority at the same time. */
  readonly concurrency: number;
  /** Longest that one request may take; upstream has no limit. */
  readonly deadlineMs: number;
  readonly firstRetryMs: number;
  /** Longest pause while a valid certificate is still in use. */
  readonly maxRetryMs: number;
  /** Longest pause while there is none: shorter, because pods are waiting (upstream: 150 s for both). */
  readonly maxRetryWithoutMs: number;
  /** Shortest pause between two requests for one identity, however urgent. */
  readonly minPauseMs: number;
  /** After a rotation of the roots all identities renew within this time. */
  readonly rotationSpreadMs: number;
}

const DEFAULTS: CertificateManagerOptions = {
  concurrency: 8,
  // Above the deadline of the call itself and of the connection it may need first, whose errors say more.
  deadlineMs: 20_000,
  firstRetryMs: 1000,
  maxRetryMs: 150_000,
  maxRetryWithoutMs: 15_000,
  minPauseMs: 1000,
  rotationSpreadMs: 180_000,
};

/** Renewal happens at half life, give or take a tenth of it, so that pods that started together do not renew together. */
const RENEWAL_SPREAD = 0.1;

/** Counted since the start; gauges say so. */
export interface CertificateStats {
  /** Gauge: identities that are kept. */
  readonly identities: number;
  /** Gauge. */
  readonly available: number;
  /** Gauge: requests under way. */
  readonly running: number;
  readonly issued: number;
  readonly failed: number;
  /** Of those failed: given up at the manager's own deadline. */
  readonly timedOut: number;
  /** Answers and requests that nobody wanted any more. */
  readonly dropped: number;
  /** Certificates that expired without a successor. */
  readonly expired: number;
  readonly rootRotations: number;
}

type Outcome =
  | { readonly kind: 'issued'; readonly certificate: IssuedCertificate }
  | { readonly kind: 'failed'; readonly error: unknown };

export class CertificateManager {
  readonly #deps: CertificateManagerDeps;
  readonly #options: CertificateManagerOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #running = new Set<Attempt>();
  readonly #bundles = new RootBundles();
  readonly #counts = { issued: 0, failed: 0, timedOut: 0, dropped: 0, expired: 0, rootRotations: 0 };
  #cancelTimer: Cancel | undefined;
  #isStopped = false;

  constructor(deps: CertificateManagerDeps, options: Partial<CertificateManagerOptions> = {}) {
    this.#deps = deps;
    this.#options = { ...DEFAULTS, ...options };
  }

  /** A pod needs `identity` (SPIFFE text) from now on. Asking again changes nothing. */
  want(identity: string): void {
    const entry = this.#hold(identity, 'pod');
    if (entry === undefined) return;
    const state = this.#stateOf(entry);
    if (state.kind !== 'initializing') this.#deps.onChange(identity, state);
    this.need(identity);
  }

  /** No pod needs it any more. Dropped, with an answer that is under way, unless a workload still holds it. */
  forget(identity: string): void {
    this.#release(identity, 'pod');
  }

  /** A workload of this node will need it: fetched before the pod asks, behind those that do. Changes are not announced. */
  prefetch(identity: string): void {
    this.#hold(identity, 'workload');
  }

  /** The counterpart of `prefetch`. */
  forgetPrefetched(identity: string): void {
    this.#release(identity, 'workload');
  }

  /** Somebody waits for it now: an unavailable one is asked for again at once, but not more often than `minPauseMs`. */
  need(identity: string): void {
    const entry = this.#entries.get(identity);
    if (entry === undefined || entry.attempt !== undefined || this.#stateOf(entry).kind !== 'unavailable') return;
    const soonest = Math.max(this.#deps.clock.now(), entry.askedAtMs + this.#options.minPauseMs);
    if (soonest >= entry.dueAtMs) return;
    entry.dueAtMs = soonest;
    this.#pump();
  }

  /** Undefined when nobody wants it. Never an expired certificate. */
  state(identity: string): CertificateState | undefined {
    const entry = this.#entries.get(identity);
    return entry === undefined ? undefined : this.#stateOf(entry);
  }

  /** All identities, by name. */
  snapshot(): readonly (readonly [identity: string, state: CertificateState])[] {
    return this.#sorted().map(([identity, entry]) => [identity, this.#stateOf(entry)] as const);
  }

  /** What may be shown of all identities, by name; no private keys. */
  identityStates(): readonly IdentityReport[] {
    return this.#sorted().map(([identity, entry]) => reportOf(identity, entry, this.#stateOf(entry)));
  }

  get stats(): CertificateStats {
    let available = 0;
    for (const entry of this.#entries.values()) if (this.#stateOf(entry).kind === 'available') available++;
    return { ...this.#counts, identities: this.#entries.size, available, running: this.#running.size };
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancelTimer?.();
    this.#entries.clear();
    for (const { abort, cancelDeadline } of this.#running) {
      cancelDeadline();
      abort.abort();
    }
    this.#running.clear();
    this.#deps.authority.close();
  }

  // ---- who is kept ----------------------------------------------------------------------------------------------------

  /** The entry if it was there already and this holder is new to it. */
  #hold(identity: string, holder: Holder): Entry | undefined {
    if (this.#isStopped) return undefined;
    const entry = this.#entries.get(identity);
    if (entry === undefined) {
      this.#entries.set(identity, createEntry(holder, this.#deps.clock.now()));
      // With all places taken there is nothing to look for: a thousand workloads in one message stay linear.
      if (this.#running.size < this.#options.concurrency) this.#pump();
      return undefined;
    }
    if (entry.holders.has(holder)) return undefined;
    entry.holders.add(holder);
    return entry;
  }

  #release(identity: string, holder: Holder): void {
    const entry = this.#entries.get(identity);
    if (entry === undefined || !entry.holders.delete(holder) || entry.holders.size > 0) return;
    this.#entries.delete(identity);
    if (entry.attempt === undefined) return;
    this.#counts.dropped++;
    this.#finish(entry.attempt);
    this.#pump();
  }

  #sorted(): readonly (readonly [string, Entry])[] {
    return [...this.#entries].sort(([a], [b]) => (a < b ? -1 : 1));
  }

  #stateOf({ state, lastError }: Entry): CertificateState {
    if (state.kind !== 'available' || state.certificate.notAfterMs > this.#deps.clock.now()) return state;
    const ended = new Date(state.certificate.notAfterMs).toISOString();
    const why = lastError === undefined ? 'its renewal is under way' : `its renewal failed: ${lastError.message}`;
    return { kind: 'unavailable', error: `the certificate expired at ${ended}, ${why}`, code: 'identity.expired' };
  }

  // ---- when -----------------------------------------------------------------------------------------------------------

  #pump(): void {
    if (this.#isStopped) return;
    this.#expireOld();
    for (;;) {
      const { next, wakeAtMs } = this.#survey();
      if (next === undefined) {
        this.#sleepUntil(wakeAtMs);
        return;
      }
      this.#request(...next);
    }
  }

  /** The most urgent identity that is due, if a place is free, and when to look again otherwise. */
  #survey(): { readonly next: readonly [string, Entry] | undefined; readonly wakeAtMs: number } {
    const now = this.#deps.clock.now();
    const isFull = this.#running.size >= this.#options.concurrency;
    let next: readonly [string, Entry] | undefined;
    let wakeAtMs = Infinity;
    for (const pair of this.#entries) {
      const [, entry] = pair;
      if (entry.state.kind === 'available') wakeAtMs = Math.min(wakeAtMs, entry.state.certificate.notAfterMs);
      if (entry.attempt !== undefined) continue;
      if (entry.dueAtMs > now) wakeAtMs = Math.min(wakeAtMs, entry.dueAtMs);
      // Those that are due while all places are taken are looked at again when one becomes free.
      else if (!isFull && (next === undefined || goesBefore(entry, next[1]))) next = pair;
    }
    return { next, wakeAtMs };
  }

  #sleepUntil(wakeAtMs: number): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (wakeAtMs === Infinity) return;
    const { clock } = this.#deps;
    this.#cancelTimer = clock.after(wakeAtMs - clock.now(), () => this.#pump());
  }

  #expireOld(): void {
    const now = this.#deps.clock.now();
    for (const [identity, entry] of this.#entries) {
      if (entry.state.kind !== 'available' || entry.state.certificate.notAfterMs > now) continue;
      entry.state = this.#stateOf(entry);
      this.#counts.expired++;
      this.#deps.log.error('certificate expired without a successor', [
        ['identity', identity],
        ['error', entry.lastError?.message],
        ['err.code', 'identity.expired'],
      ]);
      this.#announce(identity, entry);
    }
  }

  #announce(identity: string, entry: Entry): void {
    if (entry.holders.has('pod')) this.#deps.onChange(identity, entry.state);
  }

  // ---- one request ----------------------------------------------------------------------------------------------------

  #request(identity: string, entry: Entry): void {
    const { authority, clock } = this.#deps;
    const { deadlineMs } = this.#options;
    const abort = new AbortController();
    const attempt: Attempt = { abort, cancelDeadline: clock.after(deadlineMs, () => giveUp()) };
    const end = (outcome: Outcome): void => this.#end(identity, entry, attempt, outcome);
    const giveUp = (): void => {
      this.#counts.timedOut++;
      const message = `the certificate authority did not answer within ${deadlineMs} ms`;
      end({ kind: 'failed', error: new ZtunnelError('ca.timeout', message) });
    };
    entry.attempt = attempt;
    entry.askedAtMs = clock.now();
    this.#running.add(attempt);
    // In a function of its own, so that an authority that throws at once is a failed request too.
    const issue = async (): Promise<IssuedCertificate> => authority.issue(identity, abort.signal);
    issue().then(
      certificate => end({ kind: 'issued', certificate }),
      (error: unknown) => end({ kind: 'failed', error }),
    );
  }

  /** Frees the place of a request; its answer, if one comes, is ignored. */
  #finish(attempt: Attempt): boolean {
    attempt.cancelDeadline();
    if (!this.#running.delete(attempt)) return false;
    attempt.abort.abort();
    return true;
  }

  #end(identity: string, entry: Entry, attempt: Attempt, outcome: Outcome): void {
    if (!this.#finish(attempt)) return;
    entry.attempt = undefined;
    if (outcome.kind === 'issued') this.#succeed(identity, entry, outcome.certificate);
    else this.#fail(identity, entry, outcome.error);
    this.#pump();
  }

  #succeed(identity: string, entry: Entry, certificate: IssuedCertificate): void {
    const { clock, random } = this.#deps;
    const now = clock.now();
    if (certificate.notAfterMs <= now) {
      const message = 'the authority issued a certificate that has expired already';
      this.#fail(identity, entry, new ZtunnelError('ca.expired', message));
      return;
    }
    const lifeMs = Math.max(0, certificate.notAfterMs - certificate.notBeforeMs);
    const share = 0.5 + RENEWAL_SPREAD * (random() - 0.5);
    this.#counts.issued++;
    entry.failures = 0;
    entry.lastError = undefined;
    entry.state = { kind: 'available', certificate };
    entry.bundle = bundleKey(certificate.material.rootsPem);
    const halfMs = certificate.notBeforeMs + lifeMs * share;
    // A life shorter than twice what CAs backdate is past its half when it begins: then half of what is left counts.
    const renewMs = halfMs > now ? halfMs : now + (certificate.notAfterMs - now) * share;
    // Never sooner than a retry would be: dates absurdly close must not make a tight loop against the authority.
    entry.dueAtMs = Math.max(renewMs, now + this.#options.firstRetryMs);
    this.#deps.log.debug('certificate issued', [['identity', identity]]);
    if (this.#bundles.observe(entry.bundle, now)) this.#renewAllBut(entry.bundle);
    this.#announce(identity, entry);
  }

  /** After a rotation of the roots: who trusts other roots renews soon, spread so that the CA is not flooded. */
  #renewAllBut(bundle: string): void {
    const { clock, random, log } = this.#deps;
    const now = clock.now();
    let renewed = 0;
    for (const entry of this.#entries.values()) {
      if (entry.state.kind !== 'available' || entry.bundle === bundle) continue;
      const soon = now + this.#options.firstRetryMs + random() * this.#options.rotationSpreadMs;
      entry.dueAtMs = Math.min(entry.dueAtMs, soon);
      renewed++;
    }
    this.#counts.rootRotations++;
    log.info('the roots of the mesh changed, all certificates are renewed', [['certificates', renewed]]);
  }

  #fail(identity: string, entry: Entry, thrown: unknown): void {
    const { clock, random, log } = this.#deps;
    const now = clock.now();
    const { firstRetryMs, maxRetryMs, maxRetryWithoutMs } = this.#options;
    const message = errorText(thrown);
    const code = codeOf(thrown);
    this.#counts.failed++;
    entry.failures++;
    entry.lastError = { message, code, atMs: now };
    if (entry.state.kind === 'available' && entry.state.certificate.notAfterMs > now) {
      const { notAfterMs } = entry.state.certificate;
      entry.dueAtMs = Math.min(now + backoffMs(entry.failures, firstRetryMs, maxRetryMs, random), notAfterMs);
      log.info('certificate renewal failed, the present one stays in use', [
        ['identity', identity],
        ['valid_until', new Date(notAfterMs).toISOString()],
        ['retry_in', retryText(entry.dueAtMs - now)],
        ['error', message],
        ['err.code', code],
      ]);
      return;
    }
    entry.state =
      code === undefined ? { kind: 'unavailable', error: message } : { kind: 'unavailable', error: message, code };
    entry.dueAtMs = now + backoffMs(entry.failures, firstRetryMs, maxRetryWithoutMs, random);
    log.warn('certificate fetch failed and no valid one exists', [
      ['identity', identity],
      ['retry_in', retryText(entry.dueAtMs - now)],
      ['error', message],
      ['err.code', code ?? 'identity.unavailable'],
    ]);
    this.#announce(identity, entry);
  }
}

function codeOf(thrown: unknown): string | undefined {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : undefined;
}

function retryText(ms: number): string {
  return `${Math.round(ms)}ms`;
}
