// Values by address block. One hash look-up for each prefix length in use instead of a scan of all blocks, and removal is
// exact, so an update never leaves an older copy behind.
import { type Cidr, type Ip, ipv4ToNumber, maskedIpv6Key, maskIpv4 } from './address.ts';
import { MultiMap } from './multi-map.ts';

export interface CidrHit<V> {
  readonly length: number;
  readonly value: V;
}

class FamilyIndex<K, V extends object> {
  readonly #byLength = new Map<number, MultiMap<K, V>>();

  add(length: number, key: K, value: V): void {
    let entries = this.#byLength.get(length);
    if (entries === undefined) {
      entries = new MultiMap();
      this.#byLength.set(length, entries);
    }
    entries.add(key, value);
  }

  delete(length: number, key: K, value: V): void {
    const entries = this.#byLength.get(length);
    if (entries === undefined) return;
    entries.delete(key, value);
    if (entries.size === 0) this.#byLength.delete(length);
  }

  find(keyAt: (length: number) => K, hits: CidrHit<V>[]): void {
    for (const [length, entries] of this.#byLength) {
      for (const value of entries.get(keyAt(length))) hits.push({ length, value });
    }
  }
}

export class CidrIndex<V extends object> {
  readonly #v4 = new Map<string, FamilyIndex<number, V>>();
  readonly #v6 = new Map<string, FamilyIndex<string, V>>();

  add(network: string, cidr: Cidr, value: V): void {
    const v4 = ipv4ToNumber(cidr.ip);
    if (v4 === undefined) {
      familyOf(this.#v6, network).add(cidr.length, maskedIpv6Key(cidr.ip, cidr.length), value);
    } else {
      familyOf(this.#v4, network).add(cidr.length, maskIpv4(v4, cidr.length), value);
    }
  }

  delete(network: string, cidr: Cidr, value: V): void {
    const v4 = ipv4ToNumber(cidr.ip);
    if (v4 === undefined) this.#v6.get(network)?.delete(cidr.length, maskedIpv6Key(cidr.ip, cidr.length), value);
    else this.#v4.get(network)?.delete(cidr.length, maskIpv4(v4, cidr.length), value);
  }

  /** Every block of the network that contains the address, in no order. */
  find(network: string, ip: Ip): readonly CidrHit<V>[] {
    const hits: CidrHit<V>[] = [];
    const v4 = ipv4ToNumber(ip);
    if (v4 === undefined) this.#v6.get(network)?.find(length => maskedIpv6Key(ip, length), hits);
    else this.#v4.get(network)?.find(length => maskIpv4(v4, length), hits);
    return hits;
  }
}

function familyOf<K, V extends object>(families: Map<string, FamilyIndex<K, V>>, network: string): FamilyIndex<K, V> {
  let family = families.get(network);
  if (family === undefined) {
    family = new FamilyIndex();
    families.set(network, family);
  }
  return family;
}
