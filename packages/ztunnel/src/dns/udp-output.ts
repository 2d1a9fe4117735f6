// Datagrams on their way out, gathered until their listener has taken all its queries, or over a turn, and sent with one system
// call. One for the worker.
import { Errno, type Fd, type UdpAddresses, UdpBatch } from '@ambit/native';
import type { Engine, Flushable } from '@ambit/proxy';

const PLACES = 32;
const MAX_DATAGRAM_BYTES = 65_535;

export class UdpOutput implements Flushable {
  dirty = false;
  readonly #engine: Engine;
  /** Pages of it that are never touched cost nothing. */
  readonly #batch = UdpBatch.allocate(PLACES, MAX_DATAGRAM_BYTES);
  #fd: Fd | undefined;
  #count = 0;
  /** Datagrams that the socket did not take: UDP may lose, and the client asks again. */
  unsent = 0;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** Queues a copy for the peer in place `index` of `peers`, to be sent from `fd` at the end of the turn at the latest. */
  send(fd: Fd, bytes: Buffer, length: number, peers: UdpAddresses, index: number): void {
    if (this.#fd !== fd || this.#count === PLACES) this.flush();
    const place = this.#count++;
    this.#fd = fd;
    bytes.copy(this.#batch.slab.bytes, place * MAX_DATAGRAM_BYTES, 0, length);
    this.#batch.setLength(place, length);
    this.#batch.peers.copy(place, peers, index);
    this.#engine.markDirty(this);
  }

  /** Before a listener closes, too. */
  flush(): void {
    const fd = this.#fd;
    const count = this.#count;
    this.#fd = undefined;
    this.#count = 0;
    if (fd?.isOpen !== true) return;
    for (let first = 0; first < count; ) {
      const n = this.#batch.send(fd, first, count - first);
      if (n === -Errno.EAGAIN) {
        this.unsent += count - first;
        return;
      }
      // Any other error is about the first of them, whose peer may be gone.
      if (n <= 0) this.unsent++;
      first += Math.max(1, n);
    }
  }

  close(): void {
    this.#batch.slab.close();
  }
}
