// Collects changes until they have been quiet for a moment, or have waited long enough, then hands over all of them as one.
import type { ResourceDelta, XdsResource } from '../model/resource.ts';
import type { Debounce, XdsClock } from './options.ts';

export class PendingPush {
  readonly #clock: XdsClock;
  readonly #debounce: Debounce;
  readonly #flush: (delta: ResourceDelta) => void;
  #addresses = new Map<string, XdsResource | undefined>();
  #authorizations = new Map<string, XdsResource | undefined>();
  #firstAt: number | undefined;
  #cancel: (() => void) | undefined;

  constructor(clock: XdsClock, debounce: Debounce, flush: (delta: ResourceDelta) => void) {
    this.#clock = clock;
    this.#debounce = debounce;
    this.#flush = flush;
  }

  /** Later states of a name replace earlier ones. */
  add(delta: ResourceDelta): void {
    if (delta.addresses.size + delta.authorizations.size === 0) return;
    for (const [name, resource] of delta.addresses) this.#addresses.set(name, resource);
    for (const [name, resource] of delta.authorizations) this.#authorizations.set(name, resource);
    const now = this.#clock.now();
    this.#firstAt ??= now;
    const dueAt = Math.min(now + this.#debounce.quietMs, this.#firstAt + this.#debounce.maxMs);
    this.#cancel?.();
    this.#cancel = this.#clock.after(Math.max(0, dueAt - now), () => this.flush());
  }

  flush(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    if (this.#firstAt === undefined) return;
    this.#firstAt = undefined;
    const delta = { addresses: this.#addresses, authorizations: this.#authorizations };
    this.#addresses = new Map();
    this.#authorizations = new Map();
    this.#flush(delta);
  }

  /** Forgets what is pending. */
  close(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }
}
