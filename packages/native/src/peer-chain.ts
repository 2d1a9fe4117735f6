// Copies the peer's certificates out of an OpenSSL connection as DER, leaf first. Bounds every size.
import type { OpenSsl, Pointer } from './openssl.ts';
import type { TlsRole } from './records.ts';
import { Slab } from './slab.ts';
import { TlsError } from './tls-error.ts';

/** OpenSSL refuses certificate messages over 100 KiB by itself; this is what we would copy at most. */
const MAX_CERTIFICATE_BYTES = 128 * 1024;
const MAX_CHAIN = 100;

const cursor = Slab.allocate(8);

/** All certificates that the peer sent, leaf first; empty when there is none. */
export function peerChain(lib: OpenSsl, ssl: Pointer, ourRole: TlsRole): Buffer[] {
  const leaf = lib.sslPeerCertificate(ssl);
  if (leaf === 0) return [];
  const chain = [toDer(lib, leaf)];
  const stack = lib.sslPeerChain(ssl);
  const size = stack === 0 ? 0 : Math.min(lib.stackSize(stack), MAX_CHAIN);
  // SSL_get_peer_cert_chain holds the leaf on the client's side and lacks it on the server's.
  for (let i = ourRole === 'client' ? 1 : 0; i < size; i++) chain.push(toDer(lib, lib.stackValue(stack, i)));
  return chain;
}

function toDer(lib: OpenSsl, certificate: Pointer): Buffer {
  const length = lib.certificateToDer(certificate, 0);
  if (length <= 0 || length > MAX_CERTIFICATE_BYTES) {
    throw new TlsError('tls.bad_certificate', `peer certificate of ${length} bytes`);
  }
  const der = Slab.allocate(length);
  // i2d_X509 writes at the address that the pointer points at, and moves it.
  cursor.bytes.writeBigUInt64LE(BigInt(der.address(0, length)));
  if (lib.certificateToDer(certificate, cursor.address(0, 8)) !== length) {
    throw new TlsError('tls.bad_certificate', 'peer certificate changed its length');
  }
  return der.bytes;
}
