// Finds addresses by what an on-demand client may call them: uid, network/ip, namespace/hostname, VIP; and by node.
// Order of look-ups as upstream's: workload by uid, workloads by address, service by name, services by address.
import type { XdsResource } from '../model/resource.ts';

export class AddressIndex {
  readonly #byName: ReadonlyMap<string, XdsResource>;
  readonly #byAlias = new Map<string, Set<string>>();
  readonly #byService = new Map<string, Set<string>>();
  readonly #byNode = new Map<string, Set<string>>();

  /** `byName` is the live map; every change to it must be told by `replace`. */
  constructor(byName: ReadonlyMap<string, XdsResource>) {
    this.#byName = byName;
    for (const resource of byName.values()) this.replace(undefined, resource);
  }

  replace(before: XdsResource | undefined, after: XdsResource | undefined): void {
    if (before !== undefined) {
      for (const alias of before.aliases) remove(this.#byAlias, alias, before.name);
      for (const service of before.services) remove(this.#byService, service, before.name);
      if (before.node !== '') remove(this.#byNode, before.node, before.name);
    }
    if (after !== undefined) {
      for (const alias of after.aliases) add(this.#byAlias, alias, after.name);
      for (const service of after.services) add(this.#byService, service, after.name);
      if (after.node !== '') add(this.#byNode, after.node, after.name);
    }
  }

  lookup(name: string): readonly XdsResource[] {
    const direct = this.#byName.get(name);
    if (direct?.kind === 'workload') return [direct];
    const aliased = this.#named(this.#byAlias.get(name));
    const workloads = aliased.filter(({ kind }) => kind === 'workload');
    if (workloads.length > 0) return workloads;
    const services = direct === undefined ? aliased : [direct];
    return [...new Set(services.flatMap(service => [service, ...this.#named(this.#byService.get(service.name))]))];
  }

  onNode(node: string): readonly XdsResource[] {
    return this.#named(this.#byNode.get(node));
  }

  #named(names: ReadonlySet<string> | undefined): XdsResource[] {
    return [...(names ?? [])].flatMap(name => this.#byName.get(name) ?? []);
  }
}

function add(map: Map<string, Set<string>>, key: string, name: string): void {
  const names = map.get(key);
  if (names === undefined) map.set(key, new Set([name]));
  else names.add(name);
}

function remove(map: Map<string, Set<string>>, key: string, name: string): void {
  const names = map.get(key);
  names?.delete(name);
  if (names?.size === 0) map.delete(key);
}
