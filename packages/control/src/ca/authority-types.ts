// What goes into the certificate authority and what comes out of it, as its callers see it.
import type { SpiffeId } from '@ambit/mesh';
import type { Caller } from '../auth/caller.ts';
import type { Diagnostic } from '../diagnostic.ts';
import type { Log } from '@ambit/log';
import type { Issued } from './issued-index.ts';
import type { SigningSource } from './signing-source.ts';

export interface CertificateAuthorityOptions {
  readonly source: SigningSource;
  /** Audit log, index, revocations and the published list live here. */
  readonly stateDirectory: string;
  readonly trustDomain: string;
  /** Of certificates that ask for none. Default 24 hours. */
  readonly defaultTtlMs?: number;
  /** Default 90 days. */
  readonly maxTtlMs?: number;
  readonly log: Log;
  readonly now?: () => number;
}

export interface CertificateRequest {
  readonly caller: Caller;
  readonly peer: string;
  /** The identity that was authorised; the only name in the certificate. */
  readonly identity: SpiffeId;
  readonly csrPem: string;
  /** Nought or less: the default. */
  readonly ttlMs: number;
}

/** Whom changes are told to; each is called with the whole present state. */
export interface AuthorityListener {
  /** The roots to trust (ConfigMap `istio-ca-root-cert`). */
  readonly roots?: (rootsPem: string) => void;
  /** The lists of revoked certificates (ConfigMap `istio-ca-crl`). */
  readonly crl?: (crlPem: string) => void;
  /** Signer, roots or revocations changed: make serving material again, look at open connections again. */
  readonly changed?: () => void;
}

export type ListedCertificate = Issued & { readonly isRevoked: boolean };

export interface AuthorityStatus {
  readonly source: string;
  readonly phase: string;
  readonly signer: { readonly subject: string; readonly notAfterMs: number; readonly id: string };
  readonly crlNumber: number;
  readonly issued: number;
  readonly refusals: Readonly<Record<string, number>>;
  readonly problems: readonly Diagnostic[];
}
