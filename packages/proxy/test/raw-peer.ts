// An HTTP/2 peer that sends whatever a test wants, over node:tls, in either role. It answers SETTINGS and PING unless told
// not to, and keeps every frame it gets. What it says is written by hand here, so it can be as wrong as needed.
import { once } from 'node:events';
import tls from 'node:tls';
import {
  CLIENT_PREFACE,
  FRAME_FLAG,
  FRAME_TYPE,
  HpackEncoder,
  type Setting,
  writeConnectRequest,
  writeConnectResponse,
  writeFrameHeader,
  writeSettings,
} from '../src/h2/index.ts';
import type { Certificates } from './mini-mesh.ts';
import { portOf } from './apps.ts';

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

export function frame(type: number, flags: number, streamId: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  writeFrameHeader(head, 0, payload.length, type, flags, streamId);
  return Buffer.concat([head, payload]);
}

export function uint32(...values: number[]): Buffer {
  const buffer = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => buffer.writeUInt32BE(value >>> 0, 4 * i));
  return buffer;
}

export function settingsFrame(settings: readonly Setting[]): Buffer {
  const buffer = Buffer.alloc(9 + 6 * settings.length);
  writeSettings(buffer, 0, settings);
  return buffer;
}

export const dataFrame = (streamId: number, payload: Buffer, flags = 0): Buffer =>
  frame(FRAME_TYPE.DATA, flags, streamId, payload);
export const windowUpdate = (streamId: number, increment: number): Buffer =>
  frame(FRAME_TYPE.WINDOW_UPDATE, 0, streamId, uint32(increment));
export const rstStream = (streamId: number, code: number): Buffer =>
  frame(FRAME_TYPE.RST_STREAM, 0, streamId, uint32(code));
export const goawayFrame = (lastStreamId: number, code: number): Buffer =>
  frame(FRAME_TYPE.GOAWAY, 0, 0, uint32(lastStreamId, code));
export const pingFrame = (ack = false): Buffer =>
  frame(FRAME_TYPE.PING, ack ? FRAME_FLAG.ACK : 0, 0, Buffer.from('12345678'));

export interface RawPeerOptions {
  readonly settings?: readonly Setting[];
  /** Answer SETTINGS and PING; default true. */
  readonly answers?: boolean;
}

export class RawPeer {
  readonly socket: tls.TLSSocket;
  readonly frames: Frame[] = [];
  /** Text of the error that ended the socket, such as a TLS alert. */
  error: string | undefined;
  isClosed = false;
  isEnded = false;
  readonly #answers: boolean;
  readonly #encoder = new HpackEncoder();
  #buffer: Buffer = Buffer.alloc(0);
  #pings = 0;
  readonly #dataBytes = new Map<number, number>();
  #wake = Promise.withResolvers<void>();

  constructor(socket: tls.TLSSocket, role: 'client' | 'server', options: RawPeerOptions = {}) {
    this.socket = socket;
    this.#answers = options.answers ?? true;
    socket.on('data', (bytes: Buffer) => this.#receive(bytes));
    socket.on('error', (error: Error) => {
      this.error = error.message;
      this.#notify();
    });
    socket.on('end', () => {
      this.isEnded = true;
      this.#notify();
    });
    socket.on('close', () => {
      this.isClosed = true;
      this.#notify();
    });
    const settings = settingsFrame(options.settings ?? []);
    this.send(role === 'client' ? Buffer.concat([Buffer.from(CLIENT_PREFACE, 'latin1'), settings]) : settings);
  }

  /** Connects as an HBONE client. */
  static async connect(port: number, certificates: Certificates, options: RawPeerOptions = {}): Promise<RawPeer> {
    const socket = tls.connect(clientOptions(port, certificates));
    await once(socket, 'secureConnect');
    return new RawPeer(socket, 'client', options);
  }

  send(...parts: Buffer[]): void {
    if (!this.socket.destroyed) this.socket.write(parts.length === 1 ? (parts[0] ?? '') : Buffer.concat(parts));
  }

  /** A CONNECT for `authority`. */
  requestFrame(streamId: number, authority: string, flags: number = FRAME_FLAG.END_HEADERS): Buffer {
    const block = Buffer.alloc(1000);
    const end = writeConnectRequest(this.#encoder, block, 0, {
      authority,
      baggage: '',
      forwarded: '',
      traceparent: '',
      xForwardedNetwork: undefined,
    });
    return frame(FRAME_TYPE.HEADERS, flags, streamId, block.subarray(0, end));
  }

