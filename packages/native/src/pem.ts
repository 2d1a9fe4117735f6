// PEM text to OpenSSL objects, from memory only. Strict: a block that cannot be read fails the whole, and an encrypted
// key is refused instead of asking the terminal for a passphrase. The caller frees what it gets.
import { type OpenSsl, type Pointer, takeErrors } from './openssl.ts';
import { Slab } from './slab.ts';
import { TlsError, type TlsErrorCode } from './tls-error.ts';

const MAX_PEM_BYTES = 1 << 20;
const MAX_CERTIFICATES = 1000;
const CERTIFICATE_BEGIN = /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----/g;

// OpenSSL reads the user argument as the passphrase when there is no callback; an empty one cannot fit a key.
const emptyPassphrase = Slab.allocate(1);
emptyPassphrase.bytes[0] = 0;

/** All certificates of a PEM text, in order, at least one. Text between blocks is ignored. @throws TlsError with `code` */
export function pemCertificates(lib: OpenSsl, pem: string | Uint8Array, code: TlsErrorCode, what: string): Pointer[] {
  const expected = countBlocks(pem);
  if (expected === 0 || expected > MAX_CERTIFICATES) throw new TlsError(code, `${what}: ${expected} certificates`);
  const certificates: Pointer[] = [];
  withBio(lib, pem, code, what, bio => {
    for (;;) {
      const certificate = lib.readCertificate(bio, 0, 0, emptyPassphrase.address(0, 1));
      if (certificate === 0) break;
      certificates.push(certificate);
    }
  });
  // The last read always ends in an error ("no start line"), so only the count tells an end from a bad block.
  const reason = takeErrors(lib).at(-1)?.text ?? 'unreadable';
  if (certificates.length === expected) return certificates;
  for (const certificate of certificates) lib.certificateFree(certificate);
  throw new TlsError(code, `${what}: certificate ${certificates.length} of ${expected} cannot be read (${reason})`);
}

/** The private key of a PEM text. @throws tls.bad_key */
export function pemPrivateKey(lib: OpenSsl, pem: string | Uint8Array): Pointer {
  let key: Pointer = 0;
  withBio(lib, pem, 'tls.bad_key', 'private key', bio => {
    key = lib.readPrivateKey(bio, 0, 0, emptyPassphrase.address(0, 1));
  });
  const reason = takeErrors(lib).at(-1)?.text ?? 'unreadable';
  if (key === 0) throw new TlsError('tls.bad_key', `private key cannot be read (${reason})`);
  return key;
}

function countBlocks(pem: string | Uint8Array): number {
  const text = typeof pem === 'string' ? pem : Buffer.from(pem.buffer, pem.byteOffset, pem.length).toString('latin1');
  return text.match(CERTIFICATE_BEGIN)?.length ?? 0;
}

function withBio(
  lib: OpenSsl,
  pem: string | Uint8Array,
  code: TlsErrorCode,
  what: string,
  use: (bio: Pointer) => void,
): void {
  const bytes = typeof pem === 'string' ? Buffer.from(pem, 'utf8') : pem;
  if (bytes.length === 0 || bytes.length > MAX_PEM_BYTES) throw new TlsError(code, `${what}: ${bytes.length} bytes`);
  const copy = Slab.allocate(bytes.length);
  copy.bytes.set(bytes);
  const bio = lib.bioFromMemory(copy.address(0, bytes.length), bytes.length);
  if (bio === 0) throw new TlsError(code, `${what}: no memory`);
  try {
    use(bio);
  } finally {
    lib.bioFree(bio);
    copy.bytes.fill(0);
  }
}
