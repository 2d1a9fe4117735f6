// `/certs`: when each identity's certificate ends and is renewed, those that end first at the top; the same facts as
// config_dump without chains. Pure.
import type { IdentityReport } from '../identity/certificate-state.ts';
import { timeText } from './certificate-shape.ts';

/** Keys as this project's JSON has them; durations in seconds. */
export interface CertificateView {
  readonly identity: string;
  readonly state: IdentityReport['state'];
  readonly validFrom: string | null;
  readonly expirationTime: string | null;
  /** Negative when it is over. */
  readonly expiresInSeconds: number | null;
  readonly nextRenewal: string | null;
  readonly lastError: { readonly at: string; readonly code: string | null; readonly message: string } | null;
}

export function certificateViews(reports: readonly IdentityReport[], nowMs: number): readonly CertificateView[] {
  return [...reports]
    .sort((a, b) => (a.notAfterMs ?? 0) - (b.notAfterMs ?? 0) || (a.identity < b.identity ? -1 : 1))
    .map(({ identity, state, notBeforeMs, notAfterMs, nextRenewalMs, lastError }) => ({
      identity,
      state,
      validFrom: timeOrNull(notBeforeMs),
      expirationTime: timeOrNull(notAfterMs),
      expiresInSeconds: notAfterMs === undefined ? null : Math.floor((notAfterMs - nowMs) / 1000),
      nextRenewal: timeOrNull(nextRenewalMs),
      lastError:
        lastError === undefined
          ? null
          : { at: timeText(lastError.atMs), code: lastError.code ?? null, message: lastError.message },
    }));
}

function timeOrNull(ms: number | undefined): string | null {
  return ms === undefined ? null : timeText(ms);
}
