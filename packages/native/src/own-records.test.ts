// The record layer alone: published records, and records made by an independent sealer (node:crypto's AES-GCM).
import assert from 'node:assert/strict';
import { createCipheriv, randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { deserialize, serialize } from 'node:v8';
import fc from 'fast-check';
import { nextTrafficSecret, trafficKeys } from './key-schedule.ts';
import { countInMemory, Needle } from './memory-scan.ts';
import { createOwnRecords, importRecordLayer } from './own-records.ts';
import {
  Alert,
  AlertLevel,
  alertOf,
  type CipherName,
  MAX_RECORDS_PER_KEY,
  RecordFault,
  type RecordLayer,
  type RecordOptions,
  type RecordState,
  type TlsRole,
} from './records.ts';
import { Slab } from './slab.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');

// RFC 8448 section 3.
const CLIENT_SECRET = hex('9e40646ce79a7f9dc05af8889bce6552 875afa0b06df0087f792ebb7c17504a5');
const SERVER_SECRET = hex('a11af9f05531f856ad47116b45a95032 8204b4f44bfb6b3a4b4f1f3fcb631643');
const CLIENT_DATA_RECORD = hex(`17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66
  bc ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee bb 21
  69 49 15 e4`);
const SERVER_DATA_RECORD = hex(`17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f 82
  aa 1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 1c 00 47 c2 ab f3 32 54 0d d0 32 e1
  67 c2 95 5d`);
const CLIENT_ALERT_RECORD = hex('17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3');
const SERVER_ALERT_RECORD = hex('17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9');
const PAYLOAD = Buffer.from(Array.from({ length: 50 }, (_, i) => i));

const ALERT = 21;
const HANDSHAKE = 22;
const DATA = 23;

const slab = Slab.allocate(40_000);

const SECRET_BYTES: Record<CipherName, number> = { 'aes-128-gcm': 32, 'aes-256-gcm': 48 };

/** Seals records as a peer would, knowing nothing of the code under test but the keys. */
class Peer {
  sequence = 0n;
  readonly secret: Buffer;
  readonly cipher: CipherName;

  constructor(cipher: CipherName, secret: Buffer) {
    this.cipher = cipher;
    this.secret = secret;
  }

  record(type: number, content: Uint8Array, padding = 0, outerType = 23): Buffer {
    const { key, iv } = trafficKeys(this.cipher, this.secret);
    const nonce = Buffer.alloc(12);
    nonce.writeBigUInt64BE(this.sequence++, 4);
    for (let i = 0; i < 12; i++) nonce[i] = (nonce[i] ?? 0) ^ (iv[i] ?? 0);
    const inner = Buffer.concat([content, Buffer.from([type]), Buffer.alloc(padding)]);
    const header = Buffer.from([outerType, 3, 3, (inner.length + 16) >> 8, (inner.length + 16) & 0xff]);
    const gcm = createCipheriv(this.cipher, key, nonce).setAAD(header);
    // Else it lies in freed memory until somebody else writes there, and a search for the key under test finds it.
    key.fill(0);
    return Buffer.concat([header, gcm.update(inner), gcm.final(), gcm.getAuthTag()]);
  }
}

interface Rig {
  readonly records: RecordLayer;
  readonly peer: Peer;
}

function rig(role: TlsRole = 'client', cipher: CipherName = 'aes-128-gcm', options?: RecordOptions): Rig {
  const readSecret = randomBytes(SECRET_BYTES[cipher]);
  const writeSecret = randomBytes(SECRET_BYTES[cipher]);
  return {
    records: createOwnRecords({ role, cipher, readSecret, writeSecret }, options),
    peer: new Peer(cipher, readSecret),
  };
}

function open(records: RecordLayer, record: Uint8Array, offset = 0): number {
  slab.bytes.set(record, offset);
  return records.open(slab, offset, record.length);
}

const content = (length: number, offset = 0): Buffer =>
  Buffer.from(slab.bytes.subarray(offset + 5, offset + 5 + length));

