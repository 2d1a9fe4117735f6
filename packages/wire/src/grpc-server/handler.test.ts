// The gRPC server against grpc-js, an independent implementation, and against raw HTTP/2 where grpc-js is too polite.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type ClientDuplexStream, Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from '../gen/citadel_pb.ts';
import {
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from '../gen/discovery_pb.ts';
import { CREATE_CERTIFICATE_PATH, createGrpcHandler, DELTA_PATH, type GrpcServices } from './handler.ts';
import { encodeResourceEntries } from './messages.ts';
import { grpcServerOptions, keepSessions, type SessionOptions } from './sessions.ts';
import { GrpcError } from './status.ts';

interface Peer extends AsyncDisposable {
  readonly port: number;
  readonly client: Client;
}

async function serve(services: GrpcServices, sessionOptions: SessionOptions = {}): Promise<Peer> {
  const server = createServer(grpcServerOptions(), createGrpcHandler(services));
  const keeper = keepSessions(server, sessionOptions);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    'grpc.max_receive_message_length': -1,
  });
  return {
    port,
    client,
    [Symbol.asyncDispose]: async () => {
      client.close();
      keeper.close();
      server.close();
      await once(server, 'close');
    },
  };
}

const raw = (bytes: Buffer): Buffer => bytes;
type Stream = ClientDuplexStream<Buffer, Buffer>;
const openDelta = (client: Client, metadata = new Metadata()): Stream =>
  client.makeBidiStreamRequest(DELTA_PATH, raw, raw, metadata);

function createCertificate(client: Client, csr: string, options: { deadline?: number } = {}) {
  const bytes = toBinary(
    IstioCertificateRequestSchema,
    create(IstioCertificateRequestSchema, {
      csr,
      validityDuration: 60n,
      metadata: { ImpersonatedIdentity: 'spiffe://a' },
    }),
  );
  return new Promise<readonly string[]>((resolve, reject) => {
    client.makeUnaryRequest(CREATE_CERTIFICATE_PATH, raw, raw, Buffer.from(bytes), options, (error, answer) => {
      if (error !== null || answer === undefined) reject(error ?? new Error('no answer'));
      else resolve(fromBinary(IstioCertificateResponseSchema, answer).certChain);
    });
  });
}

const request = (typeUrl: string) =>
  Buffer.from(toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, { typeUrl })));

async function statusOf(stream: Stream): Promise<ServiceError> {
  stream.resume();
  const [error] = (await once(stream, 'error').catch(cause => [cause])) as [ServiceError];
  return error;
}

test('a delta call carries metadata, requests and responses, and ends when its handler does', async () => {
  await using peer = await serve({
    deltaResources: async ({ context, requests, send }) => {
      for await (const { typeUrl } of requests) {
        await send(
          {
            systemVersionInfo: context.credentials.clusterId ?? '',
            typeUrl,
            nonce: context.credentials.authorization ?? '',
            removed: ['r'],
            entries: [
              encodeResourceEntries([{ name: 'n', version: 'v', aliases: ['x'], typeUrl, value: Buffer.from('v') }]),
            ],
          },
          1_000,
        );
      }
    },
  });
  const metadata = new Metadata();
  metadata.set('authorization', 'Bearer abc');
  metadata.set('clusterid', 'c1');
  const stream = openDelta(peer.client, metadata);
  stream.write(request('type-a'));
  const [bytes] = (await once(stream, 'data')) as [Buffer];
  const response: DeltaDiscoveryResponse = fromBinary(DeltaDiscoveryResponseSchema, bytes);
  assert.equal(response.systemVersionInfo, 'c1');
  assert.equal(response.nonce, 'Bearer abc');
  assert.equal(response.typeUrl, 'type-a');
  assert.deepEqual(response.removedResources, ['r']);
  assert.deepEqual(
    response.resources.map(({ name, version, aliases }) => ({ name, version, aliases })),
    [{ name: 'n', version: 'v', aliases: ['x'] }],
  );
  stream.end();
  stream.resume();
  const [{ code }] = (await once(stream, 'status')) as [{ code: number }];
  assert.equal(code, status.OK);
});

