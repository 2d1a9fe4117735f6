// The codec against dns-packet, which is somebody else's, and against noise.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import dnsPacket from 'dns-packet';
import fc from 'fast-check';
import { type AddressAnswer, writeAddresses, writeEmpty } from './answer.ts';
import { encodeName, nameText } from './names.ts';
import { Flag, HEADER_BYTES, Rcode } from './numbers.ts';
import { LEAST_UDP_BYTES, messageKey, questionKey, QueryView, readQuery } from './query.ts';
import { addressesOf, answersQuery, keepingOf, rcodeOf } from './response.ts';

const RUNS = { numRuns: 500, seed: 53 };
const out = Buffer.alloc(70_000);

interface EdnsWish {
  readonly udpPayloadSize: number;
  readonly dnssec: boolean;
}

function queryOf(name: string, type: 'A' | 'AAAA' | 'TXT', edns?: EdnsWish): Buffer {
  const additionals = edns === undefined ? [] : [optOf(edns)];
  return dnsPacket.encode({
    type: 'query',
    id: 0x1234,
    flags: dnsPacket.RECURSION_DESIRED,
    questions: [{ type, name }],
    additionals,
  });
}

function optOf({ udpPayloadSize, dnssec }: EdnsWish): dnsPacket.OptAnswer {
  return {
    type: 'OPT',
    name: '.',
    udpPayloadSize,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: dnssec ? dnsPacket.DNSSEC_OK : 0,
    flag_do: dnssec,
    options: [],
  };
}

function viewOf(message: Buffer): QueryView {
  const view = new QueryView();
  assert.equal(readQuery(view, message, 0, message.length), undefined);
  return view;
}

function addressesIn(count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, index) => Uint8Array.of(10, 0, index >> 8, index & 0xff));
}

function answerTo(message: Buffer, limit: number, answer: Partial<AddressAnswer>, first = 0): dnsPacket.DecodedPacket {
  const view = viewOf(message);
  const whole = { canonical: undefined, addresses: [], ttlSeconds: 30, ...answer };
  const length = writeAddresses(out, 0, limit, view, message, 0, whole, first);
  assert.ok(length <= limit);
  return dnsPacket.decode(out.subarray(0, length));
}

