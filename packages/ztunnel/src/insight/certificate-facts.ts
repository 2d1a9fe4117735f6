// The lives of this node's certificates, for whoever looks for those that end too soon. Pure.
import type { CertificateFact } from '@ambit/insight';
import type { IdentityReport } from '../identity/certificate-state.ts';

export function certificateFacts(reports: readonly IdentityReport[]): readonly CertificateFact[] {
  return reports.flatMap(({ identity, notBeforeMs, notAfterMs }) =>
    notBeforeMs === undefined || notAfterMs === undefined ? [] : [{ identity, notBeforeMs, notAfterMs }],
  );
}
