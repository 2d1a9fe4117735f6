// Keeps a usable certificate for each wanted identity: fetched on first need, renewed around half life with jitter,
// retried with back-off, in use until it expires. Security fails closed: once a certificate has expired without a
// successor its identity is unavailable, and whoever needs it is refused. Keys live in memory only.
import { type Cancel, backoffMs, type Clock } from '../clock.ts';
import { errorText } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { CertificateAuthority, IssuedCertificate } from './certificate-authority.ts';

/** What there is for an identity now. Names are those of upstream's config_dump. */
export type CertificateState =
  | { readonly kind: 'initializing' }
  | { readonly kind: 'available'; readonly certificate: IssuedCertificate }
  | { readonly kind: 'unavailable'; readonly error: string };

export interface CertificateManagerDeps {
  readonly authority: CertificateAuthority;
  readonly clock: Clock;
  readonly random: () => number;
  /** Each change to `available` (also a renewal) or `unavailable`. */
  readonly onChange: (identity: string, state: CertificateState) => void;
  readonly log: Logger;
}

export interface CertificateManagerOptions {
  /** Requests to the authority at the same time. */
  readonly concurrency: number;
  readonly firstRetryMs: number;
  /** Longest pause while a valid certificate is still in use. */
  readonly maxRetryMs: number;
  /** Longest pause while there is none: shorter, because pods are waiting (upstream: 150 s for both). */
  readonly maxRetryWithoutMs: number;
}

const DEFAULTS: CertificateManagerOptions = {
  concurrency: 8,
  firstRetryMs: 1000,
  maxRetryMs: 150_000,
  maxRetryWithoutMs: 15_000,
};

/** Renewal happens at half life, give or take a tenth of it, so that pods that started together do not renew together. */
const RENEWAL_SPREAD = 0.1;

interface Entry {
  state: CertificateState;
  /** When the next request is due; undefined while one is under way. */
  dueAtMs: number | undefined;
  failures: number;
}

export class CertificateManager {
  readonly #deps: CertificateManagerDeps;
  readonly #options: CertificateManagerOptions;
  readonly #entries = new Map<string, Entry>();
  #running = 0;
  #cancelTimer: Cancel | undefined;
  #isStopped = false;

  constructor(deps: CertificateManagerDeps, options: Partial<CertificateManagerOptions> = {}) {
    this.#deps = deps;
    this.#options = { ...DEFAULTS, ...options };
  }

  /** Starts keeping a certificate for `identity` (SPIFFE text). Asking again changes nothing. */
  want(identity: string): void {
    if (this.#isStopped || this.#entries.has(identity)) return;
    this.#entries.set(identity, { state: { kind: 'initializing' }, dueAtMs: this.#deps.clock.now(), failures: 0 });
    this.#pump();
  }

  /** Drops the certificate and its renewals. An answer that is under way is thrown away. */
  forget(identity: string): void {
    this.#entries.delete(identity);
  }

  /** Undefined when nobody wants it. */
  state(identity: string): CertificateState | undefined {
    return this.#entries.get(identity)?.state;
  }

  /** All identities, by name. */
  snapshot(): readonly (readonly [identity: string, state: CertificateState])[] {
    return [...this.#entries]
      .map(([identity, { state }]) => [identity, state] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1));
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancelTimer?.();
    this.#entries.clear();
    this.#deps.authority.close();
  }

  #pump(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    const now = this.#deps.clock.now();
    for (const [identity, entry] of this.#byUrgency()) {
      if (entry.dueAtMs === undefined) continue;
      if (this.#running >= this.#options.concurrency) return;
      if (entry.dueAtMs > now) {
        this.#sleep(entry.dueAtMs - now);
        return;
      }
      entry.dueAtMs = undefined;
      this.#running++;
      void this.#request(identity, entry);
    }
  }

  /** Those that are due before those that are not; of those due, pods without any certificate first. */
  #byUrgency(): readonly (readonly [string, Entry])[] {
    const now = this.#deps.clock.now();
    const rank = ({ state, dueAtMs = 0 }: Entry): number => (dueAtMs > now ? 2 : state.kind === 'available' ? 1 : 0);
    return [...this.#entries].sort(([, a], [, b]) => rank(a) - rank(b) || (a.dueAtMs ?? 0) - (b.dueAtMs ?? 0));
  }

  #sleep(ms: number): void {
    this.#cancelTimer = this.#deps.clock.after(ms, () => this.#pump());
  }

  async #request(identity: string, entry: Entry): Promise<void> {
    try {
      const certificate = await this.#deps.authority.issue(identity);
      if (this.#entries.get(identity) === entry) this.#succeed(identity, entry, certificate);
    } catch (error) {
      if (this.#entries.get(identity) === entry) this.#fail(identity, entry, errorText(error));
    } finally {
      this.#running--;
      if (!this.#isStopped) this.#pump();
    }
  }

  #succeed(identity: string, entry: Entry, certificate: IssuedCertificate): void {
    const { clock, random } = this.#deps;
    const now = clock.now();
    if (certificate.notAfterMs <= now) {
      this.#fail(identity, entry, 'the authority issued a certificate that has expired already');
      return;
    }
    const lifeMs = certificate.notAfterMs - certificate.notBeforeMs;
    const share = 0.5 + RENEWAL_SPREAD * (random() - 0.5);
    entry.failures = 0;
    entry.state = { kind: 'available', certificate };
    // Never sooner than a retry would be: dates absurdly close must not make a tight loop against the authority.
    entry.dueAtMs = Math.max(certificate.notBeforeMs + lifeMs * share, now + this.#options.firstRetryMs);
    this.#deps.log.debug('certificate issued', [['identity', identity]]);
    this.#deps.onChange(identity, entry.state);
  }

  #fail(identity: string, entry: Entry, error: string): void {
    const { clock, random, log, onChange } = this.#deps;
    const now = clock.now();
    const { firstRetryMs, maxRetryMs, maxRetryWithoutMs } = this.#options;
    entry.failures++;
    if (entry.state.kind === 'available' && entry.state.certificate.notAfterMs > now) {
      const { notAfterMs } = entry.state.certificate;
      entry.dueAtMs = Math.min(now + backoffMs(entry.failures, firstRetryMs, maxRetryMs, random), notAfterMs);
      log.info('certificate renewal failed, the present one stays in use', [
        ['identity', identity],
        ['valid_until', new Date(notAfterMs).toISOString()],
        ['retry_in', retryText(entry.dueAtMs - now)],
        ['error', error],
      ]);
      return;
    }
    entry.state = { kind: 'unavailable', error };
    entry.dueAtMs = now + backoffMs(entry.failures, firstRetryMs, maxRetryWithoutMs, random);
    log.warn('certificate fetch failed and no valid one exists', [
      ['identity', identity],
      ['retry_in', retryText(entry.dueAtMs - now)],
      ['error', error],
      ['err.code', 'identity.unavailable'],
    ]);
    onChange(identity, entry.state);
  }
}

function retryText(ms: number): string {
  return `${Math.round(ms)}ms`;
}
