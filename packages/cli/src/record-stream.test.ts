// Over real HTTP: how a stream of records is followed while the ztunnel behind it comes and goes.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { AdminError } from './mesh-from-admin.ts';
import { followRecords } from './record-stream.ts';

async function serve(answer: (response: ServerResponse, url: string, count: number) => void) {
  let count = 0;
  const server = createServer((request, response) => answer(response, request.url ?? '', ++count));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  // It listens on TCP, so its address is one.
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    base,
    [Symbol.dispose]: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

test('a ztunnel that restarts is asked again, which is told, and lines are whole whatever pieces they come in', async () => {
  using server = await serve((response, url, count) => {
    assert.equal(url, '/records?to=cart');
    response.write('\n{"kind":');
    response.write(`"${count}"}\n{"half":`);
    if (count === 1) response.end();
  });
  const stop = new AbortController();
  const [lines, notes]: [string[], string[]] = [[], []];
  await followRecords([server.base], {
    query: new URLSearchParams({ to: 'cart' }),
    signal: stop.signal,
    onNote: text => notes.push(text),
    onLine: line => {
      lines.push(line);
      if (lines.length === 2) stop.abort();
    },
  });
  assert.deepEqual(lines, ['{"kind":"1"}', '{"kind":"2"}']);
  assert.match(notes.join('\n'), /ended; waiting for it.*\n.*is back$/);
});

test('a question that is refused is an error with the words of the refusal', async () => {
  using server = await serve(response => response.writeHead(400).end('there is no filter "form"\n'));
  const follow = followRecords([server.base], {
    query: new URLSearchParams(),
    signal: AbortSignal.timeout(60_000),
    onNote: () => undefined,
    onLine: () => undefined,
  });
  await assert.rejects(
    follow,
    (error: unknown) => error instanceof AdminError && /no filter "form"/.test(error.message),
  );
});
