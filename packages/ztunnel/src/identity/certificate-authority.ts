// What the certificate manager needs from whoever signs: the control plane's CA, or the development authority.
import type { CertificateMaterial } from '../worker-protocol.ts';

/** A workload certificate and when it may be used. */
export interface IssuedCertificate {
  readonly material: CertificateMaterial;
  /** Of the leaf, milliseconds since the Unix epoch. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export interface CertificateAuthority {
  /**
   * A fresh key and a certificate for it whose only name is `identity` (SPIFFE text). Once `signal` aborts nobody wants the
   * answer, and whatever it holds should be let go. @throws errors with a `code`: identity.unavailable, ca.*
   */
  issue(identity: string, signal?: AbortSignal): Promise<IssuedCertificate>;
  close(): void;
}
