// Who has which address on a bed; pure. A node is a number from 1 and a pod a number on its node, and both can be read
// off every address: 10.61.<node>.<pod> and fd00:61:<node>::<pod> (decimal digits also in the IPv6 text).
import { TestbedError } from './errors.ts';

/** The two addresses of a thing, both in canonical text. */
export interface DualAddress {
  readonly ip4: string;
  readonly ip6: string;
}

export const MAX_NODES = 250;
export const MAX_PODS_PER_NODE = 250;
/** Services get one address in 10.96.0.0/16 and one in fd00:96::/112. */
export const MAX_SERVICES = 9999;

/** The router between the nodes, which is also where the sandbox's own processes call from. */
export const FABRIC_ADDRESS: DualAddress = { ip4: '10.61.0.1', ip6: 'fd00:61::1' };

/** Link-local ends of a point-to-point link: the side nearer to the fabric is always ::1. */
export const UPPER_LINK_LOCAL = 'fe80::1';
export const LOWER_LINK_LOCAL = 'fe80::2';

export function nodeSubnets(node: number): DualAddress {
  return { ip4: `10.61.${node}.0/24`, ip6: `fd00:61:${node}::/64` };
}

/** The node's own address, which its probes and its ztunnel's ports use. */
export function nodeAddress(node: number): DualAddress {
  return { ip4: `10.61.${node}.254`, ip6: `fd00:61:${node}::254` };
}

export function podAddress(node: number, pod: number): DualAddress {
  return { ip4: `10.61.${node}.${pod}`, ip6: `fd00:61:${node}::${pod}` };
}

/** Virtual addresses of the `number`-th service from 1. */
export function serviceAddress(number: number): DualAddress {
  return { ip4: `10.96.${number >> 8}.${number & 0xff}`, ip6: `fd00:96::${number}` };
}

/** Hands out numbers 1..max, the longest unused first, so that a dead pod's address is not another's at once. */
export class NumberPool {
  readonly #what: string;
  readonly #max: number;
  readonly #used = new Set<number>();
  #last = 0;

  constructor(what: string, max: number) {
    this.#what = what;
    this.#max = max;
  }

  /** @throws testbed.limit */
  take(): number {
    if (this.#used.size >= this.#max) {
      throw new TestbedError('testbed.limit', `no more than ${this.#max} ${this.#what}`);
    }
    do this.#last = (this.#last % this.#max) + 1;
    while (this.#used.has(this.#last));
    this.#used.add(this.#last);
    return this.#last;
  }

  release(number: number): void {
    this.#used.delete(number);
  }
}
