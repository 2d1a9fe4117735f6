// Peers that want to cost us more than they pay (CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2024-27316, CVE-2025-8671):
// each is told to calm down and cut, while another tunnel of the same worker carries on.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FRAME_FLAG, FRAME_TYPE, H2_ERROR } from '../src/h2/index.ts';
import { dial, readBytes, serve, serveEcho } from './apps.ts';
import { meshCertificates } from './mini-mesh.ts';
import { dataFrame, frame, pingFrame, RawPeer, rstStream, settingsFrame, uint32 } from './raw-peer.ts';
import { type Mesh, withMesh } from './with-mesh.ts';

/** Runs the attack beside a stream that must notice nothing. */
async function attack(
  run: (peer: RawPeer, authority: string, mesh: Mesh) => Promise<void> | void,
  expected: { readonly code: number; readonly reason: string },
): Promise<void> {
  await using app = await serveEcho();
  await withMesh({}, async mesh => {
    const bystander = await dial(mesh.to(app.port));
    const say = async (text: string): Promise<void> => {
      bystander.write(text);
      assert.equal((await readBytes(bystander, text.length)).toString(), text);
    };
    await say('before');
    const peer = await RawPeer.connect(mesh.server.port, await meshCertificates());
    await peer.until(() => peer.all(FRAME_TYPE.SETTINGS).length === 2, 'SETTINGS and their ACK');
    await run(peer, `127.0.0.1:${app.port}`, mesh);
    await say('during');
    await mesh.driver.until(() => mesh.server.tunnelEnds.length === 1, 'the attacker is cut');
    assert.equal(mesh.server.tunnelEnds[0]?.reason, expected.reason);
    await peer.until(() => peer.goaways.length === 1, 'GOAWAY');
    assert.equal(peer.goaways[0]?.code, expected.code);
    peer.close();
    await say('after');
    assert.equal(mesh.server.tunnels.size, 1);
    bystander.destroy();
  });
}

function repeat(count: number, make: (i: number) => Buffer): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, i) => make(i)));
}

const CALM = { code: H2_ERROR.ENHANCE_YOUR_CALM, reason: 'hbone.flood' };

describe('floods', () => {
  test('PING', () => attack(peer => peer.send(repeat(3000, () => pingFrame())), CALM));
  test('SETTINGS', () => attack(peer => peer.send(repeat(200, () => settingsFrame([]))), CALM));
  test('PRIORITY', () =>
    attack(peer => peer.send(repeat(3000, () => frame(FRAME_TYPE.PRIORITY, 0, 1, Buffer.alloc(5)))), CALM));
  test('unknown frames', () => attack(peer => peer.send(repeat(3000, () => frame(0xbe, 0, 0))), CALM));

  test('requests that are reset at once', () =>
    attack((peer, _authority, { server }) => {
      server.onStream = stream => void stream; // still deciding
      peer.send(repeat(3000, i => Buffer.concat([peer.requestFrame(1 + 2 * i, 'x:1'), rstStream(1 + 2 * i, 8)])));
    }, CALM));

  test('requests that make us reset them', () =>
    attack(peer => {
      // A CONNECT with :path: malformed, so each costs us a RST_STREAM.
      const block = Buffer.concat([
        Buffer.of(0x02, 7),
        Buffer.from('CONNECT'),
        Buffer.of(0x84, 0x01, 1),
        Buffer.from('x'),
      ]);
      peer.send(repeat(500, i => frame(FRAME_TYPE.HEADERS, 4, 1 + 2 * i, block)));
    }, CALM));

  test('DATA without bytes', () =>
    attack(async (peer, authority) => {
      peer.send(peer.requestFrame(1, authority));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS, 1).length === 1, 'answer');
      peer.send(repeat(1000, () => dataFrame(1, Buffer.alloc(0))));
    }, CALM));

  test('window updates of one byte', () =>
    attack(async (peer, authority) => {
      peer.send(peer.requestFrame(1, authority));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS, 1).length === 1, 'answer');
      peer.send(repeat(20_000, () => frame(FRAME_TYPE.WINDOW_UPDATE, 0, 1, uint32(1))));
    }, CALM));

  test('CONTINUATION without end', () =>
    attack(
      peer => {
        peer.send(
          peer.requestFrame(1, 'x:1', 0),
          repeat(1000, () => frame(FRAME_TYPE.CONTINUATION, 0, 1)),
        );
      },
      { code: H2_ERROR.ENHANCE_YOUR_CALM, reason: 'hbone.header_limit' },
    ));

  test('a header list that HPACK blows up is a 431, and the tunnel goes on', async () => {
    await withMesh({}, async ({ server }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      // One entry of 4 000 bytes enters the table; each further byte of the block stands for all of it.
      const name = Buffer.concat([
        Buffer.of(0x40, 1),
        Buffer.from('a'),
        Buffer.of(0x7f, 0xa1, 0x1e),
        Buffer.alloc(4000, 98),
      ]);
      const block = Buffer.concat([name, Buffer.alloc(12_000, 0xbe)]);
      peer.send(frame(FRAME_TYPE.HEADERS, FRAME_FLAG.END_HEADERS, 1, block));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS, 1).length === 1, 'the answer');
      assert.deepEqual(server.badRequests, [{ status: 431, reason: 'hbone.header_limit' }]);
      assert.deepEqual(peer.resets(1), [H2_ERROR.NO_ERROR]);
      assert.equal(server.tunnels.size, 1);
      peer.close();
    });
  });

  test('a peer that makes us answer and never reads is cut, with its bytes in bounds', async () => {
    await using stuck = await serve(() => undefined);
    await using app = await serveEcho();
    await withMesh({}, async mesh => {
      const { server, driver } = mesh;
      const bystander = await dial(mesh.to(app.port));
      bystander.write('before');
      await readBytes(bystander, 6);
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      await peer.until(() => peer.all(FRAME_TYPE.SETTINGS).length === 2, 'SETTINGS and their ACK');
      peer.socket.pause();
      // 404 is not what we say, but a request with a bad method costs us a header block and a reset of ours.
      const get = Buffer.concat([Buffer.of(0x82, 0x87, 0x84, 0x01, 1), Buffer.from('x')]);
      let id = 1;
      let highest = 0;
      await driver.until(() => {
        if (peer.socket.writableLength < 1_000_000) {
          peer.send(repeat(2000, () => frame(FRAME_TYPE.HEADERS, 4, (id += 2), get)));
        }
        highest = Math.max(highest, server.engine.budget.usedBytes);
        return server.tunnelEnds.length === 1;
      }, 'the attacker is cut');
      assert.deepEqual(server.tunnelEnds, [
        { reason: 'hbone.flood', error: 'the peer does not read what it makes us answer' },
      ]);
      assert.ok(highest <= 4 * 1024 * 1024, `held ${highest} bytes`);
      bystander.write('after');
      assert.equal((await readBytes(bystander, 5)).toString(), 'after');
      bystander.destroy();
      peer.close();
      assert.equal(stuck.accepted, 0);
    });
  });
});
