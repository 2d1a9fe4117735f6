// Reads certificate revocation lists (RFC 5280 section 5): which certificates they name, and whether an authority we know
// signed them. Runs in a helper process, for the library is large. A list by a stranger says nothing and is left out.
import 'reflect-metadata';
import { webcrypto, X509Certificate } from 'node:crypto';
import { revocationKey } from '@ambit/native';
import * as x509 from '@peculiar/x509';
import { ZtunnelError } from '../errors.ts';

export interface CrlRequest {
  /**
   * PEM with any number of lists, or one list in DER. PEM may hold certificates too: an authority below one that we know
   * may sign lists of its own, and how else would we know it.
   */
  readonly content: Uint8Array;
  /** PEM: the authorities that may sign lists. Empty while none is known: then every list counts. */
  readonly issuersPem: string;
}

export interface CrlFacts {
  /** Of certificates named by lists whose signature was verified. */
  readonly keys: readonly string[];
  readonly lists: number;
  /** Issuers' names of lists that no known authority signed. */
  readonly unverified: readonly string[];
  /** Issuers' names of lists whose time for an update has passed; they still count. */
  readonly overdue: readonly string[];
}

const MAX_LISTS = 64;
/** Of each kind: authorities that we know, and those that come with the lists. */
const MAX_CERTIFICATES = 256;
/** OpenSSL writes `X509 CRL` (RFC 7468 section 6); some libraries write `CRL`. */
const PEM_LIST = /-----BEGIN (?:X509 )?CRL-----([A-Za-z0-9+/=\s]*)-----END (?:X509 )?CRL-----/g;
const PEM_BEGIN = /-----BEGIN (?:X509 )?CRL-----/g;
const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);

/**
 * Without any authority to judge by, all lists are believed: the file is the operator's own, the first certificate brings
 * handshakes with it, and until the lists are judged anew nobody that one of them names may come in.
 * @throws config.invalid when there is something that is no revocation list
 */
export async function readCrls(request: CrlRequest, nowMs: number): Promise<CrlFacts> {
  const content = Buffer.from(request.content);
  const issuers = withThoseBelow(certificatesOf(request.issuersPem), certificatesOf(content.toString('latin1'))).map(
    each => new x509.X509Certificate(each.raw),
  );
  const areBelieved = request.issuersPem === '';
  const keys = new Set<string>();
  const unverified: string[] = [];
  const overdue: string[] = [];
  const lists = listsOf(content).map(parse);
  for (const list of lists) {
    if (!areBelieved && !(await isSignedByOneOf(list, issuers))) {
      unverified.push(list.issuer);
      continue;
    }
    if (list.nextUpdate !== undefined && list.nextUpdate.getTime() < nowMs) overdue.push(list.issuer);
    const issuer = new Uint8Array(list.issuerName.toArrayBuffer());
    for (const { serialNumber } of list.entries) keys.add(revocationKey(issuer, Buffer.from(serialNumber, 'hex')));
  }
  return { keys: [...keys], lists: lists.length, unverified, overdue };
}

function listsOf(content: Buffer): Buffer[] {
  const text = content.toString('latin1');
  if (text.trim() === '') return [];
  if (!text.trimStart().startsWith('-----BEGIN')) return [content];
  const found = [...text.matchAll(PEM_LIST)].map(match => Buffer.from(match[1] ?? '', 'base64'));
  const begun = text.match(PEM_BEGIN)?.length ?? 0;
  if (found.length !== begun) throw invalid(`block ${found.length + 1} of ${begun} is not closed or not base64`);
  if (found.length > MAX_LISTS) throw invalid(`${found.length} lists; at most ${MAX_LISTS} are read`);
  return found;
}

function parse(der: Buffer): x509.X509Crl {
  try {
    return new x509.X509Crl(der);
  } catch (cause) {
    throw invalid(cause instanceof Error ? cause.message : String(cause));
  }
}

/** Node reads them first: it is strict, and one bad certificate must not stop the others. */
function certificatesOf(pem: string): X509Certificate[] {
  return [...pem.matchAll(PEM_CERTIFICATE)].slice(0, MAX_CERTIFICATES).flatMap(([block]) => {
    try {
      return [new X509Certificate(block)];
    } catch {
      return [];
    }
  });
}

/** The known, and every authority among the others that one of the known, or one found so, has signed. */
function withThoseBelow(known: readonly X509Certificate[], others: readonly X509Certificate[]): X509Certificate[] {
  const found = [...known];
  const rest = new Set(others.filter(each => each.ca));
  // Those that are added are looked at in turn, for what they have signed themselves.
  for (const issuer of found) {
    for (const each of rest) {
      if (!each.checkIssued(issuer) || !each.verify(issuer.publicKey)) continue;
      rest.delete(each);
      found.push(each);
    }
  }
  return found;
}

async function isSignedByOneOf(list: x509.X509Crl, issuers: readonly x509.X509Certificate[]): Promise<boolean> {
  for (const issuer of issuers) {
    if (issuer.subject !== list.issuer) continue;
    try {
      if (await list.verify({ publicKey: issuer })) return true;
    } catch {
      // A key of another kind than the signature: not this one.
    }
  }
  return false;
}

function invalid(reason: string): ZtunnelError {
  return new ZtunnelError('config.invalid', `not a certificate revocation list: ${reason}`);
}
