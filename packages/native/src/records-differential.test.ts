// Our record layer against OpenSSL's, both roles and both ciphers: random sizes, key updates in both directions at random
// points, hand-overs in the middle. Each run's seed is fixed; AMBIT_TEST_SEED adds one more.
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { importRecordLayer } from './own-records.ts';
import { MAX_RECORD_BYTES, RecordFault, type RecordLayer } from './records.ts';
import { Slab } from './slab.ts';
import { clientContext, connectSessions, makeMesh, type Mesh, serverContext } from '../test/tls-testing.ts';

let mesh: Mesh;
before(async () => {
  mesh = await makeMesh();
});

/** mulberry32: small, seeded, good enough to choose sizes. */
function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return below => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below || 0;
  };
}

const suites = { 'aes-128-gcm': 'TLS_AES_128_GCM_SHA256', 'aes-256-gcm': 'TLS_AES_256_GCM_SHA384' } as const;
const STEPS = 400;
const seeds = [1, 2, 3, ...(process.env.AMBIT_TEST_SEED === undefined ? [] : [Number(process.env.AMBIT_TEST_SEED)])];

interface Side {
  layer: RecordLayer;
  readonly name: string;
}

class Exchange {
  readonly slab = Slab.allocate(MAX_RECORD_BYTES + 100);
  readonly copy = Slab.allocate(MAX_RECORD_BYTES + 100);
  readonly random: (below: number) => number;
  updates = 0;

  constructor(seed: number) {
    const random = randomOf(seed);
    this.random = below => Math.floor(random(below));
  }

  /** Everything a side must send besides data goes to the other, answers included. */
  settle(a: Side, b: Side): void {
    for (let turn = 0; a.layer.wantsOutput || b.layer.wantsOutput; turn++) {
      assert.ok(turn < 10, 'two layers answer each other for ever');
      for (const [from, to] of [
        [a, b],
        [b, a],
      ] as const) {
        if (!from.layer.wantsOutput) continue;
        const length = from.layer.takeOutput(this.slab, 0, 64);
        assert.ok(length > 0, `${from.name} gave no output: ${length}`);
        this.updates++;
        this.deliver(to, length);
        assert.equal(to.layer.opened, 'control');
      }
    }
  }

  deliver(to: Side, length: number): number {
    const offset = this.random(64);
    this.slab.bytes.copy(this.copy.bytes, offset, 0, length);
    const result = to.layer.open(this.copy, offset, length);
    assert.ok(result >= 0, `${to.name} refused a record of ${length}: ${result}`);
    this.slab.bytes.set(this.copy.bytes.subarray(offset, offset + length), 0);
    return result;
  }

  data(from: Side, to: Side): void {
    const size = this.random(3) === 0 ? this.random(16385) : this.random(200);
    const fill = this.random(256);
    for (let i = 0; i < size; i++) this.slab.bytes[5 + i] = (fill + i * 7) & 0xff;
    const expected = Buffer.from(this.slab.bytes.subarray(5, 5 + size));
    const sealed = from.layer.seal(this.slab, 0, size);
    if (size === 0 && from.layer.kind === 'openssl') return;
    assert.equal(sealed, size + 22, from.name);
    assert.ok(!this.slab.bytes.subarray(5, 5 + size).equals(expected) || size < 4, 'it is encrypted');
    assert.equal(this.deliver(to, sealed), size);
    assert.deepEqual(this.slab.bytes.subarray(5, 5 + size), expected);
  }

  run(a: Side, b: Side): void {
    for (let step = 0; step < STEPS; step++) {
      const [from, to] = this.random(2) === 0 ? [a, b] : [b, a];
      if (this.random(20) === 0) from.layer.queueKeyUpdate(this.random(2) === 0);
      this.settle(a, b);
      this.data(from, to);
      this.settle(a, b);
      if (from.layer.kind === 'own' && this.random(30) === 0) from.layer = importRecordLayer(from.layer.exportState());
    }
    assert.ok(this.updates > 10, `only ${this.updates} key updates`);
  }
}

describe('our records and those of OpenSSL understand each other', () => {
  for (const [cipher, suite] of Object.entries(suites)) {
    for (const [client, server] of [
      ['own', 'openssl'],
      ['openssl', 'own'],
      ['own', 'own'],
      ['openssl', 'openssl'],
    ] as const) {
      it(`${client} client, ${server} server, ${cipher}`, () => {
        for (const seed of seeds) {
          using sessions = connectSessions(
            clientContext(mesh, { suites: suite, records: client }),
            serverContext(mesh, { suites: suite, records: server }),
          );
          assert.equal(sessions.client.cipher, cipher);
          assert.equal(sessions.client.records.kind, client);
          assert.equal(sessions.server.records.kind, server);
          const exchange = new Exchange(seed);
          const a = { layer: sessions.client.records, name: `client (${client}), seed ${seed}` };
          const b = { layer: sessions.server.records, name: `server (${server}), seed ${seed}` };
          exchange.run(a, b);
          // The end: close_notify both ways.
          for (const [from, to] of [
            [a, b],
            [b, a],
          ] as const) {
            const length = from.layer.sealAlert(exchange.slab, 0, 1, 0);
            assert.equal(length, 24, from.name);
            assert.equal(exchange.deliver(to, length), 0);
            assert.equal(to.layer.opened, 'close_notify', to.name);
          }
          a.layer.close();
          b.layer.close();
        }
      });
    }
  }
});

