// Sets of values a policy asks about, compiled so that a test costs a hash look-up however long the list is. Prefixes and
// suffixes are scanned; they are few.
import { type Cidr, type Ip, ipv4ToNumber, maskedIpv6Key, maskIpv4 } from './address.ts';
import type { StringMatch } from './policy.ts';

export class StringSet {
  readonly exact: ReadonlySet<string>;
  readonly #prefixes: readonly string[];
  readonly #suffixes: readonly string[];
  readonly #anyNonEmpty: boolean;

  constructor(values: readonly StringMatch[]) {
    const exact = new Set<string>();
    const prefixes: string[] = [];
    const suffixes: string[] = [];
    let anyNonEmpty = false;
    for (const value of values) {
      switch (value.kind) {
        case 'exact':
          exact.add(value.value);
          break;
        case 'prefix':
          prefixes.push(value.value);
          break;
        case 'suffix':
          suffixes.push(value.value);
          break;
        case 'presence':
          anyNonEmpty = true;
          break;
        case 'invalid':
          break;
      }
    }
    this.exact = exact;
    this.#prefixes = prefixes;
    this.#suffixes = suffixes;
    this.#anyNonEmpty = anyNonEmpty;
  }

  /** Whether the set is nothing but exact values. */
  get isExact(): boolean {
    return !this.#anyNonEmpty && this.#prefixes.length === 0 && this.#suffixes.length === 0;
  }

  has(text: string): boolean {
    if (this.exact.has(text) || (this.#anyNonEmpty && text !== '')) return true;
    for (const prefix of this.#prefixes) if (text.startsWith(prefix)) return true;
    for (const suffix of this.#suffixes) if (text.endsWith(suffix)) return true;
    return false;
  }
}

/** An address together with its numeric form, computed once for all policies that look at it. */
export interface ProbeAddress {
  readonly ip: Ip;
  /** Undefined for IPv6. */
  readonly v4: number | undefined;
}

export function probeAddress(ip: Ip): ProbeAddress {
  return { ip, v4: ipv4ToNumber(ip) };
}

/** The blocks of one prefix length, by their masked address. */
interface BlocksOfLength<K> {
  readonly length: number;
  readonly keys: Set<K>;
}

export class CidrSet {
  // Lists, since there are few lengths and walking a Map allocates.
  readonly #v4: BlocksOfLength<number>[] = [];
  readonly #v6: BlocksOfLength<string>[] = [];

  constructor(blocks: readonly Cidr[]) {
    for (const { ip, length } of blocks) {
      const v4 = ipv4ToNumber(ip);
      if (v4 === undefined) keysOf(this.#v6, length).add(maskedIpv6Key(ip, length));
      else keysOf(this.#v4, length).add(maskIpv4(v4, length));
    }
  }

  has(address: ProbeAddress): boolean {
    if (address.v4 === undefined) {
      for (const { length, keys } of this.#v6) if (keys.has(maskedIpv6Key(address.ip, length))) return true;
      return false;
    }
    for (const { length, keys } of this.#v4) if (keys.has(maskIpv4(address.v4, length))) return true;
    return false;
  }
}

function keysOf<K>(lists: BlocksOfLength<K>[], length: number): Set<K> {
  const present = lists.find(list => list.length === length);
  if (present !== undefined) return present.keys;
  const keys = new Set<K>();
  lists.push({ length, keys });
  return keys;
}
