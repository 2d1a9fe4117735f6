// The admin port among those who mean harm: foreign names, pages that fail, readers that take nothing.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { withDirectory } from '../ca/openssl-testing.ts';
import { SILENT_LOG } from '@ambit/log';
import { type Pages, serveAdmin } from './admin-server.ts';
import { StateClaim } from './state-claim.ts';

async function withAdmin(pages: Pages, body: (port: number) => Promise<void>): Promise<void> {
  await withDirectory(async directory => {
    await using claim = await StateClaim.take(directory);
    const admin = await serveAdmin({
      listen: { host: '127.0.0.1', port: 0 },
      claim,
      pages,
      isReady: () => true,
      actions: () => assert.fail('the port acts'),
      log: SILENT_LOG,
      idleMs: 100,
    });
    try {
      await body(admin.port ?? 0);
    } finally {
      await admin.close();
    }
  });
}

async function get(port: number, path: string, host = 'localhost', method = 'GET') {
  const call = request({ host: '127.0.0.1', port, path, method, headers: { host }, agent: false });
  call.end();
  const [response] = (await once(call, 'response')) as [IncomingMessage];
  return { status: response.statusCode, headers: response.headers, text: await text(response) };
}

test('a page is told to addresses and localhost, not to names that somebody points here', async () => {
  await withAdmin({ '/page': () => ['{}'] }, async port => {
    for (const host of ['localhost', 'localhost:15014', '127.0.0.1:1', '[::1]:1', '[::1]', '10.0.0.1']) {
      const answer = await get(port, '/page', host);
      assert.deepEqual([answer.status, answer.headers['x-content-type-options']], [200, 'nosniff'], host);
    }
    for (const host of ['evil.example', 'localhost.evil.example:15014', '127.0.0.1.evil.example', 'localhost:1:2']) {
      assert.equal((await get(port, '/page', host)).status, 403, host);
    }
    assert.equal((await get(port, '/page', 'localhost', 'POST')).status, 405);
    for (const path of ['/ca/token', '/ca/revoke', '/__proto__', '/constructor', '/../page']) {
      assert.equal((await get(port, path)).status, 404, path);
    }
  });
});

test('a page that cannot be made is an error to its reader, whole or not at all, and to nobody else', async () => {
  const broken = (): never => {
    throw new RangeError('Invalid time value: of a secret');
  };
  function* half(): Generator<string> {
    yield 'x'.repeat(300_000);
    broken();
  }
  await withAdmin({ '/broken': broken, '/half': half, '/good': () => ['{}'] }, async port => {
    const { status, text: said } = await get(port, '/broken');
    assert.equal(status, 500);
    assert.doesNotMatch(said, /secret/);
    await assert.rejects(get(port, '/half'), { code: 'ECONNRESET' });
    assert.equal((await get(port, '/good')).status, 200);
  });
});

test('a reader that takes nothing is cut, and what it was told is let go', async () => {
  const finished = Promise.withResolvers<void>();
  function* endless(): Generator<string> {
    try {
      for (;;) yield 'x'.repeat(65_536);
    } finally {
      finished.resolve();
    }
  }
  await withAdmin({ '/endless': endless }, async port => {
    const socket = connect(port, '127.0.0.1');
    socket.pause();
    socket.on('error', () => undefined);
    socket.write('GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n');
    await finished.promise;
    socket.destroy();
  });
});
