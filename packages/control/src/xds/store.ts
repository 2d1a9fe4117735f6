// The resources as of the last push, by type and name, and the answers to on-demand questions about them. Changes go in
// as batches and come out as what really changed, so that whoever follows the store never sees equal content twice.
import type { ResourceDelta, XdsResource } from '../model/resource.ts';
import { AddressIndex } from './address-index.ts';

export type ResourceType = 'address' | 'authorization';

/** What a batch did, by type: changed name to what it was before; undefined for a new one. */
export interface StoreChanges {
  readonly address: ReadonlyMap<string, XdsResource | undefined>;
  readonly authorization: ReadonlyMap<string, XdsResource | undefined>;
}

export class XdsStore {
  readonly #maps = {
    address: new Map<string, XdsResource>(),
    authorization: new Map<string, XdsResource>(),
  };
  #index: AddressIndex | undefined;
  #epoch = 0;

  /** Grows by one with every batch that changed something. */
  get epoch(): number {
    return this.#epoch;
  }

  resources(type: ResourceType): ReadonlyMap<string, XdsResource> {
    return this.#maps[type];
  }

  /** Applies a batch; a resource whose version is the one held already counts as unchanged. */
  apply(delta: ResourceDelta): StoreChanges {
    const changes = {
      address: this.#applyTo('address', delta.addresses),
      authorization: this.#applyTo('authorization', delta.authorizations),
    };
    if (changes.address.size + changes.authorization.size > 0) this.#epoch++;
    return changes;
  }

  /**
   * The resources that a name stands for; none when it is unknown. For addresses: a uid, `network/ip`,
   * `namespace/hostname`, or a service's own address; a service brings its workloads with it.
   */
  lookup(type: ResourceType, name: string): readonly XdsResource[] {
    if (type === 'address') return this.#addressIndex().lookup(name);
    const found = this.#maps.authorization.get(name);
    return found === undefined ? [] : [found];
  }

  /** The workloads on a node. */
  onNode(node: string): readonly XdsResource[] {
    return node === '' ? [] : this.#addressIndex().onNode(node);
  }

  #applyTo(
    type: ResourceType,
    entries: ReadonlyMap<string, XdsResource | undefined>,
  ): ReadonlyMap<string, XdsResource | undefined> {
    const map = this.#maps[type];
    const changed = new Map<string, XdsResource | undefined>();
    for (const [name, after] of entries) {
      const before = map.get(name);
      if (before?.version === after?.version) continue;
      changed.set(name, before);
      if (after === undefined) map.delete(name);
      else map.set(name, after);
      if (type === 'address') this.#index?.replace(before, after);
    }
    return changed;
  }

  /** Made when somebody first asks on demand: a mesh of wildcard subscribers never pays for it. */
  #addressIndex(): AddressIndex {
    this.#index ??= new AddressIndex(this.#maps.address);
    return this.#index;
  }
}
