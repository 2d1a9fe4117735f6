// The certificate authority: signs workload certificates for identities that were authorised elsewhere, keeps the account of
// them, revokes, and moves from root to root. Fails closed: what cannot be recorded is not issued. Does not decide who may
// have which identity (authorize.ts) and speaks no protocol (handler.ts).
import { generateKeyPair } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { formatSpiffeId, parseSpiffeId } from '@ambit/mesh';
import type { Caller } from '../auth/caller.ts';
import type { Diagnostic } from '../diagnostic.ts';
import { errorText, type Log } from '@ambit/log';
import { ControlError } from '../errors.ts';
import { AuditLog } from './audit-log.ts';
import type {
  AuthorityListener,
  AuthorityStatus,
  CertificateAuthorityOptions,
  CertificateRequest,
  ListedCertificate,
} from './authority-types.ts';
import { readCsr } from './csr.ts';
import { type Issued, IssuedIndex } from './issued-index.ts';
import { issueLeaf, normalSerial } from './leaf.ts';
import { Revocations } from './revocations.ts';
import { SERVING_LIFETIME_MS, type ServingMaterial, toServingNames } from './serving-certificate.ts';
import type { SigningState } from './signing-source.ts';
import { ensureStateDirectory, writeAtomically } from './state-files.ts';

const DAY_MS = 86_400_000;
/** How often everything that is due by the clock is looked at; sooner when the source knows when it wants to be. */
const MAINTENANCE_MS = 60_000;

export class CertificateAuthority {
  readonly #options: CertificateAuthorityOptions;
  readonly #now: () => number;
  readonly #log: Log;
  readonly #audit: AuditLog;
  readonly #index: IssuedIndex;
  readonly #revocations: Revocations;
  readonly #listeners = new Set<AuthorityListener>();
  /** Changes to what is stored happen one after the other. */
  #queue: Promise<unknown> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #unwatch: () => void = () => undefined;
  #failed: Diagnostic | undefined;
  #reported = '';
  #isClosed = false;
  #issued = 0;

