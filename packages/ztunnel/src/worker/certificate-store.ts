// TLS contexts by identity, made from the certificates the main thread sends. A context is built once per certificate
// and role and serves every handshake until the certificate is replaced or has run out; handshakes that run keep the old
// one. Fails closed: the main thread sends an error only when there is no valid certificate, and then there is none here.
import { X509Certificate } from 'node:crypto';
import { TlsContext, type TlsOptions } from '@ambit/native';
import type { CertificateMaterial } from '../worker-protocol.ts';

interface Entry {
  readonly material: CertificateMaterial | undefined;
  readonly error: string;
  /** When the main thread was last told that somebody waits for it. */
  askedAtMs: number;
  client: TlsContext | undefined;
  server: TlsContext | undefined;
}

type Context = TlsContext | { readonly error: string };

/** How often the main thread is told that an identity is missed. */
const ASK_PERIOD_MS = 500;

export class CertificateStore {
  readonly #options: TlsOptions;
  readonly #onMissed: (identity: string) => void;
  readonly #entries = new Map<string, Entry>();
  readonly #waiting = new Map<string, Set<() => void>>();

  /** `onMissed`: a connection failed for want of this identity's certificate, so it is worth asking for again. */
  constructor(options: TlsOptions, onMissed: (identity: string) => void) {
    this.#options = options;
    this.#onMissed = onMissed;
  }

  /** Replaces what is known of an identity: by a certificate, by the reason why there is none, or by nothing at all. */
  set(identity: string, material: CertificateMaterial | undefined, error: string | undefined): void {
    const known = this.#entries.get(identity);
    if (material === undefined && error === undefined) {
      // Whoever needs it again waits for the first word on it, as at the beginning.
      this.#entries.delete(identity);
      known?.client?.close();
      known?.server?.close();
      return;
    }
    this.#entries.set(identity, {
      material,
      error: error ?? '',
      askedAtMs: known?.askedAtMs ?? 0,
      client: undefined,
      server: undefined,
    });
    known?.client?.close();
    known?.server?.close();
    const waiting = this.#waiting.get(identity);
    this.#waiting.delete(identity);
    for (const wake of waiting ?? []) wake();
  }

  /** Whether there is a certificate, or a reason why there is none. */
  isKnown(identity: string): boolean {
    return this.#entries.has(identity);
  }

  /** Why there is no certificate, if there is none; asks for one then. */
  missing(identity: string): string | undefined {
    const entry = this.#entries.get(identity);
    if (entry === undefined || entry.material !== undefined) return undefined;
    this.#miss(identity, entry);
    return entry.error;
  }

  /** Calls `wake` once when the identity becomes known. Returns how to stop waiting. */
  onKnown(identity: string, wake: () => void): () => void {
    const waiting = this.#waiting.get(identity) ?? new Set();
    this.#waiting.set(identity, waiting);
    waiting.add(wake);
    return () => {
      waiting.delete(wake);
      if (waiting.size === 0 && this.#waiting.get(identity) === waiting) this.#waiting.delete(identity);
    };
  }

  client(identity: string): Context {
    return this.#context(identity, 'client');
  }

  server(identity: string): Context {
    return this.#context(identity, 'server');
  }

  /** Validity of an identity's certificate; undefined while there is none. */
  validity(identity: string): { readonly from: Date; readonly to: Date } | undefined {
    const pem = this.#entries.get(identity)?.material?.certChainPem;
    if (pem === undefined) return undefined;
    const { validFromDate, validToDate } = new X509Certificate(pem);
    return { from: validFromDate, to: validToDate };
  }

  close(): void {
    for (const entry of this.#entries.values()) {
      entry.client?.close();
      entry.server?.close();
    }
    this.#entries.clear();
  }

  #miss(identity: string, entry: Entry): void {
    const now = Date.now();
    if (Math.abs(now - entry.askedAtMs) < ASK_PERIOD_MS) return;
    entry.askedAtMs = now;
    this.#onMissed(identity);
  }

  #context(identity: string, role: 'client' | 'server'): Context {
    const entry = this.#entries.get(identity);
    if (entry === undefined) return { error: `no certificate for ${identity} yet` };
    const known = entry[role];
    if (known !== undefined) return known;
    if (entry.material === undefined) {
      this.#miss(identity, entry);
      return { error: entry.error };
    }
    try {
      const make = role === 'client' ? TlsContext.client : TlsContext.server;
      const context = make(entry.material, this.#options);
      entry[role] = context;
      return context;
    } catch (error) {
      return { error: error instanceof Error ? error.message : String(error) };
    }
  }
}
