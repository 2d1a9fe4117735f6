import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createService, createWorkload, type DnsDecision, MeshState, parseIp } from '@ambit/mesh';
import { queryFor } from '../dns/dns-testing.ts';
import { LabelFilter } from '../dns/mesh-labels.ts';
import { FakeClock } from '../fake-clock.ts';
import { Log, LogFilter } from '../log.ts';
import type { PodInfo, ToWorker } from '../worker-protocol.ts';
import { DnsDesk } from './dns-desk.ts';

const WEB: PodInfo = { uid: 'u1', name: 'web-1', namespace: 'shop', serviceAccount: 'web' };

function desk() {
  const mesh = new MeshState();
  const clock = new FakeClock();
  const pods = new Map([[WEB.uid, WEB]]);
  const lines: string[] = [];
  const told: ToWorker[] = [];
  const filter = LogFilter.parse('info') ?? assert.fail();
  const log = new Log({ write: line => lines.push(line), now: () => 0 }, { format: 'plain', filter });
  const names = new DnsDesk(
    {
      view: mesh,
      clock,
      log: log.scope('test'),
      podOf: uid => pods.get(uid),
      broadcast: message => told.push(message),
    },
    { clusterDomain: 'cluster.local', ipv6: true, preferredNamespace: undefined, searchDomains: undefined },
  );
  const answers = new Map<number, DnsDecision>();
  const asker = {
    send(message: ToWorker): void {
      assert.ok(message.type === 'dnsDecision');
      assert.ok(!answers.has(message.id), 'answered twice');
      answers.set(message.id, message.decision);
    },
  };
  let id = 0;
  const ask = (name: string, uid = WEB.uid): number => {
    names.answer(asker, { type: 'needDns', id: ++id, uid, question: { name, type: 'A' } });
    return id;
  };
  const knowWeb = (): void => {
    mesh.applyBatch({ upsertWorkloads: [createWorkload({ ...WEB, uid: 'w' })] });
    names.wake();
  };
  const addCart = (address: string): void => {
    const ip = parseIp(address) ?? assert.fail();
    const hostname = 'cart.shop.svc.cluster.local';
    const cart = createService({ name: 'cart', namespace: 'shop', hostname, vips: [{ network: '', ip }] });
    mesh.applyBatch({ upsertServices: [cart] });
  };
  return { mesh, clock, pods, lines, told, names, answers, ask, knowWeb, addCart };
}

test('a known pod is answered at once, from its own namespace', () => {
  const { answers, ask, knowWeb, addCart } = desk();
  addCart('10.9.0.1');
  knowWeb();
  const decision = answers.get(ask('cart'));
  assert.ok(decision?.kind === 'answer');
  assert.deepEqual(decision.addresses, ['10.9.0.1']);
  assert.equal(answers.get(ask('elsewhere.example.com'))?.kind, 'forward');
});

test('a pod that the mesh has yet to name is answered as soon as it does', async () => {
  const { clock, answers, ask, knowWeb, addCart } = desk();
  addCart('10.9.0.1');
  const first = ask('cart');
  await clock.advance(1000);
  assert.equal(answers.size, 0);
  knowWeb();
  assert.equal(answers.get(first)?.kind, 'answer');
  assert.equal(clock.nextInMs, undefined);
});

test('it waits once, shorter than any resolver, and gets SERVFAIL at once from then on until it is known', async () => {
  const { clock, answers, ask, knowWeb, names } = desk();
  const first = ask('a');
  await clock.advance(1500);
  const second = ask('b');
  await clock.advance(499);
  names.wake();
  assert.equal(answers.size, 0);
  await clock.advance(1);
  assert.equal(answers.get(first)?.kind, 'unknown_client');
  assert.equal(answers.get(second)?.kind, 'unknown_client');
  assert.equal(answers.get(ask('c'))?.kind, 'unknown_client');
  knowWeb();
  assert.equal(answers.get(ask('c'))?.kind, 'forward');
});

test('a flood of questions of one unknown pod does not wait', () => {
  const { answers, ask } = desk();
  for (let count = 0; count < 64; count++) ask(`n${count}`);
  assert.equal(answers.size, 0);
  assert.equal(answers.get(ask('one-more'))?.kind, 'unknown_client');
});

test('nothing waits for a pod that is gone', () => {
  const { answers, ask, pods, names } = desk();
  assert.equal(answers.get(ask('a', 'stranger'))?.kind, 'unknown_client');
  const waiting = ask('a');
  pods.delete(WEB.uid);
  names.wake();
  assert.equal(answers.get(waiting)?.kind, 'unknown_client');
});

test('what changed is told once', () => {
  const { names, ask, knowWeb, addCart } = desk();
  knowWeb();
  ask('cart');
  addCart('10.9.0.1');
  assert.deepEqual(names.takeStale(), { kind: 'labels', labels: new Set(['cart']) });
  assert.equal(names.takeStale(), undefined);
});

test('another search list gives other answers', () => {
  const { names, answers, ask, knowWeb, addCart } = desk();
  addCart('10.9.0.1');
  knowWeb();
  assert.equal(answers.get(ask('cart.example.org'))?.kind, 'forward');
  names.setSearchDomains(['example.org']);
  const decision = answers.get(ask('cart.example.org'));
  assert.ok(decision?.kind === 'answer' && decision.canonical === 'cart');
});

test('on a bug the resolvers of the node are asked', () => {
  const { mesh, answers, ask, knowWeb, lines } = desk();
  Object.defineProperty(mesh, 'names', {
    get: () => {
      throw new Error('a bug');
    },
  });
  knowWeb();
  assert.equal(answers.get(ask('cart'))?.kind, 'forward');
  assert.match(lines.join('\n'), /failed on a bug.*a bug/);
});

test('workers are told which names may be the mesh’s, once somebody asks, and again when a wildcard comes', () => {
  const { mesh, told, names, ask, knowWeb, addCart } = desk();
  knowWeb();
  assert.equal(names.labels, undefined);
  ask('elsewhere.example.com');
  const [first] = told;
  assert.ok(first?.type === 'meshLabels');
  assert.equal(names.labels, first.bits);
  const filter = new LabelFilter(first.bits);
  assert.ok(filter.isForeign(queryFor('cart.shop'), 0));
  addCart('10.9.0.1');
  names.takeStale();
  assert.ok(!filter.isForeign(queryFor('cart.shop'), 0));
  assert.equal(told.length, 1);
  mesh.applyBatch({ upsertServices: [createService({ name: 'w', namespace: 'shop', hostname: '*.example.com' })] });
  names.takeStale();
  const [, second] = told;
  assert.ok(second?.type === 'meshLabels');
  assert.ok(!new LabelFilter(second.bits).isForeign(queryFor('elsewhere.example.com'), 0));
});