test('a message of 30 MiB arrives whole', async () => {
  const value = Buffer.alloc(30 * 1024 * 1024, 7);
  const entries = [encodeResourceEntries([{ name: 'big', version: '', aliases: [], typeUrl: 't', value }])];
  await using peer = await serve({
    deltaResources: async ({ send }) => {
      await send({ systemVersionInfo: '', typeUrl: 't', nonce: '1', removed: [], entries }, 5_000);
    },
  });
  const stream = openDelta(peer.client);
  const [bytes] = (await once(stream, 'data')) as [Buffer];
  stream.on('error', () => undefined);
  const [resource] = fromBinary(DeltaDiscoveryResponseSchema, bytes).resources;
  assert.ok(value.equals(resource?.resource?.value ?? Buffer.alloc(0)));
});

test('a GrpcError becomes its status, anything else an opaque internal error that is reported', async () => {
  const bugs: unknown[] = [];
  await using peer = await serve({
    onBug: error => bugs.push(error),
    createCertificate: async ({ csr }) => {
      if (csr === 'bug') throw new TypeError('secret');
      throw new GrpcError('permission_denied', 'not yours: 100 % é');
    },
  });
  await assert.rejects(createCertificate(peer.client, 'x'), {
    code: status.PERMISSION_DENIED,
    details: 'not yours: 100 % é',
  });
  await assert.rejects(createCertificate(peer.client, 'bug'), { code: status.INTERNAL, details: 'internal error' });
  assert.equal(bugs.length, 1);
});

test('a certificate call answers with its chain, refuses long requests and keeps deadlines', async () => {
  await using peer = await serve({
    createCertificate: async ({ csr, validityDurationSeconds, metadata }, { signal }) => {
      if (csr === 'wait') await once(signal, 'abort');
      return { certChain: [csr, String(validityDurationSeconds), String(metadata['ImpersonatedIdentity'])] };
    },
  });
  assert.deepEqual(await createCertificate(peer.client, 'csr'), ['csr', '60', 'spiffe://a']);
  await assert.rejects(createCertificate(peer.client, 'x'.repeat(70_000)), { code: status.RESOURCE_EXHAUSTED });
  await assert.rejects(createCertificate(peer.client, 'wait', { deadline: Date.now() + 50 }), {
    code: status.DEADLINE_EXCEEDED,
  });
});

test('a peer that cancels aborts the signal of its call', async () => {
  const { promise: isAborted, resolve } = Promise.withResolvers<boolean>();
  await using peer = await serve({
    deltaResources: async ({ context, requests, send }) => {
      for await (const { typeUrl } of requests) {
        context.signal.addEventListener('abort', () => resolve(true));
        await send({ systemVersionInfo: '', typeUrl, nonce: '', removed: [], entries: [] }, 1_000);
      }
    },
  });
  const stream = openDelta(peer.client);
  stream.on('error', () => undefined);
  stream.write(request('t'));
  await once(stream, 'data');
  stream.cancel();
  assert.ok(await isAborted);
});

test('malformed messages, unknown methods and services that are not there end with a status', async () => {
  await using peer = await serve({
    deltaResources: async ({ requests }) => {
      for await (const _ of requests);
    },
  });
  const stream = openDelta(peer.client);
  stream.write(Buffer.from([0xff, 0xff, 0xff]));
  assert.equal((await statusOf(stream)).code, status.INVALID_ARGUMENT);
  await assert.rejects(createCertificate(peer.client, 'x'), { code: status.UNIMPLEMENTED });
});

test('a peer that takes no bytes is reset and its handler sees why', async () => {
  const { promise: seen, resolve } = Promise.withResolvers<unknown>();
  await using peer = await serve({
    deltaResources: async ({ send }) => {
      const entries = [Buffer.alloc(1024 * 1024)];
      try {
        await send({ systemVersionInfo: '', typeUrl: '', nonce: '', removed: [], entries }, 100);
      } catch (error) {
        resolve(error);
        throw error;
      }
    },
  });
  const session = connect(`http://127.0.0.1:${peer.port}`);
  const stream = session.request({ ':method': 'POST', ':path': DELTA_PATH, 'content-type': 'application/grpc' });
  stream.on('error', () => undefined);
  // No reader: the window of 64 KiB closes and stays closed.
  const closed = once(stream, 'close').catch(() => undefined);
  assert.equal(((await seen) as GrpcError).code, 'deadline_exceeded');
  await closed;
  session.destroy();
});

