import assert from 'node:assert/strict';
import { createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { after, afterEach, before, describe, test } from 'node:test';
import { CANARY_ADDRESSES, CANARY_PORT, type CanaryAnswer } from '@ambit/mesh';
import { addAddress, listenTcp, type NetNs, ownedFdCount } from '@ambit/native';
import { netNsSkip, podLikeNetNs } from '../redirect/netns-testing.ts';
import { askCanary, readCanary } from './canary-client.ts';

const answer: CanaryAnswer = {
  canary: 1,
  peer: 'spiffe://cluster.local/ns/shop/sa/web',
  local: 'spiffe://cluster.local/ns/shop/sa/web',
  group: 'X25519MLKEM768',
  cipher: 'TLS_AES_128_GCM_SHA256',
  notBefore: '2026-11-24T12:00:00Z',
  notAfter: '2026-11-25T12:00:00Z',
  workload: 'shop/web-1',
};
const { signal } = new AbortController();

test('what a canary says is an answer, a reason, or nonsense', () => {
  assert.deepEqual(readCanary(`${JSON.stringify(answer)}\n`, 2), { kind: 'answered', answer, ms: 2 });
  assert.deepEqual(readCanary('{"canary":1,"reason":"tls.expired"}', 2), { kind: 'denied', reason: 'tls.expired' });
  for (const text of ['', 'null', '[]', '{}', '{"canary":2}', '{"canary":1}', 'HTTP/1.1 400 Bad Request']) {
    assert.equal(readCanary(text, 2).kind, 'broken', text);
  }
  assert.equal(readCanary(JSON.stringify({ ...answer, notAfter: 'tomorrow' }), 2).kind, 'broken');
});

describe('asking from inside a namespace', { skip: netNsSkip() }, () => {
  let netns: NetNs;
  let server: Server | undefined;
  const sockets = new Set<Socket>();
  before(() => {
    netns = podLikeNetNs();
    // Both of its addresses are this namespace's own, so that somebody can be there.
    netns.run(() => {
      addAddress(1, `${CANARY_ADDRESSES.ipv4}/32`);
      addAddress(1, `${CANARY_ADDRESSES.ipv6}/128`);
    });
  });
  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    if (server === undefined) return;
    server.close();
    await once(server, 'close');
    server = undefined;
  });
  after(() => netns.close());

  function serve(onSocket: (socket: Socket) => void): void {
    const { fd } = netns.run(() => listenTcp({ address: '::', port: CANARY_PORT, backlog: 8 }));
    server = createServer(socket => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      onSocket(socket);
    });
    server.listen({ fd: fd.release() });
  }

  test('brings back what was said, over either family, and leaves no descriptor', async () => {
    serve(socket => socket.end(`${JSON.stringify(answer)}\n`));
    const owned = ownedFdCount();
    for (const family of ['ipv4', 'ipv6'] as const) {
      const result = await askCanary(netns, family, 5_000, signal);
      assert.deepEqual({ ...result, ms: 0 }, { kind: 'answered', answer, ms: 0 });
    }
    assert.equal(ownedFdCount(), owned);
  });

  test('nobody there, or no route, is a bypass', async () => {
    const refused = await askCanary(netns, 'ipv4', 5_000, signal);
    assert.equal(refused.kind, 'bypassed');
    const empty = podLikeNetNs();
    try {
      assert.equal((await askCanary(empty, 'ipv4', 5_000, signal)).kind, 'bypassed');
    } finally {
      empty.close();
    }
  });

  test('somebody who takes it and is silent, hangs up, resets or talks without end is broken', async () => {
    serve(() => undefined);
    assert.match(whyOf(await askCanary(netns, 'ipv4', 50, signal)), /taken, and not answered/);
    server?.removeAllListeners('connection').on('connection', (socket: Socket) => socket.end());
    assert.match(whyOf(await askCanary(netns, 'ipv4', 5_000, signal)), /without a word/);
    server?.removeAllListeners('connection').on('connection', (socket: Socket) => socket.resetAndDestroy());
    assert.match(whyOf(await askCanary(netns, 'ipv4', 5_000, signal)), /ECONNRESET/);
    server?.removeAllListeners('connection').on('connection', (socket: Socket) => socket.write('x'.repeat(10_000)));
    assert.match(whyOf(await askCanary(netns, 'ipv4', 5_000, signal)), /more than 4096 bytes/);
  });

  test('the end of the audit ends the waiting', async () => {
    serve(() => undefined);
    const ending = new AbortController();
    const asked = askCanary(netns, 'ipv4', 60_000, ending.signal);
    ending.abort();
    assert.equal((await asked).kind, 'broken');
  });

  function whyOf(result: Awaited<ReturnType<typeof askCanary>>): string {
    assert.equal(result.kind, 'broken', JSON.stringify(result));
    return 'why' in result ? result.why : '';
  }
});
