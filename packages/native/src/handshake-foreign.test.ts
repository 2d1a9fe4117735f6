// Handshakes with a foreign peer: node:tls, in both roles.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { before, describe, it } from 'node:test';
import tls from 'node:tls';
import { makeLeaf, makeRoot } from '../test/certificates.ts';
import type { Fd } from './fd.ts';
import { Handshake, type TlsSession } from './handshake.ts';
import { importRecordLayer } from './own-records.ts';
import { MAX_RECORD_BYTES } from './records.ts';
import { Slab } from './slab.ts';
import { shutdownWrite } from './socket-io.ts';
import { listenTcp } from './socket-setup.ts';
import type { TlsContext } from './tls-context.ts';
import {
  acceptBesideNode,
  clientContext,
  connectBesideNode,
  makeMesh,
  type Mesh,
  receiveRecordBesideNode,
  runBesideNode,
  sendBesideNode,
  serverContext,
} from '../test/tls-testing.ts';

let mesh: Mesh;
const slab = Slab.allocate(MAX_RECORD_BYTES);
before(async () => {
  mesh = await makeMesh();
});

interface Outcome {
  readonly handshake: Handshake;
  readonly step: string;
  readonly fd: Fd;
}

/** Our server against a node:tls client. `use` runs with the socket open. */
async function serve(
  options: tls.ConnectionOptions,
  use: (ours: Outcome, peer: tls.TLSSocket, peerError: Promise<Error | undefined>) => Promise<void>,
  context: TlsContext = serverContext(mesh),
): Promise<void> {
  const listener = listenTcp({ address: '127.0.0.1', port: 0, backlog: 4 });
  const peer = tls.connect({
    host: '127.0.0.1',
    port: listener.port,
    ca: mesh.root.certPem,
    cert: mesh.clientLeaf.certChainPem,
    key: mesh.clientLeaf.privateKeyPem,
    ALPNProtocols: ['h2'],
    checkServerIdentity: () => undefined,
    ...options,
  });
  const peerError = failureOf(peer);
  const fd = await acceptBesideNode(listener.fd);
  const handshake = new Handshake(context, fd);
  try {
    const step = await runBesideNode(handshake, fd);
    await use({ handshake, step, fd }, peer, peerError);
  } finally {
    peer.destroy();
    handshake.close();
    context.close();
    fd.close();
    listener.fd.close();
  }
}

