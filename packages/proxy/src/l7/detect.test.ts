import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { CLIENT_PREFACE } from '../h2/index.ts';
import { openSniffer } from './detect.ts';
import { client, converse, everywhere, server, SnifferRecorder, type Turn } from './sniffer-recorder.ts';
import { wanderingSniffer } from './sniffer-wanderer.ts';
import { COUNTS_ONLY } from './sniffer-options.ts';

function read(turns: readonly Turn[], cuts: number[][] = []): SnifferRecorder {
  const recorder = new SnifferRecorder();
  converse(openSniffer(recorder, COUNTS_ONLY), turns, cuts);
  return recorder;
}

function bytes(side: Turn['side'], ...values: (number[] | string)[]): Turn {
  return {
    side,
    bytes: Buffer.concat(values.map(value => (typeof value === 'string' ? Buffer.from(value) : Buffer.from(value)))),
  };
}

const SETTINGS = [0, 0, 0, 4, 0, 0, 0, 0, 0];
// The first bytes of what openssl and grpc-go send.
const CLIENT_HELLO = bytes('client', [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], 'x'.repeat(505));
const GRPC_SERVER = bytes('server', [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0x40, 0]);
// StartupMessage of protocol 3.0 as libpq sends it.
const STARTUP = bytes('client', [0, 0, 0, 30, 0, 3, 0, 0], 'user\0joe\0database\0shop\0'.slice(0, 21), [0]);

const FIRST_WORDS: [name: string, turns: Turn[], protocols: string[]][] = [
  ['a request', [client('GET / HTTP/1.1\r\nHost: a\r\n\r\n')], ['http']],
  ['a request of HTTP/1.0 with bare line feeds', [client('HEAD /x HTTP/1.0\n\n')], ['http']],
  ['a request line of 5 KiB', [client(`GET /${'x'.repeat(5000)} HTTP/1.1\r\n\r\n`)], ['http']],
  ['CONNECT', [client('CONNECT a:443 HTTP/1.1\r\n\r\n')], ['http']],
  ['a ClientHello', [CLIENT_HELLO], ['tls']],
  ['PostgreSQL', [STARTUP], ['postgresql']],
  ['Redis', [client('*1\r\n$4\r\nPING\r\n')], ['redis']],
  ['SSH', [server('SSH-2.0-OpenSSH_9.2\r\n'), client('SSH-2.0-x\r\n')], ['unknown']],
  ['SMTP', [server('220 mail ESMTP\r\n')], ['unknown']],
  ['a method that nobody knows', [client('FROB /x HTTP/1.1\r\n\r\n')], ['http']],
  ['a method in lower case', [client('get / HTTP/1.1\r\n\r\n')], ['http']],
  ['a word of 33 letters', [client(`${'F'.repeat(33)} /x HTTP/1.1\r\n\r\n`)], ['unknown']],
  ['three words', [client('FROB /x again\r\n')], ['unknown']],
  ['a line of 5 KiB that begins like a method', [client(`FROB ${'x'.repeat(5000)} HTTP/1.1\r\n`)], ['unknown']],
  ['HTTP/0.9', [client('GET /\r\n')], ['unknown']],
  [
    'zeros',
    [
      bytes(
        'client',
        Array.from({ length: 300 }, () => 0),
      ),
    ],
    ['unknown'],
  ],
  ['an answer to half a word', [client('GE'), server('what?')], ['unknown']],
];

