// Notices that the mesh's roots changed. Roots reach a node only inside answers of the CA, so after a rotation each
// identity trusts what its last answer said, for hours. A bundle that was not seen lately is a rotation; one that comes
// back within the hour is two replicas of a CA that disagree, and must not make everybody renew again and again.

const MEMORY_MS = 3_600_000;
/** More than a rotation has steps; the oldest goes first. */
const MAX_BUNDLES = 16;
const PEM_BLOCK = /-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----/g;

export class RootBundles {
  #current: string | undefined;
  readonly #seenAtMs = new Map<string, number>();

  /** Takes note of a bundle (`bundleKey`) that an answer brought, and says whether it is a rotation. */
  observe(bundle: string, nowMs: number): boolean {
    const seenAtMs = this.#seenAtMs.get(bundle);
    this.#seenAtMs.delete(bundle);
    this.#seenAtMs.set(bundle, nowMs);
    for (const oldest of this.#seenAtMs.keys()) {
      if (this.#seenAtMs.size <= MAX_BUNDLES) break;
      this.#seenAtMs.delete(oldest);
    }
    if (bundle === this.#current || (seenAtMs !== undefined && nowMs - seenAtMs < MEMORY_MS)) return false;
    const former = this.#current;
    this.#current = bundle;
    if (former === undefined) return false;
    // It was in use until now, however long nobody renewed.
    this.#seenAtMs.set(former, nowMs);
    return true;
  }
}

/** Equal for bundles of the same certificates, whatever their order, line ends and comments. */
export function bundleKey(rootsPem: string): string {
  const blocks = Array.from(rootsPem.matchAll(PEM_BLOCK), ([, body = '']) => body.replaceAll(/\s/g, ''));
  return [...new Set(blocks)].sort().join(' ');
}
