// Who has which address in the mesh of this machine. One IPv4 /16 and one IPv6 /64, both read off one number: the n-th
// workload is at n in each. The host itself is at 1; services are at the top. Pure.
import { BlockList, isIPv4 } from 'node:net';
import { LocalError } from '../errors.ts';

/** Chosen once for a run of the mesh, and kept until it is taken down. */
export interface Subnets {
  /** `10.62.0.0/16` is 62. */
  readonly octet: number;
  readonly ip4: string;
  readonly ip6: string;
}

export interface DualAddress {
  readonly ip4: string;
  readonly ip6: string;
}

/** `10.62.0.0/16` first; others when the host uses that. */
const FIRST_OCTET = 62;
const LAST_OCTET = 126;
export const HOST_NUMBER = 1;
const FIRST_WORKLOAD = 2;
/** As many links as a host carries well; ten times as many addresses, so that one is not used again at once. */
export const MAX_WORKLOADS = 1000;
const LAST_WORKLOAD = 10_000;
/** 10.62.240.1 and up. */
const FIRST_SERVICE = 0xf001;
const LAST_SERVICE = 0xfffe;

export function subnetsOf(octet: number): Subnets {
  return { octet, ip4: `10.${octet}.0.0/16`, ip6: `fd00:${octet}::/64` };
}

/**
 * The first pair that overlaps nothing of the host's. Default routes overlap everything and do not count.
 * @param used prefixes of routes and addresses
 * @throws local.no_subnet
 */
export function chooseSubnets(used: readonly string[]): Subnets {
  for (let octet = FIRST_OCTET; octet <= LAST_OCTET; octet++) {
    const subnets = subnetsOf(octet);
    if (!used.some(prefix => overlaps(prefix, subnets.ip4) || overlaps(prefix, subnets.ip6))) return subnets;
  }
  throw new LocalError(
    'local.no_subnet',
    `every network from 10.${FIRST_OCTET}.0.0/16 to 10.${LAST_OCTET}.0.0/16 is in use here`,
    {
      next: 'ip route shows by what',
    },
  );
}

export function addressOf({ octet }: Subnets, number: number): DualAddress {
  return { ip4: `10.${octet}.${number >> 8}.${number & 0xff}`, ip6: `fd00:${octet}::${number.toString(16)}` };
}

/** Whether one of the two prefixes lies in the other. A default route lies outside of everything here. */
function overlaps(a: string, b: string): boolean {
  const [ipA = '', lengthA = ''] = a.split('/');
  const [ipB = '', lengthB = ''] = b.split('/');
  if (isIPv4(ipA) !== isIPv4(ipB) || lengthA === '0' || lengthB === '0') return false;
  const family = isIPv4(ipA) ? 'ipv4' : 'ipv6';
  const [wide, wideLength, narrow] = Number(lengthA) <= Number(lengthB) ? [ipA, lengthA, ipB] : [ipB, lengthB, ipA];
  const block = new BlockList();
  block.addSubnet(wide, Number(wideLength), family);
  return block.check(narrow, family);
}

/** Hands out numbers, the longest unused first, so that a peer's idea of an address is old when it is used again. */
export class NumberPool {
  readonly #first: number;
  readonly #last: number;
  readonly #max: number;
  readonly #used = new Set<number>();
  #next: number;

  private constructor(first: number, last: number, max: number) {
    this.#first = first;
    this.#last = last;
    this.#max = max;
    this.#next = first;
  }

  static workloads(): NumberPool {
    return new NumberPool(FIRST_WORKLOAD, LAST_WORKLOAD, MAX_WORKLOADS);
  }

  static services(): NumberPool {
    return new NumberPool(FIRST_SERVICE, LAST_SERVICE, LAST_SERVICE - FIRST_SERVICE + 1);
  }

  /** @throws local.addresses_used_up */
  take(): number {
    if (this.#used.size >= this.#max) {
      throw new LocalError('local.addresses_used_up', `no more than ${this.#max} at a time on this machine`);
    }
    while (this.#used.has(this.#next)) this.#advance();
    const number = this.#next;
    this.#used.add(number);
    this.#advance();
    return number;
  }

  /** Known to be in use already. */
  reserve(number: number): void {
    this.#used.add(number);
    if (number >= this.#next) {
      this.#next = number;
      this.#advance();
    }
  }

  release(number: number): void {
    this.#used.delete(number);
  }

  #advance(): void {
    this.#next = this.#next >= this.#last ? this.#first : this.#next + 1;
  }
}
