// What a certificate says about its holder: URI names in order, dates, serial. Parses exactly the text form that
// node:crypto gives a subjectAltName extension, never by looking for substrings: a hostile DNS name that contains
// ", URI:spiffe://..." must not become an identity. Fails closed: a text it does not understand is an error.
import { X509Certificate } from 'node:crypto';
import { TlsError } from './tls-error.ts';

export interface CertificateInfo {
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** Hexadecimal, upper case, as OpenSSL prints it. */
  readonly serial: string;
  /** Subject name, one attribute a line; empty for most workload certificates. */
  readonly subject: string;
  readonly uris: readonly string[];
}

/**
 * URI names of a certificate's subjectAltName, in order, whatever their scheme. SPIFFE rules (spec/identity.md section 1)
 * are the caller's: the peer's identity is the first of these that parses as one.
 * @throws tls.bad_certificate
 */
export function spiffeUris(leafDer: Uint8Array): string[] {
  return urisOf(parseCertificate(leafDer));
}

/** @throws tls.bad_certificate */
export function certificateInfo(der: Uint8Array): CertificateInfo {
  const certificate = parseCertificate(der);
  return {
    notBefore: dateOf(certificate.validFrom),
    notAfter: dateOf(certificate.validTo),
    serial: certificate.serialNumber,
    subject: certificate.subject ?? '',
    uris: urisOf(certificate),
  };
}

/** One general name of a subjectAltName, as node:crypto prints it. */
export interface AltName {
  readonly type: string;
  readonly value: string;
}

// The grammar (lib/src/crypto of Node, since the fix of CVE-2021-44532):
//   names := name (", " name)*       name := type ":" (json-string | plain)
// where a plain value holds no comma, quote or control character; a value that would is printed as a JSON string.
const TYPES: ReadonlySet<string> = new Set([
  'othername',
  'X400Name',
  'EdiPartyName',
  'email',
  'DNS',
  'URI',
  'DirName',
  'IP Address',
  'Registered ID',
]);
const JSON_STRING = /"(?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const PLAIN = /[^",]*/y;

/** Splits node:crypto's text of a subjectAltName. @throws tls.bad_certificate */
export function parseAltNames(text: string): AltName[] {
  const names: AltName[] = [];
  let at = 0;
  for (;;) {
    const colon = text.indexOf(':', at);
    const type = colon < 0 ? '' : text.slice(at, colon);
    if (!TYPES.has(type)) throw refuse(at);
    at = colon + 1;
    const isQuoted = text[at] === '"';
    const pattern = isQuoted ? JSON_STRING : PLAIN;
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match === null) throw refuse(at);
    at += match[0].length;
    names.push({ type, value: isQuoted ? unquote(match[0], at) : match[0] });
    if (at === text.length) return names;
    if (!text.startsWith(', ', at)) throw refuse(at);
    at += 2;
  }
}

function unquote(json: string, at: number): string {
  try {
    return String(JSON.parse(json));
  } catch {
    // A control character that Node would have escaped.
    throw refuse(at);
  }
}

function urisOf(certificate: X509Certificate): string[] {
  const text = certificate.subjectAltName;
  if (text === undefined || text === '') return [];
  return parseAltNames(text)
    .filter(name => name.type === 'URI')
    .map(name => name.value);
}

function parseCertificate(der: Uint8Array): X509Certificate {
  // X509Certificate would accept PEM too; a DER certificate is a SEQUENCE.
  if (der[0] !== 0x30) throw new TlsError('tls.bad_certificate', 'not a DER certificate');
  try {
    return new X509Certificate(der);
  } catch (cause) {
    throw new TlsError('tls.bad_certificate', 'certificate cannot be parsed', { cause });
  }
}

function dateOf(text: string): Date {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) throw new TlsError('tls.bad_certificate', `date ${text}`);
  return date;
}

function refuse(at: number): TlsError {
  return new TlsError('tls.bad_certificate', `subject alternative name not understood at position ${at}`);
}
