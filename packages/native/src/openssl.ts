// Bindings of the OpenSSL inside the Node binary: every function of it that Ambit calls, by its C prototype, and the
// constants behind the macros of its headers. Bound on first use, so that the rest of this package works on a Node
// that links OpenSSL dynamically. No policy here. OpenSSL 3.5 or later (hybrid key exchange).
import { NativeError } from './errors.ts';
import { bind } from './library.ts';

/** An address or an opaque handle; 0 is NULL. */
export type Pointer = number;

/** Commands of SSL_CTX_ctrl, SSL_ctrl, BIO_ctrl and EVP_CIPHER_CTX_ctrl (ssl.h, bio.h, evp.h of OpenSSL 3.5). */
export const Ctrl = {
  SSL_MODE: 33,
  SSL_SET_SESS_CACHE_MODE: 44,
  SSL_CHAIN_CERT: 89,
  SSL_SET_GROUPS_LIST: 92,
  SSL_SET_MIN_PROTO_VERSION: 123,
  SSL_SET_MAX_PROTO_VERSION: 124,
  BIO_PENDING: 10,
  AEAD_GET_TAG: 0x10,
  AEAD_SET_TAG: 0x11,
} as const;

export const TLS1_3_VERSION = 0x0304;
export const SSL_MODE_NO_AUTO_CHAIN = 0x8;
export const SSL_OP_NO_TICKET = 1n << 14n;
export const SSL_OP_NO_COMPRESSION = 1n << 17n;
export const SSL_VERIFY_PEER = 1;
export const SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2;
export const X509_V_FLAG_PARTIAL_CHAIN = 0x80000;
export const SslError = { SSL: 1, WANT_READ: 2, WANT_WRITE: 3, SYSCALL: 5, ZERO_RETURN: 6 } as const;
/** SSL_get_key_update_type when no update waits to be sent. */
export const SSL_KEY_UPDATE_NONE = -1;
/** Result of an ALPN selection callback. */
export const AlpnVerdict = { OK: 0, FATAL: 2 } as const;
export const OPENSSL_NPN_NEGOTIATED = 1;

type Call<A extends readonly unknown[], R> = (...args: A) => R;
type P = Pointer;

const MIN_VERSION = 0x30500000;

