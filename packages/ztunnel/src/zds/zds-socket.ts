// The connection to the node agent: whole packets with their descriptors, awaited one at a time. Whoever receives a
// packet owns its descriptors.
import { Errno, errnoName, type Fd, type Registration, SeqPacket } from '@ambit/native';
import { MAX_ZDS_PACKET_BYTES } from '@ambit/wire';
import { ZtunnelError } from '../errors.ts';
import type { MainReactor } from './main-reactor.ts';

export interface ZdsPacket {
  readonly bytes: Uint8Array;
  readonly fds: readonly Fd[];
  /** Bytes or descriptors did not fit. */
  readonly truncated: boolean;
}

/** One is right; a few more are taken so that the error can say how many came. */
const MAX_FDS = 8;

export class ZdsSocket {
  readonly #socket: SeqPacket;
  readonly #reactor: MainReactor;
  readonly #registration: Registration;
  #onEvent: () => void = () => undefined;
  #isClosed = false;

  /** @throws SysError when nobody listens at `path` */
  constructor(path: string, reactor: MainReactor) {
    this.#socket = SeqPacket.connect(path);
    this.#reactor = reactor;
    this.#registration = reactor.add(this.#socket.fd, { onEvents: () => this.#onEvent() });
  }

  /** @throws zds.protocol when the packet cannot leave whole and now: the agent reads nothing */
  send(bytes: Uint8Array): void {
    const n = this.#isClosed ? -Errno.EPIPE : this.#socket.send(bytes);
    if (n < 0) throw new ZtunnelError('zds.protocol', `cannot send to the node agent: ${errnoName(-n)}`);
  }

  /** The next packet; undefined at the end of the stream, and after `close`. @throws SysError */
  async receive(): Promise<ZdsPacket | undefined> {
    while (!this.#isClosed) {
      // Set before looking, or an event in between would be missed: readiness is reported once.
      const event = new Promise<void>(resolve => (this.#onEvent = resolve));
      const received = this.#socket.receive(MAX_ZDS_PACKET_BYTES, MAX_FDS);
      if (received.kind === 'message') return received;
      if (received.kind === 'end') return undefined;
      await event;
    }
    return undefined;
  }

  /** Ends a waiting `receive`. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#reactor.remove(this.#registration);
    this.#socket.close();
    this.#onEvent();
  }
}