function seal(records: RecordLayer, bytes: Uint8Array): Buffer {
  slab.bytes.set(bytes, 5);
  const length = records.seal(slab, 0, bytes.length);
  assert.equal(length, bytes.length + 22);
  return Buffer.from(slab.bytes.subarray(0, length));
}

function output(records: RecordLayer): Buffer {
  const length = records.takeOutput(slab, 0, 64);
  assert.ok(length >= 0);
  return Buffer.from(slab.bytes.subarray(0, length));
}

describe('RFC 8448 section 3', () => {
  const layer = (role: TlsRole): RecordLayer => {
    const [writeSecret, readSecret] =
      role === 'client' ? [CLIENT_SECRET, SERVER_SECRET] : [SERVER_SECRET, CLIENT_SECRET];
    return createOwnRecords({ role, cipher: 'aes-128-gcm', readSecret, writeSecret });
  };

  it("the client's data and close_notify are sealed byte for byte", () => {
    const client = layer('client');
    assert.deepEqual(seal(client, PAYLOAD), CLIENT_DATA_RECORD);
    assert.equal(client.sealAlert(slab, 0, AlertLevel.warning, Alert.close_notify), 24);
    assert.deepEqual(Buffer.from(slab.bytes.subarray(0, 24)), CLIENT_ALERT_RECORD);
  });

  it("the server's data and close_notify are sealed byte for byte, after the ticket that used sequence number 0", () => {
    const server = layer('server');
    seal(server, Buffer.from('stands in for the ticket'));
    assert.deepEqual(seal(server, PAYLOAD), SERVER_DATA_RECORD);
    assert.equal(server.sealAlert(slab, 0, AlertLevel.warning, Alert.close_notify), 24);
    assert.deepEqual(Buffer.from(slab.bytes.subarray(0, 24)), SERVER_ALERT_RECORD);
  });

  it("the client's records are opened by the server", () => {
    const server = layer('server');
    assert.equal(open(server, CLIENT_DATA_RECORD), 50);
    assert.equal(server.opened, 'data');
    assert.deepEqual(content(50), PAYLOAD);
    assert.equal(open(server, CLIENT_ALERT_RECORD), 0);
    assert.equal(server.opened, 'close_notify');
    assert.equal(server.alertDescription, Alert.close_notify);
  });
});

describe('a record that was changed', () => {
  for (const cipher of ['aes-128-gcm', 'aes-256-gcm'] as const) {
    it(`is refused whichever bit was flipped (${cipher})`, () => {
      const secrets = { readSecret: randomBytes(SECRET_BYTES[cipher]), writeSecret: randomBytes(SECRET_BYTES[cipher]) };
      const record = new Peer(cipher, secrets.readSecret).record(DATA, PAYLOAD, 3);
      for (let bit = 0; bit < record.length * 8; bit++) {
        const changed = Buffer.from(record);
        const at = bit >> 3;
        changed[at] = (changed[at] ?? 0) ^ (1 << (bit & 7));
        const records = createOwnRecords({ role: 'client', cipher, ...secrets });
        const result = open(records, changed);
        // The type and the length are looked at before the AEAD is; all the rest is the AEAD's.
        if (at === 0) assert.equal(result, -RecordFault.UNEXPECTED_MESSAGE);
        else if (at === 3 || at === 4) {
          assert.ok(result === -RecordFault.DECODE_ERROR || result === -RecordFault.RECORD_OVERFLOW, `bit ${bit}`);
        } else {
          assert.equal(result, -RecordFault.BAD_RECORD_MAC, `bit ${bit}`);
          assert.ok(
            content(54).every(byte => byte === 0),
            'unauthenticated bytes are wiped',
          );
        }
        assert.equal(open(records, record), result, 'the fault is final');
        records.close();
      }
    });
  }

  it('is refused when replayed, dropped before, or out of order', () => {
    const { records, peer } = rig();
    const [first, second, third] = [peer.record(DATA, PAYLOAD), peer.record(DATA, PAYLOAD), peer.record(DATA, PAYLOAD)];
    assert.equal(open(records, first), 50);
    const state = records.exportState();
    for (const wrong of [first, third]) {
      const copy = importRecordLayer(state);
      assert.equal(open(copy, wrong), -RecordFault.BAD_RECORD_MAC);
    }
    assert.equal(open(importRecordLayer(state), second), 50);
  });

  it('is refused when reflected to its sender', () => {
    const { records } = rig();
    assert.equal(open(records, seal(records, PAYLOAD)), -RecordFault.BAD_RECORD_MAC);
  });
});

