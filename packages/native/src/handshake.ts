// One TLS 1.3 handshake on a nonblocking socket, driven by readiness. OpenSSL does all of it on the descriptor itself and
// reads record by record, so bytes behind the peer's Finished stay in the socket. After `finish()` the OpenSSL object is
// gone (record layer kind 'own') and the connection is the session's plain data. Fails closed.
import { NativeError } from './errors.ts';
import type { Fd } from './fd.ts';
import { lastErrno } from './library.ts';
import { openssl, type OpenSsl, type Pointer, SslError, TLS1_3_VERSION, takeErrors } from './openssl.ts';
import { OpenSslRecords } from './openssl-records.ts';
import { createOwnRecords } from './own-records.ts';
import { peerChain } from './peer-chain.ts';
import { cipherSizes } from './key-schedule.ts';
import type { CipherName, RecordLayer, TlsRole } from './records.ts';
import { Slab } from './slab.ts';
import type { TlsContext } from './tls-context.ts';
import { TlsError } from './tls-error.ts';
import { failureOfSocket, failureOfSsl, type TlsFailure } from './tls-failure.ts';
import { beginSecrets, endSecrets, TrafficSecrets } from './traffic-secrets.ts';

export type HandshakeStep = 'done' | 'want-read' | 'want-write' | 'failed';

export interface TlsSession {
  readonly role: TlsRole;
  readonly cipher: CipherName;
  /** IANA name, `TLS_AES_128_GCM_SHA256`. */
  readonly suite: string;
  readonly version: 'TLSv1.3';
  /** `X25519MLKEM768`, `x25519`, `secp256r1`: OpenSSL's name of the key exchange. */
  readonly group: string;
  /** 'h2', or undefined when the peer does not speak ALPN. */
  readonly alpn: string | undefined;
  /** The verified peer certificate. */
  readonly peerLeafDer: Buffer;
  /** All certificates the peer sent, leaf first. */
  readonly peerChainDer: readonly Buffer[];
  /** Owned by whoever owns the session: close it. */
  readonly records: RecordLayer;
}

type State =
  | { readonly kind: 'running' }
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly failure: TlsFailure }
  | { readonly kind: 'finished' }
  | { readonly kind: 'closed' };

const RUNNING: State = { kind: 'running' };
const DONE: State = { kind: 'done' };
const FINISHED: State = { kind: 'finished' };
const CLOSED: State = { kind: 'closed' };

const CIPHERS: ReadonlyMap<string, CipherName> = new Map([
  ['TLS_AES_128_GCM_SHA256', 'aes-128-gcm'],
  ['TLS_AES_256_GCM_SHA384', 'aes-256-gcm'],
]);

// Out-parameters of SSL_get0_alpn_selected: a pointer and a length; per thread, used within one call.
const out = Slab.allocate(16);
const MAX_ALPN_BYTES = 255;
const alpnText = Slab.allocate(MAX_ALPN_BYTES);

export class Handshake {
  readonly role: TlsRole;
  #lib: OpenSsl = openssl();
  #context: TlsContext;
  #fd: Fd;
  #ssl: Pointer;
  #secrets = new TrafficSecrets();
  #state: State = RUNNING;

