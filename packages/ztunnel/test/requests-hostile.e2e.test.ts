// Bytes made to hurt whoever reads them: every connection carries them unchanged, whatever our readers make of them; what they
// give up is counted, wrong requests never are, and memory and series stay bounded.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { type Pod, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { makeMesh, type Mesh, pidOf, startOurs } from './e2e-mesh.ts';
import { endingOf, Net } from './e2e-net.ts';
import { missing } from './peer-programs.ts';
import { IS_LONG, RequestCounts } from './request-counts.ts';

const RAW = 7000;
const WEB = 8080;
const SLOW_CONNECTIONS = 1_000;
const PATHS = IS_LONG ? 100_000 : 10_000;
/** Path templates in one worker's metrics, and one for all others. */
const MAX_TEMPLATES = 501;
const MIB = 1 << 20;
const COUNTED = fileURLToPath(new URL('./counted-requests.lua', import.meta.url));
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

interface Attack {
  readonly name: string;
  readonly toServer: Buffer;
  readonly toClient: Buffer;
  /** Requests that both ends must have counted, no more and no fewer. */
  readonly requests: number;
  /** Why both ends give up; undefined: they do not. */
  readonly gaveUp?: string;
}

const ATTACKS: readonly Attack[] = [
  {
    name: 'Content-Length beside Transfer-Encoding',
    toServer: post(
      'Content-Length: 6\r\nTransfer-Encoding: chunked',
      '0\r\n\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n',
    ),
    toClient: Buffer.from(OK + OK),
    requests: 0,
    gaveUp: 'malformed',
  },
  {
    name: 'two Content-Lengths',
    toServer: post('Content-Length: 0\r\nContent-Length: 35', 'GET /admin HTTP/1.1\r\nHost: x\r\n\r\n    '),
    toClient: Buffer.from(OK + OK),
    requests: 0,
    gaveUp: 'malformed',
  },
  {
    name: 'a head without end',
    toServer: Buffer.from(`GET / HTTP/1.1\r\nHost: x\r\n${'X-More: and more, and more, and more\r\n'.repeat(30_000)}`),
    toClient: Buffer.from(OK),
    requests: 0,
    gaveUp: 'limit',
  },
  {
    name: 'garbage behind a good request',
    toServer: Buffer.concat([Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'), noise(300_000)]),
    toClient: Buffer.from(OK),
    requests: 1,
    gaveUp: 'malformed',
  },
  {
    name: 'a body that is a gzip bomb',
    toServer: Buffer.from('GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n'),
    toClient: bomb(),
    requests: 1,
  },
  {
    name: 'a flood of CONTINUATION frames',
    toServer: Buffer.concat([
      PREFACE,
      frame(4, 0, 0),
      frame(1, 0, 1, Buffer.from([0x82, 0x84, 0x86])),
      ...Array.from({ length: 5_000 }, () => frame(9, 0, 1, Buffer.from('\0\x01a\x05bbbbb'))),
    ]),
    toClient: frame(4, 0, 0),
    requests: 0,
    gaveUp: 'limit',
  },
  {
    name: 'a header block that expands a thousandfold',
    // One entry of 3 900 bytes in the table, then named 12 000 times.
    toServer: Buffer.concat([
      PREFACE,
      frame(4, 0, 0),
      frame(1, 5, 1, Buffer.concat([Buffer.from([0x82, 0x84, 0x86]), entry(3_900), Buffer.alloc(12_000, 0xbe)])),
    ]),
    toClient: Buffer.concat([frame(4, 0, 0), frame(4, 1, 0), frame(1, 5, 1, Buffer.from([0x88]))]),
    requests: 1,
  },
  {
    name: 'a PostgreSQL message of two gigabytes',
    toServer: Buffer.concat([startup(), Buffer.from([0x51, 0x7f, 0xff, 0xff, 0xff]), noise(100_000)]),
    toClient: Buffer.from('R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I', 'latin1'),
    // Begun, and never answered.
    requests: 1,
  },
  {
    name: 'Redis arrays in arrays in arrays',
    toServer: Buffer.from('*1\r\n$4\r\nPING\r\n'),
    toClient: Buffer.from('*1\r\n'.repeat(100_000)),
    // Begun, and never answered to the end.
    requests: 1,
  },
  { name: 'nothing at all', toServer: Buffer.alloc(0), toClient: Buffer.alloc(0), requests: 0 },
];

describe('plaintext made to hurt', { skip: sandboxSkip() || missing('wrk') }, () => {
  let mesh: Mesh;
  let peers: Net;
  let web: Pod;
  let cart: Pod;
  let ztunnels: readonly ZtunnelProcess[];
  let counts: RequestCounts;
  let onSocket: (socket: Socket) => void = () => undefined;

  before(async () => {
    mesh = await makeMesh();
    peers = new Net();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    peers.serve(cart, RAW, socket => onSocket(socket));
    peers.listen(
      cart,
      WEB,
      http.createServer((_request, response) => response.end('ok')),
    );
    const env = { AMBIT_L7_PATH: 'true', ZTUNNEL_WORKER_THREADS: '1' };
    const [source, destination] = await Promise.all([startOurs(bed, 'n1', { env }), startOurs(bed, 'n2', { env })]);
    ztunnels = [source, destination];
    counts = new RequestCounts(bed, { source, destination });
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  /** Sends all of one side, then all of the other; hashes of what each got. */
  async function exchange({ toServer, toClient }: Attack): Promise<{ server: string; client: string }> {
    const arrived = Promise.withResolvers<Buffer>();
    onSocket = socket => {
      const chunks: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => chunks.push(chunk));
      socket.on('end', () => {
        arrived.resolve(Buffer.concat(chunks));
        socket.end(toClient);
      });
    };
    const socket = await peers.connect(web, cart.ip4, RAW);
    const back: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => back.push(chunk));
    const ending = endingOf(socket, 30_000);
    socket.end(toServer);
    const server = hash(await arrived.promise);
    assert.equal(await ending, 'end');
    return { server, client: hash(Buffer.concat(back)) };
  }

  for (const attack of ATTACKS) {
    test(`${attack.name} passes unchanged`, { timeout: 90_000 }, async () => {
      const all = async () => Promise.all([counts.edges(RAW), counts.own('ambit_l7_given_up_total')]);
      const [requests, gaveUp] = await all();
      assert.deepEqual(await exchange(attack), { server: hash(attack.toServer), client: hash(attack.toClient) });
      // The reading of both ends is over when neither reads.
      await counts.agree('readers', async () => counts.own('ambit_l7_connections'), 0);
      await counts.agree('requests', async () => counts.edges(RAW), requests.source + attack.requests);
      const more = attack.gaveUp === undefined ? 0 : 1;
      await counts.agree('given up', async () => counts.own('ambit_l7_given_up_total'), gaveUp.source + more);
      if (attack.gaveUp === undefined) return;
      const why = await counts.own('ambit_l7_given_up_total', { reason: attack.gaveUp });
      assert.ok(why.source > 0 && why.destination > 0, `not ${attack.gaveUp}`);
    });
  }

  test('a thousand connections that drip a head cost little memory each', { timeout: 120_000 }, async t => {
    onSocket = socket => socket.resume().once('end', () => socket.end());
    const earlierBytes = await residentBytes();
    const sockets: Socket[] = [];
    for (let i = 0; i < SLOW_CONNECTIONS; i++) sockets.push(await peers.connect(web, cart.ip4, RAW));
    for (const piece of ['GET / HTTP/1.1\r\n', 'Host', ': x\r\nX-', 'Slow']) {
      await Promise.all(sockets.map(async socket => new Promise(resolve => socket.write(piece, resolve))));
    }
    await counts.agree('readers', async () => counts.own('ambit_l7_connections'), SLOW_CONNECTIONS);
    const grown = ((await residentBytes()) - earlierBytes) / 2 / SLOW_CONNECTIONS;
    for (const socket of sockets) socket.destroy();
    await counts.agree('readers', async () => counts.own('ambit_l7_connections'), 0);
    t.diagnostic(`${(grown / 1024).toFixed(1)} KiB a connection and proxy`);
    assert.ok(grown < 64 * 1024, `${grown} bytes a connection`);
  });

  test('paths without end are few series, and every request is in one of the metrics', {
    timeout: 200_000,
  }, async t => {
    const earlier = (await counts.metric('istio_requests_total')).source;
    const memory = await residentBytes();
    const args = [
      '-t1',
      '-c16',
      '-d190s',
      '-s',
      COUNTED,
      `http://${cart.ip4}:${WEB}/`,
      '--',
      String(PATHS),
      '1',
      'paths',
    ];
    const { stdout } = await web.run('wrk', args, { timeoutMs: 195_000 });
    const said = Number(/(\d+) requests in/.exec(stdout)?.[1]);
    assert.ok(said >= PATHS, stdout);
    const left = async () => counts.metric('ambit_requests_untallied_total');
    const told = async () => {
      const [counted, untallied] = await Promise.all([counts.metric('istio_requests_total'), left()]);
      const sum = (end: 'source' | 'destination') => counted[end] + untallied[end];
      return { source: sum('source'), destination: sum('destination') };
    };
    await counts.agree('edges', async () => counts.edges(WEB), said);
    await counts.agree('requests', told, earlier + said);
    const paths = new Set(
      (await counts.series('source', 'istio_requests_total')).map(({ labels }) => labels['request_path']),
    );
    assert.ok(paths.size <= MAX_TEMPLATES + 1, `${paths.size} paths`);
    const grown = (await residentBytes()) - memory;
    t.diagnostic(`${said} requests, ${paths.size} paths, ${(await left()).source} untallied, ${grown / MIB} MiB more`);
    assert.ok(grown < 128 * MIB, `${grown} bytes more`);
  });

  test('a scraper that never reads costs nobody anything', { timeout: 60_000 }, async () => {
    const earlierBytes = await residentBytes();
    // By another address than the scrapes of the test: an address has a bounded number of them.
    const node = mesh.bed.node('n1');
    const deaf = await Promise.all(Array.from({ length: 20 }, async () => peers.connect(node, node.ip4, 15_020)));
    for (const socket of deaf) {
      socket.pause();
      socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(50));
    }
    for (let i = 0; i < 5; i++) {
      const series = await counts.series('source', 'istio_requests_total');
      assert.ok(series.length > 0);
    }
    const grown = (await residentBytes()) - earlierBytes;
    assert.ok(grown < 128 * MIB, `${grown} bytes more`);
    for (const socket of deaf) {
      const closed = once(socket, 'close');
      socket.destroy();
      await closed;
    }
  });

  /** Of both proxies. */
  async function residentBytes(): Promise<number> {
    const each = ztunnels.map(async ztunnel => {
      const status = await readFile(`/proc/${pidOf(ztunnel)}/status`, 'utf8');
      return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
    });
    return (await Promise.all(each)).reduce((sum, bytes) => sum + bytes, 0);
  }
});

function hash(bytes: Buffer): string {
  return `${bytes.length} ${createHash('sha256').update(bytes).digest('hex')}`;
}

function post(headers: string, rest: string): Buffer {
  return Buffer.from(`POST / HTTP/1.1\r\nHost: x\r\n${headers}\r\n\r\n${rest}`);
}

/** The same bytes each time, of which none begins a request. */
function noise(size: number): Buffer {
  return Buffer.from(Array.from({ length: size }, (_, i) => 0x80 | ((i * 37 + (i >> 5)) & 0x7f)));
}

function bomb(): Buffer {
  const body = gzipSync(Buffer.alloc(64 * MIB));
  const head = `HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: ${body.length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head), body]);
}

function frame(type: number, flags: number, stream: number, payload = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A field `a` of so many bytes that goes into the table (RFC 7541 section 6.2.1). */
function entry(size: number): Buffer {
  const rest = size - 127;
  return Buffer.concat([Buffer.from([0x40, 1, 0x61, 0x7f, 0x80 | (rest & 0x7f), rest >> 7]), Buffer.alloc(size, 0x62)]);
}

function startup(): Buffer {
  const words = Buffer.from('user\0postgres\0\0');
  const head = Buffer.alloc(8);
  head.writeUInt32BE(8 + words.length, 0);
  head.writeUInt32BE(0x0003_0000, 4);
  return Buffer.concat([head, words]);
}
