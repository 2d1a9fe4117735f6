// What one identity needs to make TLS connections in one role: an OpenSSL context with certificate, key, trust anchors
// and our fixed policy (TLS 1.3 only, mutual, AES-GCM, ALPN h2, no SNI, no tickets, no resumption). Fails closed.
// Revocation lists are not here: whoever holds the peer's chain checks them. hbone.md section 2.
import { callback } from './library.ts';
import { NativeError } from './errors.ts';
import {
  AlpnVerdict,
  Ctrl,
  OPENSSL_NPN_NEGOTIATED,
  type OpenSsl,
  openssl,
  type Pointer,
  SSL_MODE_NO_AUTO_CHAIN,
  SSL_OP_NO_COMPRESSION,
  SSL_OP_NO_TICKET,
  SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
  SSL_VERIFY_PEER,
  TLS1_3_VERSION,
  takeErrors,
  X509_V_FLAG_PARTIAL_CHAIN,
} from './openssl.ts';
import { pemCertificates, pemPrivateKey } from './pem.ts';
import type { RecordLayer, RecordOptions, TlsRole } from './records.ts';
import { Slab } from './slab.ts';
import { TlsError, type TlsErrorCode } from './tls-error.ts';
import { keylogCallback } from './traffic-secrets.ts';

export interface TlsMaterial {
  /** Leaf first, then the intermediates to send. Several PEM blocks. */
  readonly certChainPem: string | Uint8Array;
  /** Unencrypted PEM, PKCS#8 or traditional. */
  readonly privateKeyPem: string | Uint8Array;
  /** Every certificate in it is a trust anchor, self-signed or not. */
  readonly rootsPem: string | Uint8Array;
}

export interface TlsOptions extends RecordOptions {
  /** OpenSSL group list; `*` marks the groups a client sends key shares for. Default DEFAULT_GROUPS. */
  readonly groups?: string;
  /** TLS 1.3 suites in order of preference. Default DEFAULT_SUITES. */
  readonly suites?: string;
  /** TLS 1.2 is never spoken; the key exists so that a configuration can say so. */
  readonly tls12?: false;
  /** Record layer after the handshake. Default 'own', or 'openssl' when AMBIT_TLS_RECORDS says so. */
  readonly records?: RecordLayer['kind'];
}

/** Hybrid post-quantum first; the client sends shares for the first two, so that no peer needs a second round trip. */
export const DEFAULT_GROUPS = '*X25519MLKEM768:*X25519:P-256';
export const DEFAULT_SUITES = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384';

const KNOWN_SUITES: ReadonlySet<string> = new Set(DEFAULT_SUITES.split(':'));

// Wire form of the one protocol we speak, and a place for OpenSSL's answer; one of each per thread.
const alpnList = Slab.allocate(3);
alpnList.bytes.set([2, 0x68, 0x32]);

let alpnSelect: unknown;

// Runs only when the client offers ALPN; a client that offers none is accepted (hbone.md section 2.2).
function alpnSelectCallback(lib: OpenSsl): unknown {
  alpnSelect ??= callback(
    'int AmbitAlpnSelect(uintptr_t ssl, uintptr_t out, uintptr_t outLength, uintptr_t offered, unsigned int offeredLength, uintptr_t arg)',
    (_ssl: Pointer, out: Pointer, outLength: Pointer, offered: Pointer, offeredLength: number) =>
      lib.selectNextProto(out, outLength, alpnList.address(0, 3), 3, offered, offeredLength) === OPENSSL_NPN_NEGOTIATED
        ? AlpnVerdict.OK
        : AlpnVerdict.FATAL,
  );
  return alpnSelect;
}

/**
 * Use on the thread that made it. `close()` is safe while handshakes run: OpenSSL counts the references of each
 * connection, so the memory goes with the last of them.
 */
export class TlsContext {
  readonly role: TlsRole;
  /** Record layer of the sessions made from this context, and its limits. */
  readonly records: RecordLayer['kind'];
  readonly recordOptions: RecordOptions;
  #lib: OpenSsl;
  #context: Pointer;