  /** Borrows `fd`, which must be nonblocking and must stay open until `finish()` or `close()`. @throws native.closed */
  constructor(context: TlsContext, fd: Fd) {
    this.role = context.role;
    this.#context = context;
    this.#fd = fd;
    const number = fd.number;
    this.#ssl = context.newConnection();
    this.#lib.sslSetReadAhead(this.#ssl, 0);
    if (this.#lib.sslSetFd(this.#ssl, number) !== 1) {
      this.#free();
      throw new NativeError('native.unsupported', 'no memory for a socket BIO');
    }
    beginSecrets(this.#ssl, this.#secrets);
  }

  /** Why `step` said 'failed'. */
  get failure(): TlsFailure | undefined {
    return this.#state.kind === 'failed' ? this.#state.failure : undefined;
  }

  /**
   * Goes on as far as the socket allows. 'want-read' and 'want-write': call again when the socket is ready. 'failed':
   * see `failure`; the alert, if any, is already in the socket (close it after a shutdown of the writing side, since
   * closing with unread bytes makes the kernel send a reset that overtakes the alert).
   * @throws native.closed when this handshake or its descriptor was closed
   */
  step(): HandshakeStep {
    switch (this.#state.kind) {
      case 'done':
        return 'done';
      case 'failed':
        return 'failed';
      case 'finished':
      case 'closed':
        throw new NativeError('native.closed', 'handshake stepped after its end');
      case 'running':
        return this.#run();
    }
  }

  /** Takes the session out, once, after 'done'. @throws tls.state */
  finish(): TlsSession {
    if (this.#state.kind !== 'done')
      throw new TlsError('tls.state', `finish() of a handshake that is ${this.#state.kind}`);
    const lib = this.#lib;
    const ssl = this.#ssl;
    const suite = lib.cipherName(lib.sslCipher(ssl)) ?? '';
    const cipher = CIPHERS.get(suite);
    if (cipher === undefined) throw new TlsError('tls.state', `unexpected cipher suite ${suite}`);
    const chain = peerChain(lib, ssl, this.role);
    const leaf = chain[0];
    if (leaf === undefined) throw new TlsError('tls.state', 'no peer certificate after a mutual handshake');
    const group = lib.sslGroupName(ssl) ?? '';
    const alpn = this.#alpn();
    const records = this.#takeRecords(cipher);
    this.#state = FINISHED;
    return {
      role: this.role,
      cipher,
      suite,
      version: 'TLSv1.3',
      group,
      alpn,
      peerLeafDer: leaf,
      peerChainDer: chain,
      records,
    };
  }

  /** Frees everything that finish() did not take; idempotent. The descriptor stays open. */
  close(): void {
    if (this.#state.kind === 'running' || this.#state.kind === 'done') this.#state = CLOSED;
    this.#free();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #run(): HandshakeStep {
    // The number may belong to another connection by now; Fd knows.
    if (!this.#fd.isOpen) throw new NativeError('native.closed', 'descriptor closed under a handshake');
    const lib = this.#lib;
    // OpenSSL's state machine clears the queue as well; SSL_get_error would misread a stale entry if it ever stopped.
    lib.errClearError();
    const result = lib.sslHandshake(this.#ssl);
    const errno = lastErrno();
    if (result === 1) return this.#completed();
    const error = lib.sslError(this.#ssl, result);
    if (error === SslError.WANT_READ) return 'want-read';
    if (error === SslError.WANT_WRITE) return 'want-write';
    const errors = takeErrors(lib);
    if (error === SslError.SYSCALL) return this.#fail(failureOfSocket(errno));
    const verify = lib.sslVerifyResult(this.#ssl);
    return this.#fail(failureOfSsl(errors, verify, lib.verifyErrorText(verify) ?? `result ${verify}`));
  }

  // OpenSSL has checked all of this by its configuration; a wrong binding must not turn into an open door.
  #completed(): HandshakeStep {
    const lib = this.#lib;
    if (lib.sslVersion(this.#ssl) !== TLS1_3_VERSION) {
      return this.#fail({ code: 'tls.protocol_version', message: 'the handshake ended in an older TLS version' });
    }
    if (lib.sslVerifyResult(this.#ssl) !== 0 || lib.sslPeerCertificate(this.#ssl) === 0) {
      return this.#fail({ code: 'tls.no_certificate', message: 'the handshake ended without a verified certificate' });
    }
    const alpn = this.#alpn();
    if (alpn !== undefined && alpn !== 'h2') {
      return this.#fail({ code: 'tls.no_common_alpn', message: 'the peer chose a protocol that was not offered' });
    }
    endSecrets(this.#ssl);
    this.#state = DONE;
    return 'done';
  }

  #fail(failure: TlsFailure): 'failed' {
    this.#state = { kind: 'failed', failure };
    this.#free();
    return 'failed';
  }

  #takeRecords(cipher: CipherName): RecordLayer {
    if (this.#context.records === 'openssl') {
      const records = new OpenSslRecords(this.#ssl, this.#context.recordOptions);
      this.#ssl = 0;
      this.#secrets.wipe();
      return records;
    }
    const { client, server } = this.#secrets;
    const expected = cipherSizes(cipher).secretBytes;
    if (client?.length !== expected || server?.length !== expected) {
      throw new TlsError('tls.state', 'OpenSSL did not report the traffic secrets');
    }
    const [writeSecret, readSecret] = this.role === 'client' ? [client, server] : [server, client];
    const records = createOwnRecords({ role: this.role, cipher, readSecret, writeSecret }, this.#context.recordOptions);
    this.#free();
    return records;
  }

  #alpn(): string | undefined {
    out.bytes.fill(0);
    this.#lib.sslAlpn(this.#ssl, out.address(0, 8), out.address(8, 4));
    const length = out.bytes.readUInt32LE(8);
    if (length === 0 || length > MAX_ALPN_BYTES) return undefined;
    const address = Number(out.bytes.readBigUInt64LE(0));
    this.#lib.copyMemory(alpnText.address(0, length), address, length);
    return alpnText.bytes.toString('latin1', 0, length);
  }

  #free(): void {
    this.#secrets.wipe();
    if (this.#ssl === 0) return;
    endSecrets(this.#ssl);
    this.#lib.sslFree(this.#ssl);
    this.#lib.errClearError();
    this.#ssl = 0;
  }
}
