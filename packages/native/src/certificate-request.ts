// A fresh P-256 key and a PKCS#10 request for it (RFC 2986), made by OpenSSL: empty subject, one extension, a critical
// subjectAltName with one URI. It replaces an X.509 library of 20 MB in the process that keeps a node's certificates.
// Everything OpenSSL hands out is freed on every path; the key's text is wiped here, but the string that is returned
// belongs to V8 and cannot be.
import { NativeError } from './errors.ts';
import { bind } from './library.ts';
import { Ctrl, type OpenSsl, openssl, type Pointer, takeErrors } from './openssl.ts';
import { Slab } from './slab.ts';
import { TlsError } from './tls-error.ts';

export interface CertificateRequest {
  /** PEM `CERTIFICATE REQUEST`. */
  readonly csrPem: string;
  /** PKCS#8 PEM, unencrypted. */
  readonly privateKeyPem: string;
}

/** The SPIFFE specification's limit of an id (SPIFFE-ID section 2.3). */
const MAX_ID_BYTES = 2048;
const MAX_PEM_BYTES = 16 * 1024;
const GEN_URI = 6;
const NID_SUBJECT_ALT_NAME = 85;

type Call<A extends readonly unknown[], R> = (...args: A) => R;
type P = Pointer;

function load() {
  return {
    keyContext: bind<Call<[P, string, P], P>>(
      'uintptr_t EVP_PKEY_CTX_new_from_name(uintptr_t, const char *, uintptr_t)',
    ),
    keyContextFree: bind<Call<[P], void>>('void EVP_PKEY_CTX_free(uintptr_t)'),
    keygenInit: bind<Call<[P], number>>('int EVP_PKEY_keygen_init(uintptr_t)'),
    setGroup: bind<Call<[P, string], number>>('int EVP_PKEY_CTX_set_group_name(uintptr_t, const char *)'),
    generate: bind<Call<[P, P], number>>('int EVP_PKEY_generate(uintptr_t, uintptr_t)'),
    sha256: bind<Call<[], P>>('uintptr_t EVP_sha256()')(),
    requestNew: bind<Call<[], P>>('uintptr_t X509_REQ_new()'),
    requestFree: bind<Call<[P], void>>('void X509_REQ_free(uintptr_t)'),
    requestSetKey: bind<Call<[P, P], number>>('int X509_REQ_set_pubkey(uintptr_t, uintptr_t)'),
    requestAddExtensions: bind<Call<[P, P], number>>('int X509_REQ_add_extensions(uintptr_t, uintptr_t)'),
    requestSign: bind<Call<[P, P, P], number>>('int X509_REQ_sign(uintptr_t, uintptr_t, uintptr_t)'),
    writeRequest: bind<Call<[P, P], number>>('int PEM_write_bio_X509_REQ(uintptr_t, uintptr_t)'),
    writeKey: bind<Call<[P, P, P, P, number, P, P], number>>(
      'int PEM_write_bio_PKCS8PrivateKey(uintptr_t, uintptr_t, uintptr_t, uintptr_t, int, uintptr_t, uintptr_t)',
    ),
    nameNew: bind<Call<[], P>>('uintptr_t GENERAL_NAME_new()'),
    nameFree: bind<Call<[P], void>>('void GENERAL_NAME_free(uintptr_t)'),
    nameSet: bind<Call<[P, number, P], void>>('void GENERAL_NAME_set0_value(uintptr_t, int, uintptr_t)'),
    textNew: bind<Call<[], P>>('uintptr_t ASN1_IA5STRING_new()'),
    textFree: bind<Call<[P], void>>('void ASN1_STRING_free(uintptr_t)'),
    textSet: bind<Call<[P, P, number], number>>('int ASN1_STRING_set(uintptr_t, uintptr_t, int)'),
    extensionFrom: bind<Call<[number, number, P], P>>('uintptr_t X509V3_EXT_i2d(int, int, uintptr_t)'),
    extensionFree: bind<Call<[P], void>>('void X509_EXTENSION_free(uintptr_t)'),
    stackNew: bind<Call<[], P>>('uintptr_t OPENSSL_sk_new_null()'),
    stackPush: bind<Call<[P, P], number>>('int OPENSSL_sk_push(uintptr_t, uintptr_t)'),
    stackFree: bind<Call<[P], void>>('void OPENSSL_sk_free(uintptr_t)'),
  } as const;
}

let loaded: ReturnType<typeof load> | undefined;

/**
 * A new key and a request for a certificate that names `spiffeId` only, signed with SHA-256. About 0.2 ms.
 * @throws native.argument for an id that a certificate cannot carry; tls.request_failed when OpenSSL cannot; native.unsupported
 */
