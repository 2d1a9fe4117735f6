// What a CA sent, checked before anybody relies on it: a chain of PEM certificates whose leaf is for the identity and the
// key that asked, is valid now, and leads to one of the roots that came with it. Whatever is wrong is an error with its own
// code; nothing is used in part. Pure: the clock's reading is an argument. Istio's answer format, identity.md section 4.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { type CertificateInfo, certificateInfo, TlsError, verifyCertificateChain } from '@ambit/native';
import { ZtunnelError } from '../errors.ts';
import type { IssuedCertificate } from './certificate-authority.ts';

export interface CaResponse {
  /** Leaf, intermediates one each, and last all roots together. */
  readonly chain: readonly string[];
  readonly identity: string;
  readonly privateKeyPem: string;
  readonly nowMs: number;
}

export interface CheckedResponse {
  readonly certificate: IssuedCertificate;
  /** Blocks among the roots that are no usable certificates; they were left out. */
  readonly skippedRoots: number;
}

/** How far two clocks may differ before it is an error. The CA's own backdating comes on top. */
export const CLOCK_SKEW_MS = 60_000;

const PEM_BLOCK = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** @throws ca.bad_response, ca.wrong_identity, ca.wrong_key, ca.expired, ca.untrusted_chain, identity.clock_skew */
export function checkCaResponse(response: CaResponse): CheckedResponse {
  const { chain, identity, privateKeyPem, nowMs } = response;
  const [leafText, ...rest] = chain;
  const rootsText = rest.pop();
  if (leafText === undefined) throw bad(`chain returned from CA is empty for: ${identity}`);
  if (rootsText === undefined) throw bad(`the CA's answer for ${identity} holds one certificate and no roots`);
  const leaf = firstCertificate(leafText, 'leaf');
  const intermediates = rest.map((text, index) => firstCertificate(text, `intermediate ${index + 1}`));
  const { roots, skipped } = usableRoots(rootsText);
  // Whoever held its key could sign certificates for others.
  if (leaf.certificate.ca) throw bad(`the CA's certificate for ${identity} is itself an authority's`);
  const info = infoOf(leaf.certificate);
  checkName(info, identity);
  checkKey(leaf.certificate, privateKeyPem, identity);
  checkDates(info, identity, nowMs);
  const certChainPem = [leaf, ...intermediates].map(({ pem }) => pem).join('');
  const rootsPem = roots.join('');
  // A leaf that begins within the tolerated difference is judged at its beginning.
  checkTrust(certChainPem, rootsPem, Math.max(nowMs, info.notBefore.getTime()), identity);
  return {
    certificate: {
      material: { identity, certChainPem, privateKeyPem, rootsPem },
      notBeforeMs: info.notBefore.getTime(),
      notAfterMs: info.notAfter.getTime(),
    },
    skippedRoots: skipped,
  };
}

function firstCertificate(text: string, what: string): { readonly certificate: X509Certificate; readonly pem: string } {
  const [block] = text.match(PEM_BLOCK) ?? [];
  const certificate = block === undefined ? undefined : parse(block);
  if (block === undefined || certificate === undefined) throw bad(`the CA's answer: the ${what} is no PEM certificate`);
  return { certificate, pem: `${block}\n` };
}

function usableRoots(text: string): { readonly roots: readonly string[]; readonly skipped: number } {
  const blocks = text.match(PEM_BLOCK) ?? [];
  const roots = blocks.filter(block => parse(block) !== undefined).map(block => `${block}\n`);
  if (roots.length === 0) throw bad('the CA sent no usable root certificate');
  return { roots, skipped: blocks.length - roots.length };
}

function parse(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}

function infoOf(certificate: X509Certificate): CertificateInfo {
  try {
    return certificateInfo(certificate.raw);
  } catch (cause) {
    throw bad('the leaf that the CA sent cannot be read', cause);
  }
}

/** A peer takes the first URI that is a SPIFFE id; there must not be another for it to find. */
function checkName({ uris }: CertificateInfo, identity: string): void {
  const ids = uris.filter(uri => uri.startsWith('spiffe://'));
  if (uris[0] === identity && ids.length === 1) return;
  const found = uris.length === 0 ? 'none' : uris.join(', ').slice(0, 500);
  throw new ZtunnelError('ca.wrong_identity', `did not find expected SAN: ${identity} (found: ${found})`);
}

function checkKey(leaf: X509Certificate, privateKeyPem: string, identity: string): void {
  if (leaf.checkPrivateKey(createPrivateKey(privateKeyPem))) return;
  throw new ZtunnelError('ca.wrong_key', `the CA's certificate for ${identity} is not for the key that asked`);
}

function checkDates({ notBefore, notAfter }: CertificateInfo, identity: string, nowMs: number): void {
  const aheadMs = notBefore.getTime() - nowMs;
  const now = new Date(nowMs).toISOString();
  if (aheadMs > CLOCK_SKEW_MS) {
    const seconds = Math.round(aheadMs / 1000);
    throw new ZtunnelError(
      'identity.clock_skew',
      `the CA's certificate for ${identity} begins in ${seconds} s (at ${notBefore.toISOString()}, this node says ${now})`,
      { hint: "compare this node's clock with the control plane's" },
    );
  }
  if (notAfter.getTime() > nowMs) return;
  throw new ZtunnelError(
    'ca.expired',
    `the CA's certificate for ${identity} ended at ${notAfter.toISOString()}, this node says ${now}`,
    { hint: "the CA's own certificate may have expired, or this node's clock is ahead" },
  );
}

function checkTrust(certChainPem: string, rootsPem: string, atMs: number, identity: string): void {
  try {
    const verdict = verifyCertificateChain({ certChainPem, rootsPem, atMs });
    if (verdict.kind === 'trusted') return;
    throw new ZtunnelError(
      'ca.untrusted_chain',
      `the CA's chain for ${identity} does not lead to its roots: ${verdict.reason} (certificate ${verdict.depth})`,
    );
  } catch (error) {
    if (error instanceof TlsError) throw bad(`the CA's chain for ${identity}: ${error.message}`, error);
    throw error;
  }
}

function bad(message: string, cause?: unknown): ZtunnelError {
  return new ZtunnelError('ca.bad_response', message, { cause });
}
