// The SOCKS5 port of an enrolled pod, with curl as the client: targets by address, what a client hears when its target
// cannot be had, and clients that break the protocol.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import { type Pod, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { awaitNewLine, makeMesh, type Mesh, startOurs, usePolicies } from './e2e-mesh.ts';
import { endingOf, Net, readBytes, tryEcho } from './e2e-net.ts';

const WEB = 8080;
const ECHO = 7000;
const SOCKS = 15_080;
const HELLO = Uint8Array.of(5, 1, 0);

describe('the SOCKS5 port', { skip: sandboxSkip() }, () => {
  let mesh: Mesh;
  let peers: Net;
  let onN1: ZtunnelProcess;
  let onN2: ZtunnelProcess;
  let web: Pod;
  let cart: Pod;
  let outside: Pod;

  before(async () => {
    mesh = await makeMesh();
    peers = new Net();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    outside = await bed.addPod({ node: 'n2', name: 'outside', namespace: 'plain', enrolled: false });
    await bed.addService({ name: 'cart', namespace: 'shop', ports: { 80: WEB }, pods: [cart] });
    for (const pod of [cart, outside]) {
      peers.listen(
        pod,
        WEB,
        http.createServer((_, response) => void response.end(`this is ${pod.name}`)),
      );
      peers.serve(pod, ECHO, socket => void socket.pipe(socket));
    }
    const env = { UNSTABLE_ENABLE_SOCKS5: 'true', ISTIO_META_DNS_CAPTURE: 'true' };
    [onN1, onN2] = await Promise.all([startOurs(bed, 'n1', { env }), startOurs(bed, 'n2', { env })]);
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  async function curl(url: string): Promise<{ readonly code: number | null; readonly text: string }> {
    const args = ['-sS', '--max-time', '8', '--noproxy', '', '--socks5', `127.0.0.1:${SOCKS}`, url];
    const { code, stdout, stderr } = await web.run('curl', args);
    return { code, text: `${stdout}${stderr}` };
  }

  /** What the proxy answers to a client that sends these bytes and waits. */
  async function answerTo(bytes: Uint8Array, size: number): Promise<number[]> {
    const socket = await peers.connect(web, '127.0.0.1', SOCKS);
    // In pieces of one byte each: nothing may rest on how a client writes.
    socket.setNoDelay(true);
    for (const byte of bytes) socket.write(Uint8Array.of(byte));
    const answer = await readBytes(socket, size);
    socket.destroy();
    return [...answer];
  }

  test('a member is reached through the tunnel, over either family, and an outsider plainly', async () => {
    const carried = awaitNewLine(onN2, l => l.direction === 'inbound' && l['src.identity'] !== undefined);
    assert.deepEqual(await curl(`http://${cart.ip4}:${WEB}/`), { code: 0, text: 'this is cart' });
    assert.match(String((await carried)['src.identity']), /\/ns\/shop\/sa\/web$/);
    assert.deepEqual(await curl(`http://[${cart.ip6}]:${WEB}/`), { code: 0, text: 'this is cart' });
    assert.deepEqual(await curl(`http://${outside.ip4}:${WEB}/`), { code: 0, text: 'this is outside' });
  });

  test('a name of the mesh is looked up as the pod would, and one that is none is told as unreachable', async () => {
    const named = async (host: string) => {
      const args = ['-sS', '--max-time', '8', '--noproxy', '', '--socks5-hostname', `127.0.0.1:${SOCKS}`];
      const { code, stdout } = await web.run('curl', [...args, `http://${host}/`]);
      return { code, stdout };
    };
    for (const host of ['cart', 'CART.shop', 'cart.shop.svc.cluster.local']) {
      assert.deepEqual(await named(host), { code: 0, stdout: 'this is cart' }, host);
    }
    assert.equal((await named('nobody.shop.svc.cluster.local')).code, 97);
  });

  test('what a client sends ahead of the answer arrives', async () => {
    for (const pod of [cart, outside]) {
      const socket = await peers.connect(web, '127.0.0.1', SOCKS);
      const address = pod.ip4.split('.').map(Number);
      socket.write(Buffer.from([...HELLO, 5, 1, 0, 1, ...address, ECHO >> 8, ECHO & 255, ...Buffer.from('early')]));
      const answer = await readBytes(socket, 2 + 10 + 5);
      assert.deepEqual([...answer.subarray(0, 12)], [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
      assert.equal(answer.subarray(12).toString(), 'early');
      socket.destroy();
    }
  });

  test('a closed port is told as refused, and the proxy does not go through itself', async () => {
    const request = (port: number, ip: readonly number[]): Uint8Array =>
      Uint8Array.from([...HELLO, 5, 1, 0, 1, ...ip, port >> 8, port & 255]);
    const away = outside.ip4.split('.').map(Number);
    assert.deepEqual(await answerTo(request(9, away), 12), [5, 0, 5, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert.deepEqual(await answerTo(request(SOCKS, [127, 0, 0, 1]), 12), [5, 0, 5, 2, 0, 1, 0, 0, 0, 0, 0, 0]);
  });

  test('a denied client sees its connection end', async () => {
    await usePolicies(mesh.bed, [onN1, onN2], [{ name: 'nobody', namespace: 'shop', app: 'cart', rules: [] }]);
    const { code, text } = await curl(`http://${cart.ip4}:${WEB}/`);
    assert.notEqual(code, 0, text);
    await usePolicies(mesh.bed, [onN1, onN2], []);
  });

  test('whoever breaks the protocol gets status 7 and harms nobody', async () => {
    for (const bytes of [
      [4, 1],
      [5, 0],
      [...HELLO, 5, 2, 0, 1],
      [...HELLO, 9, 1, 0, 1],
      [5, 1, 2],
    ]) {
      const socket = await peers.connect(web, '127.0.0.1', SOCKS);
      socket.write(Uint8Array.from(bytes));
      const chunks: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => chunks.push(chunk));
      await endingOf(socket);
      assert.deepEqual([...Buffer.concat(chunks).subarray(-10)], [5, 7, 0, 1, 0, 0, 0, 0, 0, 0], String(bytes));
      socket.destroy();
    }
    assert.equal((await curl(`http://${cart.ip4}:${WEB}/`)).code, 0);
  });

  test('it is the pod alone that can speak to it', async () => {
    assert.notEqual(await tryEcho(peers, outside, web.ip4, SOCKS), 'ok');
    const other = await peers.connect(outside, web.ip4, SOCKS).catch(() => undefined);
    if (other !== undefined) assert.notEqual(await endingOf(other), 'nothing happened');
  });
});
