// Published values: RFC 8448 section 3 ("Simple 1-RTT Handshake").
import assert from 'node:assert/strict';
import { Hmac } from 'node:crypto';
import { mock, test } from 'node:test';
import { expandLabel, nextTrafficSecret, trafficKeys } from './key-schedule.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');

const RFC8448 = {
  clientSecret: hex('9e40646ce79a7f9dc05af8889bce6552 875afa0b06df0087f792ebb7c17504a5'),
  serverSecret: hex('a11af9f05531f856ad47116b45a95032 8204b4f44bfb6b3a4b4f1f3fcb631643'),
};

test('keys and ivs of RFC 8448 come from its application traffic secrets', () => {
  const server = trafficKeys('aes-128-gcm', RFC8448.serverSecret);
  assert.deepEqual(server.key, hex('9f02283b6c9c07efc26bb9f2ac92e356'));
  assert.deepEqual(server.iv, hex('cf782b88dd83549aadf1e984'));
  const client = trafficKeys('aes-128-gcm', RFC8448.clientSecret);
  assert.deepEqual(client.key, hex('17422dda596ed5d9acd890e3c63f5051'));
  assert.deepEqual(client.iv, hex('5b78923dee08579033e523d9'));
});

test('handshake write keys of RFC 8448 come from its handshake traffic secrets', () => {
  const secret = hex('b67b7d690cc16c4e75e54213cb2d37b4 e9c912bcded9105d42befd59d391ad38');
  assert.deepEqual(trafficKeys('aes-128-gcm', secret).key, hex('3fce516009c21727d0f2e4e86ee403bc'));
  assert.deepEqual(trafficKeys('aes-128-gcm', secret).iv, hex('5d313eb2671276ee13000b30'));
});

test('the finished key of RFC 8448 comes from the label "finished"', () => {
  const secret = hex('b67b7d690cc16c4e75e54213cb2d37b4 e9c912bcded9105d42befd59d391ad38');
  const finished = hex('008d3b66f816ea559f96b537e885c31f c068bf492c652f01f288a1d8cdc19fc8');
  assert.deepEqual(expandLabel('sha256', secret, 'finished', 32), finished);
});

test('a key update gives another secret of the same length', () => {
  for (const [cipher, length] of [['aes-128-gcm', 32] as const, ['aes-256-gcm', 48] as const]) {
    const secret = Buffer.alloc(length, 7);
    const next = nextTrafficSecret(cipher, secret);
    assert.equal(next.length, length);
    assert.notDeepEqual(next, secret);
    assert.notDeepEqual(nextTrafficSecret(cipher, next), next);
  }
});

test('a length that one hash output cannot give is refused', () => {
  for (const length of [0, 33, -1]) {
    assert.throws(() => expandLabel('sha256', RFC8448.clientSecret, 'key', length), { code: 'native.argument' });
  }
});

test('the hash output that keys are cut from is wiped', () => {
  const digests: Buffer[] = [];
  const original = Hmac.prototype.digest as (this: Hmac) => Buffer;
  const capture = mock.method(Hmac.prototype as { digest: () => Buffer }, 'digest', function (this: Hmac): Buffer {
    const digest = original.call(this);
    digests.push(digest);
    return digest;
  });
  try {
    trafficKeys('aes-128-gcm', RFC8448.clientSecret);
    assert.equal(digests.length, 2);
    assert.ok(digests.every(digest => digest.every(byte => byte === 0)));
  } finally {
    capture.mock.restore();
  }
});