describe('detection', () => {
  test('first words are recognised, whole and in any number of reads, by a reader that moves before each', () => {
    for (const [name, turns, protocols] of FIRST_WORDS) {
      assert.deepEqual(read(turns).protocols, protocols, name);
      const length = turns[0]?.bytes.length ?? 0;
      for (const cuts of [[1], [length >> 1], [2, length >> 1], [3, length - 1]]) {
        assert.deepEqual(read(turns, [cuts]).protocols, protocols, `${name}, cut at ${cuts.join()}`);
      }
      assert.deepEqual(read(turns, everywhere(turns)).protocols, protocols, `${name}, byte by byte`);
      const recorder = new SnifferRecorder();
      const sniffer = wanderingSniffer(openSniffer(recorder, COUNTS_ONLY), recorder, COUNTS_ONLY);
      converse(sniffer, turns, everywhere(turns));
      assert.deepEqual(recorder.protocols, protocols, `${name}, moved`);
    }
  });

  test('HTTP/2 is named at its first request, or when it ends without one', () => {
    const recorder = new SnifferRecorder();
    const sniffer = openSniffer(recorder, COUNTS_ONLY);
    converse(sniffer, [bytes('client', CLIENT_PREFACE, SETTINGS), bytes('server', SETTINGS)]);
    assert.deepEqual(recorder.protocols, []);
    sniffer.end(true, 5);
    assert.deepEqual(recorder.protocols, ['http']);
  });

  test('a gRPC server may send its settings before the client says anything', () => {
    const headers = Buffer.from([0x83, 0x86, 0x44, 2, 0x2f, 0x78, 0x5f, 16, ...Buffer.from('application/grpc')]);
    const request = bytes('client', CLIENT_PREFACE, SETTINGS, [0, 0, headers.length, 1, 5, 0, 0, 0, 1], [...headers]);
    assert.deepEqual(read([GRPC_SERVER, request]).protocols, ['grpc']);
    assert.deepEqual(read([GRPC_SERVER, request], [[4]]).protocols, ['grpc']);
    // In the middle of the preface too.
    const [preface, rest] = [request.bytes.subarray(0, 10), request.bytes.subarray(10)];
    const between = read([{ side: 'client', bytes: preface }, GRPC_SERVER, { side: 'client', bytes: rest }]);
    assert.deepEqual([between.protocols, between.giveUps], [['grpc'], []]);
    assert.deepEqual(read([GRPC_SERVER, client('GET / HTTP/1.1\r\n\r\n')]).giveUps, ['malformed']);
  });

  test('what came before the decision is read with its own time', () => {
    const recorder = new SnifferRecorder();
    const sniffer = openSniffer(recorder, COUNTS_ONLY);
    const request = client('GET / HTTP/1.1\r\n\r\n');
    sniffer.fromClient(request.bytes, 0, 5, 10);
    sniffer.fromClient(request.bytes, 5, request.bytes.length, 20);
    converse(sniffer, [server('HTTP/1.1 204 No Content\r\n\r\n')]);
    assert.equal(recorder.requests[0]?.startMs, 10);
    assert.equal(recorder.requests[0]?.requestBytes, request.bytes.length);
  });

  test('the unknown is not looked at again, and does not move', () => {
    const recorder = new SnifferRecorder();
    const sniffer = openSniffer(recorder, COUNTS_ONLY);
    const request = client('GET / HTTP/1.1\r\n\r\n');
    converse(sniffer, [client('what?')]);
    assert.deepEqual(recorder.protocols, ['unknown']);
    assert.equal(sniffer.skippableFromClient, Number.POSITIVE_INFINITY);
    assert.equal(sniffer.skippableFromServer, Number.POSITIVE_INFINITY);
    sniffer.fromClient(request.bytes, 0, request.bytes.length, 1);
    sniffer.skipFromServer(1e9, 1);
    sniffer.end(true, 2);
    assert.equal(sniffer.freeze(), undefined);
    assert.deepEqual([recorder.protocols, recorder.requests, recorder.giveUps], [['unknown'], [], []]);
  });

  test('a connection without bytes is nothing; one that ends in its first word is unknown', () => {
    const silent = new SnifferRecorder();
    openSniffer(silent, COUNTS_ONLY).end(true, 1);
    assert.deepEqual(silent.protocols, []);
    const short = new SnifferRecorder();
    const sniffer = openSniffer(short, COUNTS_ONLY);
    converse(sniffer, [client('GE')]);
    sniffer.end(true, 1);
    assert.deepEqual(short.protocols, ['unknown']);
  });

  test('any bytes of both sides: never throws, one protocol at most, one end at most', () => {
    const start = fc.constantFrom(
      'GET / HTTP/1.1\r\n',
      CLIENT_PREFACE,
      '*3\r\n',
      '\x16\x03\x01',
      '\0\0\0\x08\x04\xd2\x16\x2f',
      '',
    );
    const turn = fc
      .tuple(fc.boolean(), start, fc.uint8Array({ maxLength: 400 }))
      .map(([isClient, text, rest]) => bytes(isClient ? 'client' : 'server', text, [...rest]));
    fc.assert(
      fc.property(fc.array(turn, { maxLength: 8 }), fc.boolean(), fc.boolean(), (turns, isSingle, byClient) => {
        const recorder = new SnifferRecorder();
        const sniffer = openSniffer(recorder, COUNTS_ONLY);
        converse(sniffer, turns, isSingle ? everywhere(turns) : []);
        sniffer.end(byClient, 1000);
        assert.ok(recorder.protocols.length <= 1 && recorder.giveUps.length <= 1);
        const moving = new SnifferRecorder();
        const wanderer = wanderingSniffer(openSniffer(moving, COUNTS_ONLY), moving, COUNTS_ONLY);
        converse(wanderer, turns, isSingle ? everywhere(turns) : []);
        wanderer.end(byClient, 1000);
        assert.deepEqual(moving, recorder);
      }),
      { seed: 443, numRuns: 3000 },
    );
  });
});
