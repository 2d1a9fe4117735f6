// Node proxies that follow a control plane (grpc-js, over a unix socket that reaches into every network namespace): policies
// take effect on open connections, and nothing is lost while the control plane is away.
import assert from 'node:assert/strict';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Pod, SANDBOX_DIR, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { Action, ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL, encodeAuthorization, Scope } from '@ambit/wire/resources';
import { type PeerStream, XdsPeer } from '../../wire/test/xds-peer.ts';
import { awaitLine, makeMesh, type Mesh, startOurs } from './e2e-mesh.ts';
import { echo, endingOf, Net, tryEcho } from './e2e-net.ts';

const OPEN = 7000;
const CLOSED = 7001;
const NAME = 'shop/no-7001';
const DENY_PORT = encodeAuthorization({
  name: 'no-7001',
  namespace: 'shop',
  scope: Scope.NAMESPACE,
  action: Action.DENY,
  groups: [{ rules: [{ matches: [{ destinationPorts: [CLOSED] }] }] }],
});

describe('a mesh that lives on xDS', { skip: sandboxSkip() }, () => {
  let mesh: Mesh;
  let peers: Net;
  let control: XdsPeer;
  let path: string;
  let ztunnels: readonly [ZtunnelProcess, ZtunnelProcess];
  let web: Pod;
  let cart: Pod;
  const streams: PeerStream[] = [];
  let nonce = 0;

  /** A control plane that has no policies yet; workloads come from the bed's file, which is read beside it. */
  async function startControl(): Promise<void> {
    control = await XdsPeer.start({ unixPath: path });
    control.onStream = stream => {
      streams.push(stream);
      stream.sendResources(ADDRESS_TYPE_URL, `first-${++nonce}`, []);
      stream.sendResources(AUTHORIZATION_TYPE_URL, `first-${++nonce}`, []);
    };
  }

  function push(resources: readonly { name: string; value: Uint8Array }[], removed: string[]): void {
    for (const stream of streams) stream.sendResources(AUTHORIZATION_TYPE_URL, `push-${++nonce}`, resources, removed);
  }

  before(async () => {
    mesh = await makeMesh();
    peers = new Net();
    path = join(await mkdtemp(join(SANDBOX_DIR, 'xds-')), 'socket');
    await startControl();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    for (const port of [OPEN, CLOSED]) peers.serve(cart, port, socket => void socket.pipe(socket));
    const env = { XDS_ADDRESS: `unix:${path}` };
    ztunnels = await Promise.all([startOurs(bed, 'n1', { env }), startOurs(bed, 'n2', { env })]);
  });

  after(async () => {
    control.stop();
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  test('a pushed policy cuts what it denies and leaves the rest alone; its removal lets in again', async () => {
    const kept = await peers.connect(web, cart.ip4, OPEN);
    const cut = await peers.connect(web, cart.ip4, CLOSED);
    for (const socket of [kept, cut]) await echo(socket, 'before');
    const ending = endingOf(cut);
    push([{ name: NAME, value: DENY_PORT }], []);
    assert.match(await ending, /ECONNRESET|end|close/);
    await awaitLine(ztunnels[1], ({ error }) => error === 'connection closed due to policy change');
    await echo(kept, 'after');
    kept.destroy();
    assert.notEqual(await tryEcho(peers, web, cart.ip4, CLOSED), 'ok');
    push([], [NAME]);
    await Promise.all(
      ztunnels.map(async z => awaitLine(z, ({ message }) => message === `handling RBAC delete ${NAME}`)),
    );
    assert.equal(await tryEcho(peers, web, cart.ip4, CLOSED), 'ok');
  });

  test('traffic does not notice that the control plane died, and its successor is told what is known', async () => {
    push([{ name: NAME, value: DENY_PORT }], []);
    await Promise.all(
      ztunnels.map(async z => awaitLine(z, ({ message }) => message === `handling RBAC update ${NAME}`)),
    );
    const socket = await peers.connect(web, cart.ip4, OPEN);
    await echo(socket, 'before');
    streams.length = 0;
    control.stop();
    await echo(socket, 'away');
    assert.equal(await tryEcho(peers, web, cart.ip4, OPEN), 'ok');
    assert.notEqual(await tryEcho(peers, web, cart.ip4, CLOSED), 'ok');
    await startControl();
    for (const stream of [await control.nextStream(), await control.nextStream()]) {
      const [, policies] = await stream.received(2);
      assert.deepEqual(policies?.initialResourceVersions, { [NAME]: '1' });
    }
    await echo(socket, 'back');
    socket.destroy();
  });
});
