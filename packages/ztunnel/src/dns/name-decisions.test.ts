import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DnsDecision, DnsQuestion, Ip } from '@ambit/mesh';
import { type CompiledDecision, NameDecisions } from './name-decisions.ts';

const ANSWER: DnsDecision = {
  kind: 'answer',
  canonical: 'a.b',
  addresses: ['10.0.0.1' as Ip, '2001:db8::1' as Ip],
  ttlSeconds: 30,
  service: 'a',
  steps: [],
};
const FORWARD: DnsDecision = { kind: 'forward', steps: [] };

interface World {
  readonly decisions: NameDecisions;
  readonly asked: Array<{ readonly id: number; readonly uid: string; readonly question: DnsQuestion }>;
  readonly heard: CompiledDecision[];
  ask(uid: string, client: string | undefined, name: string): void;
}

function makeWorld(): World {
  const asked: World['asked'] = [];
  const heard: CompiledDecision[] = [];
  const decisions = new NameDecisions((id, uid, question) => asked.push({ id, uid, question }));
  const ask = (uid: string, client: string | undefined, name: string): void =>
    decisions.ask(uid, client, `key of ${name}`, { name, type: 'A' }, decision => heard.push(decision));
  return { decisions, asked, heard, ask };
}

test('the same question of a pod is asked once, and its answer goes to all who wait and to the namespace', () => {
  const { decisions, asked, heard, ask } = makeWorld();
  ask('p1', 'ns/net', 'a.b');
  ask('p1', 'ns/net', 'a.b');
  ask('p2', 'ns/net', 'a.b');
  assert.deepEqual(
    asked.map(({ uid }) => uid),
    ['p1', 'p2'],
  );
  decisions.answer(asked[0]?.id ?? 0, ANSWER);
  assert.equal(heard.length, 2);
  const kept = decisions.get('ns/net', 'key of a.b');
  assert.ok(kept?.kind === 'answer');
  assert.deepEqual(kept.answer.canonical, Uint8Array.of(1, 0x61, 1, 0x62, 0));
  assert.deepEqual(
    kept.answer.addresses.map(({ length }) => length),
    [4, 16],
  );
  assert.equal(decisions.get('other/net', 'key of a.b'), undefined);
  assert.equal(decisions.askingCount, 1);
  decisions.answer(999, ANSWER);
});

test('what an unknown client is told is not kept', () => {
  const { decisions, asked, heard, ask } = makeWorld();
  ask('p', undefined, 'a');
  decisions.answer(asked[0]?.id ?? 0, FORWARD);
  ask('p', 'ns/net', 'a');
  decisions.answer(asked[1]?.id ?? 0, { kind: 'unknown_client', steps: [] });
  assert.deepEqual(
    heard.map(({ kind }) => kind),
    ['forward', 'unknown_client'],
  );
  assert.equal(decisions.size, 0);
});

test('exactly the stale names are forgotten', () => {
  const { decisions, asked, ask } = makeWorld();
  for (const name of ['a.ns', 'b.ns', 'x.a.ns']) {
    ask('p', 'ns/net', name);
    decisions.answer(asked.at(-1)?.id ?? 0, FORWARD);
  }
  decisions.forget({ kind: 'labels', labels: new Set(['a']) });
  assert.equal(decisions.size, 1);
  assert.ok(decisions.get('ns/net', 'key of b.ns'));
  decisions.forget({ kind: 'all' });
  assert.equal(decisions.size, 0);
});

test('a namespace that asks without end crowds out itself only, and all together are bounded', () => {
  const { decisions, asked, ask } = makeWorld();
  const fill = (client: string, count: number): void => {
    for (let index = 0; index < count; index++) {
      ask('p', client, `n${index}`);
      decisions.answer(asked.at(-1)?.id ?? 0, FORWARD);
    }
  };
  fill('quiet/net', 1);
  fill('loud/net', 5000);
  assert.equal(decisions.size, 1025);
  assert.ok(decisions.get('quiet/net', 'key of n0'));
  for (let index = 0; index < 20; index++) fill(`loud${index}/net`, 1100);
  assert.equal(decisions.size, 16_384);
  assert.ok(decisions.get('quiet/net', 'key of n0'));
});