describe('the form of records', () => {
  it('content of 0 and of 16384 bytes passes, with and without padding', () => {
    const { records, peer } = rig();
    for (const [length, padding] of [
      [0, 0],
      [1, 0],
      [0, 16384],
      [1000, 15384],
      [16384, 0],
    ] as const) {
      const bytes = randomBytes(length);
      assert.equal(open(records, peer.record(DATA, bytes, padding)), length);
      assert.deepEqual(content(length), bytes);
    }
  });

  it('inner plaintext over 16385 bytes and ciphertext over 16640 are overflows', () => {
    for (const [length, padding] of [
      [16385, 0],
      [16384, 1],
      [16384, 239],
      [16384, 240],
    ] as const) {
      const { records, peer } = rig();
      const result = open(records, peer.record(DATA, Buffer.alloc(length), padding));
      assert.equal(result, -RecordFault.RECORD_OVERFLOW, `${length} + ${padding}`);
      assert.equal(alertOf(RecordFault.RECORD_OVERFLOW), Alert.record_overflow);
    }
  });

  it('truncated records, and lengths that contradict the header, are refused', () => {
    const whole = rig().peer.record(DATA, PAYLOAD);
    for (let length = 0; length < whole.length; length++) {
      const { records } = rig();
      const result = open(records, whole.subarray(0, length));
      assert.ok(result === -RecordFault.DECODE_ERROR, `${length}: ${result}`);
    }
  });

  it('a payload too short for a type and a tag is refused', () => {
    for (let length = 0; length < 17; length++) {
      const record = Buffer.concat([Buffer.from([23, 3, 3, 0, length]), Buffer.alloc(length)]);
      assert.equal(open(rig().records, record), -RecordFault.DECODE_ERROR);
    }
  });

  it('content that is all padding is an unexpected message', () => {
    const { records, peer } = rig();
    assert.equal(open(records, peer.record(0, Buffer.alloc(0), 20)), -RecordFault.UNEXPECTED_MESSAGE);
  });

  it('unprotected records are refused, change_cipher_spec included: the Finished has been seen', () => {
    for (const type of [20, 21, 22, 24, 0, 255]) {
      const record = Buffer.from([type, 3, 3, 0, 1, 1]);
      assert.equal(open(rig().records, record), -RecordFault.UNEXPECTED_MESSAGE, `type ${type}`);
    }
  });

  it('inner types other than data, handshake and alert are refused', () => {
    for (const type of [1, 20, 24, 255]) {
      const { records, peer } = rig();
      assert.equal(open(records, peer.record(type, Buffer.from([1]))), -RecordFault.UNEXPECTED_MESSAGE, `type ${type}`);
    }
  });

  it('empty data records are taken, but not for ever', () => {
    const { records, peer } = rig();
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 64; i++) assert.equal(open(records, peer.record(DATA, Buffer.alloc(0))), 0);
      assert.equal(open(records, peer.record(DATA, PAYLOAD)), 50);
    }
    for (let i = 0; i < 64; i++) assert.equal(open(records, peer.record(DATA, Buffer.alloc(0))), 0);
    assert.equal(open(records, peer.record(DATA, Buffer.alloc(0))), -RecordFault.UNEXPECTED_MESSAGE);
  });

  it('empty handshake and alert records are refused', () => {
    for (const type of [HANDSHAKE, ALERT]) {
      const { records, peer } = rig();
      assert.equal(open(records, peer.record(type, Buffer.alloc(0), 5)), -RecordFault.UNEXPECTED_MESSAGE);
    }
  });

  it('a record that does not fit its slab is never touched', () => {
    const { records } = rig();
    const small = Slab.allocate(100);
    for (const [offset, length] of [
      [0, 79],
      [1, 78],
      [-1, 10],
      [90, 0],
      [0.5, 1],
      [0, Number.NaN],
      [0, 16385],
      [0, -1],
    ] as const) {
      assert.throws(() => records.seal(small, offset, length), { code: 'native.bounds' });
    }
    assert.throws(() => records.open(small, 90, 11), { code: 'native.bounds' });
    assert.throws(() => records.takeOutput(small, 0, 63), { code: 'native.bounds' });
    assert.throws(() => records.takeOutput(small, 60, 64), { code: 'native.bounds' });
    assert.throws(() => records.sealAlert(small, 77, 2, 80), { code: 'native.bounds' });
    assert.equal(records.exportState().writeSequence, 0n);
  });
});