function load() {
  const version = bind<Call<[], number>>('unsigned long OpenSSL_version_num()')();
  if (version < MIN_VERSION) {
    throw new NativeError('native.unsupported', `OpenSSL ${version.toString(16)} is older than 3.5`);
  }
  return {
    // errors: one queue per thread
    errGetError: bind<Call<[], number>>('unsigned long ERR_get_error()'),
    errClearError: bind<Call<[], void>>('void ERR_clear_error()'),
    errReason: bind<Call<[number], string | null>>('const char *ERR_reason_error_string(unsigned long)'),

    // contexts
    tlsMethod: bind<Call<[], P>>('uintptr_t TLS_method()'),
    contextNew: bind<Call<[P], P>>('uintptr_t SSL_CTX_new(uintptr_t)'),
    contextFree: bind<Call<[P], void>>('void SSL_CTX_free(uintptr_t)'),
    contextCtrl: bind<Call<[P, number, number, P], number>>('long SSL_CTX_ctrl(uintptr_t, int, long, uintptr_t)'),
    contextSetOptions: bind<Call<[P, bigint], number>>('uint64_t SSL_CTX_set_options(uintptr_t, uint64_t)'),
    contextSetSuites: bind<Call<[P, string], number>>('int SSL_CTX_set_ciphersuites(uintptr_t, const char *)'),
    contextSetTickets: bind<Call<[P, number], number>>('int SSL_CTX_set_num_tickets(uintptr_t, size_t)'),
    contextSetVerify: bind<Call<[P, number, P], void>>('void SSL_CTX_set_verify(uintptr_t, int, uintptr_t)'),
    contextUseCertificate: bind<Call<[P, P], number>>('int SSL_CTX_use_certificate(uintptr_t, uintptr_t)'),
    contextUseKey: bind<Call<[P, P], number>>('int SSL_CTX_use_PrivateKey(uintptr_t, uintptr_t)'),
    contextCheckKey: bind<Call<[P], number>>('int SSL_CTX_check_private_key(uintptr_t)'),
    contextStore: bind<Call<[P], P>>('uintptr_t SSL_CTX_get_cert_store(uintptr_t)'),
    contextAddClientCa: bind<Call<[P, P], number>>('int SSL_CTX_add_client_CA(uintptr_t, uintptr_t)'),
    contextSetAlpn: bind<Call<[P, P, number], number>>(
      'int SSL_CTX_set_alpn_protos(uintptr_t, uintptr_t, unsigned int)',
    ),
    contextSetAlpnSelect: bind<Call<[P, unknown, P], void>>(
      'void SSL_CTX_set_alpn_select_cb(uintptr_t, void *, uintptr_t)',
    ),
    contextSetKeylog: bind<Call<[P, unknown], void>>('void SSL_CTX_set_keylog_callback(uintptr_t, void *)'),
    selectNextProto: bind<Call<[P, P, P, number, P, number], number>>(
      'int SSL_select_next_proto(uintptr_t, uintptr_t, uintptr_t, unsigned int, uintptr_t, unsigned int)',
    ),

    // certificates and keys
    bioFromMemory: bind<Call<[P, number], P>>('uintptr_t BIO_new_mem_buf(uintptr_t, int)'),
    readCertificate: bind<Call<[P, P, P, P], P>>(
      'uintptr_t PEM_read_bio_X509(uintptr_t, uintptr_t, uintptr_t, uintptr_t)',
    ),
    readPrivateKey: bind<Call<[P, P, P, P], P>>(
      'uintptr_t PEM_read_bio_PrivateKey(uintptr_t, uintptr_t, uintptr_t, uintptr_t)',
    ),
    certificateFree: bind<Call<[P], void>>('void X509_free(uintptr_t)'),
    keyFree: bind<Call<[P], void>>('void EVP_PKEY_free(uintptr_t)'),
    certificateToDer: bind<Call<[P, P], number>>('int i2d_X509(uintptr_t, uintptr_t)'),
    storeAdd: bind<Call<[P, P], number>>('int X509_STORE_add_cert(uintptr_t, uintptr_t)'),
    storeSetFlags: bind<Call<[P, number], number>>('int X509_STORE_set_flags(uintptr_t, unsigned long)'),
    verifyErrorText: bind<Call<[number], string | null>>('const char *X509_verify_cert_error_string(long)'),
    stackSize: bind<Call<[P], number>>('int OPENSSL_sk_num(uintptr_t)'),
    stackValue: bind<Call<[P, number], P>>('uintptr_t OPENSSL_sk_value(uintptr_t, int)'),

    // connections
    sslNew: bind<Call<[P], P>>('uintptr_t SSL_new(uintptr_t)'),
    sslFree: bind<Call<[P], void>>('void SSL_free(uintptr_t)'),
    sslSetFd: bind<Call<[P, number], number>>('int SSL_set_fd(uintptr_t, int)'),
    sslSetReadAhead: bind<Call<[P, number], void>>('void SSL_set_read_ahead(uintptr_t, int)'),
    sslSetAccept: bind<Call<[P], void>>('void SSL_set_accept_state(uintptr_t)'),
    sslSetConnect: bind<Call<[P], void>>('void SSL_set_connect_state(uintptr_t)'),
    sslHandshake: bind<Call<[P], number>>('int SSL_do_handshake(uintptr_t)'),
    sslError: bind<Call<[P, number], number>>('int SSL_get_error(uintptr_t, int)'),
    sslVerifyResult: bind<Call<[P], number>>('long SSL_get_verify_result(uintptr_t)'),
    sslCipher: bind<Call<[P], P>>('uintptr_t SSL_get_current_cipher(uintptr_t)'),
    cipherName: bind<Call<[P], string | null>>('const char *SSL_CIPHER_get_name(uintptr_t)'),
    sslVersion: bind<Call<[P], number>>('int SSL_version(uintptr_t)'),
    sslGroupName: bind<Call<[P], string | null>>('const char *SSL_get0_group_name(uintptr_t)'),
    sslAlpn: bind<Call<[P, P, P], void>>('void SSL_get0_alpn_selected(uintptr_t, uintptr_t, uintptr_t)'),
    sslPeerCertificate: bind<Call<[P], P>>('uintptr_t SSL_get0_peer_certificate(uintptr_t)'),
    sslPeerChain: bind<Call<[P], P>>('uintptr_t SSL_get_peer_cert_chain(uintptr_t)'),
    sslRead: bind<Call<[P, P, number], number>>('int SSL_read(uintptr_t, uintptr_t, int)'),
    sslWrite: bind<Call<[P, P, number], number>>('int SSL_write(uintptr_t, uintptr_t, int)'),
    sslKeyUpdateType: bind<Call<[P], number>>('int SSL_get_key_update_type(uintptr_t)'),
    sslKeyUpdate: bind<Call<[P, number], number>>('int SSL_key_update(uintptr_t, int)'),
    sslShutdown: bind<Call<[P], number>>('int SSL_shutdown(uintptr_t)'),
    sslSetReadBio: bind<Call<[P, P], void>>('void SSL_set0_rbio(uintptr_t, uintptr_t)'),
    sslSetWriteBio: bind<Call<[P, P], void>>('void SSL_set0_wbio(uintptr_t, uintptr_t)'),
    bioNew: bind<Call<[P], P>>('uintptr_t BIO_new(uintptr_t)'),
    bioMemory: bind<Call<[], P>>('uintptr_t BIO_s_mem()'),
    bioFree: bind<Call<[P], number>>('int BIO_free(uintptr_t)'),
    bioRead: bind<Call<[P, P, number], number>>('int BIO_read(uintptr_t, uintptr_t, int)'),
    bioWrite: bind<Call<[P, P, number], number>>('int BIO_write(uintptr_t, uintptr_t, int)'),
    bioCtrl: bind<Call<[P, number, number, P], number>>('long BIO_ctrl(uintptr_t, int, long, uintptr_t)'),

    // AEAD
    aes128Gcm: bind<Call<[], P>>('uintptr_t EVP_aes_128_gcm()')(),
    aes256Gcm: bind<Call<[], P>>('uintptr_t EVP_aes_256_gcm()')(),
    cipherNew: bind<Call<[], P>>('uintptr_t EVP_CIPHER_CTX_new()'),
    cipherFree: bind<Call<[P], void>>('void EVP_CIPHER_CTX_free(uintptr_t)'),
    cipherInit: bind<Call<[P, P, P, P, P, number], number>>(
      'int EVP_CipherInit_ex(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, int)',
    ),
    cipherUpdate: bind<Call<[P, P, P, P, number], number>>(
      'int EVP_CipherUpdate(uintptr_t, uintptr_t, uintptr_t, uintptr_t, int)',
    ),
    cipherFinal: bind<Call<[P, P, P], number>>('int EVP_CipherFinal_ex(uintptr_t, uintptr_t, uintptr_t)'),
    cipherCtrl: bind<Call<[P, number, number, P], number>>('int EVP_CIPHER_CTX_ctrl(uintptr_t, int, int, uintptr_t)'),

    // memory that OpenSSL owns
    copyMemory: bind<Call<[P, P, number], P>>('uintptr_t memcpy(uintptr_t, uintptr_t, size_t)'),
    textLength: bind<Call<[P, number], number>>('size_t strnlen(uintptr_t, size_t)'),
  } as const;
}

