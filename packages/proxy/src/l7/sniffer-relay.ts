// Test support: a TCP relay in front of a real server that shows both directions of every connection to a sniffer, as a copy
// engine would, and remembers the conversation so that it can be replayed in other pieces.
import { once } from 'node:events';
import net from 'node:net';
import { openSniffer } from './detect.ts';
import { show, SnifferRecorder, type Turn } from './sniffer-recorder.ts';
import type { L7Options } from './sniffer-options.ts';

/** One relayed connection, over or not. */
export interface Conversation {
  readonly turns: Turn[];
  endedByClient: boolean | undefined;
}

export class SnifferRelay {
  readonly recorder = new SnifferRecorder();
  readonly conversations: Conversation[] = [];
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  readonly #closing: Promise<unknown>[] = [];

  /** Relays to `targetPort` of the loopback; `remembers`: keep the bytes of conversations. */
  constructor(targetPort: number, options: L7Options, remembers: boolean) {
    this.#server = net.createServer({ allowHalfOpen: true }, client => {
      this.#closing.push(this.#relay(client, targetPort, options, remembers));
    });
  }

  async listen(): Promise<number> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    return address.port;
  }

  /** Waits until every connection so far is over by itself. */
  async settled(): Promise<void> {
    await Promise.all(this.#closing);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await this.settled();
    this.#server.close();
  }

  async #relay(client: net.Socket, targetPort: number, options: L7Options, remembers: boolean): Promise<void> {
    const upstream = net.connect({ port: targetPort, host: '127.0.0.1', allowHalfOpen: true });
    const sniffer = openSniffer(this.recorder, options);
    const conversation: Conversation = { turns: [], endedByClient: undefined };
    this.conversations.push(conversation);
    let hasClientEnded = false;
    const link = (side: Turn['side'], from: net.Socket, to: net.Socket): void => {
      this.#sockets.add(from);
      from.on('data', bytes => {
        const turn: Turn = { side, bytes };
        if (remembers) conversation.turns.push(turn);
        // What comes after the end of the conversation was not part of it.
        if (conversation.endedByClient === undefined) show(sniffer, turn, 0, bytes.length, performance.now());
        if (!to.destroyed) to.write(bytes);
      });
      const end = (): void => {
        if (conversation.endedByClient !== undefined) return;
        conversation.endedByClient = hasClientEnded || side === 'client';
        sniffer.end(conversation.endedByClient, performance.now());
      };
      from.on('end', () => {
        // A client that only shut down its sending side may still be answered.
        if (side === 'client') hasClientEnded = true;
        else end();
        to.end();
      });
      from.on('error', () => {});
      from.on('close', () => {
        end();
        if (from.errored === null) to.end();
        else to.destroy();
        this.#sockets.delete(from);
      });
    };
    link('client', client, upstream);
    link('server', upstream, client);
    await Promise.all([closed(client), closed(upstream)]);
  }
}

async function closed(socket: net.Socket): Promise<void> {
  if (!socket.closed) await new Promise<void>(resolve => socket.once('close', () => resolve()));
}
