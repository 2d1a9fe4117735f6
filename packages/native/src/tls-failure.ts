// Turns what OpenSSL says about a failed handshake into one stable reason code and one sentence. Pure tables; the numbers
// are those of sslerr.h and x509_vfy.h of OpenSSL 3.5 (held to OpenSSL's own texts by the test).
import { errnoName } from './errors.ts';
import type { QueuedError } from './openssl.ts';
import { alertName } from './records.ts';

export type TlsFailureCode =
  | 'tls.no_certificate' // the peer showed none
  | 'tls.untrusted_root' // the chain does not end in our roots
  | 'tls.expired'
  | 'tls.not_yet_valid'
  | 'tls.wrong_purpose' // extended key usage does not allow this role
  | 'tls.bad_certificate' // any other fault of the peer's certificate
  | 'tls.no_common_alpn'
  | 'tls.no_common_group'
  | 'tls.no_common_cipher'
  | 'tls.protocol_version' // the peer does not speak TLS 1.3
  | 'tls.protocol' // malformed or misplaced messages, or no TLS at all
  | 'tls.eof' // the peer closed in the middle
  | 'tls.io' // the socket failed
  | `tls.alert_${string}`; // the peer refused us

export interface TlsFailure {
  readonly code: TlsFailureCode;
  /** For an operator: what happened, without secrets. */
  readonly message: string;
  /** The alert the peer sent, when it sent one. */
  readonly alert?: string;
}

const ALERT_REASON_OFFSET = 1000;

/** Reasons of the SSL library that have a code of their own. */
export const SSL_REASONS: ReadonlyMap<number, { readonly text: string; readonly code: TlsFailureCode }> = new Map([
  [101, { text: 'no suitable key share', code: 'tls.no_common_group' }],
  [295, { text: 'no suitable groups', code: 'tls.no_common_group' }],
  [410, { text: 'no shared groups', code: 'tls.no_common_group' }],
  [193, { text: 'no shared cipher', code: 'tls.no_common_cipher' }],
  [199, { text: 'peer did not return a certificate', code: 'tls.no_certificate' }],
  [235, { text: 'no application protocol', code: 'tls.no_common_alpn' }],
  [258, { text: 'unsupported protocol', code: 'tls.protocol_version' }],
  [294, { text: 'unexpected eof while reading', code: 'tls.eof' }],
] as const);

export const CERTIFICATE_VERIFY_FAILED = 134;

/** Verification results (X509_V_ERR_*) that have a code of their own. */
export const VERIFY_RESULTS: ReadonlyMap<number, TlsFailureCode> = new Map([
  [2, 'tls.untrusted_root'], // unable to get issuer certificate
  [9, 'tls.not_yet_valid'],
  [10, 'tls.expired'],
  [18, 'tls.untrusted_root'], // self-signed certificate
  [19, 'tls.untrusted_root'], // self-signed certificate in chain
  [20, 'tls.untrusted_root'], // unable to get local issuer certificate
  [21, 'tls.untrusted_root'], // unable to verify the first certificate
  [26, 'tls.wrong_purpose'], // unsuitable certificate purpose
]);

/** @param verifyText OpenSSL's sentence for `verifyResult` */
export function failureOfSsl(errors: readonly QueuedError[], verifyResult: number, verifyText: string): TlsFailure {
  const reasons = errors.filter(error => error.fromSsl);
  const received = reasons.find(
    error => error.reason > ALERT_REASON_OFFSET && error.reason < ALERT_REASON_OFFSET + 256,
  );
  if (received !== undefined) {
    const alert = alertName(received.reason - ALERT_REASON_OFFSET);
    return { code: `tls.alert_${alert}`, message: `the peer refused the handshake with the alert ${alert}`, alert };
  }
  if (reasons.some(error => error.reason === CERTIFICATE_VERIFY_FAILED)) {
    const code = VERIFY_RESULTS.get(verifyResult) ?? 'tls.bad_certificate';
    return { code, message: `the peer's certificate was refused: ${verifyText}` };
  }
  for (const error of reasons) {
    const known = SSL_REASONS.get(error.reason);
    if (known === undefined) continue;
    if (known.code === 'tls.eof') return EOF_FAILURE;
    return { code: known.code, message: `the handshake failed: ${known.text}` };
  }
  return { code: 'tls.protocol', message: `the handshake failed: ${errors[0]?.text ?? 'unknown reason'}` };
}

export const EOF_FAILURE: TlsFailure = { code: 'tls.eof', message: 'the peer closed the connection in the handshake' };

/** @param errno of the socket call; 0 when the kernel reported none, which is an end of file */
export function failureOfSocket(errno: number): TlsFailure {
  if (errno === 0) return EOF_FAILURE;
  return { code: 'tls.io', message: `the socket failed in the handshake: ${errnoName(errno)}` };
}