  private constructor(role: TlsRole, material: TlsMaterial, options: TlsOptions) {
    this.role = role;
    this.records = options.records ?? (process.env.AMBIT_TLS_RECORDS === 'openssl' ? 'openssl' : 'own');
    this.recordOptions = options;
    this.#lib = openssl();
    this.#lib.errClearError();
    this.#context = this.#lib.contextNew(this.#lib.tlsMethod());
    if (this.#context === 0) throw this.#failure('tls.bad_option', 'no TLS context');
    try {
      this.#setPolicy(options);
      this.#setIdentity(material);
      this.#setRoots(material);
    } catch (error) {
      this.close();
      throw error;
    } finally {
      this.#lib.errClearError();
    }
  }

  /** @throws TlsError (tls.bad_certificate, tls.bad_key, tls.key_mismatch, tls.bad_roots, tls.bad_option) */
  static server(material: TlsMaterial, options: TlsOptions = {}): TlsContext {
    return new TlsContext('server', material, options);
  }

  /** @throws TlsError, as `server` */
  static client(material: TlsMaterial, options: TlsOptions = {}): TlsContext {
    return new TlsContext('client', material, options);
  }

  get isOpen(): boolean {
    return this.#context !== 0;
  }

  /** Internal to this package: a new SSL object in this context's role. @throws native.closed */
  newConnection(): Pointer {
    if (this.#context === 0) throw new NativeError('native.closed', 'TLS context used after close');
    const ssl = this.#lib.sslNew(this.#context);
    if (ssl === 0) throw this.#failure('tls.state', 'no TLS connection object');
    if (this.role === 'server') this.#lib.sslSetAccept(ssl);
    else this.#lib.sslSetConnect(ssl);
    return ssl;
  }

  /** Idempotent. New handshakes throw native.closed; running ones go on. */
  close(): void {
    if (this.#context === 0) return;
    this.#lib.contextFree(this.#context);
    this.#context = 0;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #setPolicy(options: TlsOptions): void {
    const lib = this.#lib;
    const context = this.#context;
    const suites = options.suites ?? DEFAULT_SUITES;
    const unknown = suites.split(':').find(suite => !KNOWN_SUITES.has(suite));
    if (unknown !== undefined) throw new TlsError('tls.bad_option', `cipher suite ${unknown} is not one of ours`);
    const groups = Buffer.from(`${options.groups ?? DEFAULT_GROUPS}\0`, 'latin1');
    const groupText = Slab.allocate(groups.length);
    groupText.bytes.set(groups);

    this.#set('TLS version', lib.contextCtrl(context, Ctrl.SSL_SET_MIN_PROTO_VERSION, TLS1_3_VERSION, 0));
    this.#set('TLS version', lib.contextCtrl(context, Ctrl.SSL_SET_MAX_PROTO_VERSION, TLS1_3_VERSION, 0));
    this.#set('cipher suites', lib.contextSetSuites(context, suites));
    this.#set('groups', lib.contextCtrl(context, Ctrl.SSL_SET_GROUPS_LIST, 0, groupText.address(0, groups.length)));
    lib.contextSetOptions(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
    this.#set('ticket count', lib.contextSetTickets(context, 0));
    lib.contextCtrl(context, Ctrl.SSL_SET_SESS_CACHE_MODE, 0, 0);
    // Only what certChainPem holds is sent, never a chain that OpenSSL builds from the roots.
    lib.contextCtrl(context, Ctrl.SSL_MODE, SSL_MODE_NO_AUTO_CHAIN, 0);
    lib.contextSetVerify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, 0);
    lib.contextSetKeylog(context, keylogCallback(lib));
    if (this.role === 'server') lib.contextSetAlpnSelect(context, alpnSelectCallback(lib), 0);
    // SSL_CTX_set_alpn_protos is the one function here that returns 0 for success.
    else this.#set('ALPN', lib.contextSetAlpn(context, alpnList.address(0, 3), 3) === 0 ? 1 : 0);
  }

  #setIdentity(material: TlsMaterial): void {
    const lib = this.#lib;
    const context = this.#context;
    const chain = pemCertificates(lib, material.certChainPem, 'tls.bad_certificate', 'certificate chain');
    let key: Pointer = 0;
    try {
      for (const [index, certificate] of chain.entries()) {
        // "add1": OpenSSL takes its own reference.
        const isSet =
          index === 0
            ? lib.contextUseCertificate(context, certificate)
            : lib.contextCtrl(context, Ctrl.SSL_CHAIN_CERT, 1, certificate);
        if (isSet !== 1) throw this.#failure('tls.bad_certificate', `certificate ${index} of the chain`);
      }
      key = pemPrivateKey(lib, material.privateKeyPem);
      if (lib.contextUseKey(context, key) !== 1 || lib.contextCheckKey(context) !== 1) {
        throw this.#failure('tls.key_mismatch', 'the private key is not that of the leaf certificate');
      }
    } finally {
      for (const certificate of chain) lib.certificateFree(certificate);
      if (key !== 0) lib.keyFree(key);
    }
  }

  #setRoots(material: TlsMaterial): void {
    const lib = this.#lib;
    const store = lib.contextStore(this.#context);
    const roots = pemCertificates(lib, material.rootsPem, 'tls.bad_roots', 'roots');
    try {
      for (const root of roots) {
        if (lib.storeAdd(store, root) !== 1) throw this.#failure('tls.bad_roots', 'a root certificate');
        // The names a server tells its clients it would accept.
        if (this.role === 'server') lib.contextAddClientCa(this.#context, root);
      }
    } finally {
      for (const root of roots) lib.certificateFree(root);
    }
    lib.storeSetFlags(store, X509_V_FLAG_PARTIAL_CHAIN);
  }

  #set(what: string, result: number): void {
    if (result !== 1) throw this.#failure('tls.bad_option', what);
  }

  #failure(code: TlsErrorCode, what: string): TlsError {
    const reasons = takeErrors(this.#lib).map(error => error.text);
    return new TlsError(code, reasons.length === 0 ? what : `${what}: ${reasons.join(', ')}`);
  }
}