  private constructor(
    options: CertificateAuthorityOptions,
    parts: { readonly audit: AuditLog; readonly index: IssuedIndex; readonly revocations: Revocations },
  ) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#log = options.log.scope('ca');
    this.#audit = parts.audit;
    this.#index = parts.index;
    this.#revocations = parts.revocations;
  }

  /** @throws ControlError when there is nothing that can sign or its state directory is not usable */
  static async open(options: CertificateAuthorityOptions): Promise<CertificateAuthority> {
    const { stateDirectory, source, now = Date.now } = options;
    await ensureStateDirectory(stateDirectory);
    await source.start();
    let audit: AuditLog | undefined;
    try {
      const revocations = await Revocations.open(stateDirectory);
      audit = new AuditLog({ path: `${stateDirectory}/audit.jsonl`, now });
      const index = await IssuedIndex.open(stateDirectory, now());
      const ca = new CertificateAuthority(options, { audit, index, revocations });
      await ca.#publish();
      ca.#begin();
      return ca;
    } catch (cause) {
      audit?.close();
      if (cause instanceof ControlError) throw cause;
      throw new ControlError('ca.state', `cannot use the state directory ${stateDirectory}: ${errorText(cause)}`, {
        cause,
      });
    }
  }

  get trustDomain(): string {
    return this.#options.trustDomain;
  }

  get rootsPem(): string {
    return this.#state.rootsPem;
  }

  get crlPem(): string {
    return this.#revocations.crlPem;
  }

  get status(): AuthorityStatus {
    const { signer, phase } = this.#state;
    const { source } = this.#options;
    return {
      source: source.name,
      phase,
      signer: {
        subject: signer.certificate.subject.replaceAll('\n', ', '),
        notAfterMs: signer.notAfterMs,
        id: signer.id,
      },
      crlNumber: this.#revocations.number,
      issued: this.#issued,
      refusals: Object.fromEntries(this.#audit.refusals),
      problems: this.#failed === undefined ? source.problems : [...source.problems, this.#failed],
    };
  }

  /** Unexpired certificates that this control plane issued, by identity. */
  list(): readonly ListedCertificate[] {
    const order = (a: Issued, b: Issued): number => a.identity.localeCompare(b.identity) || a.issuedAtMs - b.issuedAtMs;
    return this.#index
      .list(this.#now())
      .toSorted(order)
      .map(each => ({ ...each, isRevoked: this.#revocations.has(each.serial) }));
  }

  isRevoked(serial: string): boolean {
    return this.#revocations.has(normalSerial(serial));
  }

  /** Who is told of changes; returns how to stop. */
  listen(listener: AuthorityListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * A certificate for the key of the request: the leaf, each intermediate, and last all roots in one element.
   * @throws ca.bad_csr, ca.bad_key, ca.bad_ttl for what the peer asked; ca.expired, ca.audit for what is wrong with us
   */
  issue(request: CertificateRequest): readonly string[] {
    const identity = formatSpiffeId(request.identity);
    try {
      return this.#sign(request, identity);
    } catch (error) {
      if (error instanceof ControlError) this.refused(request, error.code, error.message, identity);
      throw error;
    }
  }

  /** Counts and records that a certificate was refused; for those who decide before `issue` is called. */
  refused(
    from: { readonly caller?: Caller | undefined; readonly peer: string },
    code: string,
    reason: string,
    requested?: string,
  ): void {
    const { caller, peer } = from;
    try {
      this.#audit.refuse({ event: 'certificate', caller, peer, requested, code, reason });
    } catch (error) {
      // It stays refused; only the record is missing.
      this.#fail('ca.audit', error);
    }
  }

  /**
   * Revokes one certificate, or all unexpired ones of an identity, and publishes the lists.
   * @throws ca.unknown_serial, ca.unknown_identity when there is nothing to revoke
   */
  async revoke(what: { readonly serial: string } | { readonly identity: string }): Promise<readonly Issued[]> {
    return this.#serially(async () => {
      const nowMs = this.#now();
      const found = this.#find(what, nowMs);
      const { signers, foreignCrlPem } = this.#state;
      const revoked = found.map(({ serial, issuer, notAfterMs }) => ({
        serial,
        issuer,
        notAfterMs,
        revokedAtMs: nowMs,
      }));
      await this.#revocations.add(revoked, usable(signers, nowMs), foreignCrlPem, nowMs);
      for (const { serial, identity, notAfterMs } of found) {
        this.#record(() => this.#audit.grant({ event: 'revocation', requested: identity, serial, notAfterMs }));
      }
      this.#log.warn('Revoked certificates', {
        count: found.length,
        ...('identity' in what ? what : { serial: what.serial }),
      });
      this.#tell({ roots: false });
      return found;
    });
  }

  /** Begins a change of roots. @throws ca.rotation */
  async rotateRoot(): Promise<AuthorityStatus> {
    return this.#serially(async () => {
      await this.#options.source.rotate();
      this.#schedule('progress');
      await this.#sourceChanged();
      return this.status;
    });
  }

  /** Records that something else was granted (a token). @throws ca.audit: then it must not be granted */
  granted(event: Parameters<AuditLog['grant']>[0]): void {
    try {
      this.#audit.grant(event);
    } catch (cause) {
      this.#fail('ca.audit', cause);
      throw new ControlError('ca.audit', `cannot write the audit log: ${errorText(cause)}`, { cause });
    }
  }

  /** A fresh key and certificate for the TLS port. Names that are neither DNS names nor addresses are left out. */
  async servingCertificate(names: readonly string[]): Promise<ServingMaterial> {
    const keys = await promisify(generateKeyPair)('ec', { namedCurve: 'prime256v1' });
    const wanted = toServingNames(names);
    if (wanted.bad.length > 0)
      this.#log.warn('Left names out of the serving certificate', { names: wanted.bad.join(' ') });
    const { leafPem, serial, notBeforeMs, notAfterMs } = issueLeaf(
      this.#state.signer,
      this.#now(),
      keys.publicKey.export({ type: 'spki', format: 'der' }),
      wanted.names,
      ['server'],
      SERVING_LIFETIME_MS,
    );
    this.granted({ event: 'serving_certificate', serial, notAfterMs, requested: names.join(' ') });
    const { signer, rootsPem } = this.#state;
    return {
      certChainPem: leafPem + signer.intermediates.join(''),
      privateKeyPem: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      rootsPem,
      notBeforeMs,
      notAfterMs,
    };
  }

  /** Does everything that is due by the clock; called every minute, and when the source is due. Never rejects. */
  async maintain(): Promise<void> {
    await this.#serially(async () => {
      let isChanged = false;
      try {
        isChanged = await this.#options.source.refresh();
        if (isChanged) await this.#sourceChanged();
        else if (this.#revocations.isDue(this.#now())) {
          await this.#publish();
          this.#tell({ roots: false });
        }
        await this.#index.prune(this.#now());
        this.#failed = undefined;
      } catch (error) {
        this.#fail('ca.state', error);
      }
      this.#reportProblems();
      this.#schedule(isChanged ? 'progress' : 'as it was');
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#unwatch();
    await this.#queue;
    this.#audit.close();
    this.#index.close();
  }

  get #state(): SigningState {
    const { state } = this.#options.source;
    if (state === undefined) throw new ControlError('ca.not_ready', 'the certificate authority has not started');
    return state;
  }

  #begin(): void {
    const { source } = this.#options;
    const { signer, phase } = this.#state;
    this.#log.info('Certificate authority ready', { source: source.name, phase, signer: signer.certificate.subject });
    this.#schedule('as it was');
    this.#unwatch = source.watch(() => void this.maintain());
  }

  #schedule(since: 'progress' | 'as it was'): void {
    clearTimeout(this.#timer);
    if (this.#isClosed) return;
    const leftMs = (this.#options.source.dueAtMs ?? Infinity) - this.#now();
    // What is overdue has failed, and is tried again at the usual pace; unless a step has just been taken, on a slow disk.
    const isFailed = leftMs <= 0 && since === 'as it was';
    const waitMs = isFailed ? MAINTENANCE_MS : Math.max(0, Math.min(leftMs, MAINTENANCE_MS));
    this.#timer = setTimeout(() => void this.maintain(), waitMs).unref();
  }

  #sign(request: CertificateRequest, identity: string): readonly string[] {
    const { trustDomain, defaultTtlMs = DAY_MS, maxTtlMs = 90 * DAY_MS } = this.#options;
    if (request.identity.trustDomain !== trustDomain || !/^[\x21-\x7e]+$/.test(identity) || !parseSpiffeId(identity)) {
      throw new ControlError('ca.bad_identity', 'the identity is not one of this trust domain');
    }
    const ttlMs = request.ttlMs > 0 ? request.ttlMs : Math.min(defaultTtlMs, maxTtlMs);
    if (!(ttlMs <= maxTtlMs)) {
      throw new ControlError('ca.bad_ttl', `the requested life is longer than the longest, ${maxTtlMs / 1000} s`);
    }
    const spki = readCsr(request.csrPem);
    const { leafPem, serial, notAfterMs } = issueLeaf(
      this.#state.signer,
      this.#now(),
      spki,
      [{ kind: 'uri', text: identity }],
      ['server', 'client'],
      ttlMs,
    );
    const { signer, rootsPem } = this.#state;
    const { caller, peer } = request;
    const issued: Issued = {
      serial,
      identity,
      node: caller.node ?? '',
      issuedAtMs: this.#now(),
      notAfterMs,
      issuer: signer.id,
    };
    this.#addToIndex(issued);
    this.granted({ event: 'certificate', caller, peer, requested: identity, serial, notAfterMs });
    this.#issued += 1;
    return [leafPem, ...signer.intermediates, rootsPem];
  }

  #addToIndex(issued: Issued): void {
    try {
      this.#index.add(issued);
    } catch (cause) {
      this.#fail('ca.audit', cause);
      throw new ControlError('ca.audit', `cannot record the certificate: ${errorText(cause)}`, { cause });
    }
  }

  #find(what: { readonly serial: string } | { readonly identity: string }, nowMs: number): readonly Issued[] {
    if ('serial' in what) {
      const found = this.#index.get(normalSerial(what.serial));
      if (found !== undefined && found.notAfterMs > nowMs) return [found];
      throw new ControlError(
        'ca.unknown_serial',
        `no unexpired certificate with serial ${what.serial} was issued here`,
        {
          next: 'ambit ca list shows them; another control plane may have issued it',
        },
      );
    }
    const found = this.#index.list(nowMs).filter(each => each.identity === what.identity);
    if (found.length > 0) return found;
    throw new ControlError('ca.unknown_identity', `no unexpired certificate of ${what.identity} was issued here`, {
      next: 'ambit ca list shows them; an identity is written spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT',
    });
  }

  async #sourceChanged(): Promise<void> {
    const { signer, phase } = this.#state;
    this.#log.info('Signer or roots changed', { phase, signer: signer.certificate.subject });
    this.#record(() => this.#audit.grant({ event: 'rotation', code: phase, serial: signer.id }));
    await this.#publish();
    this.#tell({ roots: true });
  }

  async #publish(): Promise<void> {
    const { signers, foreignCrlPem, rootsPem } = this.#state;
    const nowMs = this.#now();
    // Wherever the roots are kept, who mounts the state directory finds those that are in force, beside the lists.
    const path = join(this.#options.stateDirectory, 'root-cert.pem');
    const published = await readFile(path, 'utf8').catch(() => undefined);
    if (published !== rootsPem) await writeAtomically(path, rootsPem, 0o644);
    await this.#revocations.publish(usable(signers, nowMs), foreignCrlPem, nowMs);
  }

  #tell(what: { readonly roots: boolean }): void {
    for (const listener of this.#listeners) {
      if (what.roots) listener.roots?.(this.rootsPem);
      listener.crl?.(this.crlPem);
      listener.changed?.();
    }
  }

  /** For what already took effect and must not be undone for want of a record. */
  #record(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#fail('ca.audit', error);
    }
  }

  #fail(code: string, error: unknown): void {
    this.#failed = {
      code,
      severity: 'error',
      message: `cannot keep the state of the certificate authority: ${errorText(error)}`,
      remedy: `see to the space and the rights of ${this.#options.stateDirectory}; no certificates are issued without a record`,
    };
    this.#reportProblems();
  }

  /** Each problem once, when it appears. */
  #reportProblems(): void {
    const { problems } = this.status;
    const all = problems.map(each => `${each.code} ${each.message}`).join('\n');
    if (all !== this.#reported) for (const { code, message } of problems) this.#log.error(message, { code });
    this.#reported = all;
  }

  async #serially<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(work);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }
}

/** A signer past its end signs no lists: none of its certificates is valid any more. */
function usable<S extends { readonly notAfterMs: number }>(signers: readonly S[], nowMs: number): readonly S[] {
  return signers.filter(each => each.notAfterMs > nowMs);
}
