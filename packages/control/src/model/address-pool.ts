// Addresses for the hosts of ServiceEntries that have none, so that clients can resolve them. There is nobody to write a
// choice down when objects come from files, so the choice is a function of the set of hosts: each host wants the slot its
// hash names, and of two that want one slot the smaller key has it and the other takes the next free one. Insertion order
// and restarts do not matter; a new host moves another only when they collide. Slots that objects name themselves are
// taken first. Not a guarantee across processes with different sets of hosts.
import { hash } from 'node:crypto';
import { type Ip, parseIp } from '@ambit/mesh';

/** Slots 1..65534: the first and last address of 240.240.0.0/16 are left alone. */
const SLOTS = 65_534;
const V4_PREFIX = '240.240.';
const V6_PREFIX = '2001:2::';

type Tenant = { readonly kind: 'reserved' } | { readonly kind: 'host'; readonly key: string; readonly wanted: number };
const RESERVED: Tenant = { kind: 'reserved' };

export class AddressPool {
  readonly #slots = new Map<number, Tenant>();
  readonly #slotOf = new Map<string, number>();
  readonly #uses = new Map<string, number>();
  readonly #reservations = new Map<number, number>();
  #before = new Map<string, number | undefined>();

  /** The IPv4 and the IPv6 address of a host; empty when it has none (not asked for, or the pool is full). */
  addressesOf(key: string): readonly Ip[] {
    const slot = this.#slotOf.get(key);
    if (slot === undefined) return [];
    const texts = [`${V4_PREFIX}${slot >>> 8}.${slot & 0xff}`, `${V6_PREFIX}${slot.toString(16)}`];
    return texts.map(parseIp).filter(ip => ip !== undefined);
  }

  /** Asks for addresses; several objects may ask for the same key. */
  acquire(key: string): void {
    const uses = (this.#uses.get(key) ?? 0) + 1;
    this.#uses.set(key, uses);
    if (uses === 1) this.#place({ kind: 'host', key, wanted: wantedSlot(key) });
  }

  release(key: string): void {
    const uses = (this.#uses.get(key) ?? 0) - 1;
    if (uses > 0) {
      this.#uses.set(key, uses);
      return;
    }
    this.#uses.delete(key);
    const slot = this.#slotOf.get(key);
    this.#move(key, undefined);
    if (slot !== undefined) this.#vacate(slot);
  }

  /** An address that an object names itself: never given to a host. Addresses outside the pool are none of its business. */
  reserve(ip: Ip): void {
    const slot = slotOfAddress(ip);
    if (slot === undefined) return;
    const count = this.#reservations.get(slot) ?? 0;
    this.#reservations.set(slot, count + 1);
    if (count > 0) return;
    const displaced = this.#slots.get(slot);
    this.#slots.set(slot, RESERVED);
    if (displaced?.kind === 'host') this.#place(displaced);
  }

  unreserve(ip: Ip): void {
    const slot = slotOfAddress(ip);
    if (slot === undefined) return;
    const count = (this.#reservations.get(slot) ?? 0) - 1;
    if (count > 0) {
      this.#reservations.set(slot, count);
      return;
    }
    this.#reservations.delete(slot);
    this.#vacate(slot);
  }

  /** Keys whose addresses are others than at the last call. */
  settle(): string[] {
    const changed = [...this.#before].filter(([key, slot]) => this.#slotOf.get(key) !== slot).map(([key]) => key);
    this.#before = new Map();
    return changed;
  }

  /** Linear probing where the tenant with the better claim stays and the other walks on: one outcome for one set. */
  #place(newcomer: Tenant & { kind: 'host' }): void {
    let walker = newcomer;
    let slot = walker.wanted;
    for (let steps = 0; steps < 2 * SLOTS; steps++) {
      const tenant = this.#slots.get(slot);
      if (tenant === undefined) {
        this.#settleAt(slot, walker);
        return;
      }
      if (tenant.kind === 'host' && walker.key < tenant.key) {
        this.#settleAt(slot, walker);
        walker = tenant;
      }
      slot = next(slot);
    }
    this.#move(walker.key, undefined);
  }

  /** Empties a slot and lets everybody who was pushed past it choose again. */
  #vacate(slot: number): void {
    this.#slots.delete(slot);
    const neighbours: (Tenant & { kind: 'host' })[] = [];
    for (let at = next(slot); at !== slot; at = next(at)) {
      const tenant = this.#slots.get(at);
      if (tenant === undefined) break;
      if (tenant.kind === 'reserved') continue;
      neighbours.push(tenant);
      this.#slots.delete(at);
    }
    for (const tenant of neighbours) this.#place(tenant);
  }

  #settleAt(slot: number, tenant: Tenant & { kind: 'host' }): void {
    this.#slots.set(slot, tenant);
    this.#move(tenant.key, slot);
  }

  #move(key: string, slot: number | undefined): void {
    if (!this.#before.has(key)) this.#before.set(key, this.#slotOf.get(key));
    if (slot === undefined) this.#slotOf.delete(key);
    else this.#slotOf.set(key, slot);
  }
}

function next(slot: number): number {
  return slot === SLOTS ? 1 : slot + 1;
}

function wantedSlot(key: string): number {
  return (Number.parseInt(hash('sha256', key).slice(0, 12), 16) % SLOTS) + 1;
}

function slotOfAddress(ip: Ip): number | undefined {
  let slot = Number.NaN;
  if (ip.startsWith(V4_PREFIX)) {
    const [high = '', low = ''] = ip.slice(V4_PREFIX.length).split('.');
    slot = Number(high) * 256 + Number(low);
  } else if (ip.startsWith(V6_PREFIX) && !ip.slice(V6_PREFIX.length).includes(':')) {
    slot = Number.parseInt(ip.slice(V6_PREFIX.length), 16);
  }
  return slot >= 1 && slot <= SLOTS ? slot : undefined;
}
