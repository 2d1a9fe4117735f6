// Real clients and servers through a relay: what they count and what is read must be the same number.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { execFile, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { promisify } from 'node:util';
import * as grpc from '@grpc/grpc-js';
import { openSniffer } from './detect.ts';
import { converse, SnifferRecorder } from './sniffer-recorder.ts';
import { wanderingSniffer } from './sniffer-wanderer.ts';
import { SnifferRelay } from './sniffer-relay.ts';
import type { L7Request } from './types.ts';

const ALL = { wantPath: true, wantAuthority: true, wantTraceparent: true };
const run = promisify(execFile);

function hasTool(name: string): boolean {
  return spawnSync(name, ['--version']).error === undefined;
}

function needs(tool: string, debianPackage: string): { skip: string | false; timeout: number } {
  return { skip: hasTool(tool) ? false : `install ${debianPackage} (Debian) to run this`, timeout: 120_000 };
}

type AnyServer = http.Server | http2.Http2Server;

async function listening(server: AnyServer): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

// Runs `use` with a relay in front of a server, and ends both.
async function relayed(
  server: AnyServer,
  remembers: boolean,
  use: (port: number, relay: SnifferRelay) => Promise<void>,
): Promise<void> {
  const relay = new SnifferRelay(await listening(server), ALL, remembers);
  try {
    await use(await relay.listen(), relay);
  } finally {
    await relay.close();
    server.close();
  }
}

// The same conversations in other pieces give the same requests; times aside.
function replayDiffers(relay: SnifferRelay, pieces: number): void {
  const untimed = (requests: readonly L7Request[]): unknown[] =>
    requests.map(request => ({ ...request, startMs: 0, durationMs: 0 }));
  for (const { turns, endedByClient } of relay.conversations) {
    const read = (cuts: number[][], isMoving = false): SnifferRecorder => {
      const recorder = new SnifferRecorder();
      const opened = openSniffer(recorder, ALL);
      const sniffer = isMoving ? wanderingSniffer(opened, recorder, ALL) : opened;
      converse(sniffer, turns, cuts);
      sniffer.end(endedByClient ?? true, 1e6);
      return recorder;
    };
    const whole = read([]);
    const every = (step: number): number[][] =>
      turns.map(({ bytes }) => Array.from({ length: bytes.length / step }, (_, i) => i * step));
    const cut = read(every(pieces));
    // Moving costs more than reading.
    const moved = read(every(pieces * 61), true);
    assert.deepEqual([moved.protocols, moved.giveUps], [whole.protocols, whole.giveUps]);
    assert.deepEqual(untimed(moved.requests), untimed(whole.requests));
    assert.deepEqual(untimed(cut.requests), untimed(whole.requests));
    assert.deepEqual(cut.protocols, whole.protocols);
    assert.deepEqual(cut.giveUps, whole.giveUps);
  }
}

function answering(): http.Server {
  return http.createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      const size = Number(/\d+$/.exec(request.url ?? '')?.[0] ?? 5);
      if (request.url?.startsWith('/chunked')) response.write(Buffer.alloc(size, 'c'));
      else response.setHeader('content-length', size);
      response.statusCode = request.url?.startsWith('/missing') ? 404 : 200;
      response.end(Buffer.alloc(size, 'x'));
    });
  });
}

