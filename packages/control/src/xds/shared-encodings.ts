// Every resource is encoded once, whoever is sent it. A whole state is one block of bytes that all clients who begin at
// the same state share; only so many such blocks live at a time, so that a storm of new clients has bounded memory.
import { encodeResourceEntries, type ResourceInit } from '@ambit/wire/grpc-server';
import type { XdsResource } from '../model/resource.ts';
import { type SessionResponse, TYPE_URLS } from './session.ts';
import type { ResourceType, XdsStore } from './store.ts';

export interface Encoded {
  readonly entries: readonly Uint8Array[];
  /** To be called once when the bytes are sent, or will not be. */
  readonly release: () => void;
}

interface Snapshot {
  readonly bytes: Uint8Array;
  readonly epoch: number;
  users: number;
}

/** Above, a list is one client's own catching up, and is encoded for it alone. */
const MAX_CACHED_LIST = 1_000;
const NOTHING = (): void => undefined;

export class SharedEncodings {
  readonly #store: XdsStore;
  readonly #maxSnapshots: number;
  readonly #plain = new WeakMap<XdsResource, Uint8Array>();
  readonly #withAliases = new WeakMap<XdsResource, Uint8Array>();
  readonly #snapshots = new Set<Snapshot>();
  readonly #current = new Map<ResourceType, Snapshot>();
  readonly #waiting = new Set<() => void>();

  constructor(store: XdsStore, maxSnapshots: number) {
    this.#store = store;
    this.#maxSnapshots = maxSnapshots;
  }

  /**
   * Whether a whole state may be sent now. If not, `retry` is called once when it is worth asking again.
   * One call of `encode` may follow a yes, in the same turn of the event loop.
   */
  hasRoom(retry: () => void): boolean {
    const isCurrent =
      this.#current.size > 0 && [...this.#current.values()].every(({ epoch }) => epoch === this.#store.epoch);
    if (isCurrent || this.#snapshots.size < this.#maxSnapshots) return true;
    this.#waiting.add(retry);
    return false;
  }

  encode({ type, resources, withAliases }: SessionResponse): Encoded {
    if (type === undefined) return { entries: [], release: NOTHING };
    if (resources === 'everything') return this.#everything(type);
    const typeUrl = TYPE_URLS[type];
    const init = (resource: XdsResource): ResourceInit => ({
      name: resource.name,
      version: resource.version,
      aliases: withAliases ? resource.aliases : [],
      typeUrl,
      value: resource.value,
    });
    if (resources.length > MAX_CACHED_LIST) {
      return { entries: [encodeResourceEntries(resources.map(init))], release: NOTHING };
    }
    const cache = withAliases ? this.#withAliases : this.#plain;
    const entries = resources.map(resource => {
      const known = cache.get(resource);
      if (known !== undefined) return known;
      const entry = encodeResourceEntries([init(resource)]);
      cache.set(resource, entry);
      return entry;
    });
    return { entries, release: NOTHING };
  }

  #everything(type: ResourceType): Encoded {
    const snapshot = this.#snapshot(type);
    snapshot.users++;
    let isHeld = true;
    return {
      entries: [snapshot.bytes],
      release: () => {
        if (!isHeld) return;
        isHeld = false;
        if (--snapshot.users > 0) return;
        this.#snapshots.delete(snapshot);
        if (this.#current.get(type) === snapshot) this.#current.delete(type);
        const waiting = [...this.#waiting];
        this.#waiting.clear();
        for (const retry of waiting) retry();
      },
    };
  }

  #snapshot(type: ResourceType): Snapshot {
    const known = this.#current.get(type);
    if (known?.epoch === this.#store.epoch) return known;
    const typeUrl = TYPE_URLS[type];
    const resources = [...this.#store.resources(type).values()];
    const bytes = encodeResourceEntries(
      resources.map(({ name, version, value }) => ({ name, version, aliases: [], typeUrl, value })),
    );
    const snapshot = { bytes, epoch: this.#store.epoch, users: 0 };
    this.#snapshots.add(snapshot);
    this.#current.set(type, snapshot);
    return snapshot;
  }
}