/** Our client against a node:tls server. */
async function dial(
  options: tls.TlsOptions,
  use: (ours: Outcome, peer: tls.TLSSocket | undefined, peerError: Promise<Error | undefined>) => Promise<void>,
  context: TlsContext = clientContext(mesh),
): Promise<void> {
  const server = tls.createServer({
    ca: mesh.root.certPem,
    cert: mesh.serverLeaf.certChainPem,
    key: mesh.serverLeaf.privateKeyPem,
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.2',
    ...options,
  });
  let peer: tls.TLSSocket | undefined;
  const secured = new Promise<void>(resolve => {
    server.once('secureConnection', socket => {
      peer = socket;
      resolve();
    });
  });
  const peerError = new Promise<Error | undefined>(resolve => {
    server.once('tlsClientError', resolve);
    server.once('close', () => resolve(undefined));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const fd = await connectBesideNode((server.address() as AddressInfo).port);
  const handshake = new Handshake(context, fd);
  try {
    const step = await runBesideNode(handshake, fd);
    // In TLS 1.3 a client is done before the server has judged its certificate.
    if (step === 'done') await Promise.race([secured, peerError]);
    await use({ handshake, step, fd }, peer, peerError);
  } finally {
    peer?.destroy();
    server.close();
    handshake.close();
    context.close();
    fd.close();
  }
}

function failureOf(socket: tls.TLSSocket): Promise<Error | undefined> {
  return new Promise(resolve => {
    socket.once('error', resolve);
    socket.once('close', () => resolve(undefined));
  });
}

const codeOf = (error: Error | undefined): string =>
  error !== undefined && 'code' in error ? String(error.code) : 'none';

/** What the foreign peer reads next; bounded, so that a broken record layer fails a test instead of hanging it. */
async function nextText(peer: tls.TLSSocket): Promise<string> {
  return String((await once(peer, 'data', { signal: AbortSignal.timeout(10_000) }))[0]);
}

async function sendText(session: TlsSession, fd: Fd, text: string): Promise<void> {
  const length = slab.bytes.write(text, 5, 'latin1');
  await sendBesideNode(fd, slab, session.records.seal(slab, 0, length));
}

async function receiveText(session: TlsSession, fd: Fd): Promise<string> {
  for (;;) {
    const length = session.records.open(slab, 0, await receiveRecordBesideNode(fd, slab));
    assert.ok(length >= 0, `refused: ${length}`);
    if (session.records.opened === 'data') return slab.bytes.toString('latin1', 5, 5 + length);
    assert.equal(session.records.opened, 'control');
  }
}

describe('our server and a node:tls client', () => {
  for (const [curve, group] of [
    ['X25519MLKEM768', 'X25519MLKEM768'],
    ['X25519', 'x25519'],
    ['P-256', 'secp256r1'],
    ['P-384:P-256', 'secp256r1'],
  ] as const) {
    it(`agree on ${group} when the client offers ${curve}`, async () => {
      await serve({ ecdhCurve: curve }, async ({ handshake, step, fd }, peer) => {
        assert.equal(step, 'done', handshake.failure?.message);
        const session = handshake.finish();
        assert.equal(session.group, group);
        assert.equal(session.alpn, 'h2');
        peer.write('hello');
        assert.equal(await receiveText(session, fd), 'hello');
        await sendText(session, fd, 'good day');
        assert.equal(await nextText(peer), 'good day');
        session.records.close();
      });
    });
  }

  it('agree on AES-256-GCM when the client wants it', async () => {
    await serve({ ciphers: 'TLS_AES_256_GCM_SHA384' }, async ({ handshake, fd }, peer) => {
      const session = handshake.finish();
      assert.equal(session.cipher, 'aes-256-gcm');
      peer.write('hello');
      assert.equal(await receiveText(session, fd), 'hello');
      session.records.close();
    });
  });

  const refusals: ReadonlyArray<readonly [string, tls.ConnectionOptions, string, string]> = [
    [
      'no certificate',
      { cert: undefined, key: undefined },
      'tls.no_certificate',
      'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
    ],
    ['TLS 1.2', { maxVersion: 'TLSv1.2' }, 'tls.protocol_version', 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION'],
    [
      'ALPN http/1.1',
      { ALPNProtocols: ['http/1.1'] },
      'tls.no_common_alpn',
      'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL',
    ],
    [
      'ChaCha20 only',
      { ciphers: 'TLS_CHACHA20_POLY1305_SHA256' },
      'tls.no_common_cipher',
      'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE',
    ],
    ['P-521 only', { ecdhCurve: 'P-521' }, 'tls.no_common_group', 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE'],
  ];
  for (const [what, options, code, peerCode] of refusals) {
    it(`part when the client has ${what}, with an alert`, async () => {
      await serve({ ...options }, async ({ handshake, step, fd }, peer, peerError) => {
        assert.equal(step, 'failed');
        assert.equal(handshake.failure?.code, code);
        assert.equal(handshake.step(), 'failed');
        assert.throws(() => handshake.finish(), { code: 'tls.state' });
        peer.resume();
        shutdownWrite(fd);
        assert.equal(codeOf(await peerError), peerCode);
      });
    });
  }

  it('agree without ALPN when the client offers none', async () => {
    await serve({ ALPNProtocols: undefined }, async ({ handshake, step }) => {
      assert.equal(step, 'done', handshake.failure?.message);
      const session = handshake.finish();
      assert.equal(session.alpn, undefined);
      session.records.close();
    });
  });

  it('agree on h2 when it is not the first offer', async () => {
    await serve({ ALPNProtocols: ['http/1.1', 'h2'] }, async ({ handshake }) => {
      const session = handshake.finish();
      assert.equal(session.alpn, 'h2');
      session.records.close();
    });
  });

  it('offer no session to resume', async () => {
    await serve({}, async ({ handshake, fd }, peer) => {
      const session = handshake.finish();
      peer.on('session', () => assert.fail('a ticket came'));
      await sendText(session, fd, 'x');
      assert.equal(await nextText(peer), 'x');
      assert.equal(peer.isSessionReused(), false);
      session.records.close();
    });
  });

  it('exchange a megabyte each way while keys are updated and the connection is handed over', async () => {
    const context = serverContext(mesh, { updateAfterRecords: 7, maxRecordsPerKey: 200 });
    await serve(
      {},
      async ({ handshake, fd }, peer) => {
        const session = handshake.finish();
        const total = 1 << 20;
        const pattern = Buffer.from(Array.from({ length: total }, (_, i) => (i * 31 + (i >> 8)) & 0xff));
        const echoed: Buffer[] = [];
        let have = 0;
        const allBack = new Promise<void>((resolve, reject) => {
          peer.on('data', (part: Buffer) => {
            echoed.push(part);
            have += part.length;
            if (have === total) resolve();
          });
          peer.on('error', reject);
        });
        peer.write(pattern);
        let records = session.records;
        let handOvers = 0;
        for (let received = 0; received < total; ) {
          const length = records.open(slab, 0, await receiveRecordBesideNode(fd, slab));
          assert.ok(length >= 0, `refused: ${length}`);
          if (length > 0) {
            const sealed = records.seal(slab, 0, length);
            assert.equal(sealed, length + 22);
            await sendBesideNode(fd, slab, sealed);
            received += length;
          }
          if (records.wantsOutput) await sendBesideNode(fd, slab, records.takeOutput(slab, 0, 64));
          if (received % 3 === 0 || length === 0) {
            records = importRecordLayer(structuredClone(records.exportState()));
            handOvers++;
          }
        }
        await allBack;
        assert.ok(Buffer.concat(echoed).equals(pattern));
        assert.ok(handOvers > 3);
        records.close();
      },
      context,
    );
  });
});

describe('our client and a node:tls server', () => {
  it('agree, with ALPN h2 and without SNI', async () => {
    let asked = 0;
    const SNICallback: tls.TlsOptions['SNICallback'] = (_name, done) => {
      asked++;
      done(null);
    };
    await dial({ SNICallback }, async ({ handshake, step, fd }, peer) => {
      assert.equal(step, 'done', handshake.failure?.message);
      const session = handshake.finish();
      assert.equal(session.alpn, 'h2');
      assert.equal(session.group, 'X25519MLKEM768');
      assert.ok(peer !== undefined);
      assert.equal(asked, 0);
      assert.ok((peer as tls.TLSSocket & { servername?: string | false }).servername === false, 'no server name came');
      assert.equal(peer.alpnProtocol, 'h2');
      await sendText(session, fd, 'hello');
      assert.equal(await nextText(peer), 'hello');
      // Node's server sends session tickets first; they are ignored.
      peer.write('good day');
      assert.equal(await receiveText(session, fd), 'good day');
      session.records.close();
    });
  });

  for (const [curve, group] of [
    ['X25519', 'x25519'],
    ['P-256', 'secp256r1'],
  ] as const) {
    it(`agree on ${group} when the server knows only ${curve}`, async () => {
      await dial({ ecdhCurve: curve }, async ({ handshake, step, fd }, peer) => {
        assert.equal(step, 'done', handshake.failure?.message);
        const session = handshake.finish();
        assert.equal(session.group, group);
        peer?.write('x');
        assert.equal(await receiveText(session, fd), 'x');
        session.records.close();
      });
    });
  }

  const refusals: ReadonlyArray<readonly [string, tls.TlsOptions, string]> = [
    ['TLS 1.2 only', { maxVersion: 'TLSv1.2' }, 'tls.alert_protocol_version'],
    ['ALPN http/1.1 only', { ALPNProtocols: ['http/1.1'] }, 'tls.alert_no_application_protocol'],
    ['P-521 only', { ecdhCurve: 'P-521' }, 'tls.alert_handshake_failure'],
  ];
  for (const [what, options, code] of refusals) {
    it(`part when the server has ${what}`, async () => {
      await dial({ ...options }, async ({ handshake, step }) => {
        assert.equal(step, 'failed');
        assert.equal(handshake.failure?.code, code);
        assert.equal(`tls.alert_${handshake.failure?.alert}`, code);
      });
    });
  }

  it('agree without ALPN when the server knows none', async () => {
    await dial({ ALPNProtocols: undefined }, async ({ handshake, step }) => {
      assert.equal(step, 'done', handshake.failure?.message);
      const session = handshake.finish();
      assert.equal(session.alpn, undefined);
      session.records.close();
    });
  });

  it('part when the server shows a certificate of another root, and the server hears unknown_ca', async () => {
    const other = await makeRoot('O=other');
    const leaf = await makeLeaf(other);
    await dial({ cert: leaf.certChainPem, key: leaf.privateKeyPem }, async ({ handshake, step }, _peer, peerError) => {
      assert.equal(step, 'failed');
      assert.equal(handshake.failure?.code, 'tls.untrusted_root');
      assert.equal(codeOf(await peerError), 'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA');
    });
  });
});
