// One UDP port of a pod. Takes a bounded number of datagrams a turn, so that a flood cannot starve the rest of the worker;
// what the socket's buffer cannot hold meanwhile the kernel drops, as for any name server.
import {
  Errno,
  EventMask,
  type EventHandler,
  type Fd,
  type Registration,
  UdpAddresses,
  type UdpBatch,
} from '@ambit/native';
import type { Engine, Pumpable } from '@ambit/proxy';
import type { Asker, OnQuery, ParkedAsker } from './asker.ts';
import { MAX_QUERY_BYTES } from './codec/query.ts';
import type { UdpOutput } from './udp-output.ts';

/** Datagrams received with one call. */
export const RECEIVED_AT_ONCE = 32;
const BATCHES_PER_TURN = 2;
/** Senders that wait for an answer, of one listener in one worker. */
const MAX_PARKED = 256;

export interface UdpListenerDeps {
  readonly engine: Engine;
  /** Received datagrams; shared by the listeners of the worker, its contents are dead once a pump returns. */
  readonly input: UdpBatch;
  readonly output: UdpOutput;
  readonly onQuery: OnQuery;
}

export class UdpListener implements EventHandler, Pumpable {
  queued = false;
  readonly isBulk = false;
  readonly #deps: UdpListenerDeps;
  readonly #fd: Fd;
  readonly #asker: DatagramAsker;
  readonly #registration: Registration;

  /** Owns `fd` from now on. */
  constructor(deps: UdpListenerDeps, fd: Fd) {
    this.#deps = deps;
    this.#fd = fd;
    this.#asker = new DatagramAsker(deps, fd);
    this.#registration = deps.engine.reactor.add(fd, this, 'reading');
  }

  onEvents(mask: number): void {
    if ((mask & (EventMask.IN | EventMask.ERR)) !== 0) this.#deps.engine.enqueue(this);
  }

  pump(): void {
    this.#takeQueries();
    // Not at the end of the turn, which bulk traffic of the same worker comes before.
    this.#deps.output.flush();
  }

  /** What is being sent goes out first; what was not read is lost. */
  close(): void {
    if (!this.#fd.isOpen) return;
    this.#deps.output.flush();
    this.#deps.engine.reactor.remove(this.#registration);
    this.#fd.close();
  }

  #takeQueries(): void {
    const { input, onQuery, engine } = this.#deps;
    for (let batch = 0; batch < BATCHES_PER_TURN; batch++) {
      if (!this.#fd.isOpen) return;
      const n = input.receive(this.#fd);
      if (n < 0) {
        // An error is told once, and may hide datagrams for which there is no further event.
        if (n !== -Errno.EAGAIN) engine.enqueue(this);
        return;
      }
      for (let index = 0; index < n; index++) {
        // The rest of a longer one was cut off by the kernel, and it is malformed.
        const length = Math.min(input.length(index), MAX_QUERY_BYTES);
        this.#asker.index = index;
        onQuery(input.slab.bytes, index * MAX_QUERY_BYTES, length, this.#asker);
        if (!this.#fd.isOpen) return;
      }
      // Edge-triggered: what came after a batch that was not full is a new event.
      if (n < RECEIVED_AT_ONCE) return;
    }
    engine.enqueue(this);
  }
}

/** The sender of the datagram being handled: one object for all of them. */
class DatagramAsker implements Asker {
  readonly isTcp = false;
  index = 0;
  readonly #deps: UdpListenerDeps;
  readonly #fd: Fd;
  #parking: Parking | undefined;

  constructor(deps: UdpListenerDeps, fd: Fd) {
    this.#deps = deps;
    this.#fd = fd;
  }

  reply(bytes: Buffer, length: number): void {
    this.#deps.output.send(this.#fd, bytes, length, this.#deps.input.peers, this.index);
  }

  park(): ParkedAsker | undefined {
    this.#parking ??= new Parking(this.#deps.output, this.#fd);
    return this.#parking.park(this.#deps.input.peers, this.index);
  }
}

/** Addresses of senders that wait, in numbered places. */
class Parking {
  readonly #output: UdpOutput;
  readonly #fd: Fd;
  readonly #addresses = UdpAddresses.allocate(MAX_PARKED);
  readonly #free = Array.from({ length: MAX_PARKED }, (_, index) => index);

  constructor(output: UdpOutput, fd: Fd) {
    this.#output = output;
    this.#fd = fd;
  }

  park(peers: UdpAddresses, index: number): ParkedAsker | undefined {
    const place = this.#free.pop();
    if (place === undefined) return undefined;
    this.#addresses.copy(place, peers, index);
    return {
      isTcp: false,
      reply: (bytes, length) => {
        if (this.#fd.isOpen) this.#output.send(this.#fd, bytes, length, this.#addresses, place);
        this.#free.push(place);
      },
      drop: () => {
        this.#free.push(place);
      },
    };
  }
}
