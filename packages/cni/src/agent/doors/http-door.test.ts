// The agent's HTTP ports as somebody finds them who only wants to keep others out.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { SILENT_LOG } from '@ambit/log';
import { type DoorAnswer, HttpDoor, plain } from './http-door.ts';

const MAX_CONNECTIONS = 4;

async function open(t: TestContext, answer: (path: string) => Promise<DoorAnswer> | DoorAnswer): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-door-'));
  const path = join(directory, 'd.sock');
  const door = await HttpDoor.open({
    where: { path, mode: 0o600 },
    maxBodyBytes: 16,
    maxConnections: MAX_CONNECTIONS,
    timeoutMs: 5_000,
    log: SILENT_LOG,
    answer: ({ path: asked }) => answer(asked),
  });
  t.after(async () => {
    await door.close();
    rmSync(directory, { recursive: true });
  });
  return path;
}

async function statusOf(socketPath: string, path = '/'): Promise<number | undefined> {
  const asked = request({ socketPath, path }).end();
  const [response] = (await once(asked, 'response')) as [{ statusCode?: number; resume: () => void }];
  response.resume();
  return response.statusCode;
}

async function hold(t: TestContext, path: string, first: string): Promise<Socket> {
  const socket = connect(path);
  socket.on('error', () => undefined);
  t.after(() => socket.destroy());
  await once(socket, 'connect');
  if (first !== '') socket.write(first);
  return socket;
}

for (const [what, first] of [
  ['say nothing', ''],
  ['never end their header', 'GET / HTTP/1.1\r\nx: '],
  ['never send their body', 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n'],
] as const) {
  test(`connections that ${what} make room for who asks`, async t => {
    const path = await open(t, () => plain(200, ''));
    const held = await hold(t, path, first);
    const gone = once(held, 'close');
    for (let i = 1; i < MAX_CONNECTIONS; i++) await hold(t, path, first);
    assert.equal(await statusOf(path), 200);
    await gone;
  });
}

test('whoever is being answered is not sent away for another', { timeout: 20_000 }, async t => {
  const answered = Promise.withResolvers<DoorAnswer>();
  let asked = 0;
  const all = Promise.withResolvers<void>();
  const path = await open(t, async () => {
    if (++asked === MAX_CONNECTIONS) all.resolve();
    return answered.promise;
  });
  const waiting = Array.from({ length: MAX_CONNECTIONS }, async () => statusOf(path));
  await all.promise;
  const late = await hold(t, path, '');
  await once(late, 'close');
  answered.resolve(plain(200, ''));
  assert.deepEqual(await Promise.all(waiting), [200, 200, 200, 200]);
});
