import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { Log, LogFilter } from './log.ts';
import { Readiness, serveReadiness } from './readiness.ts';

function makeReadiness(): { readiness: Readiness; lines: string[] } {
  const lines: string[] = [];
  const filter = LogFilter.parse('info');
  assert.ok(filter !== undefined);
  const log = new Log({ write: line => lines.push(line), now: () => 0 }, { format: 'plain', filter });
  return { readiness: new Readiness({ log: log.scope('ztunnel::readiness'), now: () => 0 }), lines };
}

test('names what is pending, sorted, and turns ready when the last is cleared', async () => {
  const { readiness, lines } = makeReadiness();
  readiness.block('workload proxy manager');
  readiness.block('proxy');
  const server = await serveReadiness(readiness, { port: 0, ipv6: false });
  try {
    const url = `http://127.0.0.1:${server.port}/healthz/ready`;
    const first = await fetch(url);
    assert.equal(first.status, 500);
    assert.equal(await first.text(), 'not ready, pending: proxy, workload proxy manager\n');
    readiness.clear('proxy');
    readiness.clear('workload proxy manager');
    readiness.clear('workload proxy manager');
    const second = await fetch(url);
    assert.equal(second.status, 200);
    assert.equal(await second.text(), 'ready\n');
    readiness.block('workload proxy manager');
    assert.equal((await fetch(url)).status, 500);
  } finally {
    await server.close();
  }
  assert.equal(lines.length, 2);
  assert.match(lines[0] ?? '', /Task 'proxy' complete \(0ms\), still awaiting 1 tasks/);
  assert.match(lines[1] ?? '', /Task 'workload proxy manager' complete \(0ms\), marking server ready/);
});

test('other methods are 405 and other paths 404', async () => {
  const server = await serveReadiness(makeReadiness().readiness, { port: 0, ipv6: true });
  try {
    const base = `http://127.0.0.1:${server.port}`;
    assert.equal((await fetch(`${base}/healthz/ready`, { method: 'POST' })).status, 405);
    assert.equal((await fetch(`${base}/healthz/ready?x=1`)).status, 200);
    assert.equal((await fetch(`${base}/`)).status, 404);
  } finally {
    await server.close();
  }
});

test('a taken port is an error at start', async () => {
  const { readiness } = makeReadiness();
  const first = await serveReadiness(readiness, { port: 0, ipv6: false });
  try {
    await assert.rejects(serveReadiness(readiness, { port: first.port, ipv6: false }), { code: 'EADDRINUSE' });
  } finally {
    await first.close();
  }
});

test('a prober that never lets its connection rest does not hold up the end', async () => {
  const { readiness } = makeReadiness();
  const server = await serveReadiness(readiness, { port: 0, ipv6: false, address: '127.0.0.1' });
  const socket = connect(server.port, '127.0.0.1');
  const ask = (): boolean => socket.write('GET /healthz/ready HTTP/1.1\r\nHost: x\r\n\r\n');
  socket.on('data', ask);
  // A reset is one way to be closed, so no `once`, which takes errors to heart.
  socket.on('error', () => undefined);
  const ended = new Promise<void>(resolve => void socket.once('close', () => resolve()));
  await once(socket, 'connect');
  ask();
  await once(socket, 'data');
  await server.close();
  await ended;
});
