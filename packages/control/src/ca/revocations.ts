// What was revoked, and the lists that say so: one CRL for each signer, numbered upwards for ever, good for a day and renewed
// at half of that. The list of revoked serials is on disk before anybody hears of it; expired ones leave it.
import { join } from 'node:path';
import { ControlError } from '../errors.ts';
import type { Signer } from './signer.ts';
import { readSecret, writeAtomically } from './state-files.ts';
import { toPem, writeCrl } from './x509-writer.ts';

export interface Revoked {
  readonly serial: string;
  /** `Signer.id` of who signed it. */
  readonly issuer: string;
  readonly revokedAtMs: number;
  /** Of the certificate: then it needs no list any more. */
  readonly notAfterMs: number;
}

export const CRL_LIFETIME_MS: number = 86_400_000;
const BACKDATE_MS = 2 * 60_000;

interface Stored {
  readonly number: number;
  readonly revoked: readonly Revoked[];
}

export class Revocations {
  readonly #path: string;
  readonly #publishPath: string;
  #stored: Stored;
  #serials: ReadonlySet<string>;
  #crlPem = '';
  #publishedAtMs = 0;

  private constructor(directory: string, stored: Stored) {
    this.#path = join(directory, 'revoked.json');
    this.#publishPath = join(directory, 'crl.pem');
    this.#stored = stored;
    this.#serials = new Set(stored.revoked.map(each => each.serial));
  }

  /** @throws ca.state when the stored list cannot be read: to go on without it would un-revoke everything */
  static async open(directory: string): Promise<Revocations> {
    const path = join(directory, 'revoked.json');
    return new Revocations(directory, parseStored(await readSecret(path), path));
  }

  /** PEM of all lists, as last published, with the intermediate certificates of those who signed; empty before. */
  get crlPem(): string {
    return this.#crlPem;
  }

  get number(): number {
    return this.#stored.number;
  }

  get list(): readonly Revoked[] {
    return this.#stored.revoked;
  }

  has(serial: string): boolean {
    return this.#serials.has(serial);
  }

  /** Revokes and publishes. @throws what the file system says; then nothing is revoked, or it is but not yet published */
  async add(more: readonly Revoked[], signers: readonly Signer[], foreignPem: string, nowMs: number): Promise<void> {
    const fresh = more.filter(each => !this.#serials.has(each.serial));
    await this.#publish([...this.#stored.revoked, ...fresh], signers, foreignPem, nowMs);
  }

  /** Whether the published lists are at half of their life, or a clock set back made them come from the future. */
  isDue(nowMs: number): boolean {
    const age = nowMs - this.#publishedAtMs;
    return age < 0 || age >= CRL_LIFETIME_MS / 2;
  }

  async publish(signers: readonly Signer[], foreignPem: string, nowMs: number): Promise<void> {
    await this.#publish(this.#stored.revoked, signers, foreignPem, nowMs);
  }

  async #publish(
    all: readonly Revoked[],
    signers: readonly Signer[],
    foreignPem: string,
    nowMs: number,
  ): Promise<void> {
    const revoked = all.filter(each => each.notAfterMs > nowMs);
    const stored = { number: this.#stored.number + 1, revoked };
    await writeAtomically(this.#path, `${JSON.stringify(stored)}\n`, 0o600);
    this.#stored = stored;
    this.#serials = new Set(revoked.map(each => each.serial));
    const lists = signers.map(signer => {
      const der = writeCrl(signer, {
        number: stored.number,
        thisUpdateMs: nowMs - BACKDATE_MS,
        nextUpdateMs: Math.min(nowMs + CRL_LIFETIME_MS, signer.notAfterMs),
        revoked: revoked.filter(each => each.issuer === signer.id),
      });
      return toPem('X509 CRL', der);
    });
    // A reader that knows only the roots needs these to believe the lists that they signed; blocks that are no lists are
    // passed over by everybody else.
    const intermediates = new Set(signers.flatMap(signer => signer.intermediates));
    this.#crlPem = [...lists, foreignPem, ...intermediates].join('');
    this.#publishedAtMs = nowMs;
    await writeAtomically(this.#publishPath, this.#crlPem, 0o644);
  }
}

function parseStored(text: string | undefined, path: string): Stored {
  if (text === undefined) return { number: 0, revoked: [] };
  try {
    const value: unknown = JSON.parse(text);
    if (isStored(value)) return value;
  } catch {
    // Said below, the same for both.
  }
  throw new ControlError('ca.state', `the list of revoked certificates in ${path} cannot be read`, {
    next: 'restore it; without it every revoked certificate would be good again. To accept that, remove the file',
  });
}

function isStored(value: unknown): value is Stored {
  if (typeof value !== 'object' || value === null) return false;
  const { number, revoked } = value as Partial<Record<keyof Stored, unknown>>;
  return typeof number === 'number' && Array.isArray(revoked) && revoked.every(isRevoked);
}

function isRevoked(value: unknown): value is Revoked {
  if (typeof value !== 'object' || value === null) return false;
  const { serial, issuer, revokedAtMs, notAfterMs } = value as Partial<Record<keyof Revoked, unknown>>;
  return (
    typeof serial === 'string' &&
    /^[0-9a-f]{2,64}$/.test(serial) &&
    typeof issuer === 'string' &&
    typeof revokedAtMs === 'number' &&
    typeof notAfterMs === 'number'
  );
}