export type OpenSsl = ReturnType<typeof load>;

let loaded: OpenSsl | undefined;

/** The bound functions. @throws native.unsupported when this Node has no OpenSSL 3.5 inside */
export function openssl(): OpenSsl {
  if (loaded !== undefined) return loaded;
  try {
    loaded = load();
  } catch (error) {
    if (error instanceof NativeError) throw error;
    throw new NativeError(
      'native.unsupported',
      `this Node binary does not export OpenSSL's functions (is it linked dynamically?): ${String(error)}`,
    );
  }
  return loaded;
}

const ERR_LIB_SSL = 20;
const ERR_SYSTEM_FLAG = 0x80000000;

/** One entry of OpenSSL's error queue. `reason` is a number of the SSL library only when `fromSsl`. */
export interface QueuedError {
  readonly fromSsl: boolean;
  readonly reason: number;
  readonly text: string;
}

/** Empties this thread's error queue, oldest first, so that nothing of it can reach another connection's result. */
export function takeErrors(lib: OpenSsl): QueuedError[] {
  const errors: QueuedError[] = [];
  for (;;) {
    const code = lib.errGetError();
    if (code === 0) return errors;
    const isSystem = Math.floor(code / ERR_SYSTEM_FLAG) % 2 === 1;
    errors.push({
      fromSsl: !isSystem && ((code >>> 23) & 0xff) === ERR_LIB_SSL,
      reason: code & 0x7fffff,
      text: (isSystem ? null : lib.errReason(code)) ?? `error ${code.toString(16)}`,
    });
  }
}