describe('any peer', () => {
  it('whatever bytes come, a record is refused and nothing throws', () => {
    const types = fc.constantFrom(20, 21, 22, 23, 23, 23, 23, 24, 0);
    const { records } = rig('server');
    const fresh = records.exportState();
    fc.assert(
      fc.property(types, fc.boolean(), fc.uint8Array({ maxLength: 300 }), (type, isFramed, payload) => {
        const length = isFramed ? payload.length : (payload[0] ?? 0) * 256;
        const record = Buffer.concat([Buffer.from([type, 3, 3, length >> 8, length & 0xff]), payload]);
        const layer = importRecordLayer(fresh);
        assert.ok(open(layer, record) < 0);
        layer.close();
      }),
      { seed: 8446, numRuns: 2000 },
    );
  });

  it('who holds the key may send any messages in any pieces: each is taken or refused, and nothing throws', () => {
    const piece = fc.record({
      type: fc.constantFrom(DATA, DATA, HANDSHAKE, HANDSHAKE, HANDSHAKE, ALERT, 20, 0),
      content: fc.oneof(
        fc.uint8Array({ maxLength: 40 }),
        fc.constantFrom(message(KEY_UPDATE, Buffer.from([0])), message(KEY_UPDATE, Buffer.from([1]))),
        fc.constantFrom(message(NEW_SESSION_TICKET, Buffer.alloc(30)), Buffer.from([4, 0, 0]), Buffer.from([1, 0])),
      ),
      padding: fc.integer({ min: 0, max: 5 }),
    });
    fc.assert(
      fc.property(
        fc.constantFrom('client' as const, 'server' as const),
        fc.array(piece, { maxLength: 12 }),
        (role, pieces) => {
          let { records, peer } = rig(role);
          let isOver = false;
          for (const { type, content: bytes, padding } of pieces) {
            const result = open(records, peer.record(type, bytes, padding));
            if (isOver) {
              assert.ok(result <= 0);
              continue;
            }
            if (result < 0 || records.opened === 'alert' || records.opened === 'close_notify') isOver = true;
            else if (records.opened === 'data') assert.deepEqual(content(result), Buffer.from(bytes));
            if (result < 0) continue;
            const state = records.exportState();
            if (!peer.secret.equals(state.readSecret)) {
              // The only reason for another key is an update by the peer.
              assert.deepEqual(Buffer.from(state.readSecret), nextOf(peer));
              assert.equal(state.readSequence, 0n);
              peer = new Peer(peer.cipher, nextOf(peer));
            } else assert.equal(state.readSequence, peer.sequence);
            records = importRecordLayer(state);
          }
          records.close();
        },
      ),
      { seed: 8448, numRuns: 400 },
    );
  });
});

