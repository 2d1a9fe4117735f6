// Set-up shared by the TLS tests: certificates made once, and handshakes driven to their end over loopback.
import assert from 'node:assert/strict';
import { type Authority, type Leaf, makeLeaf, makeRoot, materialOf } from './certificates.ts';
import { Errno } from '../src/errno.ts';
import { Fd } from '../src/fd.ts';
import { Handshake, type HandshakeStep, type TlsSession } from '../src/handshake.ts';
import { Reactor } from '../src/reactor.ts';
import { acceptConnection, recv, send } from '../src/socket-io.ts';
import { socketError } from '../src/socket-options.ts';
import { openTcp, startConnect } from '../src/socket-setup.ts';
import { MAX_RECORD_BYTES, type RecordLayer } from '../src/records.ts';
import type { Slab } from '../src/slab.ts';
import { type TcpPair, tcpPair } from '../src/testing.ts';
import { TlsContext, type TlsOptions } from '../src/tls-context.ts';

export interface Mesh {
  readonly root: Authority;
  readonly clientLeaf: Leaf;
  readonly serverLeaf: Leaf;
}

export const CLIENT_URI = 'spiffe://cluster.local/ns/default/sa/client';
export const SERVER_URI = 'spiffe://cluster.local/ns/default/sa/server';

export async function makeMesh(): Promise<Mesh> {
  const root = await makeRoot();
  return {
    root,
    clientLeaf: await makeLeaf(root, { uris: [CLIENT_URI] }),
    serverLeaf: await makeLeaf(root, { uris: [SERVER_URI] }),
  };
}

export function clientContext(mesh: Mesh, options?: TlsOptions): TlsContext {
  return TlsContext.client(materialOf(mesh.clientLeaf, mesh.root), options);
}

export function serverContext(mesh: Mesh, options?: TlsOptions): TlsContext {
  return TlsContext.server(materialOf(mesh.serverLeaf, mesh.root), options);
}

const isOver = (step: HandshakeStep): boolean => step === 'done' || step === 'failed';

/** Steps handshakes until each is done or failed; blocks in epoll between. Fails after 5 s without progress. */
export function runToEnd(
  ...running: ReadonlyArray<{ readonly handshake: Handshake; readonly fd: Fd }>
): HandshakeStep[] {
  using reactor = new Reactor();
  for (const { fd } of running) reactor.add(fd, { onEvents: () => undefined });
  for (;;) {
    const steps = running.map(({ handshake }) => handshake.step());
    if (steps.every(isOver)) return steps;
    // A side that failed may leave the other one waiting for bytes that are on their way.
    if (reactor.poll(5000) === 0) assert.fail(`handshake stuck: ${steps.join(', ')}`);
  }
}

/** As `runToEnd`, but leaves Node's event loop running, for a peer that is node:tls. */
export async function runBesideNode(handshake: Handshake, fd: Fd): Promise<HandshakeStep> {
  using reactor = new Reactor();
  reactor.add(fd, { onEvents: () => undefined });
  for (;;) {
    const step = handshake.step();
    if (isOver(step)) return step;
    if ((await reactor.pollAsync(5000)) === 0) assert.fail(`handshake stuck: ${step}`);
  }
}

/** Accepts one connection while Node's event loop runs. */
export async function acceptBesideNode(listener: Fd): Promise<Fd> {
  using reactor = new Reactor();
  reactor.add(listener, { onEvents: () => undefined });
  for (;;) {
    const accepted = acceptConnection(listener);
    if (accepted instanceof Fd) return accepted;
    if ((await reactor.pollAsync(5000)) === 0) assert.fail('nobody connected');
  }
}

/** Connects to a loopback port where Node listens. */
export async function connectBesideNode(port: number): Promise<Fd> {
  const fd = openTcp('ipv4');
  using reactor = new Reactor();
  reactor.add(fd, { onEvents: () => undefined });
  const started = startConnect(fd, { ip: '127.0.0.1', port });
  if (started !== 0) {
    assert.equal(started, -Errno.EINPROGRESS);
    if ((await reactor.pollAsync(5000)) === 0) assert.fail('no connection');
  }
  assert.equal(socketError(fd), 0);
  return fd;
}