function word(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

const label = fc.stringMatching(/^[a-zA-Z0-9_-]{1,20}$/);
const names = fc.array(label, { minLength: 1, maxLength: 8 }).map(labels => labels.join('.'));

test('a query reads as dns-packet wrote it', () => {
  const edns = fc.option(fc.record({ udpPayloadSize: fc.integer({ min: 1, max: 65535 }), dnssec: fc.boolean() }));
  const types = fc.constantFrom('A' as const, 'AAAA' as const, 'TXT' as const);
  fc.assert(
    fc.property(names, types, edns, (name, type, wish) => {
      const message = queryOf(name, type, wish ?? undefined);
      const view = viewOf(message);
      assert.equal(view.id, 0x1234);
      assert.equal(nameText(message, HEADER_BYTES), name.toLowerCase());
      assert.equal(view.type, { A: 1, AAAA: 28, TXT: 16 }[type]);
      assert.equal(view.class, 1);
      assert.equal(view.hasEdns, wish !== null);
      assert.equal(view.udpBytes, Math.max(LEAST_UDP_BYTES, wish?.udpPayloadSize ?? 0));
      assert.equal(view.isDnssecOk, wish?.dnssec ?? false);
    }),
    RUNS,
  );
});

test('an answer reads in dns-packet as it was meant', () => {
  const addresses = fc.array(fc.uint8Array({ minLength: 4, maxLength: 4 }), { maxLength: 40 });
  fc.assert(
    fc.property(names, addresses, fc.nat(100), fc.boolean(), (name, list, first, isAlias) => {
      const message = queryOf(`${name}.ns.svc.cluster.local`, 'A');
      const canonical = isAlias ? encodeName(name) : undefined;
      const decoded = answerTo(message, 65_535, { addresses: list, canonical }, first);
      assert.equal(decoded.id, 0x1234);
      assert.equal(decoded.flag_aa, true);
      assert.equal(decoded.flag_ra, true);
      assert.equal(decoded.flag_rd, true);
      assert.equal(rcodeOf(out, 0), Rcode.NOERROR);
      assert.deepEqual(decoded.questions, [{ name: `${name}.ns.svc.cluster.local`, type: 'A', class: 'IN' }]);
      const answers = decoded.answers ?? [];
      const aliases = answers.flatMap(record => (record.type === 'CNAME' ? [record.data] : []));
      assert.deepEqual(aliases, isAlias && list.length > 0 ? [name] : []);
      const found = answers.flatMap(record => (record.type === 'A' ? [record.data] : []));
      assert.deepEqual(found.toSorted(), list.map(bytes => bytes.join('.')).toSorted());
      for (const record of answers) {
        if (record.type !== 'A') continue;
        assert.equal(record.name, isAlias ? name : `${name}.ns.svc.cluster.local`);
        assert.equal(record.ttl, 30);
      }
    }),
    RUNS,
  );
});

test('256 addresses become 74 with TC in 1232 bytes and stay whole on TCP, as upstream', () => {
  const message = queryOf('large.com', 'A', { udpPayloadSize: 1232, dnssec: false });
  const cut = answerTo(message, 1232, { addresses: addressesIn(256) });
  assert.equal(cut.flag_tc, true);
  assert.equal(cut.answers?.length, 74);
  assert.equal(cut.additionals?.length, 1);
  const whole = answerTo(message, 65_535, { addresses: addressesIn(256) });
  assert.equal(whole.flag_tc, false);
  assert.equal(whole.answers?.length, 256);
});

test('an answer in 512 bytes keeps whole records only', () => {
  for (let count = 0; count < 40; count++) {
    const decoded = answerTo(queryOf('a.b.c', 'A'), LEAST_UDP_BYTES, { addresses: addressesIn(count) });
    const fit = Math.floor((LEAST_UDP_BYTES - HEADER_BYTES - 11) / 16);
    assert.equal(decoded.answers?.length, Math.min(count, fit));
    assert.equal(decoded.flag_tc, count > fit);
  }
});

test('an alias that does not fit is left out with its addresses', () => {
  const longest = `${'a'.repeat(63)}.`.repeat(3);
  const canonical = encodeName(`${longest}${'b'.repeat(44)}`);
  const message = queryOf(`${longest}${'b'.repeat(44)}.cluster.local`, 'A');
  const answer = answerTo(message, 512, { canonical, addresses: addressesIn(2) });
  assert.equal(answer.flag_tc, true);
  assert.equal(answer.answers?.length, 0);
});

test('a name beyond ASCII is none, and no other one by chance', () => {
  for (const name of ['\u0161dmin', 'b\u00fccher.x', 'a b', 'a\0']) assert.equal(encodeName(name), undefined, name);
});

test('EDNS is answered exactly when asked with, with DO copied and the size lifted to 512', () => {
  const decoded = answerTo(queryOf('a.b', 'A', { udpPayloadSize: 100, dnssec: true }), 512, {});
  const [opt] = decoded.additionals ?? [];
  assert.ok(opt?.type === 'OPT');
  assert.equal(opt.udpPayloadSize, 512);
  assert.equal(opt.flag_do, true);
  assert.equal(opt.ednsVersion, 0);
  assert.equal(answerTo(queryOf('a.b', 'A'), 512, {}).additionals?.length, 0);
});

test('an error has its code, the question and nothing else', () => {
  const message = queryOf('a.b', 'A', { udpPayloadSize: 1400, dnssec: false });
  const view = viewOf(message);
  const decoded = dnsPacket.decode(out.subarray(0, writeEmpty(out, 0, view, message, 0, Rcode.SERVFAIL)));
  assert.equal(rcodeOf(out, 0), Rcode.SERVFAIL);
  assert.equal(decoded.flag_aa, false);
  assert.deepEqual(decoded.answers, []);
  assert.equal(decoded.questions?.length, 1);
  const length = writeEmpty(out, 0, view, message, 0, Rcode.BADVERS);
  assert.equal((out[length - 6] ?? 0) * 16 + (word(out, 2) & 0xf), Rcode.BADVERS);
});

test('answers, other opcodes, no question, two questions and pointers in a question are told apart', () => {
  const message = queryOf('a.b', 'A');
  const view = new QueryView();
  const changed = (at: number, value: number): Buffer => {
    const copy = Buffer.from(message);
    copy.writeUInt16BE(value, at);
    return copy;
  };
  const faultOf = (bytes: Buffer): string | undefined => readQuery(view, bytes, 0, bytes.length);
  assert.equal(faultOf(changed(2, Flag.QR)), 'response');
  assert.equal(faultOf(changed(2, 2 << 11)), 'opcode');
  assert.equal(faultOf(changed(4, 0)), 'malformed');
  assert.equal(faultOf(changed(4, 2)), 'malformed');
  assert.equal(faultOf(changed(10, 65_535)), 'malformed');
  assert.equal(faultOf(changed(HEADER_BYTES, 0xc00c)), 'malformed');
  assert.equal(faultOf(message.subarray(0, 11)), 'short');
  assert.equal(faultOf(message.subarray(0, message.length - 1)), 'malformed');
  const twoOpts = dnsPacket.encode({
    type: 'query',
    questions: [{ type: 'A', name: 'a' }],
    additionals: [optOf({ udpPayloadSize: 1, dnssec: false }), optOf({ udpPayloadSize: 1, dnssec: false })],
  });
  assert.equal(faultOf(twoOpts), 'malformed');
});

test('names of 255 bytes are read, longer ones are not', () => {
  const longest = [63, 63, 63, 61].map(length => 'x'.repeat(length)).join('.');
  assert.equal(encodeName(longest)?.length, 255);
  assert.equal(nameText(queryOf(longest, 'A'), HEADER_BYTES), longest);
  viewOf(queryOf(longest, 'A'));
  const longer = queryOf(`${longest}x`, 'A');
  assert.equal(readQuery(new QueryView(), longer, 0, longer.length), 'malformed');
  assert.equal(encodeName(`${longest}x`), undefined);
  assert.equal(encodeName('a..b'), undefined);
});

test('a label with a dot inside has no text, so it cannot be mistaken for another name', () => {
  const message = queryOf('axb.c', 'A');
  message[HEADER_BYTES + 2] = 0x2e;
  viewOf(message);
  assert.equal(nameText(message, HEADER_BYTES), undefined);
});

test('keys are the same for the same question in any case and differ for anything else', () => {
  const keyOf = (message: Buffer): string => messageKey(message, 0, message.length, viewOf(message).questionEnd);
  const lower = queryOf('abc.de', 'A');
  const upper = queryOf('ABC.De', 'A');
  upper.writeUInt16BE(0x9999, 0);
  assert.equal(keyOf(lower), keyOf(upper));
  assert.notEqual(keyOf(lower), keyOf(queryOf('abc.de', 'AAAA')));
  assert.notEqual(keyOf(lower), keyOf(queryOf('abc.de', 'A', { udpPayloadSize: 1232, dnssec: false })));
  assert.notEqual(keyOf(lower), keyOf(queryOf('ab.cde', 'A')));
  assert.equal(questionKey(lower, 0, viewOf(lower).questionEnd), questionKey(upper, 0, viewOf(upper).questionEnd));
});

test('an answer is ours by id and question, whatever the letter case', () => {
  const query = queryOf('abc.de', 'A');
  const end = viewOf(query).questionEnd;
  const answer = dnsPacket.encode({
    type: 'response',
    id: 7,
    questions: [{ type: 'A', name: 'ABC.de' }],
    answers: [{ type: 'A', name: 'abc.de', ttl: 5, data: '1.2.3.4' }],
  });
  assert.ok(answersQuery(answer, 0, answer.length, 7, query, end));
  assert.ok(!answersQuery(answer, 0, answer.length, 8, query, end));
  assert.ok(!answersQuery(query, 0, query.length, query.readUInt16BE(0), query, end));
  const other = queryOf('abd.de', 'A');
  assert.ok(!answersQuery(answer, 0, answer.length, 7, other, viewOf(other).questionEnd));
});

const soa: dnsPacket.Answer = {
  type: 'SOA',
  name: 'de',
  ttl: 900,
  data: { mname: 'a.de', rname: 'b.de', serial: 1, refresh: 2, retry: 3, expire: 4, minimum: 60 },
};

function keepingOfAnswer(packet: dnsPacket.Packet, rcode = 0): number | undefined {
  const answer = dnsPacket.encode({
    type: 'response',
    flags: rcode,
    questions: [{ type: 'A', name: 'x.de' }],
    ...packet,
  });
  return keepingOf(answer, answer.length)?.seconds;
}

test('an answer of another type is not ours, though their numbers differ like letters', () => {
  const query = queryOf('a.x', 'TXT');
  const end = query.length;
  query.writeUInt16BE(65, end - 4);
  const answer = Buffer.from(query);
  answer.writeUInt16BE(Flag.QR, 2);
  assert.ok(answersQuery(answer, 0, end, 0x1234, query, end));
  answer.writeUInt16BE(97, end - 4);
  assert.ok(!answersQuery(answer, 0, end, 0x1234, query, end));
});

test('an answer is kept for its shortest TTL, a negative one as its SOA says, errors never', () => {
  const a = (ttl: number): dnsPacket.Answer => ({ type: 'A', name: 'x.de', ttl, data: '1.2.3.4' });
  assert.equal(keepingOfAnswer({ answers: [a(30), a(20)], additionals: [a(25)] }), 20);
  assert.equal(keepingOfAnswer({ answers: [a(0)] }), undefined);
  assert.equal(keepingOfAnswer({ answers: [a(0x8000_0000)] }), undefined);
  assert.equal(keepingOfAnswer({ answers: [a(90_000)] }), 3600);
  assert.equal(keepingOfAnswer({ authorities: [soa] }), 60);
  assert.equal(keepingOfAnswer({ authorities: [soa] }, Rcode.NXDOMAIN), 60);
  assert.equal(keepingOfAnswer({}), undefined);
  assert.equal(keepingOfAnswer({ answers: [a(30)] }, Rcode.SERVFAIL), undefined);
  assert.equal(keepingOfAnswer({ answers: [a(30)], flags: Flag.TC }), undefined);
});

test('addresses are found under the asked name and the name it is an alias of, and nowhere else', () => {
  const answer = dnsPacket.encode({
    type: 'response',
    questions: [{ type: 'A', name: 'x.de' }],
    answers: [
      { type: 'CNAME', name: 'X.de', ttl: 40, data: 'y.de' },
      { type: 'A', name: 'y.DE', ttl: 30, data: '1.2.3.4' },
      { type: 'A', name: 'evil.de', ttl: 30, data: '6.6.6.6' },
    ],
  });
  assert.deepEqual(addressesOf(answer, answer.length, 1), { addresses: [Uint8Array.of(1, 2, 3, 4)], ttlSeconds: 30 });
  const circle = dnsPacket.encode({
    type: 'response',
    questions: [{ type: 'A', name: 'x.de' }],
    answers: [
      { type: 'CNAME', name: 'x.de', ttl: 40, data: 'y.de' },
      { type: 'CNAME', name: 'y.de', ttl: 40, data: 'x.de' },
    ],
  });
  assert.deepEqual(addressesOf(circle, circle.length, 1)?.addresses, []);
});

/** Fails on any access beyond its end or before its beginning. */
function guarded(bytes: Buffer): Buffer {
  return new Proxy(bytes, {
    get(target, key) {
      if (typeof key === 'string' && /^-?\d+$/.test(key)) assert.ok(Number(key) < target.length, `byte ${key}`);
      const value: unknown = Reflect.get(target, key, target);
      return value;
    },
  });
}

test('noise and mutilated messages are read without an exception and only within their bounds', () => {
  const whole = dnsPacket.encode({
    type: 'response',
    questions: [{ type: 'A', name: 'www.example.com' }],
    answers: [{ type: 'CNAME', name: 'www.example.com', ttl: 1, data: 'example.com' }],
    authorities: [soa],
    additionals: [optOf({ udpPayloadSize: 1232, dnssec: true })],
  });
  const noise = fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes));
  const mutilated = fc
    .record({ cut: fc.nat(whole.length), hits: fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255))) })
    .map(({ cut, hits }) => {
      const bytes = Buffer.from(whole);
      for (const [at, value] of hits) bytes[at] = value;
      return bytes.subarray(0, cut);
    });
  fc.assert(
    fc.property(fc.oneof(noise, mutilated), bytes => {
      const view = new QueryView();
      const fault = readQuery(view, guarded(bytes), 0, bytes.length);
      if (fault === undefined) {
        nameText(guarded(bytes), HEADER_BYTES);
        const length = writeAddresses(out, 0, view.udpBytes, view, bytes, 0, SOME, 1);
        assert.ok(length <= view.udpBytes);
        dnsPacket.decode(out.subarray(0, length));
      }
      if (bytes.length >= HEADER_BYTES) {
        keepingOf(bytes, bytes.length);
        addressesOf(bytes, bytes.length, 1);
        answersQuery(bytes, 0, bytes.length, 0, whole, 33);
      }
    }),
    { numRuns: 5000, seed: 53 },
  );
});

const SOME: AddressAnswer = { canonical: undefined, addresses: addressesIn(100), ttlSeconds: 30 };