test('requests that are no gRPC, and those with an odd authority, do the server no harm', async () => {
  await using peer = await serve({ createCertificate: async () => ({ certChain: [] }) });
  const session = connect(`http://127.0.0.1:${peer.port}`);
  const ask = async (headers: Record<string, string>, body = Buffer.alloc(0)) => {
    const stream = session.request(headers);
    stream.end(body);
    const [answer] = (await once(stream, 'response')) as [Record<string, unknown>];
    let trailers: Record<string, unknown> = {};
    stream.on('trailers', (found: Record<string, unknown>) => {
      trailers = found;
    });
    stream.resume();
    await once(stream, 'close');
    return { http: answer[':status'], grpc: trailers['grpc-status'] };
  };
  const grpc = { ':method': 'POST', ':path': CREATE_CERTIFICATE_PATH, 'content-type': 'application/grpc+proto' };
  assert.equal((await ask({ ':method': 'PUT', ':path': '/' })).http, 405);
  assert.equal((await ask({ ...grpc, 'content-type': 'text/plain' })).http, 415);
  assert.equal((await ask({ ...grpc, ':authority': '[' }, Buffer.alloc(5))).grpc, '0');
  assert.equal((await ask(grpc, Buffer.from([1, 0, 0, 0, 0]))).grpc, '12'); // compressed
  assert.equal((await ask(grpc, Buffer.from([0, 0, 0]))).grpc, '3'); // cut
  assert.equal((await ask(grpc, Buffer.alloc(10))).grpc, '12'); // two requests for a unary call
  session.destroy();
});

test('an old connection is asked to go, and gone after the grace', async () => {
  await using peer = await serve(
    { deltaResources: async ({ context }) => void (await once(context.signal, 'abort')) },
    { maxAgeMs: 10, graceMs: 50, random: () => 0 },
  );
  const session = connect(`http://127.0.0.1:${peer.port}`);
  const stream = session.request({ ':method': 'POST', ':path': DELTA_PATH, 'content-type': 'application/grpc' });
  stream.on('error', () => undefined);
  session.on('error', () => undefined);
  const [code] = (await once(session, 'goaway')) as [number];
  assert.equal(code, 0);
  if (!session.destroyed) await once(session, 'close');
});

/** Opens a stream with an answer but no request, and never ends it; resolves with how the server ended it. */
async function silentStream(port: number, headers: Readonly<Record<string, string>>) {
  const session = connect(`http://127.0.0.1:${port}`);
  try {
    const stream = session.request({ ':method': 'POST', ...headers }, { endStream: false });
    const trailers: Record<string, unknown> = {};
    stream.on('response', received => void Object.assign(trailers, received));
    stream.on('trailers', received => void Object.assign(trailers, received));
    stream.resume();
    await once(stream, 'close', { signal: AbortSignal.timeout(5_000) });
    return trailers;
  } finally {
    session.destroy();
  }
}

test('a certificate call whose request never comes is ended, whatever deadline the peer names', async () => {
  await using peer = await serve({
    createCertificate: () => assert.fail('there was no request'),
    certificateCallMs: 50,
  });
  for (const more of [{}, { 'grpc-timeout': '99999999H' }]) {
    const ended = await silentStream(peer.port, {
      ':path': CREATE_CERTIFICATE_PATH,
      'content-type': 'application/grpc',
      ...more,
    });
    assert.equal(ended['grpc-status'], String(status.DEADLINE_EXCEEDED));
  }
});

test('a request that is no gRPC and never ends is answered and its stream closed', async () => {
  await using peer = await serve({});
  const ended = await silentStream(peer.port, { ':path': '/', 'content-type': 'text/plain' });
  assert.equal(ended[':status'], 415);
});

test('a connection without a call is asked to go after a while, one with a call is not', async () => {
  await using peer = await serve(
    {
      deltaResources: async ({ requests }) => {
        for await (const each of requests) assert.equal(each.typeUrl, 'last');
      },
    },
    { idleMs: 30, graceMs: 10 },
  );
  const busy = connect(`http://127.0.0.1:${peer.port}`);
  const stream = busy.request({ ':method': 'POST', ':path': DELTA_PATH, 'content-type': 'application/grpc' });
  await once(stream, 'response');
  const idle = connect(`http://127.0.0.1:${peer.port}`);
  await once(idle, 'close', { signal: AbortSignal.timeout(5_000) });
  assert.equal(busy.destroyed, false);
  stream.close();
  await once(busy, 'close', { signal: AbortSignal.timeout(5_000) });
});