/** Receives exactly `length` bytes while Node's event loop runs; fails at the end of the stream. */
export async function receiveBesideNode(fd: Fd, slab: Slab, offset: number, length: number): Promise<void> {
  using reactor = new Reactor();
  reactor.add(fd, { onEvents: () => undefined });
  for (let have = 0; have < length; ) {
    const n = recv(fd, slab, offset + have, length - have);
    if (n > 0) have += n;
    else if (n === 0) assert.fail(`end of stream after ${have} of ${length} bytes`);
    else if ((await reactor.pollAsync(5000)) === 0) assert.fail(`only ${have} of ${length} bytes came`);
  }
}

/** Receives one whole record to the start of `slab` while Node's event loop runs; returns its length. */
export async function receiveRecordBesideNode(fd: Fd, slab: Slab): Promise<number> {
  await receiveBesideNode(fd, slab, 0, 5);
  const length = 5 + slab.bytes.readUInt16BE(3);
  await receiveBesideNode(fd, slab, 5, length - 5);
  return length;
}

/** Sends all bytes while Node's event loop runs. */
export async function sendBesideNode(fd: Fd, slab: Slab, length: number): Promise<void> {
  using reactor = new Reactor();
  reactor.add(fd, { onEvents: () => undefined });
  for (let sent = 0; sent < length; ) {
    const n = send(fd, slab, sent, length - sent);
    if (n > 0) sent += n;
    else if (n !== -Errno.EAGAIN) assert.fail(`send gave ${n}`);
    else if ((await reactor.pollAsync(5000)) === 0) assert.fail(`only ${sent} of ${length} bytes went`);
  }
}

export interface SessionPair extends Disposable {
  readonly client: TlsSession;
  readonly server: TlsSession;
  readonly pair: TcpPair;
}

/** A finished handshake between two contexts, which are closed. */
export function connectSessions(client: TlsContext, server: TlsContext): SessionPair {
  const pair = tcpPair();
  const clientSide = new Handshake(client, pair.client);
  const serverSide = new Handshake(server, pair.server);
  client.close();
  server.close();
  const steps = runToEnd({ handshake: clientSide, fd: pair.client }, { handshake: serverSide, fd: pair.server });
  assert.deepEqual(steps, ['done', 'done'], clientSide.failure?.message ?? serverSide.failure?.message);
  const sessions = { client: clientSide.finish(), server: serverSide.finish() };
  return {
    ...sessions,
    pair,
    [Symbol.dispose]: () => {
      sessions.client.records.close();
      sessions.server.records.close();
      pair[Symbol.dispose]();
    },
  };
}

/** Seals `text` in `slab` and sends the record. */
export function sendText(records: RecordLayer, fd: Fd, slab: Slab, text: string): void {
  const length = slab.bytes.write(text, 5, 'latin1');
  const sealed = records.seal(slab, 0, length);
  assert.equal(sealed, length + 22);
  assert.equal(send(fd, slab, 0, sealed), sealed);
}

/** Receives exactly `length` bytes to the start of `slab`, waiting for them. */
export function receiveExactly(fd: Fd, slab: Slab, offset: number, length: number): void {
  using reactor = new Reactor();
  reactor.add(fd, { onEvents: () => undefined });
  for (let have = 0; have < length; ) {
    const n = recv(fd, slab, offset + have, length - have);
    if (n > 0) have += n;
    else if (n === 0) assert.fail('end of file');
    else if (reactor.poll(5000) === 0) assert.fail(`only ${have} of ${length} bytes came`);
  }
}

/** Receives one whole record to the start of `slab` and returns its length. */
export function receiveRecord(fd: Fd, slab: Slab): number {
  receiveExactly(fd, slab, 0, 5);
  const length = 5 + slab.bytes.readUInt16BE(3);
  assert.ok(length <= MAX_RECORD_BYTES);
  receiveExactly(fd, slab, 5, length - 5);
  return length;
}

/** Receives one record and returns its text. */
export function receiveText(records: RecordLayer, fd: Fd, slab: Slab): string {
  const length = records.open(slab, 0, receiveRecord(fd, slab));
  assert.ok(length >= 0, `record refused: ${length}`);
  assert.equal(records.opened, 'data');
  return slab.bytes.toString('latin1', 5, 5 + length);
}
