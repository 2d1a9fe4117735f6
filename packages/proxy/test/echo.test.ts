import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dial, digest, readBytes, sendPattern, serveEcho } from './apps.ts';
import { withMesh } from './with-mesh.ts';

test('a line is echoed through the mesh', async () => {
  await using app = await serveEcho();
  await withMesh({}, async mesh => {
    const socket = await dial(mesh.to(app.port));
    socket.write('hello');
    assert.equal((await readBytes(socket, 5)).toString(), 'hello');
    socket.end();
    await digest(socket);
  });
});

test('100 MB come back as they went', async () => {
  await using app = await serveEcho();
  await withMesh({}, async mesh => {
    const socket = await dial(mesh.to(app.port));
    const [sent, got] = await Promise.all([sendPattern(socket, 100_000_000), digest(socket)]);
    assert.deepEqual(got, { hash: sent, bytes: 100_000_000 });
  });
});
