// Verifies a certificate chain the way a peer's handshake will (RFC 5280, by OpenSSL): signatures, dates, CA flags, path
// length, key usage. For whoever is about to put a chain to use, so that a bad one is found before a peer refuses it.
// Names are the caller's business. Revocation is not looked at.
import { bind } from './library.ts';
import { type OpenSsl, openssl, type Pointer, takeErrors, X509_V_FLAG_PARTIAL_CHAIN } from './openssl.ts';
import { pemCertificates } from './pem.ts';
import { TlsError } from './tls-error.ts';

export interface ChainToVerify {
  /** Leaf first, then intermediates in any order. */
  readonly certChainPem: string;
  /** Every certificate in it is a trust anchor, self-signed or not. */
  readonly rootsPem: string;
  /** The moment that dates are compared with, milliseconds since the Unix epoch. */
  readonly atMs: number;
}

export type ChainVerdict =
  | { readonly kind: 'trusted' }
  /** `depth` counts from the leaf, 0; `reason` is OpenSSL's sentence. */
  | { readonly kind: 'refused'; readonly depth: number; readonly reason: string };

/** X509_PURPOSE_*: a workload's certificate must serve both ends of mesh TLS. */
const PURPOSES = { client: 1, server: 2 } as const;

type Call<A extends readonly unknown[], R> = (...args: A) => R;
type P = Pointer;

function load() {
  return {
    storeNew: bind<Call<[], P>>('uintptr_t X509_STORE_new()'),
    storeFree: bind<Call<[P], void>>('void X509_STORE_free(uintptr_t)'),
    contextNew: bind<Call<[], P>>('uintptr_t X509_STORE_CTX_new()'),
    contextFree: bind<Call<[P], void>>('void X509_STORE_CTX_free(uintptr_t)'),
    contextInit: bind<Call<[P, P, P, P], number>>(
      'int X509_STORE_CTX_init(uintptr_t, uintptr_t, uintptr_t, uintptr_t)',
    ),
    contextSetTime: bind<Call<[P, number, number], void>>(
      'void X509_STORE_CTX_set_time(uintptr_t, unsigned long, int64_t)',
    ),
    contextSetPurpose: bind<Call<[P, number], number>>('int X509_STORE_CTX_set_purpose(uintptr_t, int)'),
    verify: bind<Call<[P], number>>('int X509_verify_cert(uintptr_t)'),
    error: bind<Call<[P], number>>('int X509_STORE_CTX_get_error(uintptr_t)'),
    errorDepth: bind<Call<[P], number>>('int X509_STORE_CTX_get_error_depth(uintptr_t)'),
    stackNew: bind<Call<[], P>>('uintptr_t OPENSSL_sk_new_null()'),
    stackPush: bind<Call<[P, P], number>>('int OPENSSL_sk_push(uintptr_t, uintptr_t)'),
    stackFree: bind<Call<[P], void>>('void OPENSSL_sk_free(uintptr_t)'),
  } as const;
}

let loaded: ReturnType<typeof load> | undefined;

/** Whether the chain is good for both ends of mesh TLS. @throws tls.bad_certificate, tls.bad_roots for unreadable PEM; native.unsupported */
export function verifyCertificateChain(input: ChainToVerify): ChainVerdict {
  const lib = openssl();
  loaded ??= load();
  const own = loaded;
  lib.errClearError();
  const chain = pemCertificates(lib, input.certChainPem, 'tls.bad_certificate', 'certificate chain');
  let roots: Pointer[] = [];
  const store = own.storeNew();
  const untrusted = own.stackNew();
  try {
    roots = pemCertificates(lib, input.rootsPem, 'tls.bad_roots', 'roots');
    if (store === 0 || untrusted === 0) throw new TlsError('tls.bad_certificate', 'no memory to verify a chain');
    for (const root of roots) lib.storeAdd(store, root);
    // As TlsContext does: an intermediate given as a root is an anchor too.
    lib.storeSetFlags(store, X509_V_FLAG_PARTIAL_CHAIN);
    for (const certificate of chain.slice(1)) own.stackPush(untrusted, certificate);
    const leaf = chain[0] ?? 0;
    const atSeconds = Math.floor(input.atMs / 1000);
    const client = verifyAs(lib, own, { store, leaf, untrusted, atSeconds, purpose: PURPOSES.client });
    if (client.kind === 'refused') return client;
    return verifyAs(lib, own, { store, leaf, untrusted, atSeconds, purpose: PURPOSES.server });
  } finally {
    own.stackFree(untrusted);
    own.storeFree(store);
    for (const certificate of [...chain, ...roots]) lib.certificateFree(certificate);
    lib.errClearError();
  }
}

interface Verification {
  readonly store: Pointer;
  readonly leaf: Pointer;
  readonly untrusted: Pointer;
  readonly atSeconds: number;
  readonly purpose: number;
}

function verifyAs(lib: OpenSsl, own: ReturnType<typeof load>, what: Verification): ChainVerdict {
  const context = own.contextNew();
  try {
    if (context === 0 || own.contextInit(context, what.store, what.leaf, what.untrusted) !== 1) {
      throw new TlsError('tls.bad_certificate', `chain not verified: ${takeErrors(lib).at(-1)?.text ?? 'no memory'}`);
    }
    own.contextSetTime(context, 0, what.atSeconds);
    own.contextSetPurpose(context, what.purpose);
    if (own.verify(context) === 1) return { kind: 'trusted' };
    const error = own.error(context);
    return {
      kind: 'refused',
      depth: own.errorDepth(context),
      reason: lib.verifyErrorText(error) ?? `verification error ${error}`,
    };
  } finally {
    own.contextFree(context);
  }
}