export function generateCertificateRequest(spiffeId: string): CertificateRequest {
  // IA5 text is ASCII. Whether the id means anything is for its owner to say.
  if (!/^spiffe:\/\/[!-~]+$/.test(spiffeId) || spiffeId.length > MAX_ID_BYTES) {
    throw new NativeError('native.argument', `not a SPIFFE id: ${JSON.stringify(spiffeId.slice(0, 200))}`);
  }
  const lib = openssl();
  loaded ??= load();
  const job = new RequestJob(lib, loaded);
  try {
    return job.run(spiffeId);
  } finally {
    job.free();
  }
}

/** One request: remembers how to free each object it was given, newest first. */
class RequestJob {
  readonly #lib: OpenSsl;
  readonly #own: ReturnType<typeof load>;
  readonly #frees: (() => void)[] = [];

  constructor(lib: OpenSsl, own: ReturnType<typeof load>) {
    this.#lib = lib;
    this.#own = own;
    lib.errClearError();
  }

  run(spiffeId: string): CertificateRequest {
    const own = this.#own;
    const key = this.#generateKey();
    const request = this.#keep('request', own.requestNew(), own.requestFree);
    this.#check('public key', own.requestSetKey(request, key));
    const names = this.#keep('names', own.stackNew(), own.stackFree);
    this.#check('names', own.stackPush(names, this.#uriName(spiffeId)));
    const extension = this.#keep('extension', own.extensionFrom(NID_SUBJECT_ALT_NAME, 1, names), own.extensionFree);
    const extensions = this.#keep('extensions', own.stackNew(), own.stackFree);
    this.#check('extensions', own.stackPush(extensions, extension));
    this.#check('extensions', own.requestAddExtensions(request, extensions));
    this.#check('signature', own.requestSign(request, key, own.sha256));
    return {
      csrPem: this.#textOf('request', bio => own.writeRequest(bio, request)),
      privateKeyPem: this.#textOf('private key', bio => own.writeKey(bio, key, 0, 0, 0, 0, 0)),
    };
  }

  free(): void {
    for (const free of this.#frees.toReversed()) free();
    this.#lib.errClearError();
  }

  #generateKey(): Pointer {
    const own = this.#own;
    const context = this.#keep('key context', own.keyContext(0, 'EC', 0), own.keyContextFree);
    this.#check('key generation', own.keygenInit(context));
    this.#check('group', own.setGroup(context, 'P-256'));
    const place = Slab.allocate(8);
    place.bytes.fill(0);
    this.#check('key generation', own.generate(context, place.address(0, 8)));
    return this.#keep('key', Number(place.bytes.readBigUInt64LE()), this.#lib.keyFree);
  }

  #uriName(uri: string): Pointer {
    const own = this.#own;
    const bytes = Slab.allocate(uri.length);
    bytes.bytes.write(uri, 'latin1');
    const name = this.#keep('name', own.nameNew(), own.nameFree);
    const text = own.textNew();
    if (text === 0 || own.textSet(text, bytes.address(0, uri.length), uri.length) === 0) {
      own.textFree(text);
      throw this.#failure('name');
    }
    // "set0": the text is the name's from here on.
    own.nameSet(name, GEN_URI, text);
    return name;
  }

  #textOf(what: string, write: (bio: Pointer) => number): string {
    const lib = this.#lib;
    // A memory BIO wipes what it held when it grows and when it is freed.
    const bio = this.#keep(what, lib.bioNew(lib.bioMemory()), lib.bioFree);
    this.#check(what, write(bio));
    const length = lib.bioCtrl(bio, Ctrl.BIO_PENDING, 0, 0);
    if (length <= 0 || length > MAX_PEM_BYTES) throw this.#failure(what);
    const slab = Slab.allocate(length);
    try {
      if (lib.bioRead(bio, slab.address(0, length), length) !== length) throw this.#failure(what);
      return slab.bytes.toString('latin1');
    } finally {
      slab.bytes.fill(0);
    }
  }

  #keep(what: string, pointer: Pointer, free: (pointer: Pointer) => unknown): Pointer {
    if (pointer === 0) throw this.#failure(what);
    this.#frees.push(() => void free(pointer));
    return pointer;
  }

  #check(what: string, result: number): void {
    if (result <= 0) throw this.#failure(what);
  }

  #failure(what: string): TlsError {
    const reasons = takeErrors(this.#lib).map(error => error.text);
    return new TlsError('tls.request_failed', `certificate request, ${what}: ${reasons.join(', ') || 'no memory'}`);
  }
}
