// What an identity's certificates look like in config_dump: upstream's fields, and ours (`nextRenewal`, `lastError`).
// Made from a report that has no private key in it.
import { X509Certificate } from 'node:crypto';
import type { IdentityReport } from '../identity/certificate-state.ts';
import type { Shape } from './mesh-shapes.ts';

const PEM_BLOCK = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

export function identityShape(report: IdentityReport): Shape {
  const { lastError, nextRenewalMs } = report;
  return {
    certChain: certificateShapes(report.certChainPem),
    identity: report.identity,
    lastError:
      lastError === undefined
        ? undefined
        : { at: timeText(lastError.atMs), code: lastError.code, message: lastError.message },
    nextRenewal: nextRenewalMs === undefined ? undefined : timeText(nextRenewalMs),
    rootCerts: certificateShapes(report.rootsPem),
    state: stateText(report),
  };
}

function stateText({ state, lastError }: IdentityReport): string {
  switch (state) {
    case 'initializing':
      return 'Initializing';
    case 'available':
      return 'Available';
    case 'unavailable':
      return `Unavailable: ${lastError?.message ?? 'the certificate expired'}`;
  }
}

function certificateShapes(pem: string): readonly Shape[] {
  return (pem.match(PEM_BLOCK) ?? []).flatMap(block => {
    try {
      const certificate = new X509Certificate(block);
      return [
        {
          expirationTime: timeText(certificate.validToDate.getTime()),
          pem: Buffer.from(pemText(certificate.raw)).toString('base64'),
          serialNumber: BigInt(`0x${certificate.serialNumber}`).toString(),
          validFrom: timeText(certificate.validFromDate.getTime()),
        },
      ];
    } catch {
      // Roots were checked when they came; a development authority's are the operator's own text.
      return [];
    }
  });
}

/** RFC 3339, whole seconds. */
export function timeText(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

/** With upstream's lines of 60 characters, which its dump has where others write 64. */
function pemText(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,60}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}