  responseFrame(streamId: number, status: number, flags: number = FRAME_FLAG.END_HEADERS): Buffer {
    const block = Buffer.alloc(100);
    const end = writeConnectResponse(this.#encoder, block, 0, status, undefined);
    return frame(FRAME_TYPE.HEADERS, flags, streamId, block.subarray(0, end));
  }

  all(type: number, streamId?: number): Frame[] {
    return this.frames.filter(each => each.type === type && (streamId === undefined || each.streamId === streamId));
  }

  /** Bytes of DATA got for a stream. */
  data(streamId: number): Buffer {
    return Buffer.concat(this.all(FRAME_TYPE.DATA, streamId).map(each => each.payload));
  }

  /** How many bytes of DATA came for a stream; cheap enough to be asked often. */
  dataBytes(streamId: number): number {
    return this.#dataBytes.get(streamId) ?? 0;
  }

  /** Error codes of the GOAWAYs received. */
  get goaways(): Array<{ readonly lastStreamId: number; readonly code: number }> {
    return this.all(FRAME_TYPE.GOAWAY).map(({ payload }) => ({
      lastStreamId: payload.readUInt32BE(0),
      code: payload.readUInt32BE(4),
    }));
  }

  resets(streamId: number): number[] {
    return this.all(FRAME_TYPE.RST_STREAM, streamId).map(({ payload }) => payload.readUInt32BE(0));
  }

  /** Sum of the window updates got for a stream, or the connection (0). */
  credit(streamId: number): number {
    return this.all(FRAME_TYPE.WINDOW_UPDATE, streamId).reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
  }

  /** Resolves once `isReached`; looked at after everything that happens on the socket. */
  async until(isReached: () => boolean, what: string): Promise<void> {
    const { promise, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new Error(`the peer waited in vain: ${what}`)), 10_000);
    try {
      while (!isReached()) await Promise.race([this.#wake.promise, promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Everything that was caused by what was sent before has arrived when this resolves. */
  async roundTrip(): Promise<void> {
    const payload = Buffer.from(`ping ${String(++this.#pings).padStart(3, '0')}`);
    this.send(frame(FRAME_TYPE.PING, 0, 0, payload));
    await this.until(
      () => this.all(FRAME_TYPE.PING).some(each => each.payload.equals(payload)),
      'the answer to a PING',
    );
  }

  close(): void {
    this.socket.destroy();
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = Promise.withResolvers();
    wake.resolve();
  }

  #receive(bytes: Buffer): void {
    this.#buffer = this.#buffer.length === 0 ? bytes : Buffer.concat([this.#buffer, bytes]);
    for (;;) {
      const at = this.#buffer;
      if (at.length === 0) break;
      if (at.length >= 24 && at.toString('latin1', 0, 4) === 'PRI ') {
        this.#buffer = at.subarray(24);
        continue;
      }
      if (at.length < 9) break;
      const length = at.readUIntBE(0, 3);
      if (at.length < 9 + length) break;
      const [type = 0, flags = 0] = [at[3], at[4]];
      const payload = Buffer.from(at.subarray(9, 9 + length));
      const streamId = at.readUInt32BE(5);
      this.frames.push({ type, flags, streamId, payload });
      if (type === FRAME_TYPE.DATA) this.#dataBytes.set(streamId, this.dataBytes(streamId) + length);
      this.#buffer = at.subarray(9 + length);
      if (this.#answers && (flags & FRAME_FLAG.ACK) === 0) {
        if (type === FRAME_TYPE.SETTINGS) this.send(frame(FRAME_TYPE.SETTINGS, FRAME_FLAG.ACK, 0));
        else if (type === FRAME_TYPE.PING) this.send(frame(FRAME_TYPE.PING, FRAME_FLAG.ACK, 0, payload));
      }
    }
    this.#notify();
  }
}

export function clientOptions(port: number, { client, root }: Certificates): tls.ConnectionOptions {
  return {
    port,
    host: '127.0.0.1',
    ca: root.certPem,
    cert: client.certChainPem,
    key: client.privateKeyPem,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.3',
    checkServerIdentity: () => undefined,
  };
}

export function serverOptions({ server, root }: Certificates): tls.TlsOptions {
  return {
    ca: root.certPem,
    cert: server.certChainPem,
    key: server.privateKeyPem,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.3',
    requestCert: true,
    rejectUnauthorized: true,
  };
}

/** A TLS server that turns each connection into a RawPeer of the server role. */
export class RawServer implements AsyncDisposable {
  readonly peers: RawPeer[] = [];
  readonly #server: tls.Server;
  #next = Promise.withResolvers<void>();

  private constructor(server: tls.Server) {
    this.#server = server;
  }

  static async listen(certificates: Certificates, options: RawPeerOptions = {}): Promise<RawServer> {
    const server = tls.createServer(serverOptions(certificates));
    const raw = new RawServer(server);
    server.on('secureConnection', socket => {
      raw.peers.push(new RawPeer(socket, 'server', options));
      const next = raw.#next;
      raw.#next = Promise.withResolvers();
      next.resolve();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return raw;
  }

  get port(): number {
    return portOf(this.#server);
  }

  /** The n-th connection, from 0; waits for it. */
  async peer(n: number): Promise<RawPeer> {
    for (;;) {
      const peer = this.peers[n];
      if (peer !== undefined) return peer;
      await this.#next.promise;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const peer of this.peers) peer.close();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
