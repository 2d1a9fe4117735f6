// Callers that show a workload certificate on the TLS port. TLS has verified the chain and the key; here it becomes a caller:
// exactly one SPIFFE name, of our trust domain, and not revoked. A certificate says nothing about a node.
import { X509Certificate } from 'node:crypto';
import { parseSpiffeId } from '@ambit/mesh';
import type { Authenticator, AuthOutcome } from './caller.ts';

export interface CertificateAuthenticatorOptions {
  readonly trustDomain: string;
  /** By serial, hexadecimal. */
  readonly isRevoked: (serial: string) => boolean;
  readonly now: () => number;
}

/** How far a peer's clock may be off. */
export const CLOCK_LEEWAY_MS: number = 60_000;

export function certificateAuthenticator(options: CertificateAuthenticatorOptions): Authenticator {
  return {
    authenticate: async ({ certificate }) =>
      certificate === undefined ? refuse('auth.none', 'no client certificate') : read(certificate, options),
  };
}

function read(der: Uint8Array, { trustDomain, isRevoked, now }: CertificateAuthenticatorOptions): AuthOutcome {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(der);
  } catch {
    return refuse('auth.bad_certificate', 'the client certificate cannot be read');
  }
  if (certificate.ca) return refuse('auth.bad_certificate', 'the client certificate is a CA');
  const names = (certificate.subjectAltName ?? '').split(', ');
  const [uri = '', ...more] = names.filter(name => name.startsWith('URI:'));
  // Node quotes a name with characters that would make the list ambiguous; such a name is not of ours.
  const identity = more.length === 0 ? parseSpiffeId(uri.slice('URI:'.length)) : undefined;
  if (identity === undefined) return refuse('auth.no_spiffe_id', 'the client certificate has no single SPIFFE id');
  if (identity.trustDomain !== trustDomain) {
    return refuse('auth.foreign_trust_domain', `the certificate is of trust domain ${identity.trustDomain}`);
  }
  const nowMs = now();
  // Of a connection that has been open for long the certificate may have ended since.
  if (certificate.validToDate.getTime() + CLOCK_LEEWAY_MS < nowMs)
    return refuse('auth.expired', 'the certificate ended');
  if (certificate.validFromDate.getTime() - CLOCK_LEEWAY_MS > nowMs) {
    return refuse('auth.not_yet_valid', 'the certificate is not valid yet');
  }
  if (isRevoked(certificate.serialNumber)) return refuse('auth.revoked', 'the certificate was revoked');
  return { kind: 'caller', caller: { identity, via: 'certificate', node: undefined, pod: undefined } };
}

function refuse(code: string, reason: string): AuthOutcome {
  return { kind: 'refused', code, reason };
}
