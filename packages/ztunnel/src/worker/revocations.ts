// The revoked certificates as a worker knows them: a set that the main thread replaces as a whole.

export class Revocations {
  /** Tunnels refused or cut, by our end of them: dialled, or accepted. */
  readonly rejected = { source: 0, destination: 0 };
  #keys: ReadonlySet<string> = new Set();

  /** Takes this set instead; tells whether that can concern an established connection. */
  replace(keys: readonly string[]): boolean {
    const before = this.#keys;
    this.#keys = new Set(keys);
    return keys.some(key => !before.has(key));
  }

  /**
   * Whether one of a peer's certificates is revoked: its own, or that of an authority above it. The caller then refuses or
   * cuts the tunnel, which counts.
   */
  isRevoked(certificates: readonly string[], reporter: 'source' | 'destination'): boolean {
    const isRevoked = this.#keys.size > 0 && certificates.some(key => this.#keys.has(key));
    if (isRevoked) this.rejected[reporter]++;
    return isRevoked;
  }
}
