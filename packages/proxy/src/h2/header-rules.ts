// Judges decoded header lists of HBONE by RFC 9113 §8.2-§8.5 while they are decoded, and keeps only the fields a proxy
// reads. Malformed lists become stream faults with PROTOCOL_ERROR; nothing here answers with a status: a request that is
// well formed but not one we serve (another method, no authority) is handed over for the owner to refuse with 400.

import { H2_ERROR } from './frames.ts';
import { type H2Fault, streamFault } from './h2-fault.ts';
import type { HeaderSink } from './hpack-decoder.ts';

/** What a proxy reads of a request. Absent fields are undefined; of repeated ones the first counts, except `baggage`. */
export interface RequestHead {
  readonly method: string;
  readonly authority: string | undefined;
  readonly forwarded: string | undefined;
  /** Every `baggage` field in order; values are latin-1 and may hold bytes over 0x7f. */
  readonly baggage: readonly string[];
  readonly traceparent: string | undefined;
  readonly xForwardedNetwork: string | undefined;
}

/** What a proxy reads of a response. 1xx are interim: another response follows. */
export interface ResponseHead {
  /** 100..999. */
  readonly status: number;
  readonly baggage: readonly string[];
}

/** The ruling on a header list. */
export type HeaderRuling<Head> =
  | { readonly kind: 'ok'; readonly head: Head }
  | { readonly kind: 'malformed'; readonly fault: H2Fault };

const NAME_CHAR = 1;
const VALUE_CHAR = 2;
const charClass = buildCharClasses();

// Fields that describe one hop of HTTP/1 and must not appear (RFC 9113 §8.2.2).
const CONNECTION_SPECIFIC = new Set(['connection', 'proxy-connection', 'keep-alive', 'transfer-encoding', 'upgrade']);

/**
 * Collects one request. Use: `reset()`, decode into it, `finish()`. May be reused for any number of requests, so a
 * connection or a whole worker needs one.
 */
export class RequestRules implements HeaderSink {
  #problem = '';
  #sawRegular = false;
  #method: string | undefined = undefined;
  #authority: string | undefined = undefined;
  #hasScheme = false;
  #hasPath = false;
  #forwarded: string | undefined = undefined;
  #traceparent: string | undefined = undefined;
  #xForwardedNetwork: string | undefined = undefined;
  #baggage: string[] = [];

  /** Forgets the previous request. */
  reset(): void {
    this.#problem = '';
    this.#sawRegular = false;
    this.#method = undefined;
    this.#authority = undefined;
    this.#hasScheme = false;
    this.#hasPath = false;
    this.#forwarded = undefined;
    this.#traceparent = undefined;
    this.#xForwardedNetwork = undefined;
    this.#baggage = [];
  }