describe('alerts', () => {
  it('close_notify ends reading; whatever follows is ignored', () => {
    const { records, peer } = rig();
    assert.equal(open(records, peer.record(ALERT, Buffer.from([1, 0]))), 0);
    assert.equal(records.opened, 'close_notify');
    assert.equal(open(records, peer.record(DATA, PAYLOAD)), 0);
    assert.equal(records.opened, 'control');
    assert.equal(seal(records, PAYLOAD).length, 72, 'our direction is still open');
  });

  it('any other alert is fatal whatever its level says, and its description is kept', () => {
    for (const level of [1, 2, 77]) {
      const { records, peer } = rig();
      assert.equal(open(records, peer.record(ALERT, Buffer.from([level, Alert.certificate_required]))), 0);
      assert.equal(records.opened, 'alert');
      assert.equal(records.alertDescription, Alert.certificate_required);
    }
  });

  it('user_canceled means nothing by itself and cannot be repeated for ever', () => {
    const { records, peer } = rig();
    for (let i = 0; i < 64; i++) {
      assert.equal(open(records, peer.record(ALERT, Buffer.from([1, 90]))), 0);
      assert.equal(records.opened, 'control');
    }
    assert.equal(open(records, peer.record(ALERT, Buffer.from([1, 90]))), -RecordFault.UNEXPECTED_MESSAGE);
  });

  it('an alert of another length is refused', () => {
    for (const length of [1, 3, 4]) {
      const { records, peer } = rig();
      assert.equal(open(records, peer.record(ALERT, Buffer.alloc(length, 1))), -RecordFault.DECODE_ERROR);
    }
  });

  it('nothing is sealed after ours', () => {
    const { records } = rig();
    assert.equal(records.sealAlert(slab, 0, AlertLevel.fatal, Alert.bad_record_mac), 24);
    assert.equal(records.seal(slab, 0, 1), -RecordFault.CLOSED);
    assert.equal(records.sealAlert(slab, 0, 1, 0), -RecordFault.CLOSED);
    records.queueKeyUpdate(true);
    assert.equal(records.wantsOutput, false);
    assert.equal(records.takeOutput(slab, 0, 64), 0);
  });

  it('can still be sealed after a record was refused', () => {
    const { records } = rig();
    assert.equal(open(records, Buffer.from([20, 3, 3, 0, 1, 1])), -RecordFault.UNEXPECTED_MESSAGE);
    assert.equal(records.sealAlert(slab, 0, AlertLevel.fatal, alertOf(RecordFault.UNEXPECTED_MESSAGE)), 24);
  });
});

const message = (type: number, body: Uint8Array): Buffer => {
  const header = Buffer.from([type, 0, 0, 0]);
  header.writeUIntBE(body.length, 1, 3);
  return Buffer.concat([header, body]);
};
const KEY_UPDATE = 24;
const NEW_SESSION_TICKET = 4;

