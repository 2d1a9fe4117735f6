// Peers that mean no good: an attacker outside the mesh speaks to a pod's tunnel port without, with wrong and with valid
// certificates, and pods call the proxy's own ports. Each is refused for the right reason, and one connection between
// well-behaved pods lives through all of it.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http2 from 'node:http2';
import type { Socket } from 'node:net';
import { after, afterEach, before, describe, test } from 'node:test';
import tls from 'node:tls';
import { CANARY_ADDRESSES, CANARY_PORT } from '@ambit/mesh';
import { type Pod, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { type Leaf, makeLeaf, makeRoot } from '../../native/test/certificates.ts';
import { awaitLine, awaitNewLine, descriptorsOf, makeMesh, type Mesh, startOurs } from './e2e-mesh.ts';
import { echo, endingOf, Net, readBytes, tryEcho } from './e2e-net.ts';

const HBONE = 15008;
const ECHO = 7000;
const OWN_PORTS = [15001, 15006, 15008];
const HOUR_MS = 3_600_000;
const WEB_ID = 'spiffe://cluster.local/ns/shop/sa/web';

describe('hostile peers', { skip: sandboxSkip() }, () => {
  let mesh: Mesh;
  let peers: Net;
  let onN2: ZtunnelProcess;
  let web: Pod;
  let cart: Pod;
  let other: Pod;
  let attacker: Pod;
  /** Between well-behaved pods; open from the first test to the last. */
  let witness: Socket;
  let valid: Leaf;
  let reached = 0;

  before(async () => {
    mesh = await makeMesh();
    peers = new Net();
    const { bed, root } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    other = await bed.addPod({ node: 'n2', name: 'other', namespace: 'shop', serviceAccount: 'other' });
    attacker = await bed.addPod({ node: 'n1', name: 'attacker', namespace: 'plain', enrolled: false });
    await bed.addService({ name: 'cart', namespace: 'shop', ports: { 80: ECHO } });
    for (const pod of [cart, other]) {
      peers.serve(pod, ECHO, socket => {
        reached++;
        socket.pipe(socket);
      });
    }
    [, onN2] = await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
    witness = await peers.connect(web, cart.ip4, ECHO);
    await echo(witness, 'here');
    valid = await makeLeaf(root, { uris: [WEB_ID] });
  });

  afterEach(async () => echo(witness, 'still here'));

  after(async () => {
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  /** TLS to the tunnel port of `cart`; refusals come after the client's side of the handshake is done. */
  async function shake(
    options: tls.ConnectionOptions,
    from: Parameters<Net['connect']>[0] = attacker,
  ): Promise<tls.TLSSocket> {
    const socket = await peers.connect(from, cart.ip4, HBONE);
    const secure = tls.connect({ socket, ALPNProtocols: ['h2'], rejectUnauthorized: false, ...options });
    secure.on('error', () => undefined);
    return secure;
  }

  const asLeaf = ({ certChainPem, privateKeyPem }: Leaf) => ({ cert: certChainPem, key: privateKeyPem });

  /** The next refusal that the proxy of `cart` logs for the attacker. */
  async function refusal(): Promise<string> {
    const line = await awaitNewLine(
      onN2,
      l => l.message === 'connection failed' && String(l['src.addr']).startsWith(`${attacker.ip4}:`),
    );
    assert.equal(line.level, 'warn');
    assert.equal(line.direction, 'inbound');
    return String(line.error);
  }

  /** Runs a client with a valid certificate over HTTP/2. */
  async function withSession(
    run: (session: http2.ClientHttp2Session) => Promise<void>,
    from?: Parameters<Net['connect']>[0],
  ): Promise<void> {
    const socket = await shake(asLeaf(valid), from);
    const session = http2.connect('https://cart', { createConnection: () => socket });
    session.on('error', () => undefined);
    try {
      await run(session);
    } finally {
      session.destroy();
    }
  }

  async function statusOf(stream: http2.ClientHttp2Stream): Promise<number | undefined> {
    stream.on('error', () => undefined);
    const [headers] = (await once(stream, 'response', { signal: AbortSignal.timeout(10_000) })) as [
      http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader,
    ];
    return headers[':status'];
  }

  async function echoThrough(
    session: http2.ClientHttp2Session,
    authority: string,
    headers: http2.OutgoingHttpHeaders = {},
  ): Promise<void> {
    const stream = session.request({ ':method': 'CONNECT', ':authority': authority, ...headers });
    assert.equal(await statusOf(stream), 200);
    stream.write('hello');
    const [chunk] = (await once(stream, 'data')) as [Buffer];
    assert.equal(chunk.toString(), 'hello');
    stream.close();
  }

  async function connectTo(authority: string): Promise<number | undefined> {
    let status: number | undefined;
    await withSession(async session => {
      status = await statusOf(session.request({ ':method': 'CONNECT', ':authority': authority }));
    });
    return status;
  }

  test('a peer without an acceptable certificate is refused by an alert that says why', async () => {
    const stranger = await makeRoot('O=elsewhere');
    const past = new Date(Date.now() - HOUR_MS);
    const leaf = async (options: Parameters<typeof makeLeaf>[1], root = mesh.root) =>
      asLeaf(await makeLeaf(root, options));
    const cases: ReadonlyArray<readonly [string, tls.ConnectionOptions, RegExp, RegExp]> = [
      ['no certificate', {}, /ALERT_CERTIFICATE_REQUIRED/, /certificate/i],
      ['another root', await leaf({ uris: [WEB_ID] }, stranger), /ALERT_UNKNOWN_CA/, /issuer|ca|verif/i],
      [
        'an expired one',
        await leaf({ uris: [WEB_ID], notBefore: new Date(Date.now() - 2 * HOUR_MS), notAfter: past }),
        /ALERT_CERTIFICATE_EXPIRED/,
        /expired/i,
      ],
      ['no identity', await leaf({ uris: [], dnsNames: ['cart.shop'] }), /ALERT/, /identity|spiffe/i],
      ['another trust domain', await leaf({ uris: ['spiffe://elsewhere/ns/shop/sa/web'] }), /ALERT/, /trust domain/],
      [
        'another trust domain before ours',
        await leaf({ uris: ['spiffe://elsewhere/ns/shop/sa/web', WEB_ID] }),
        /ALERT/,
        /trust domain/,
      ],
      ['TLS 1.2', { ...asLeaf(valid), maxVersion: 'TLSv1.2' }, /ALERT_PROTOCOL_VERSION/, /version|protocol/i],
    ];
    for (const [name, options, alert, reason] of cases) {
      const logged = refusal();
      const socket = await shake(options);
      assert.match(await endingOf(socket), alert, name);
      assert.match(await logged, reason, name);
    }
    assert.equal(reached, 1, 'only the witness reached the application');
  });

  test('bytes that are no TLS end the connection', async () => {
    for (const bytes of [randomBytes(600), Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.alloc(20_000, 0x16)]) {
      const logged = refusal();
      const socket = await peers.connect(attacker, cart.ip4, HBONE);
      socket.write(bytes);
      assert.match(await endingOf(socket), /end|ECONNRESET|EPIPE/);
      assert.match(await logged, /tls|handshake/i);
    }
  });

  test('broken HTTP/2 after a good handshake ends the tunnel and nothing else', async () => {
    const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    const truncated = Buffer.from([0, 0, 100, 1, 4, 0, 0, 0, 1, 1, 2, 3]);
    const tooLong = Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]);
    const badHeaders = Buffer.from([0, 0, 6, 1, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    const onStreamZero = Buffer.from([0, 0, 1, 0, 0, 0, 0, 0, 0, 7]);
    for (const bytes of [
      Buffer.from('GET / HTTP/1.1\r\nhost: cart\r\n\r\n'),
      Buffer.concat([preface, tooLong]),
      Buffer.concat([preface, settings, onStreamZero]),
      Buffer.concat([preface, settings, badHeaders]),
    ]) {
      const socket = await shake(asLeaf(valid));
      socket.write(bytes);
      assert.match(await endingOf(socket), /end|close|ECONNRESET|EPIPE/);
    }
    const cut = await shake(asLeaf(valid));
    cut.end(Buffer.concat([preface, settings, truncated]));
    assert.match(await endingOf(cut), /end|close|ECONNRESET/);
  });

  test('a certificate of the mesh reaches only the pod it connected to', async () => {
    const logged = refusal();
    const asked = reached;
    assert.equal(await connectTo(`${other.ip4}:${ECHO}`), 400);
    assert.equal(await logged, `ip mismatch: ${cart.ip4} != ${other.ip4}`);
    assert.equal(await connectTo(`${attacker.ip4}:${ECHO}`), 400);
    assert.equal(await connectTo(`127.0.0.1:${ECHO}`), 400);
    assert.equal(reached, asked);
    await withSession(async session => echoThrough(session, `${cart.ip4}:${ECHO}`));
    assert.equal(reached, asked + 1);
  });

  test('the canary of a pod answers nobody but the pod', async () => {
    for (const ip of Object.values(CANARY_ADDRESSES)) {
      const address = ip.includes(':') ? `[${ip}]` : ip;
      assert.equal(await connectTo(`${address}:${CANARY_PORT}`), 403, ip);
    }
    const refused = await awaitLine(onN2, line => String(line.error).startsWith('the canary of '));
    assert.match(String(refused.error), /\/sa\/cart is for itself alone$/);
  });

  test("the proxy's own ports are not to be had through a tunnel", async () => {
    for (const port of OWN_PORTS) assert.equal(await connectTo(`${cart.ip4}:${port}`), 503, String(port));
  });

  test('requests that are not CONNECT, or lead nowhere, get an answer and leave the tunnel alone', async () => {
    await withSession(async session => {
      assert.equal(await statusOf(session.request({ ':method': 'GET', ':path': '/', ':authority': 'cart' })), 400);
      assert.equal(await statusOf(session.request({ ':method': 'POST', ':path': '/', ':authority': 'cart' })), 400);
      for (const authority of ['cart', '10.1.1.1', `${cart.ip4}:99999`, ':80']) {
        const stream = session.request({ ':method': 'CONNECT', ':authority': authority });
        assert.equal(await statusOf(stream), 400, JSON.stringify(authority));
      }
      const stream = session.request({ ':method': 'CONNECT', ':authority': `${cart.ip4}:${ECHO}` });
      assert.equal(await statusOf(stream), 200);
      stream.close();
    });
  });

  test('a CONNECT without an authority gets 400', async () => {
    const socket = await shake(asLeaf(valid));
    const method = Buffer.concat([Buffer.from([0x02, 7]), Buffer.from('CONNECT')]);
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    socket.write(Buffer.concat([Buffer.from([0, 0, method.length, 1, 4, 0, 0, 0, 1]), method]));
    for (;;) {
      const [length, type] = await readFrameHead(socket);
      const payload = length === 0 ? Buffer.alloc(0) : await readBytes(socket, length);
      assert.notEqual(type, 3, 'the stream was reset instead');
      if (type !== 1) continue;
      // A literal for entry 8 of HPACK's static table, which is `:status`.
      assert.equal(payload.toString('latin1'), '\x08\x03400');
      break;
    }
    socket.destroy();
  });

  test('a service is reached by its hostname, also by a raw peer', async () => {
    await withSession(async session => echoThrough(session, 'cart.shop.svc.cluster.local:80'));
    assert.notEqual(await connectTo('no.such.svc.cluster.local:80'), 200);
  });

  test('what a peer says of itself names it in metrics where the mesh knows nobody, beside what it proved', async () => {
    const baggage = 'k8s.namespace.name=pay,k8s.deployment.name=teller%0a%22%7d,service.name=bank';
    const say = async (session: http2.ClientHttp2Session): Promise<void> =>
      echoThrough(session, 'cart.shop.svc.cluster.local:80', { baggage });
    // The attacker's address is that of a workload; the node's is nobody's.
    await withSession(say);
    await withSession(say, { netnsPath: cart.node.netnsPath });
    const deadline = performance.now() + 30_000;
    let said: readonly string[] = [];
    while (said.length === 0 && performance.now() < deadline) {
      const text = await (await fetch(`http://${cart.node.ip4}:15020/metrics`)).text();
      said = text.split('\n').filter(line => line.startsWith('istio_tcp_connections_opened') && line.includes('bank'));
    }
    assert.equal(said.length, 1);
    const name = 'teller\ufffd\\"}';
    const proved = 'source_principal="spiffe://cluster.local/ns/shop/sa/web"';
    const labels = `source_workload="${name}",source_canonical_service="bank",source_canonical_revision="unknown",source_workload_namespace="pay",${proved},source_app="${name}",`;
    assert.ok(said[0]?.includes(labels), said[0]);
    assert.match(said[0] ?? '', / 1$/);
  });

  test("calls to the proxy's own ports never come through, from inside the mesh or outside", async () => {
    const onNode = { netnsPath: mesh.bed.node('n2').netnsPath };
    const atStart = await descriptorsOf(onN2);
    for (const port of OWN_PORTS) {
      for (const ip of [cart.node.ip4, cart.ip4, '127.0.0.1', cart.ip6, '::1']) {
        const result = await tryEcho(peers, cart, ip, port);
        assert.notEqual(result, 'ok', `${port} of ${ip} from the pod itself`);
      }
      assert.notEqual(await tryEcho(peers, web, cart.ip4, port), 'ok', `${port} from another pod`);
      assert.notEqual(await tryEcho(peers, attacker, cart.ip4, port), 'ok', `${port} from outside`);
      assert.notEqual(await tryEcho(peers, onNode, cart.ip4, port), 'ok', `${port} from the node`);
    }
    for (const port of [15001, 15006]) {
      assert.equal(await tryEcho(peers, attacker, cart.node.ip4, port), 'ECONNREFUSED');
    }
    assert.ok((await descriptorsOf(onN2)) < atStart + 20, 'a call went round in circles');
  });

  test('openssl finds TLS 1.3 only, h2, and a request for a client certificate', async () => {
    const call = async (...args: string[]) =>
      attacker.run('openssl', ['s_client', '-connect', `${cart.ip4}:${HBONE}`, '-alpn', 'h2', ...args]);
    const { stdout } = await call('-tls1_3');
    assert.match(stdout, /New, TLSv1\.3, Cipher is TLS_/);
    assert.match(stdout, /ALPN protocol: h2/);
    assert.match(stdout, /Requested Signature Algorithms/);
    const old = await call('-tls1_2');
    assert.match(old.stderr, /alert protocol version/);
    const shaken = await shake({ ...asLeaf(valid), ecdhCurve: 'X25519MLKEM768', minVersion: 'TLSv1.3' });
    await once(shaken, 'secureConnect');
    assert.equal(shaken.alpnProtocol, 'h2');
    shaken.destroy();
  });
});

async function readFrameHead(socket: Socket): Promise<readonly [length: number, type: number]> {
  const head = await readBytes(socket, 9);
  return [head.readUIntBE(0, 3), head[3] ?? -1];
}
