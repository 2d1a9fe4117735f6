// The part of TLS 1.3's key schedule that is needed after the handshake (RFC 8446 sections 7.1 to 7.3): traffic keys
// from a traffic secret, and the next secret at a key update. HMAC is node:crypto's; intermediate copies are wiped.
import { createHmac } from 'node:crypto';
import { NativeError } from './errors.ts';
import type { CipherName } from './records.ts';
import { allocateSecret } from './secret-bytes.ts';

export type HashName = 'sha256' | 'sha384';

interface CipherSizes {
  readonly hash: HashName;
  readonly secretBytes: number;
  readonly keyBytes: number;
}

const SIZES: Readonly<Record<CipherName, CipherSizes>> = {
  'aes-128-gcm': { hash: 'sha256', secretBytes: 32, keyBytes: 16 },
  'aes-256-gcm': { hash: 'sha384', secretBytes: 48, keyBytes: 32 },
};

/** Hash and lengths (bytes) that belong to a cipher. */
export function cipherSizes(cipher: CipherName): CipherSizes {
  return SIZES[cipher];
}

const IV_BYTES = 12;

/**
 * HKDF-Expand-Label with an empty context: `length` bytes, at most one hash output, which is all that keys, ivs and
 * traffic secrets need. @throws native.argument
 */
export function expandLabel(hash: HashName, secret: Uint8Array, label: string, length: number): Buffer {
  const full = Buffer.from(`tls13 ${label}`, 'latin1');
  // HkdfLabel { uint16 length; opaque label<7..255>; opaque context<0..255> } followed by HKDF-Expand's counter, 1.
  const info = Buffer.from([length >> 8, length & 0xff, full.length, ...full, 0, 1]);
  const block = createHmac(hash, secret).update(info).digest();
  if (length < 1 || length > block.length) throw new NativeError('native.argument', `label length ${length}`);
  const out = allocateSecret(length);
  block.copy(out, 0, 0, length);
  block.fill(0);
  return out;
}

/** Write key and iv of a traffic secret. The caller wipes both. */
export function trafficKeys(cipher: CipherName, secret: Uint8Array): { readonly key: Buffer; readonly iv: Buffer } {
  const { hash, keyBytes } = SIZES[cipher];
  return { key: expandLabel(hash, secret, 'key', keyBytes), iv: expandLabel(hash, secret, 'iv', IV_BYTES) };
}

/** The secret after a key update (RFC 8446 section 7.2). */
export function nextTrafficSecret(cipher: CipherName, secret: Uint8Array): Buffer {
  const { hash, secretBytes } = SIZES[cipher];
  return expandLabel(hash, secret, 'traffic upd', secretBytes);
}
