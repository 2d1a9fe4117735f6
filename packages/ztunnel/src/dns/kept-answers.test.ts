import assert from 'node:assert/strict';
import { test } from 'node:test';
import dnsPacket from 'dns-packet';
import { QueryView, readQuery } from './codec/query.ts';
import { KeptAnswers } from './kept-answers.ts';

const out = Buffer.alloc(5000);

function queryOf(name: string, id: number): { readonly bytes: Buffer; readonly end: number } {
  const bytes = dnsPacket.encode({ type: 'query', id, questions: [{ type: 'A', name }] });
  const view = new QueryView();
  assert.equal(readQuery(view, bytes, 0, bytes.length), undefined);
  return { bytes, end: view.questionEnd };
}

function answerOf(name: string, ttl: number, count = 1): Buffer {
  return dnsPacket.encode({
    type: 'response',
    id: 1,
    questions: [{ type: 'A', name }],
    answers: Array.from({ length: count }, () => ({ type: 'A', name, ttl, data: '1.2.3.4' }) as const),
    additionals: [{ type: 'A', name: 'ns.x', ttl: ttl + 5, data: '5.6.7.8' }],
  });
}

test('an answer comes again with the asker’s id and letters and TTLs that count down, until its time is over', () => {
  const kept = new KeptAnswers();
  const answer = answerOf('www.x', 10);
  kept.keep('k', answer, answer.length, 50_000);
  const { bytes, end } = queryOf('WwW.x', 77);
  const length = kept.write('k', out, bytes, 0, end, 53_900);
  const decoded = dnsPacket.decode(out.subarray(0, length));
  assert.equal(decoded.id, 77);
  assert.equal(decoded.questions?.[0]?.name, 'WwW.x');
  const ttls = [...(decoded.answers ?? []), ...(decoded.additionals ?? [])].map(
    record => 'ttl' in record && record.ttl,
  );
  assert.deepEqual(ttls, [7, 12]);
  assert.ok(kept.write('k', out, bytes, 0, end, 59_999) > 0);
  assert.equal(kept.write('k', out, bytes, 0, end, 60_000), 0);
  assert.equal(kept.size, 0);
});

test('what may not be kept is not, and number and bytes are bounded', () => {
  const kept = new KeptAnswers();
  const zero = answerOf('www.x', 0);
  kept.keep('zero', zero, zero.length, 0);
  assert.equal(kept.size, 0);
  const small = answerOf('www.x', 100);
  for (let index = 0; index < 600; index++) kept.keep(`k${index}`, small, small.length, 0);
  assert.equal(kept.size, 512);
  const { bytes, end } = queryOf('www.x', 1);
  assert.equal(kept.write('k0', out, bytes, 0, end, 1), 0);
  assert.ok(kept.write('k599', out, bytes, 0, end, 1) > 0);
  const large = answerOf('www.x', 100, 150);
  assert.ok(large.length > 3000 && large.length < 4096);
  for (let index = 0; index < 200; index++) kept.keep(`l${index}`, large, large.length, 0);
  assert.ok(kept.size < (256 * 1024) / large.length);
  const huge = answerOf('www.x', 100, 300);
  kept.keep('huge', huge, huge.length, 0);
  assert.equal(kept.write('huge', out, bytes, 0, end, 1), 0);
  kept.clear();
  assert.equal(kept.size, 0);
});
