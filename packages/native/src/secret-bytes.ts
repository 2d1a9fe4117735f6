// Memory for secrets, which can be wiped for good. A small Buffer begins inside V8's heap: a collection may move it, and
// the first native call that looks at it copies it out; either way the old bytes stay behind, out of reach of fill().
// Bytes of an ArrayBuffer are outside that heap from the start and never move.

/** `length` zeroed bytes that are in one place only. Whoever holds them calls `fill(0)` in the end. */
export function allocateSecret(length: number): Buffer {
  return Buffer.from(new ArrayBuffer(length));
}

/** A copy of `secret` in such memory. */
export function copySecret(secret: Uint8Array): Buffer {
  const copy = allocateSecret(secret.length);
  copy.set(secret);
  return copy;
}