describe('OpenSSL and we refuse the same', () => {
  const faultOf = (kind: 'own' | 'openssl', change: (record: Buffer) => Buffer): number => {
    using sessions = connectSessions(clientContext(mesh), serverContext(mesh, { records: kind }));
    const slab = Slab.allocate(MAX_RECORD_BYTES * 2);
    const sealed = sessions.client.records.seal(slab, 0, 100);
    const changed = change(Buffer.from(slab.bytes.subarray(0, sealed)));
    slab.bytes.set(changed);
    return sessions.server.records.open(slab, 0, changed.length);
  };
  const flip = (at: number) => (record: Buffer) => {
    record[at] = (record[at] ?? 0) ^ 1;
    return record;
  };
  const cases: ReadonlyArray<readonly [string, (record: Buffer) => Buffer, number]> = [
    ['a changed first byte of content', flip(5), RecordFault.BAD_RECORD_MAC],
    ['a changed tag', flip(121), RecordFault.BAD_RECORD_MAC],
    ['a record of type handshake', flip(0), RecordFault.UNEXPECTED_MESSAGE],
    ['a missing byte', record => record.subarray(0, -1), RecordFault.DECODE_ERROR],
    [
      'a record over the size limit',
      record => {
        const long = Buffer.concat([record, Buffer.alloc(16641)]).subarray(0, 5 + 16641);
        long.writeUInt16BE(16641, 3);
        return long;
      },
      RecordFault.RECORD_OVERFLOW,
    ],
    ['change_cipher_spec', () => Buffer.from([20, 3, 3, 0, 1, 1]), RecordFault.UNEXPECTED_MESSAGE],
  ];
  for (const [what, change, fault] of cases) {
    it(what, () => {
      assert.equal(faultOf('own', change), -fault);
      assert.equal(faultOf('openssl', change), -fault);
    });
  }
});

describe("the record layer 'openssl'", () => {
  it('cannot be exported', () => {
    using sessions = connectSessions(clientContext(mesh, { records: 'openssl' }), serverContext(mesh));
    assert.throws(() => sessions.client.records.exportState(), { code: 'tls.not_exportable' });
  });

  it('asks for its output to be taken before it seals again', () => {
    using sessions = connectSessions(clientContext(mesh, { records: 'openssl' }), serverContext(mesh));
    const slab = Slab.allocate(1000);
    sessions.server.records.queueKeyUpdate(true);
    const length = sessions.server.records.takeOutput(slab, 0, 64);
    assert.equal(sessions.client.records.open(slab, 0, length), 0);
    assert.equal(sessions.client.records.wantsOutput, true);
    assert.equal(sessions.client.records.seal(slab, 0, 10), -RecordFault.OUTPUT_PENDING);
    assert.ok(sessions.client.records.takeOutput(slab, 0, 64) > 0);
    assert.equal(sessions.client.records.seal(slab, 0, 10), 32);
  });

  it('updates its own key at the limit', () => {
    using sessions = connectSessions(
      clientContext(mesh, { records: 'openssl', updateAfterRecords: 5, maxRecordsPerKey: 8 }),
      serverContext(mesh),
    );
    const exchange = new Exchange(9);
    const a = { layer: sessions.client.records, name: 'client' };
    const b = { layer: sessions.server.records, name: 'server' };
    for (let i = 0; i < 50; i++) {
      exchange.data(a, b);
      exchange.settle(a, b);
    }
    assert.ok(exchange.updates >= 9);
  });

  it('can be chosen by the environment', () => {
    process.env.AMBIT_TLS_RECORDS = 'openssl';
    try {
      using sessions = connectSessions(clientContext(mesh), serverContext(mesh, { records: 'own' }));
      assert.equal(sessions.client.records.kind, 'openssl');
      assert.equal(sessions.server.records.kind, 'own');
    } finally {
      delete process.env.AMBIT_TLS_RECORDS;
    }
  });

  it('throws after close', () => {
    using sessions = connectSessions(clientContext(mesh, { records: 'openssl' }), serverContext(mesh));
    sessions.client.records.close();
    assert.throws(() => sessions.client.records.seal(Slab.allocate(100), 0, 1), { code: 'native.closed' });
    assert.equal(sessions.client.records.wantsOutput, false);
  });
});
