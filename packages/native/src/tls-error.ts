// What can be wrong with TLS material or with the use of a session: certificates, keys, options, export. Failures of
// a handshake with a peer are not errors but data (`TlsFailure`, handshake.ts); a wrong record is a number (records.ts).

export type TlsErrorCode =
  | 'tls.bad_certificate' // a certificate that cannot be read or used
  | 'tls.bad_key' // a private key that cannot be read (encrypted keys included)
  | 'tls.key_mismatch' // the private key is not that of the leaf certificate
  | 'tls.bad_roots' // no usable trust anchor
  | 'tls.bad_option' // a group or suite list that OpenSSL does not understand
  | 'tls.request_failed' // OpenSSL could not make a key or a certificate request
  | 'tls.not_exportable' // the session's state lives in OpenSSL (record layer kind 'openssl')
  | 'tls.state'; // a call that the session's state does not allow

/** Bad TLS material or options. The message names the part and OpenSSL's reason, never key material. */
export class TlsError extends Error {
  readonly code: TlsErrorCode;

  constructor(code: TlsErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TlsError';
    this.code = code;
  }
}