describe('messages after the handshake', () => {
  it('a ticket is ignored by a client, whole or in pieces of any size, alone or several in a record', () => {
    const ticket = message(NEW_SESSION_TICKET, randomBytes(700));
    for (const piece of [1, 3, 4, 5, 100, 704]) {
      const { records, peer } = rig();
      // 704 pieces in a row without data would be too many: the limit is on records, so join what is small.
      const size = Math.max(piece, 12);
      const first = ticket.subarray(0, piece);
      assert.equal(open(records, peer.record(HANDSHAKE, first)), 0);
      for (let at = piece; at < ticket.length; at += size) {
        assert.equal(open(records, peer.record(HANDSHAKE, ticket.subarray(at, at + size))), 0);
        assert.equal(records.opened, 'control');
      }
      assert.equal(open(records, peer.record(HANDSHAKE, Buffer.concat([ticket, ticket]))), 0);
      assert.equal(open(records, peer.record(DATA, PAYLOAD)), 50);
      assert.deepEqual(content(50), PAYLOAD);
    }
  });

  it('other records between the pieces of a message are refused', () => {
    for (const [type, body] of [
      [DATA, PAYLOAD],
      [ALERT, Buffer.from([1, 0])],
    ] as const) {
      const { records, peer } = rig();
      assert.equal(
        open(records, peer.record(HANDSHAKE, message(NEW_SESSION_TICKET, randomBytes(60)).subarray(0, 50))),
        0,
      );
      assert.equal(open(records, peer.record(type, body)), -RecordFault.UNEXPECTED_MESSAGE);
    }
  });

  it('a ticket to a server, and every other message, is refused', () => {
    const server = rig('server');
    const ticket = server.peer.record(HANDSHAKE, message(NEW_SESSION_TICKET, randomBytes(60)));
    assert.equal(open(server.records, ticket), -RecordFault.UNEXPECTED_MESSAGE);
    for (const type of [0, 1, 2, 5, 8, 11, 13, 15, 20, 254]) {
      const { records, peer } = rig();
      assert.equal(
        open(records, peer.record(HANDSHAKE, message(type, randomBytes(8)))),
        -RecordFault.UNEXPECTED_MESSAGE,
      );
    }
  });

  it('a ticket longer than its fields can be, or empty, is refused at its header', () => {
    for (const header of [
      Buffer.from([NEW_SESSION_TICKET, 0x02, 1, 0x50]),
      Buffer.from([NEW_SESSION_TICKET, 255, 255, 255]),
      Buffer.from([NEW_SESSION_TICKET, 0, 0, 0]),
    ]) {
      const { records, peer } = rig();
      assert.equal(open(records, peer.record(HANDSHAKE, header)), -RecordFault.DECODE_ERROR);
    }
  });

  it('a key update with a wrong length, value or place is refused', () => {
    for (const [bytes, fault] of [
      [message(KEY_UPDATE, Buffer.from([0, 0])), RecordFault.DECODE_ERROR],
      [message(KEY_UPDATE, Buffer.alloc(0)), RecordFault.DECODE_ERROR],
      [message(KEY_UPDATE, Buffer.from([2])), RecordFault.ILLEGAL_PARAMETER],
      [Buffer.concat([message(KEY_UPDATE, Buffer.from([0])), Buffer.from([24])]), RecordFault.UNEXPECTED_MESSAGE],
    ] as const) {
      const { records, peer } = rig();
      assert.equal(open(records, peer.record(HANDSHAKE, bytes)), -fault);
    }
  });

  it('key updates in a row without data are bounded', () => {
    const { records, peer } = rig();
    let at: Peer = peer;
    for (let i = 0; i < 64; i++) {
      assert.equal(open(records, at.record(HANDSHAKE, message(KEY_UPDATE, Buffer.from([0])))), 0);
      const state = records.wantsOutput;
      assert.equal(state, false, 'no answer was asked for');
      at = new Peer(at.cipher, nextOf(at));
    }
    assert.equal(
      open(records, at.record(HANDSHAKE, message(KEY_UPDATE, Buffer.from([0])))),
      -RecordFault.UNEXPECTED_MESSAGE,
    );
  });
});

function nextOf(peer: Peer): Buffer {
  return nextTrafficSecret(peer.cipher, peer.secret);
}

