// A TCP relay that shows all it carries to passive readers, as the copy engine would: before the bytes go on, and as a mere
// number where the reader need not see them.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { L7Listener, L7Sniffer } from '../src/l7/types.ts';
import { L7Recorder } from './l7-recorder.ts';

export class L7Relay implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** One for each connection, in the order they were accepted. */
  readonly recorders: L7Recorder[] = [];
  /** Ports from which it has dialled, in the same order. */
  readonly ports: number[] = [];
  /** Bytes that no reader saw. */
  skippedBytes = 0;
  /** Changes in place what the server says, once it was shown: for servers that tell clients where they listen. */
  rewrite: ((bytes: Uint8Array) => void) | undefined = undefined;

  private constructor(targetPort: number, makeReader: (listener: L7Listener) => L7Sniffer) {
    this.#server = createServer(client => this.#carry(client, targetPort, makeReader));
  }

  /** Listens on a free port of 127.0.0.1 and carries to another one. */
  static async start(targetPort: number, makeReader: (listener: L7Listener) => L7Sniffer): Promise<L7Relay> {
    const relay = new L7Relay(targetPort, makeReader);
    relay.#server.listen(0, '127.0.0.1');
    await once(relay.#server, 'listening');
    return relay;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Waits until all connections that it carries just now have ended. */
  async idle(): Promise<void> {
    await Promise.all([...this.#sockets].map(socket => new Promise(resolve => socket.once('close', resolve))));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #carry(client: Socket, targetPort: number, makeReader: (listener: L7Listener) => L7Sniffer): void {
    const recorder = new L7Recorder();
    this.recorders.push(recorder);
    const reader = makeReader(recorder);
    const server = connect(targetPort, '127.0.0.1');
    server.on('connect', () => this.ports.push(server.localPort ?? 0));
    let isOver = false;
    const finish = (byClient: boolean): void => {
      if (!isOver) reader.end(byClient, performance.now());
      isOver = true;
    };
    for (const [from, to, isClient] of [
      [client, server, true],
      [server, client, false],
    ] as const) {
      this.#sockets.add(from);
      from.setNoDelay(true);
      from.on('data', (bytes: Uint8Array) => {
        if (!isOver) this.#show(reader, bytes, isClient);
        if (!isClient) this.rewrite?.(bytes);
        if (!to.write(bytes)) from.pause();
      });
      to.on('drain', () => from.resume());
      from.on('end', () => {
        finish(isClient);
        to.end();
      });
      from.on('error', () => to.destroy());
      from.on('close', () => {
        finish(isClient);
        this.#sockets.delete(from);
        to.destroySoon();
      });
    }
  }

  #show(reader: L7Sniffer, bytes: Uint8Array, isClient: boolean): void {
    const nowMs = performance.now();
    let at = 0;
    const skippable = Math.min(bytes.length, isClient ? reader.skippableFromClient : reader.skippableFromServer);
    if (skippable > 0) {
      if (isClient) reader.skipFromClient(skippable, nowMs);
      else reader.skipFromServer(skippable, nowMs);
      this.skippedBytes += skippable;
      at = skippable;
    }
    if (isClient) reader.fromClient(bytes, at, bytes.length, nowMs);
    else reader.fromServer(bytes, at, bytes.length, nowMs);
  }
}