  header(name: string, value: string): void {
    if (this.#problem !== '') return;
    if (!isFieldValue(value)) {
      this.#problem = 'header value with a forbidden character';
    } else if (name.charCodeAt(0) === 0x3a) {
      this.#pseudo(name, value);
    } else {
      this.#sawRegular = true;
      this.#problem = regularProblem(name, value);
      if (this.#problem === '') this.#regular(name, value);
    }
  }

  /** Rules on the whole list; `streamId` only names the stream in a fault. */
  finish(streamId: number): HeaderRuling<RequestHead> {
    const problem = this.#problem === '' ? this.#missing() : this.#problem;
    if (problem !== '' || this.#method === undefined) return malformed(streamId, problem);
    return {
      kind: 'ok',
      head: {
        method: this.#method,
        authority: this.#authority,
        forwarded: this.#forwarded,
        baggage: this.#baggage,
        traceparent: this.#traceparent,
        xForwardedNetwork: this.#xForwardedNetwork,
      },
    };
  }

  #pseudo(name: string, value: string): void {
    if (this.#sawRegular) {
      this.#problem = 'pseudo-header after a regular header';
      return;
    }
    switch (name) {
      case ':method':
        if (this.#method !== undefined) this.#problem = 'repeated :method';
        else if (!isToken(value)) this.#problem = ':method is not a token';
        this.#method = value;
        return;
      case ':authority':
        if (this.#authority !== undefined) this.#problem = 'repeated :authority';
        this.#authority = value;
        return;
      case ':scheme':
        if (this.#hasScheme || value === '') this.#problem = 'repeated or empty :scheme';
        this.#hasScheme = true;
        return;
      case ':path':
        if (this.#hasPath || value === '') this.#problem = 'repeated or empty :path';
        this.#hasPath = true;
        return;
      default:
        // Includes :protocol: extended CONNECT was never offered.
        this.#problem = 'unknown pseudo-header in a request';
    }
  }

  #regular(name: string, value: string): void {
    switch (name) {
      case 'baggage':
        this.#baggage.push(value);
        return;
      case 'forwarded':
        this.#forwarded ??= value;
        return;
      case 'traceparent':
        this.#traceparent ??= value;
        return;
      case 'x-forwarded-network':
        this.#xForwardedNetwork ??= value;
        return;
      default:
    }
  }

  #missing(): string {
    if (this.#method === undefined) return 'request without :method';
    if (this.#method === 'CONNECT') {
      return this.#hasScheme || this.#hasPath ? 'CONNECT with :scheme or :path' : '';
    }
    return this.#hasScheme && this.#hasPath ? '' : 'request without :scheme or :path';
  }
}

/** Collects one response; used like RequestRules. */
export class ResponseRules implements HeaderSink {
  #problem = '';
  #sawRegular = false;
  // 0 until seen; a valid status is never 0.
  #status = 0;
  #baggage: string[] = [];

  /** Forgets the previous response. */
  reset(): void {
    this.#problem = '';
    this.#sawRegular = false;
    this.#status = 0;
    this.#baggage = [];
  }

  header(name: string, value: string): void {
    if (this.#problem !== '') return;
    if (!isFieldValue(value)) {
      this.#problem = 'header value with a forbidden character';
    } else if (name.charCodeAt(0) === 0x3a) {
      this.#pseudo(name, value);
    } else {
      this.#sawRegular = true;
      this.#problem = regularProblem(name, value);
      if (this.#problem === '' && name === 'baggage') this.#baggage.push(value);
    }
  }

  /** Rules on the whole list; `streamId` only names the stream in a fault. */
  finish(streamId: number): HeaderRuling<ResponseHead> {
    const problem = this.#problem === '' && this.#status === 0 ? 'response without :status' : this.#problem;
    if (problem !== '') return malformed(streamId, problem);
    return { kind: 'ok', head: { status: this.#status, baggage: this.#baggage } };
  }

  #pseudo(name: string, value: string): void {
    if (this.#sawRegular) this.#problem = 'pseudo-header after a regular header';
    else if (name !== ':status') this.#problem = 'unknown pseudo-header in a response';
    else if (this.#status !== 0) this.#problem = 'repeated :status';
    else this.#status = parseStatus(value);
    if (this.#problem === '' && this.#status === 0) this.#problem = ':status is not three digits';
    // HTTP/2 has no protocol switch (RFC 9113 §8.6).
    if (this.#status === 101) this.#problem = ':status 101 does not exist in HTTP/2';
  }
}

function malformed(streamId: number, problem: string): { kind: 'malformed'; fault: H2Fault } {
  return { kind: 'malformed', fault: streamFault(streamId, H2_ERROR.PROTOCOL_ERROR, problem) };
}

function regularProblem(name: string, value: string): string {
  if (!isLowerCaseName(name)) return 'header name with a forbidden character';
  if (CONNECTION_SPECIFIC.has(name)) return 'connection-specific header';
  if (name === 'te' && value !== 'trailers') return 'te other than trailers';
  return '';
}

// 100..999, or 0 when the text is not that.
function parseStatus(text: string): number {
  if (text.length !== 3) return 0;
  let status = 0;
  for (let i = 0; i < 3; i++) {
    const digit = text.charCodeAt(i) - 0x30;
    if (digit < 0 || digit > 9) return 0;
    status = status * 10 + digit;
  }
  return status < 100 ? 0 : status;
}

function isLowerCaseName(name: string): boolean {
  if (name === '') return false;
  for (let i = 0; i < name.length; i++) {
    if (((charClass[name.charCodeAt(i)] ?? 0) & NAME_CHAR) === 0) return false;
  }
  return true;
}

// A token may be upper case too, unlike a field name.
function isToken(text: string): boolean {
  return isLowerCaseName(text.toLowerCase());
}

// RFC 9113 §8.2.1 forbids NUL, CR, LF and blanks at either end; other control characters are refused as well, as
// RFC 9110 §5.5 allows them in no field.
function isFieldValue(value: string): boolean {
  const last = value.length - 1;
  if (last < 0) return true;
  for (let i = 0; i <= last; i++) {
    if (((charClass[value.charCodeAt(i)] ?? 0) & VALUE_CHAR) === 0) return false;
  }
  return !isBlank(value.charCodeAt(0)) && !isBlank(value.charCodeAt(last));
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

function buildCharClasses(): Uint8Array {
  const classes = new Uint8Array(256);
  for (let code = 0; code < 256; code++) {
    if (code === 0x09 || (code >= 0x20 && code !== 0x7f)) classes[code] = VALUE_CHAR;
  }
  // RFC 9110 §5.6.2 token characters without upper case.
  for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
    const code = char.charCodeAt(0);
    classes[code] = NAME_CHAR | VALUE_CHAR;
  }
  return classes;
}
