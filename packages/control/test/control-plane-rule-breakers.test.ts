// Peers that break the rules, against a running control plane. Each gets its answer or loses its connection, and none of
// them harms anybody else: after each, a well-behaved client on the same ports hears of a change and gets a certificate.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { after, afterEach, before, describe, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { status } from '@grpc/grpc-js';
import { makeCsr } from '../src/ca/openssl-testing.ts';
import { DELTA_PATH, encodeRequest } from '../src/xds/codec-testing.ts';
import { ADDRESS, AUTHORIZATION, ControlPeer, type DeltaStream, nodeOf } from './control-plane-peer.ts';
import { type RunningControl, Workspace } from './control-plane-running.ts';
import { policyYaml, SHOP, WEB } from './control-plane-shop.ts';

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const SETTINGS = frame(4, 0, 0, Buffer.alloc(0));

describe('peers that break the rules of a control plane', () => {
  let workspace: Workspace;
  let control: RunningControl;
  let plain: ControlPeer;
  let secure: ControlPeer;
  let token: string;
  let csr: string;
  let near: DeltaStream;
  let far: DeltaStream;
  let port = 5000;
  const sessions = new Set<ClientHttp2Session>();
  const sockets = new Set<Socket>();

  before(async () => {
    workspace = await Workspace.make(SHOP);
    control = await workspace.start();
    [plain, secure] = [ControlPeer.plain(control), await ControlPeer.secure(control)];
    token = await control.token('n1');
    csr = await makeCsr(workspace.directory);
    near = await plain.stream().follow(nodeOf('n1')).untilFollowed();
    far = await secure.stream(token).follow(nodeOf('n1')).untilFollowed();
  });

  afterEach(async () => {
    port += 1;
    await workspace.write('policy.yaml', policyYaml(`no-${port}`, port));
    for (const stream of [near, far]) await stream.until(() => stream.has(AUTHORIZATION, `shop/no-${port}`));
    assert.equal((await secure.certificate({ csr, identity: WEB, token })).length, 2);
    for (const stream of [near, far]) assert.equal(stream.hasFailed, false);
    for (const session of sessions) session.destroy();
    for (const socket of sockets) socket.destroy();
    sessions.clear();
    sockets.clear();
  });

  after(async () => {
    await using _ = workspace;
    for (const peer of [plain, secure]) peer.client.close();
    assert.equal(await control.stop(), 0);
    assert.doesNotMatch(control.log(), /fault of ours/);
    assert.equal(control.complaint, '');
  });

  async function http2(initialWindowSize?: number): Promise<ClientHttp2Session> {
    const settings = initialWindowSize === undefined ? {} : { initialWindowSize };
    const session = connectHttp2(`http://127.0.0.1:${control.plainPort}`, { settings });
    sessions.add(session);
    session.on('error', () => undefined);
    await once(session, 'connect');
    return session;
  }

  function open(session: ClientHttp2Session): ClientHttp2Stream {
    const stream = session.request({
      ':method': 'POST',
      ':path': DELTA_PATH,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    stream.on('error', () => undefined);
    return stream;
  }

  /** The status that these bytes get as the beginning of a stream, and perhaps as all of it. */
  async function answerTo(bytes: Buffer, isAll: boolean): Promise<number> {
    const stream = open(await http2());
    if (isAll) stream.end(bytes);
    else stream.write(bytes);
    stream.resume();
    const [trailers] = (await once(stream, 'trailers')) as [Record<string, string>];
    return Number(trailers['grpc-status']);
  }

  async function raw(to: number, ...parts: readonly (Buffer | string)[]): Promise<Socket> {
    const socket = connect(to, '127.0.0.1');
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.resume();
    await once(socket, 'connect');
    for (const part of parts) socket.write(part);
    return socket;
  }

  const first = (more: object = {}) => encodeRequest({ node: nodeOf('n1'), typeUrl: ADDRESS, ...more });

  test('a message that claims four gigabytes is refused before it comes', async () => {
    assert.equal(await answerTo(prefix(0, 0xffff_ffff), false), status.RESOURCE_EXHAUSTED);
  });

  test('a compressed message, garbage, and half a message get their status', async () => {
    assert.equal(await answerTo(message(first(), 1), false), status.UNIMPLEMENTED);
    assert.equal(await answerTo(message(Buffer.alloc(100, 0xff)), false), status.INVALID_ARGUMENT);
    assert.equal(await answerTo(message(first()).subarray(0, -3), true), status.INVALID_ARGUMENT);
    assert.equal(await answerTo(Buffer.alloc(0), true), status.INVALID_ARGUMENT);
  });

  test('a first request without a node, or with one that is none, is refused', async () => {
    for (const id of ['', 'ztunnel', 'a~b~c', `ztunnel~1.1.1.1~${'x'.repeat(2000)}.ns~domain`]) {
      const bytes = message(encodeRequest({ node: { id }, typeUrl: ADDRESS }));
      assert.equal(await answerTo(bytes, false), status.INVALID_ARGUMENT, id.slice(0, 20));
    }
    assert.equal(await answerTo(message(encodeRequest({ typeUrl: ADDRESS })), false), status.INVALID_ARGUMENT);
  });

  test('a client that follows more names than there may be loses its stream', async () => {
    const names = (from: number) => Array.from({ length: 20_001 }, (_, i) => `/${from}-${i}`);
    const more = Array.from({ length: 10 }, (_, i) =>
      message(encodeRequest({ typeUrl: ADDRESS, subscribe: names(i) })),
    );
    const all = Buffer.concat([message(first({ subscribe: ['*'], unsubscribe: ['*'] })), ...more]);
    assert.equal(await answerTo(all, false), status.RESOURCE_EXHAUSTED);
  });

  test('a client that asks for ever new types loses its stream', async () => {
    const types = Array.from({ length: 40 }, (_, i) => message(encodeRequest({ typeUrl: `type/${i}` })));
    assert.equal(await answerTo(Buffer.concat([message(first()), ...types]), false), status.INVALID_ARGUMENT);
  });

  test('a flood of requests waits, and the peer that sends it is still answered', async () => {
    const stream = plain.stream();
    const node = nodeOf('n1');
    stream.isPolite = false;
    stream.follow(node);
    for (let i = 0; i < 3000; i++) stream.send({ typeUrl: ADDRESS, subscribe: [`/10.0.${i >> 8}.${i & 255}`] });
    await stream.untilFollowed();
    stream.cancel();
  });

  test('a node that connects again and again is turned away, and others are let in', async () => {
    const node = nodeOf('n1');
    const outcomes: string[] = [];
    for (let i = 0; i < 15; i++) {
      const stream = plain.stream().follow(node);
      const outcome = await stream.untilFollowed().then(
        () => 'served',
        (error: { code: number }) => `status ${error.code}`,
      );
      outcomes.push(outcome);
      stream.cancel();
    }
    assert.ok(outcomes.includes(`status ${status.RESOURCE_EXHAUSTED}`), outcomes.join(' '));
    const other = await plain.stream().follow(nodeOf('n1')).untilFollowed();
    other.cancel();
  });

  test('calls that are no gRPC, or of no method, get an answer', async () => {
    const session = await http2();
    const asking = session.request({ ':method': 'GET', ':path': '/' });
    const [headers] = (await once(asking, 'response')) as [Record<string, number>];
    assert.equal(headers[':status'], 405);
    const code = async (path: string, bytes: Buffer) =>
      secure.call(path, bytes, token).then(
        () => 0,
        (error: { code: number }) => error.code,
      );
    assert.equal(await code('/no.such.Service/Method', Buffer.alloc(0)), status.UNIMPLEMENTED);
    const certificate = '/istio.v1.auth.IstioCertificateService/CreateCertificate';
    assert.equal(await code(certificate, Buffer.alloc(200, 0xff)), status.INVALID_ARGUMENT);
    assert.equal(await code(certificate, Buffer.alloc(1 << 20)), status.RESOURCE_EXHAUSTED);
    // The plaintext port proves nobody, so it signs nothing.
    await assert.rejects(plain.certificate({ csr, token }), { code: status.UNIMPLEMENTED });
  });

  test('bytes that are no HTTP/2 end their connection', async () => {
    const noise = Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 197 + 31) & 255));
    const header = frame(1, 0, 1, Buffer.alloc(20, 0xff));
    for (const parts of [
      [noise],
      ['GET / HTTP/1.1\r\nhost: x\r\n\r\n'],
      [PREFACE, noise],
      [PREFACE, SETTINGS, frame(0, 0, 7, noise)],
      [PREFACE, SETTINGS, header, header],
      [PREFACE, SETTINGS, frame(8, 0, 0, Buffer.from([0x7f, 0xff, 0xff, 0xff]))],
    ]) {
      const socket = await raw(control.plainPort, ...parts);
      await closed(socket);
    }
    const tls = await raw(control.securePort, noise);
    await closed(tls);
  });

  test('headers without end, and streams that are reset as soon as they are opened, cost their sender', async () => {
    const bomb = Buffer.concat(Array.from({ length: 2000 }, () => frame(9, 0, 1, Buffer.alloc(4096, 0x41))));
    const socket = await raw(control.plainPort, PREFACE, SETTINGS, frame(1, 0, 1, Buffer.from([0x82])), bomb);
    await closed(socket);
    const session = await http2();
    for (let i = 0; i < 2000 && !session.destroyed; i++) open(session).close(8);
    session.destroy();
  });

  test('connections that stall at every stage hold up nobody', async () => {
    for (let i = 0; i < 50; i++) {
      await raw(control.plainPort, PREFACE.slice(0, 10));
      await raw(control.plainPort, PREFACE, SETTINGS.subarray(0, 5));
      await raw(control.securePort, Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]));
    }
    const session = await http2();
    for (let i = 0; i < 50; i++) open(session);
    for (let i = 0; i < 50; i++) open(session).write(message(first()).subarray(0, 20));
    const tls = connectTls({ port: control.securePort, host: '127.0.0.1', rejectUnauthorized: false });
    sockets.add(tls);
    tls.on('error', () => undefined);
    await once(tls, 'secureConnect');
    // Open, and never read: nothing may be sent to it, so it must not be waited for.
    for (let i = 0; i < 10; i++) open(await http2(0)).write(message(first()));
  });
});

/** However it ends. */
async function closed(socket: Socket): Promise<void> {
  if (!socket.closed) await new Promise<void>(resolve => void socket.once('close', () => resolve()));
}

function prefix(flags: number, length: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes.writeUInt8(flags);
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

function message(bytes: Buffer, flags = 0): Buffer {
  return Buffer.concat([prefix(flags, bytes.length), bytes]);
}

/** An HTTP/2 frame (RFC 9113 section 4.1). */
function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header.writeUInt8(type, 3);
  header.writeUInt8(flags, 4);
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}
