// An application that does not read for a while: what waits for it in the proxy is more than one system call can carry,
// and must all arrive once it reads again. The reactor is edge-triggered, so a socket wrongly taken for full stays so.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dial, digest, sendPattern, serve } from './apps.ts';
import { withMesh } from './with-mesh.ts';

/** More than 64 chunks of 16 KiB. */
const MANY_CHUNKS_BYTES = 3 << 20;
/** The windows that ztunnels have by default. */
const WIDE = { streamWindowBytes: 4 << 20, connectionWindowBytes: 16 << 20 };

test('a reader that pauses until megabytes wait for it in the proxy receives all of them', async () => {
  const sent = Promise.withResolvers<string>();
  await using app = await serve(async socket => {
    socket.resume();
    sent.resolve(await sendPattern(socket, 50_000_000));
  });
  await withMesh({ client: { settings: WIDE } }, async mesh => {
    const socket = await dial(mesh.to(app.port));
    await mesh.driver.until(() => mesh.client.engine.budget.usedBytes > MANY_CHUNKS_BYTES, 'bytes wait');
    const got = await digest(socket);
    assert.deepEqual(got, { hash: await sent.promise, bytes: 50_000_000 });
    socket.end();
  });
});
