// What the certificate manager needs from whoever signs: the development authority today, a CA client later.
import type { CertificateMaterial } from '../worker-protocol.ts';

/** A workload certificate and when it may be used. */
export interface IssuedCertificate {
  readonly material: CertificateMaterial;
  /** Of the leaf, milliseconds since the Unix epoch. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export interface CertificateAuthority {
  /** A fresh key and a certificate for it whose only name is `identity` (SPIFFE text). @throws identity.unavailable */
  issue(identity: string): Promise<IssuedCertificate>;
  close(): void;
}
