// The little of the Redis protocol (RESP2) that the cart speaks: SET and GET of short values, one after another on one
// connection. Nothing else; a reply of another kind ends the connection.
import { connect, type Socket } from 'node:net';

interface Waiting {
  readonly resolve: (value: string | undefined) => void;
  readonly reject: (error: Error) => void;
}

export class RespClient {
  readonly #socket: Socket;
  readonly #waiting: Waiting[] = [];
  #text = '';

  /** Connects at once; calls wait for it. */
  constructor(host: string, port: number) {
    this.#socket = connect({ host, port, noDelay: true });
    this.#socket.setEncoding('latin1');
    this.#socket.on('data', (text: string) => this.#read(text));
    this.#socket.on('error', error => this.#fail(error));
    this.#socket.on('close', () => this.#fail(new Error('the connection was closed')));
  }

  get socket(): Socket {
    return this.#socket;
  }

  get isUsable(): boolean {
    return !this.#socket.destroyed;
  }

  async set(key: string, value: string): Promise<void> {
    await this.#command('SET', key, value);
  }

  async get(key: string): Promise<string | undefined> {
    return this.#command('GET', key);
  }

  async #command(...words: readonly string[]): Promise<string | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<string | undefined>();
    if (!this.isUsable) throw new Error('the connection was closed');
    this.#waiting.push({ resolve, reject });
    const body = words.map(word => `$${Buffer.byteLength(word, 'latin1')}\r\n${word}\r\n`).join('');
    this.#socket.write(`*${words.length}\r\n${body}`, 'latin1');
    return promise;
  }

  #read(text: string): void {
    this.#text += text;
    for (;;) {
      const end = this.#text.indexOf('\r\n');
      if (end < 0) return;
      const head = this.#text.slice(0, end);
      let next = end + 2;
      let value: string | undefined;
      if (head.startsWith('$') && head !== '$-1') {
        const length = Number(head.slice(1));
        if (this.#text.length < next + length + 2) return;
        value = this.#text.slice(next, next + length);
        next += length + 2;
      } else if (head.startsWith('+')) {
        value = head.slice(1);
      } else if (head !== '$-1') {
        this.#socket.destroy(new Error(`the store said ${head}`));
        return;
      }
      this.#text = this.#text.slice(next);
      this.#waiting.shift()?.resolve(value);
    }
  }

  #fail(error: Error): void {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }
}