describe('key updates', () => {
  const pair = (options?: RecordOptions): { readonly a: RecordLayer; readonly b: RecordLayer } => {
    const [one, two] = [randomBytes(32), randomBytes(32)];
    const cipher = 'aes-128-gcm';
    return {
      a: createOwnRecords({ role: 'client', cipher, readSecret: one, writeSecret: two }, options),
      b: createOwnRecords({ role: 'server', cipher, readSecret: two, writeSecret: one }),
    };
  };

  it('ours is queued at the limit, so that the hard limit is never met', () => {
    const { a, b } = pair({ updateAfterRecords: 10, maxRecordsPerKey: 20 });
    let updates = 0;
    for (let i = 0; i < 205; i++) {
      assert.equal(open(b, seal(a, PAYLOAD)), 50, `record ${i}`);
      if (!a.wantsOutput) continue;
      assert.equal(open(b, output(a)), 0);
      assert.equal(b.wantsOutput, false, 'the peer is not asked for anything');
      updates++;
    }
    assert.equal(updates, 20);
    // 205 data records and 20 updates, the last of them after record 200.
    assert.equal(a.exportState().writeSequence, 5n);
  });

  it('a caller that never sends it is stopped at the hard limit', () => {
    const { a, b } = pair({ updateAfterRecords: 10, maxRecordsPerKey: 20 });
    for (let i = 0; i < 20; i++) assert.equal(open(b, seal(a, PAYLOAD)), 50);
    for (let i = 0; i < 3; i++) assert.equal(a.seal(slab, 0, 50), -RecordFault.EXHAUSTED);
    assert.equal(a.takeOutput(slab, 0, 64), -RecordFault.EXHAUSTED, 'an update would be one record too many as well');
    assert.equal(a.sealAlert(slab, 0, 2, 80), -RecordFault.EXHAUSTED);
  });

  it('a peer that sends much is asked for its own, once, and goes on with a new key', () => {
    const { a, b } = pair({ updateAfterRecords: 10, maxRecordsPerKey: 20 });
    for (let i = 0; i < 9; i++) assert.equal(open(a, seal(b, PAYLOAD)), 50);
    assert.equal(a.wantsOutput, false);
    assert.equal(open(a, seal(b, PAYLOAD)), 50);
    assert.equal(a.wantsOutput, true);
    assert.equal(open(b, output(a)), 0);
    assert.equal(b.wantsOutput, true);
    assert.equal(open(a, seal(b, PAYLOAD)), 50, 'still the old key');
    assert.equal(a.wantsOutput, false, 'asked once');
    assert.equal(open(a, output(b)), 0);
    for (let i = 0; i < 9; i++) assert.equal(open(a, seal(b, PAYLOAD)), 50);
    assert.equal(a.wantsOutput, false);
    assert.equal(open(a, seal(b, PAYLOAD)), 50);
    assert.equal(a.wantsOutput, true, 'and again for the next key');
  });

  it('a peer that does not answer is refused before its key is worn out', () => {
    const { a, b } = pair({ updateAfterRecords: 10, maxRecordsPerKey: 20 });
    for (let i = 0; i < 20; i++) assert.equal(open(a, seal(b, PAYLOAD)), 50);
    assert.equal(open(a, seal(b, PAYLOAD)), -RecordFault.EXHAUSTED);
  });

  it('several requests are answered by one update', () => {
    const { a, b } = pair();
    for (let i = 0; i < 5; i++) {
      a.queueKeyUpdate(true);
      assert.equal(open(b, output(a)), 0);
    }
    assert.equal(open(a, output(b)), 0);
    assert.equal(b.wantsOutput, false);
    assert.equal(open(a, seal(b, PAYLOAD)), 50);
    assert.equal(open(b, seal(a, PAYLOAD)), 50);
  });

  it('limits that make no sense are refused', () => {
    for (const options of [
      { maxRecordsPerKey: MAX_RECORDS_PER_KEY + 1 },
      { maxRecordsPerKey: 0 },
      { updateAfterRecords: 0 },
      { updateAfterRecords: 20, maxRecordsPerKey: 10 },
      { updateAfterRecords: 1.5 },
      { updateAfterRecords: Number.NaN },
    ]) {
      assert.throws(() => pair(options), { code: 'native.argument' });
    }
  });
});

