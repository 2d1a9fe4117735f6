// The transport against grpc-js, which shares no code with it, and against servers that misbehave.
import assert from 'node:assert/strict';
import { createServer as createHttp2Server } from 'node:http2';
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net';
import { describe, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { createTestPki } from '../../test/test-pki.ts';
import { XdsPeer } from '../../test/xds-peer.ts';
import {
  AggregatedDiscoveryService,
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
} from '../gen/discovery_pb.ts';
import { CallError, type CallErrorCode } from './call-error.ts';
import type { GrpcTarget } from './grpc-target.ts';
import { type GrpcSession, openGrpcSession } from './transport.ts';

const METHOD = AggregatedDiscoveryService.method.deltaAggregatedResources;

function target(url: string, extra: Partial<GrpcTarget> = {}): GrpcTarget {
  return { url, roots: async () => 'none', headers: async () => ({}), connectTimeoutMs: 2000, ...extra };
}

async function failsWith(code: CallErrorCode, run: () => Promise<unknown>): Promise<CallError> {
  let caught: unknown;
  try {
    await run();
  } catch (error) {
    caught = error;
  }
  assert.ok(caught instanceof CallError, String(caught));
  assert.equal(caught.code, code, caught.message);
  return caught;
}

async function firstResponse(session: GrpcSession): Promise<string> {
  const call = await session.stream(METHOD, { maxMessageBytes: 64 << 20 });
  call.send(create(DeltaDiscoveryRequestSchema, { typeUrl: 'x' }));
  for await (const response of call.messages()) return response.nonce;
  return 'none';
}

const pki = await createTestPki();
const otherPki = await createTestPki('other root');
const serverFor = async (names: Parameters<typeof pki.issue>[0], commonName?: string) => {
  const peer = await XdsPeer.start({ tls: await pki.issue(names, commonName) });
  peer.onStream = stream => stream.duplex.write(create(DeltaDiscoveryResponseSchema, { nonce: 'hello' }));
  return peer;
};
const trusted = { roots: async () => pki.rootPem } as const;

describe('who the server is', { timeout: 20_000 }, () => {
  test('a server with the name of the URL and our root is accepted', async () => {
    const peer = await serverFor([{ type: 'ip', value: '127.0.0.1' }]);
    try {
      const session = await openGrpcSession(target(`https://127.0.0.1:${peer.port}`, trusted));
      assert.equal(await firstResponse(session), 'hello');
      session.close();
      await session.closed;
    } finally {
      peer.stop();
    }
  });

  test('the alternative name is as good as the URL', async () => {
    const peer = await serverFor([{ type: 'dns', value: 'istiod.istio-system.svc' }]);
    try {
      const url = `https://localhost:${peer.port}`;
      await failsWith('grpc.untrusted', () => openGrpcSession(target(url, trusted)));
      const session = await openGrpcSession(target(url, { ...trusted, altName: 'istiod.istio-system.svc' }));
      assert.equal(await firstResponse(session), 'hello');
      session.close();
    } finally {
      peer.stop();
    }
  });

  test('a common name proves nothing', async () => {
    const peer = await serverFor([], 'localhost');
    try {
      await failsWith('grpc.untrusted', () => openGrpcSession(target(`https://localhost:${peer.port}`, trusted)));
    } finally {
      peer.stop();
    }
  });

  test('another root proves nothing', async () => {
    const peer = await serverFor([{ type: 'dns', value: 'localhost' }]);
    try {
      const roots = async () => otherPki.rootPem;
      await failsWith('grpc.untrusted', () => openGrpcSession(target(`https://localhost:${peer.port}`, { roots })));
    } finally {
      peer.stop();
    }
  });

  test('roots that cannot be read or hold no certificate stop the connection before it starts', async () => {
    const url = 'https://127.0.0.1:1';
    const unreadable = async (): Promise<string> => Promise.reject(new Error('ENOENT'));
    await failsWith('xds.no_roots', () => openGrpcSession(target(url, { roots: unreadable })));
    await failsWith('xds.no_roots', () => openGrpcSession(target(url, { roots: async () => '' })));
    const broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
    await failsWith('xds.no_roots', () => openGrpcSession(target(url, { roots: async () => broken })));
  });

  test('a broken root among good ones is left out', async () => {
    const peer = await serverFor([{ type: 'dns', value: 'localhost' }]);
    try {
      const broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
      const roots = async () => broken + pki.rootPem;
      const session = await openGrpcSession(target(`https://localhost:${peer.port}`, { roots }));
      session.close();
    } finally {
      peer.stop();
    }
  });

  test('plain text leaves this machine under no circumstances', async () => {
    await failsWith('grpc.plaintext', () => openGrpcSession(target('http://192.0.2.1:15010')));
    await failsWith('grpc.plaintext', () => openGrpcSession(target('http://istiod.istio-system.svc:15010')));
  });
});

describe('calls', { timeout: 20_000 }, () => {
  test('headers are asked for each call', async () => {
    const peer = await XdsPeer.start();
    try {
      let count = 0;
      const headers = async () => ({ authorization: `Bearer ${++count}`, clusterid: 'c1' });
      const session = await openGrpcSession(target(`http://127.0.0.1:${peer.port}`, { headers }));
      await session.stream(METHOD);
      await session.stream(METHOD);
      const [first, second] = [await peer.nextStream(), await peer.nextStream()];
      assert.deepEqual(
        [first, second].map(({ metadata }) => metadata.get('authorization')[0]),
        ['Bearer 1', 'Bearer 2'],
      );
      assert.equal(first.metadata.get('clusterid')[0], 'c1');
      session.close();
    } finally {
      peer.stop();
    }
  });

  test('a header that HTTP does not allow fails the call only', async () => {
    const peer = await XdsPeer.start();
    try {
      let value = 'a\nb';
      const headers = async () => ({ authorization: value });
      const session = await openGrpcSession(target(`http://127.0.0.1:${peer.port}`, { headers }));
      await failsWith('grpc.credentials', () => session.stream(METHOD));
      value = 'fine';
      await session.stream(METHOD);
      await peer.nextStream();
      session.close();
    } finally {
      peer.stop();
    }
  });

  test('a status that is not OK carries its name and text', async () => {
    const peer = await XdsPeer.start();
    try {
      peer.onStream = ({ duplex }) => duplex.emit('error', { code: 7, details: 'näher nicht' });
      const session = await openGrpcSession(target(`http://127.0.0.1:${peer.port}`));
      const error = await failsWith('grpc.status', () => firstResponse(session));
      assert.equal(error.status, 'PERMISSION_DENIED');
      assert.equal(error.message, 'näher nicht');
      session.close();
    } finally {
      peer.stop();
    }
  });

  test('a message of 40 MiB arrives, and one over the limit ends the call', async () => {
    const peer = await XdsPeer.start();
    try {
      const nonce = 'x'.repeat(40 << 20);
      peer.onStream = ({ duplex }) => duplex.write(create(DeltaDiscoveryResponseSchema, { nonce }));
      const session = await openGrpcSession(target(`http://127.0.0.1:${peer.port}`));
      assert.equal((await firstResponse(session)).length, nonce.length);
      const call = await session.stream(METHOD, { maxMessageBytes: 1 << 20 });
      const error = await failsWith('grpc.too_long', async () => {
        for await (const response of call.messages()) assert.fail(response.typeUrl);
      });
      assert.equal(error.status, 'RESOURCE_EXHAUSTED');
      session.close();
    } finally {
      peer.stop();
    }
  });

  test('GOAWAY lets the call finish and admits no other', async () => {
    const peer = await XdsPeer.start();
    try {
      const session = await openGrpcSession(target(`http://127.0.0.1:${peer.port}`));
      const call = await session.stream(METHOD);
      const messages = call.messages();
      const next = messages.next();
      const stream = await peer.nextStream();
      stream.duplex.write(create(DeltaDiscoveryResponseSchema, { nonce: 'one' }));
      assert.equal((await next).value?.nonce, 'one');
      peer.drain();
      stream.duplex.write(create(DeltaDiscoveryResponseSchema, { nonce: 'two' }));
      assert.equal((await messages.next()).value?.nonce, 'two');
      assert.equal(session.isUsable, false);
      await failsWith('grpc.lost', () => session.stream(METHOD));
      stream.duplex.end();
      assert.equal((await messages.next()).done, true);
      await session.closed;
    } finally {
      peer.stop();
    }
  });

  test('a server that dies ends the call', async () => {
    const peer = await XdsPeer.start();
    const session = await openGrpcSession(target(`http://127.0.0.1:${peer.port}`));
    const ended = failsWith('grpc.lost', () => firstResponse(session));
    await peer.nextStream();
    peer.stop();
    await ended;
    await session.closed;
  });

  test('an abort ends the call as cancelled', async () => {
    const peer = await XdsPeer.start();
    try {
      const session = await openGrpcSession(target(`http://127.0.0.1:${peer.port}`));
      const abort = new AbortController();
      const call = await session.stream(METHOD, { signal: abort.signal });
      const ended = failsWith('grpc.cancelled', () => call.messages().next());
      const stream = await peer.nextStream();
      abort.abort();
      await ended;
      await stream.untilEnded();
      session.close();
    } finally {
      peer.stop();
    }
  });
});

describe('servers that are none', { timeout: 20_000 }, () => {
  async function listening(server: Server): Promise<string> {
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  test('one that says nothing is given up in time', async () => {
    const server = createTcpServer(socket => socket.on('error', () => undefined).resume());
    const url = await listening(server);
    await failsWith('grpc.connect', () => openGrpcSession(target(url, { connectTimeoutMs: 100 })));
    server.close();
  });

  test('one that sends garbage is no gRPC server', async () => {
    const server = createTcpServer(socket =>
      socket
        .on('error', () => undefined)
        .resume()
        .end('SSH-2.0-hello there\r\n'),
    );
    const url = await listening(server);
    await failsWith('grpc.connect', () => openGrpcSession(target(url)));
    server.close();
  });

  test('one that answers with a web page gives its HTTP status', async () => {
    const server = createHttp2Server((_request, response) => {
      response.writeHead(503, { 'content-type': 'text/html' });
      response.end('<h1>no</h1>');
    });
    const url = await listening(server);
    const session = await openGrpcSession(target(url));
    const error = await failsWith('grpc.protocol', () => firstResponse(session));
    assert.equal(error.status, 'UNAVAILABLE');
    session.close();
    server.close();
  });

  test('one that sends bytes that are no message ends the call', async () => {
    const server = createHttp2Server((_request, response) => {
      response.writeHead(200, { 'content-type': 'application/grpc' });
      response.end(Buffer.from([0, 0, 0, 0, 3, 255, 255, 255]));
    });
    const url = await listening(server);
    const session = await openGrpcSession(target(url));
    await failsWith('grpc.protocol', () => firstResponse(session));
    session.close();
    server.close();
  });

  test('one that does not answer a PING is dropped', async () => {
    // Its own SETTINGS, acknowledgement of ours, and then silence.
    const server = createTcpServer(socket => {
      socket.on('error', () => undefined).resume();
      socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]));
    });
    const url = await listening(server);
    const keepalive = { intervalMs: 20, timeoutMs: 50 };
    const session = await openGrpcSession(target(url, { keepalive }));
    const error = await failsWith('grpc.lost', () => firstResponse(session));
    assert.match(error.message, /PING/);
    await session.closed;
    server.close();
  });
});
