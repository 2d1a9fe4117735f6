// The socket under a gRPC connection: TCP and TLS to a URL, or plain text to this very machine. Fails closed: no usable
// root means no connection, never an empty trust store; a certificate must have the wanted name among its subject
// alternative names, for its common name counts nothing (RFC 9525).
import { X509Certificate } from 'node:crypto';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import {
  checkServerIdentity,
  connect as connectTls,
  type ConnectionOptions,
  getCACertificates,
  type PeerCertificate,
  type TLSSocket,
} from 'node:tls';
import { isLoopback, parseIp } from '@ambit/mesh';
import { CallError, type CallErrorCode } from './call-error.ts';
import type { GrpcTarget } from './grpc-target.ts';

export interface Dialled {
  readonly socket: Socket;
  readonly scheme: 'http' | 'https';
  /** For `:authority`. */
  readonly authority: string;
}

const GROUPS = '*X25519MLKEM768:*X25519:P-256:P-384';
const CIPHERS = [
  'TLS_AES_256_GCM_SHA384',
  'TLS_AES_128_GCM_SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES128-GCM-SHA256',
].join(':');
const TCP_KEEPALIVE_MS = 300_000;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
/** OpenSSL's words for a chain that does not verify; anything else at that moment is a broken connection. */
const VERIFY_CODES = /VERIFY|CERT|ISSUER|SELF_SIGNED|CHAIN|_CA\b|CRL|ALTNAME|HOSTNAME/;

/** Connects within the signal. @throws CallError: xds.no_roots, grpc.plaintext, grpc.connect, grpc.untrusted */
export async function dial(target: GrpcTarget, signal: AbortSignal): Promise<Dialled> {
  if (target.url.startsWith('unix:')) {
    const path = target.url.slice('unix:'.length).replace(/^\/\/(?=\/)/, '');
    const socket = connectTcp({ path });
    await connected(socket, 'connect', target.url, signal);
    return { socket, scheme: 'http', authority: 'localhost' };
  }
  const url = URL.parse(target.url);
  if (url === null) throw new CallError('grpc.connect', 'INVALID_ARGUMENT', `${target.url}: not a URL`);
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  if (url.protocol === 'https:') return await dialTls(target, url, host, signal);
  const ip = parseIp(host);
  if (url.protocol !== 'http:' || !(host === 'localhost' || (ip !== undefined && isLoopback(ip)))) {
    const message = `${target.url}: only https may leave this machine (http is for loopback addresses)`;
    throw new CallError('grpc.plaintext', 'INVALID_ARGUMENT', message);
  }
  const socket = connectTcp({ host, port: Number(url.port || 80) });
  await connected(socket, 'connect', target.url, signal);
  return { socket, scheme: 'http', authority: url.host };
}

async function dialTls(target: GrpcTarget, url: URL, host: string, signal: AbortSignal): Promise<Dialled> {
  const ca = await trustAnchors(target);
  const options: ConnectionOptions = {
    host,
    port: Number(url.port || 443),
    ca,
    servername: isIP(host) === 0 ? host : '',
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.2',
    ciphers: CIPHERS,
    ecdhCurve: target.groups ?? GROUPS,
    checkServerIdentity: (_name, certificate) => nameError(certificate, host, target.altName),
  };
  let socket: TLSSocket;
  try {
    socket = connectTls(options);
  } catch (cause) {
    throw new CallError('grpc.connect', 'UNAVAILABLE', `${target.url}: ${text(cause)}`, { cause });
  }
  await connected(socket, 'secureConnect', target.url, signal);
  if (socket.alpnProtocol !== 'h2') {
    socket.destroy();
    throw new CallError('grpc.connect', 'UNAVAILABLE', `${target.url}: the server does not speak HTTP/2`);
  }
  socket.setKeepAlive(true, TCP_KEEPALIVE_MS);
  return { socket, scheme: 'https', authority: url.host };
}

/** @throws xds.no_roots */
async function trustAnchors(target: GrpcTarget): Promise<string[]> {
  let pem: string;
  try {
    pem = await target.roots();
  } catch (cause) {
    throw new CallError('xds.no_roots', 'UNAVAILABLE', `cannot read the root certificates: ${text(cause)}`, { cause });
  }
  const candidates = pem === 'system' ? getCACertificates('system') : (pem.match(CERTIFICATE) ?? []);
  const usable = candidates.filter(isCertificate);
  if (usable.length > 0) return usable;
  throw new CallError('xds.no_roots', 'UNAVAILABLE', 'there is no usable certificate among the roots');
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).raw.length > 0;
  } catch {
    // One that cannot be read is as good as absent; that one is left is checked by the caller.
    return false;
  }
}

function nameError(certificate: PeerCertificate, host: string, altName: string | undefined): Error | undefined {
  // Node would fall back to the common name.
  if (certificate.subjectaltname === undefined) return new UntrustedName('it has no subject alternative name');
  const error = checkServerIdentity(host, certificate);
  if (error === undefined) return undefined;
  if (altName !== undefined && checkServerIdentity(altName, certificate) === undefined) return undefined;
  const wanted = altName === undefined ? host : `${host} or ${altName}`;
  return new UntrustedName(`it is for ${certificate.subjectaltname}, not for ${wanted}`);
}

class UntrustedName extends Error {
  readonly code = 'ERR_TLS_CERT_ALTNAME_INVALID';
}

async function connected(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  url: string,
  signal: AbortSignal,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onAbort = (): void => {
    const isTimeout = signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError';
    const message = isTimeout ? `${url}: no connection in time` : `${url}: given up`;
    reject(
      new CallError(isTimeout ? 'grpc.connect' : 'grpc.cancelled', isTimeout ? 'UNAVAILABLE' : 'CANCELLED', message),
    );
  };
  const onError = (cause: NodeJS.ErrnoException): void => {
    const isUntrusted = VERIFY_CODES.test(cause.code ?? '');
    const code: CallErrorCode = isUntrusted ? 'grpc.untrusted' : 'grpc.connect';
    const message = isUntrusted
      ? `${url}: the server's certificate is not accepted: ${cause.message}`
      : `${url}: ${cause.message}`;
    reject(new CallError(code, 'UNAVAILABLE', message, { cause }));
  };
  const onClose = (): void => reject(new CallError('grpc.connect', 'UNAVAILABLE', `${url}: closed while connecting`));
  signal.addEventListener('abort', onAbort);
  socket.once(event, resolve);
  socket.once('error', onError);
  socket.once('close', onClose);
  try {
    if (signal.aborted) onAbort();
    await promise;
  } catch (error) {
    // Errors after this one must not end the process.
    socket.on('error', () => undefined);
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
    socket.off(event, resolve);
    socket.off('error', onError);
    socket.off('close', onClose);
  }
}

function text(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