describe('export and import', () => {
  it('carries on in the middle of a ticket, with an update waiting, through serialization', () => {
    const { records, peer } = rig('client', 'aes-256-gcm');
    const ticket = message(NEW_SESSION_TICKET, randomBytes(100));
    assert.equal(open(records, peer.record(DATA, PAYLOAD)), 50);
    let layer = records;
    layer.queueKeyUpdate(false);
    for (const piece of [ticket.subarray(0, 2), ticket.subarray(2, 60), ticket.subarray(60)]) {
      assert.equal(open(layer, peer.record(HANDSHAKE, piece)), 0);
      layer = importRecordLayer(deserialize(serialize(layer.exportState())) as RecordState);
      assert.equal(layer.wantsOutput, true);
    }
    assert.equal(open(layer, peer.record(DATA, PAYLOAD)), 50);
    assert.deepEqual(content(50), PAYLOAD);
    assert.ok(output(layer).length > 0);
    assert.equal(layer.wantsOutput, false);
  });

  it('leaves the original unusable', () => {
    const { records, peer } = rig();
    const record = peer.record(DATA, PAYLOAD);
    records.exportState();
    for (const use of [
      () => records.seal(slab, 0, 1),
      () => open(records, record),
      () => records.takeOutput(slab, 0, 64),
      () => records.sealAlert(slab, 0, 1, 0),
      () => records.queueKeyUpdate(false),
      () => records.exportState(),
    ]) {
      assert.throws(use, { code: 'native.closed' });
    }
    records.close();
  });

  it('is refused after a fault', () => {
    const { records } = rig();
    assert.ok(open(records, Buffer.from([22, 3, 3, 0, 1, 1])) < 0);
    assert.throws(() => records.exportState(), { code: 'native.closed' });
  });

  it('keeps what was closed closed', () => {
    const { records, peer } = rig();
    assert.equal(open(records, peer.record(ALERT, Buffer.from([1, 0]))), 0);
    assert.equal(records.sealAlert(slab, 0, 1, 0), 24);
    const copy = importRecordLayer(records.exportState());
    assert.equal(copy.seal(slab, 0, 1), -RecordFault.CLOSED);
    assert.equal(open(copy, Buffer.from([22, 3, 3, 0, 1, 1])), 0, 'ignored');
  });

  it('a state that contradicts itself is refused', () => {
    const good = rig().records.exportState();
    const max = BigInt(MAX_RECORDS_PER_KEY);
    for (const wrong of [
      { format: 2 },
      { role: 'proxy' },
      { cipher: 'chacha20-poly1305' },
      { cipher: 'aes-256-gcm' },
      { readSecret: new Uint8Array(31) },
      { writeSecret: new Uint8Array(0) },
      { readSequence: -1n },
      { writeSequence: max + 1n },
      { partialHeader: new Uint8Array(5) },
      { partialHeader: new Uint8Array(4) },
      { partialRemaining: 1 },
      { partialHeader: new Uint8Array(4), partialRemaining: 1 << 20 },
      { pendingUpdate: 'twice' },
      { idleRecords: -1 },
    ]) {
      assert.throws(() => importRecordLayer({ ...good, ...wrong } as RecordState), { code: 'native.argument' });
    }
    const worn = importRecordLayer({ ...good, writeSequence: max });
    assert.equal(worn.seal(slab, 0, 1), -RecordFault.EXHAUSTED);
    importRecordLayer(good).close();
  });
});

/** The test's own short arrays live on the heap, and a collection leaves a copy where they were until that is used again. */
function overwriteYoungHeap(): void {
  for (let i = 0; i < 600_000; i++) new Uint8Array(48).fill(0x55);
}

describe('secrets', () => {
  it('are nowhere in the memory of the process after an update, an export and a close', () => {
    const cipher = 'aes-256-gcm';
    const [readSecret, writeSecret] = [randomBytes(48), randomBytes(48)];
    const { key } = trafficKeys(cipher, readSecret);
    const update = new Peer(cipher, readSecret).record(HANDSHAKE, message(KEY_UPDATE, Buffer.from([1])));
    const first = createOwnRecords({ role: 'client', cipher, readSecret, writeSecret });
    const [read, write, readKey] = [new Needle(readSecret), new Needle(writeSecret), new Needle(key)];
    overwriteYoungHeap();
    const [readsLive, writesLive] = countInMemory([read, write]);
    assert.deepEqual([readsLive, writesLive], [1, 1], 'while they are in use there is one copy each');

    assert.equal(open(first, update), 0);
    assert.ok(output(first).length > 0);
    const state = first.exportState();
    const second = importRecordLayer(state);
    const [nextRead, nextWrite] = [new Needle(state.readSecret), new Needle(state.writeSecret)];
    assert.equal(second.seal(slab, 0, 10), 32);
    second.close();
    assert.deepEqual(countInMemory([read, write, readKey, nextRead, nextWrite]), [0, 0, 0, 0, 0]);
  });
});