function summary(requests: readonly L7Request[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { protocol, method, status, flags } of requests) {
    const key = `${protocol} ${method} ${status} ${flags ?? '-'}`;
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
}

describe('HTTP/1.1 peers', () => {
  test('node:http: uploads and downloads, by length and by chunks, over kept connections', {
    timeout: 120_000,
  }, async () => {
    await relayed(answering(), true, async (port, relay) => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
      const send = (url: string, method: string, body: Buffer | undefined, isChunked: boolean): Promise<void> =>
        new Promise((resolve, reject) => {
          const headers = body === undefined || isChunked ? {} : { 'content-length': body.length };
          const request = http.request({ port, agent, path: url, method, headers }, response => {
            response.resume();
            response.on('end', resolve);
          });
          request.on('error', reject);
          if (body !== undefined) request.write(body);
          request.end();
        });
      const sending: Promise<void>[] = [];
      for (let i = 0; i < 100; i++) {
        sending.push(send(`/a/${i * 37}`, 'GET', undefined, false));
        sending.push(send(`/chunked/${i}`, 'POST', Buffer.alloc(i * 900), true));
        sending.push(send(`/missing/${i}`, 'PUT', Buffer.alloc(i * 90), false));
        sending.push(send(`/a/${i}`, 'HEAD', undefined, false));
      }
      await Promise.all(sending);
      agent.destroy();
      await relay.settled();
      assert.deepEqual(summary(relay.recorder.requests), {
        'http GET 200 -': 100,
        'http POST 200 -': 100,
        'http PUT 404 -': 100,
        'http HEAD 200 -': 100,
      });
      assert.deepEqual(relay.recorder.giveUps, []);
      assert.deepEqual(new Set(relay.recorder.protocols), new Set(['http']));
      // Every byte belongs to a request.
      const carried = relay.conversations
        .flatMap(({ turns }) => turns)
        .reduce((sum, { bytes }) => sum + bytes.length, 0);
      const told = relay.recorder.requests.reduce((sum, each) => sum + each.requestBytes + each.responseBytes, 0);
      assert.equal(told, carried);
      replayDiffers(relay, 11);
    });
  });

  test('10 000 pipelined requests are 10 000', { timeout: 120_000 }, async () => {
    let handled = 0;
    const server = answering();
    server.on('request', () => handled++);
    server.maxRequestsPerSocket = 0;
    await relayed(server, false, async (port, relay) => {
      const socket = net.connect(port, '127.0.0.1');
      const request = Buffer.from('GET /a/7 HTTP/1.1\r\nHost: shop\r\n\r\n');
      let received = 0;
      let sent = 0;
      let rest = '';
      const send = (): void => {
        // Bursts of 100 fit the bound of what may wait.
        const burst = Math.min(100, 10_000 - sent);
        sent += burst;
        socket.write(Buffer.concat(Array.from({ length: burst }, () => request)));
      };
      await new Promise<void>((resolve, reject) => {
        socket.on('error', reject);
        socket.on('data', bytes => {
          const text = rest + bytes.toString('latin1');
          const answers = text.split('\r\n\r\nxxxxxxx');
          rest = answers.pop() ?? '';
          received += answers.length;
          if (received === 10_000) resolve();
          else if (received === sent) send();
        });
        send();
      });
      socket.end();
      await relay.settled();
      assert.equal(handled, 10_000);
      assert.deepEqual(summary(relay.recorder.requests), { 'http GET 200 -': 10_000 });
      assert.deepEqual(relay.recorder.giveUps, []);
    });
  });

  test(
    'curl: upload that waits for 100, HTTP/1.0, a declined h2c, a protocol switch',
    needs('curl', 'curl'),
    async () => {
      const server = answering();
      server.on('upgrade', (_request, socket: net.Socket) => {
        socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n\x00\x01\x02');
      });
      await relayed(server, false, async (port, relay) => {
        const base = `http://127.0.0.1:${port}`;
        await run('curl', ['-sS', '-H', 'Expect: 100-continue', '--data-binary', '@/usr/bin/env', `${base}/up/3`]);
        await run('curl', ['-sS', '--http1.0', `${base}/chunked/3000`]);
        await run('curl', ['-sS', '-I', `${base}/a/100`]);
        await run('curl', ['-sS', `${base}/a/1`, `${base}/b/2`, `${base}/missing/3`, '-o', '/dev/null']);
        const ws = ['-H', 'Connection: Upgrade', '-H', 'Upgrade: chat'];
        await run('curl', ['-sS', '--max-time', '30', ...ws, '-o', '/dev/null', `${base}/chat`]).catch(() => {});
        await relay.settled();
        assert.deepEqual(summary(relay.recorder.requests), {
          'http POST 200 -': 1,
          'http GET 200 -': 3,
          'http HEAD 200 -': 1,
          'http GET 404 -': 1,
          'http GET 101 -': 1,
        });
        assert.deepEqual(relay.recorder.giveUps, ['upgraded']);
      });
    },
  );

  test('wrk, plain and with pipelines of 16: what it was answered was read', needs('wrk', 'wrk'), async () => {
    const directory = mkdtempSync(path.join(os.tmpdir(), 'sniffer-wrk-'));
    try {
      const script = path.join(directory, 'pipeline.lua');
      writeFileSync(
        script,
        `init = function() local r = {} for i = 1, 16 do r[i] = wrk.format("GET", "/a/" .. i) end all = table.concat(r) end
request = function() return all end`,
      );
      for (const [args, depth] of [
        [[], 1],
        [['-s', script], 16],
      ] as const) {
        await relayed(answering(), false, async (port, relay) => {
          const { stdout } = await run('wrk', ['-t1', '-c8', '-d1s', ...args, `http://127.0.0.1:${port}/a/20`]);
          await relay.settled();
          const reported = Number(/(\d+) requests in/.exec(stdout)?.[1]);
          const { requests, giveUps } = relay.recorder;
          const whole = requests.filter(({ flags }) => flags === undefined);
          // wrk leaves in the middle: of what was under way it did not count all that was answered.
          assert.ok(whole.length >= reported && whole.length <= reported + 8 * depth, `${whole.length} of ${reported}`);
          assert.ok(
            requests.every(({ flags, status }) => (flags ?? 'DC') === 'DC' && (status === 200 || flags === 'DC')),
          );
          assert.deepEqual(giveUps, []);
        });
      }
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

function answeringStreams(): http2.Http2Server {
  const server = http2.createServer({ settings: { maxConcurrentStreams: 2000 } });
  server.on('stream', (stream, headers) => {
    const url = String(headers[':path']);
    stream.on('error', () => {});
    stream.resume();
    if (url.startsWith('/reset')) {
      stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
      return;
    }
    const size = Number(/\d+$/.exec(url)?.[0] ?? 5);
    // A field that changes makes the table turn over.
    stream.respond({
      ':status': url.startsWith('/missing') ? 404 : 200,
      'x-serial': `${url}-${stream.id ?? 0}`.repeat(4),
    });
    stream.end(Buffer.alloc(size, 'x'));
  });
  return server;
}

describe('HTTP/2 peers', () => {
  test('node:http2: many streams, large fields, padding, tables of all sizes', { timeout: 120_000 }, async () => {
    await relayed(answeringStreams(), true, async (port, relay) => {
      for (const headerTableSize of [0, 100, 4096, 65_536]) {
        const session = http2.connect(`http://127.0.0.1:${port}`, {
          settings: { headerTableSize },
          paddingStrategy: http2.constants.PADDING_STRATEGY_MAX,
          maxDeflateDynamicTableSize: headerTableSize,
        });
        const send = (url: string, method: string, bytes: number): Promise<void> =>
          new Promise(resolve => {
            const stream = session.request({
              ':path': url,
              ':method': method,
              traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
              'x-large': 'v'.repeat(bytes % 6000),
            });
            stream.on('error', () => {});
            stream.on('close', resolve);
            stream.resume();
            stream.end(Buffer.alloc(bytes));
          });
        const sending: Promise<void>[] = [];
        for (let i = 0; i < 30; i++) {
          sending.push(send(`/a/${i * 997}?q=${i}`, 'GET', 0));
          sending.push(send(`/missing/${i}`, 'POST', i * 1000));
          sending.push(send(`/reset/${i}`, 'PUT', 10));
        }
        await Promise.all(sending);
        session.close();
        await once(session, 'close');
      }
      await relay.settled();
      assert.deepEqual(relay.recorder.giveUps, []);
      assert.deepEqual(summary(relay.recorder.requests), {
        'http GET 200 -': 120,
        'http POST 404 -': 120,
        'http PUT 0 UC': 120,
      });
      assert.deepEqual(relay.recorder.protocols, ['http', 'http', 'http', 'http']);
      const sample = relay.recorder.requests.filter(({ method }) => method === 'GET');
      assert.deepEqual(
        new Set(sample.map(request => request.path)),
        new Set(Array.from({ length: 30 }, (_, i) => `/a/${i * 997}`)),
      );
      assert.ok(
        sample.every(({ authority, traceparent }) => authority === `127.0.0.1:${port}` && traceparent !== undefined),
      );
      replayDiffers(relay, 7);
    });
  });

  test('streams that the client resets, or leaves with the connection, are DC', { timeout: 60_000 }, async () => {
    const server = http2.createServer();
    server.on('stream', stream => {
      stream.on('error', () => {});
      stream.respond({ ':status': 200 });
      stream.write('never whole');
    });
    await relayed(server, true, async (port, relay) => {
      const session = http2.connect(`http://127.0.0.1:${port}`);
      session.on('error', () => {});
      const first = session.request({ ':path': '/reset' });
      first.on('error', () => {});
      await once(first, 'data');
      first.close(http2.constants.NGHTTP2_CANCEL);
      await once(first, 'close');
      const second = session.request({ ':path': '/left' });
      second.on('error', () => {});
      await once(second, 'data');
      session.destroy();
      await relay.settled();
      assert.deepEqual(relay.recorder.lines, ['GET /reset 200 DC', 'GET /left 200 DC']);
    });
  });

  test('h2load: 10 000 requests on 4 connections are 10 000', needs('h2load', 'nghttp2-client'), async () => {
    await relayed(answeringStreams(), false, async (port, relay) => {
      const url = `http://127.0.0.1:${port}/a/300`;
      const { stdout } = await run('h2load', ['-n10000', '-c4', '-m64', '-t1', url]);
      assert.match(stdout, /10000 succeeded, 0 failed/);
      await relay.settled();
      assert.deepEqual(summary(relay.recorder.requests), { 'http GET 200 -': 10_000 });
      assert.deepEqual(relay.recorder.giveUps, []);
    });
  });

  test(
    'nghttp: priorities, padding, a body, trailers and large fields',
    needs('nghttp', 'nghttp2-client'),
    async () => {
      await relayed(answeringStreams(), true, async (port, relay) => {
        const base = `http://127.0.0.1:${port}`;
        const large = Array.from({ length: 3 }, (_, i) => ['-H', `x-large-${i}: ${'y'.repeat(5000)}`]).flat();
        await run('nghttp', ['-n', '-w', '20', '-c', '128', `${base}/a/70000`, `${base}/b/1`]);
        await run('nghttp', ['-n', '--trailer=x-sum: 1', '-d', '/usr/bin/env', '-b', '255', `${base}/a/3`]);
        await run('nghttp', ['-n', ...large, `${base}/a/3`]);
        await relay.settled();
        assert.deepEqual(summary(relay.recorder.requests), { 'http GET 200 -': 3, 'http POST 200 -': 1 });
        assert.deepEqual(relay.recorder.giveUps, []);
        replayDiffers(relay, 13);
        // A header block of 31 KiB is more than is kept.
        await run('nghttp', ['-n', '--continuation', `${base}/a/3`]);
        await relay.settled();
        assert.deepEqual(relay.recorder.giveUps, ['limit']);
      });
    },
  );
});

const raw = { requestSerialize: (value: Buffer) => value, requestDeserialize: (value: Buffer) => value };
const rawAnswer = { responseSerialize: (value: Buffer) => value, responseDeserialize: (value: Buffer) => value };
const ECHO: grpc.ServiceDefinition = {
  Unary: { path: '/test.Echo/Unary', requestStream: false, responseStream: false, ...raw, ...rawAnswer },
  Streams: { path: '/test.Echo/Streams', requestStream: true, responseStream: true, ...raw, ...rawAnswer },
};

describe('gRPC peers', () => {
  const server = new grpc.Server();
  after(() => server.forceShutdown());

  test('grpc-js: calls, statuses and messages as both sides count them', { timeout: 120_000 }, async () => {
    server.addService(ECHO, {
      Unary: (call: grpc.ServerUnaryCall<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) => {
        if (call.request.length === 13) callback({ code: grpc.status.NOT_FOUND, details: 'no such thing' });
        else callback(null, call.request);
      },
      Streams: (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
        call.on('data', (message: Buffer) => {
          call.write(message);
          call.write(message);
        });
        call.on('end', () => call.end());
        call.on('error', () => {});
      },
    });
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      });
    });
    const relay = new SnifferRelay(port, ALL, true);
    after(() => relay.close());
    const client = new grpc.Client(`127.0.0.1:${await relay.listen()}`, grpc.credentials.createInsecure());
    after(() => client.close());
    const identity = (value: Buffer): Buffer => value;
    const unary = (size: number): Promise<grpc.status> =>
      new Promise(resolve => {
        client.makeUnaryRequest('/test.Echo/Unary', identity, identity, Buffer.alloc(size), error => {
          resolve(error === null ? grpc.status.OK : error.code);
        });
      });
    // As many at once as are followed.
    const burst = async (): Promise<grpc.status[]> =>
      Promise.all(Array.from({ length: 250 }, (_, i) => unary(i % 50 === 49 ? 13 : 14 + ((i * 331) % 4000))));
    const statuses = [...(await burst()), ...(await burst())];
    const stream = client.makeBidiStreamRequest('/test.Echo/Streams', identity, identity);
    let echoed = 0;
    stream.on('data', () => echoed++);
    for (let i = 0; i < 40; i++) stream.write(Buffer.alloc(i * 500));
    stream.end();
    await once(stream, 'end');
    const cancelled = client.makeBidiStreamRequest('/test.Echo/Streams', identity, identity);
    cancelled.on('error', () => {});
    cancelled.write(Buffer.alloc(9));
    await once(cancelled, 'data');
    const isOver = new Promise(resolve => cancelled.on('status', resolve));
    cancelled.cancel();
    await isOver;
    client.close();
    await relay.settled();

    const { requests, protocols, giveUps } = relay.recorder;
    assert.deepEqual([protocols, giveUps], [['grpc'], []]);
    const calls = requests.filter(request => request.path === '/test.Echo/Unary');
    assert.equal(calls.length, 500);
    assert.ok(calls.every(call => call.protocol === 'grpc' && call.status === 200 && call.requestMessages === 1));
    const failures = statuses.filter(status => status === grpc.status.NOT_FOUND).length;
    assert.equal(failures, 10);
    assert.equal(calls.filter(call => call.grpcStatus === 5 && call.responseMessages === 0).length, failures);
    assert.equal(calls.filter(call => call.grpcStatus === 0 && call.responseMessages === 1).length, 500 - failures);
    const [whole, cut] = requests.filter(request => request.path === '/test.Echo/Streams');
    assert.equal(echoed, 80);
    assert.deepEqual([whole?.grpcStatus, whole?.requestMessages, whole?.responseMessages], [0, 40, 80]);
    assert.deepEqual([cut?.flags, cut?.grpcStatus, cut?.requestMessages], ['DC', undefined, 1]);
    replayDiffers(relay, 17);
  });
});

describe('what is not read', () => {
  test('TLS of the application is named and left alone', { timeout: 60_000 }, async () => {
    const server = http.createServer();
    await relayed(server, false, async (port, relay) => {
      await run('curl', ['-sS', '-k', '--max-time', '20', `https://127.0.0.1:${port}/`]).catch(() => {});
      await relay.settled();
      assert.deepEqual(relay.recorder.protocols, ['tls']);
      assert.deepEqual(relay.recorder.requests, []);
    });
  });
});
