import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EdgeBook } from './edges.ts';
import { droppedIn, readRecord, type SeenRecord } from './record.ts';

const TLS = { version: 'TLSv1.3', suite: 'TLS_AES_128_GCM_SHA256', group: 'X25519MLKEM768' };
const WEB = 'spiffe://cluster.local/ns/shop/sa/web';
const CART = 'spiffe://cluster.local/ns/shop/sa/cart';

/** A line as the proxy writes it. */
function line(fields: Record<string, unknown>): string {
  const peer = (name: string, identity?: string) => ({
    address: { ip: '10.61.1.1', port: 1 },
    workload: { namespace: 'shop', name },
    ...(identity === undefined ? {} : { identity }),
  });
  return JSON.stringify({
    event: 'open',
    direction: 'outbound',
    protocol: 'HBONE',
    source: peer('web', WEB),
    destination: peer('cart', CART),
    tls: TLS,
    bytesToServer: 0,
    bytesToClient: 0,
    ...fields,
  });
}

function seen(fields: Record<string, unknown>): SeenRecord {
  const record = readRecord(line(fields));
  assert.ok(record);
  return record;
}

function only(book: EdgeBook) {
  const [edge, ...rest] = book.edges();
  assert.ok(edge);
  assert.equal(rest.length, 0);
  return edge;
}

test('both ends of one connection are one connection', () => {
  const book = new EdgeBook();
  book.add(seen({}));
  book.add(seen({ direction: 'inbound' }));
  book.add(seen({ event: 'close', bytesToServer: 10, bytesToClient: 5 }));
  book.add(seen({ event: 'close', direction: 'inbound', bytesToServer: 10, bytesToClient: 5 }));
  const edge = only(book);
  assert.deepEqual([edge.source, edge.destination, edge.tunnel], ['shop/web', 'shop/cart', 'HBONE']);
  assert.deepEqual([edge.sourceIdentity, edge.destinationIdentity, edge.tls], [WEB, CART, TLS]);
  assert.deepEqual([edge.encryptedConnections, edge.plaintextConnections, edge.bytes], [1, 0, 15]);
});

test('each identity is taken from the end that verified it, whichever record comes first', () => {
  const address = { ip: '10.61.1.1', port: 1 };
  const workload = (name: string) => ({ namespace: 'shop', name });
  const claimed = { address, workload: workload('web'), identity: 'spiffe://claimed' };
  const records = [
    seen({ source: claimed }),
    seen({ direction: 'inbound', destination: { address, workload: workload('cart'), identity: 'spiffe://own' } }),
  ];
  for (const order of [records, records.toReversed()]) {
    const book = new EdgeBook();
    for (const record of order) book.add(record);
    assert.deepEqual([only(book).sourceIdentity, only(book).destinationIdentity], [WEB, CART]);
  }
});

test('plaintext is never hidden by encrypted connections, and proves no identity', () => {
  const book = new EdgeBook();
  book.add(seen({ protocol: 'TCP', tls: undefined }));
  book.add(seen({}));
  assert.deepEqual(
    [only(book).plaintextConnections, only(book).encryptedConnections, only(book).tunnel],
    [1, 1, 'TCP'],
  );
  const plain = new EdgeBook();
  plain.add(seen({ protocol: 'TCP', tls: undefined }));
  assert.deepEqual([only(plain).sourceIdentity, only(plain).tls], [undefined, undefined]);
});

test('a denial is told by its policy, another refusal is a failure', () => {
  const book = new EdgeBook();
  const denial = { event: 'refused', direction: 'inbound', reason: 'policy.denied_by', policy: 'shop/callers' };
  book.add(seen(denial));
  book.add(seen(denial));
  book.add(seen({ event: 'close', reason: 'hbone.refused_stream', error: 'http status: 401' }));
  const edge = only(book);
  assert.deepEqual([edge.denied, edge.failed, edge.policy, edge.reason], [2, 1, 'shop/callers', 'policy.denied_by']);
  assert.equal(edge.encryptedConnections, 0);
});

test('the last word of a policy or a connection is what an edge is now, and its changes are told', () => {
  const book = new EdgeBook();
  const denial = { direction: 'inbound', reason: 'policy.denied_by', policy: 'shop/callers' };
  const steps = [
    [{ event: 'refused', ...denial }, true, 'denied'],
    // What the other end says of the same connection.
    [{ event: 'close', reason: 'hbone.refused_stream' }, false, 'denied'],
    [{}, true, 'encrypted'],
    [{ event: 'close' }, false, 'encrypted'],
    // A connection that was cut.
    [{ event: 'close', ...denial }, true, 'denied'],
    [{ protocol: 'TCP', tls: undefined }, true, 'plaintext'],
  ] as const;
  for (const [fields, isNews, now] of steps) {
    assert.equal(book.add(seen(fields)), isNews);
    assert.equal(only(book).now, now);
  }
});

test('a peer that the mesh does not know goes by its address', () => {
  const book = new EdgeBook();
  book.add(seen({ direction: 'inbound', source: { address: { ip: '192.0.2.7', port: 1 } } }));
  assert.equal(only(book).source, '192.0.2.7');
});

test('lines that are no records are none', () => {
  for (const text of ['', '{', '[]', '7', '{"event":"open"}', line({ direction: 'sideways' }), line({ source: 1 })]) {
    assert.equal(readRecord(text), undefined, text);
  }
  assert.equal(droppedIn('{"event":"dropped","count":12}'), 12);
  assert.equal(droppedIn(line({})), 0);
});
