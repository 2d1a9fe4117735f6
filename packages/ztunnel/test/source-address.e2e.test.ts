// What an application learns of its client: the client's own address on the socket, or in a PROXY header (hbone.md sections
// 9 and 10), with nginx as an application that reads such headers.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Pod, SANDBOX_DIR, sandboxSkip } from '@ambit/testbed';
import { makeMesh, type Mesh, startOurs } from './e2e-mesh.ts';
import { echo, Net, readBytes } from './e2e-net.ts';
import { missing } from './peer-programs.ts';

const ECHO = 7000;
const WEB = 80;
const PROXIED = 15_088;

async function seenBy(peers: Net, client: Pod, server: Pod, ip: string, sockets: Socket[]): Promise<string> {
  const socket = await peers.connect(client, ip, ECHO);
  await echo(socket, `hello ${server.name}`);
  socket.destroy();
  return sockets.at(-1)?.remoteAddress?.replace('::ffff:', '') ?? 'nobody';
}

for (const preserve of ['true', 'false', undefined]) {
  describe(`the client's address, ENABLE_ORIG_SRC ${preserve ?? 'unset'}`, { skip: sandboxSkip() }, () => {
    let mesh: Mesh;
    let peers: Net;
    let web: Pod;
    let cart: Pod;
    let outside: Pod;
    const accepted: Socket[] = [];

    before(async () => {
      mesh = await makeMesh();
      peers = new Net();
      const { bed } = mesh;
      web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
      cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
      outside = await bed.addPod({ node: 'n1', name: 'outside', namespace: 'plain', enrolled: false });
      peers.serve(cart, ECHO, socket => {
        accepted.push(socket);
        socket.pipe(socket);
      });
      const env = { ENABLE_ORIG_SRC: preserve };
      await Promise.all([startOurs(bed, 'n1', { env }), startOurs(bed, 'n2', { env })]);
    });

    after(async () => {
      await mesh[Symbol.asyncDispose]();
      await peers[Symbol.asyncDispose]();
    });

    test(preserve === 'false' ? 'is hidden from the application' : 'is what the application sees', async () => {
      for (const [ip, of] of [
        [cart.ip4, (pod: Pod) => pod.ip4],
        [cart.ip6, (pod: Pod) => pod.ip6],
      ] as const) {
        for (const client of [web, outside]) {
          const seen = await seenBy(peers, client, cart, ip, accepted);
          if (preserve === 'false') assert.notEqual(seen, of(client), `${client.name} to ${ip}`);
          else assert.equal(seen, of(client), `${client.name} to ${ip}`);
        }
      }
    });
  });
}

describe('an application behind a PROXY tunnel', { skip: sandboxSkip() }, () => {
  let mesh: Mesh;
  let peers: Net;
  let web: Pod;
  let cart: Pod;
  let raw: Pod;
  const arrived = Promise.withResolvers<Socket>();

  before(async () => {
    mesh = await makeMesh();
    peers = new Net();
    const { bed } = mesh;
    const applicationTunnel = { protocol: 'PROXY' as const, port: PROXIED };
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart', applicationTunnel });
    raw = await bed.addPod({ node: 'n2', name: 'raw', namespace: 'shop', serviceAccount: 'raw', applicationTunnel });
    peers.serve(raw, PROXIED, socket => arrived.resolve(socket));
    await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  test('hears from whom a connection is and where it was going', { skip: missing('nginx', 'curl') }, async () => {
    const directory = await mkdtemp(join(SANDBOX_DIR, 'nginx-'));
    const said =
      '$proxy_protocol_addr $proxy_protocol_server_addr:$proxy_protocol_server_port from $realip_remote_addr';
    const configuration = `
      daemon off; pid ${directory}/pid; error_log ${directory}/error.log; worker_processes 1;
      events {}
      http {
        access_log off; client_body_temp_path ${directory}/b; proxy_temp_path ${directory}/p;
        fastcgi_temp_path ${directory}/f; uwsgi_temp_path ${directory}/u; scgi_temp_path ${directory}/s;
        server { listen 127.0.0.1:${PROXIED} proxy_protocol; listen [::1]:${PROXIED} proxy_protocol;
          location / { return 200 "${said}"; } }
      }`;
    await writeFile(join(directory, 'nginx.conf'), configuration);
    const nginx = cart.exec('nginx', ['-c', join(directory, 'nginx.conf'), '-p', directory]);
    await cart.run('sh', [
      '-c',
      `until curl -s -o /dev/null --haproxy-protocol http://127.0.0.1:${PROXIED}/; do :; done`,
    ]);
    const v4 = await web.run('curl', ['-sS', '--max-time', '8', '--noproxy', '*', `http://${cart.ip4}:${WEB}/`]);
    assert.equal(v4.stdout, `${web.ip4} ${cart.ip4}:${WEB} from 127.0.0.1`, v4.stderr);
    const v6 = await web.run('curl', ['-sS', '--max-time', '8', '--noproxy', '*', `http://[${cart.ip6}]:${WEB}/`]);
    assert.equal(v6.stdout, `${web.ip6} ${cart.ip6}:${WEB} from ::1`, v6.stderr);
    nginx.kill();
    await once(nginx, 'exit');
  });

  test('is told the identity its client proved', async () => {
    const socket = await peers.connect(web, raw.ip4, WEB);
    socket.write('first words');
    const server = await arrived.promise;
    const header = await readBytes(server, 16 + 12);
    assert.equal(header.subarray(0, 14).toString('hex'), '0d0a0d0a000d0a515549540a2111');
    const tlv = await readBytes(server, header.readUInt16BE(14) - 12);
    assert.equal(tlv[0], 0xd0);
    assert.equal(tlv.subarray(3).toString(), 'spiffe://cluster.local/ns/shop/sa/web');
    assert.equal((await readBytes(server, 11)).toString(), 'first words');
    socket.destroy();
  });
});
