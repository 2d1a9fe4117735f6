// One leaf certificate, in date with its signer: never valid before or after it, backdated a little for clocks that differ,
// with a random serial. Its names are all that says who it is.
import { ControlError } from '../errors.ts';
import { BACKDATE_MS, type Signer } from './signer.ts';
import { EMPTY_NAME, type Name, randomSerial, toPem, writeCertificate } from './x509-writer.ts';

export interface Leaf {
  readonly leafPem: string;
  /** Hexadecimal. */
  readonly serial: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** @param spki the subject's public key. @throws ca.expired when the signer is not valid now */
export function issueLeaf(
  signer: Signer,
  nowMs: number,
  spki: Buffer,
  names: readonly Name[],
  usages: readonly ('server' | 'client')[],
  ttlMs: number,
): Leaf {
  const { validFromDate, validTo } = signer.certificate;
  if (signer.notAfterMs <= nowMs || validFromDate.getTime() > nowMs) {
    throw new ControlError('ca.expired', `the signing certificate is not valid now; it ends on ${validTo}`, {
      next: 'replace it, or mend the clock',
    });
  }
  // X.509 counts whole seconds; rounding down keeps the leaf inside its signer.
  const notAfterMs = Math.floor(Math.min(nowMs + ttlMs, signer.notAfterMs) / 1000) * 1000;
  const notBeforeMs = Math.floor((nowMs - BACKDATE_MS) / 1000) * 1000;
  const serial = randomSerial();
  const der = writeCertificate({
    issuer: signer,
    subject: EMPTY_NAME,
    spki,
    serial,
    notBeforeMs,
    notAfterMs,
    role: { kind: 'leaf', names, usages },
  });
  return { leafPem: toPem('CERTIFICATE', der), serial: serial.toString('hex'), notBeforeMs, notAfterMs };
}

/** Serials as people copy them: with colons, capitals, leading zeros. */
export function normalSerial(text: string): string {
  const hex = text
    .toLowerCase()
    .replace(/^0x/, '')
    .replaceAll(':', '')
    .replace(/^0+(?=.)/, '');
  return hex.length % 2 === 0 ? hex : `0${hex}`;
}
