// Authorization policies at the node proxies: what is denied, what both logs say, and what a change does to connections
// that are open.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, afterEach, before, describe, test } from 'node:test';
import { createMatch } from '@ambit/mesh';
import { type BedPolicy, type Pod, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { awaitLine, type LogLine, makeMesh, type Mesh, startOurs, usePolicies } from './e2e-mesh.ts';
import { echo, endingOf, Net, tryEcho } from './e2e-net.ts';

const OPEN = 7000;
const CLOSED = 7001;

const DENY_PORT: BedPolicy = {
  name: 'no-7001',
  namespace: 'shop',
  action: 'Deny',
  rules: [[[createMatch({ destinationPorts: [CLOSED] })]]],
};

describe('policies of the mesh', { skip: sandboxSkip() }, () => {
  let mesh: Mesh;
  let peers: Net;
  let ztunnels: readonly [ZtunnelProcess, ZtunnelProcess];
  let web: Pod;
  let admin: Pod;
  let cart: Pod;
  let outside: Pod;
  let reached = 0;

  before(async () => {
    mesh = await makeMesh();
    peers = new Net();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    admin = await bed.addPod({ node: 'n1', name: 'admin', namespace: 'ops', serviceAccount: 'admin' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    outside = await bed.addPod({ node: 'n1', name: 'outside', namespace: 'plain', enrolled: false });
    for (const port of [OPEN, CLOSED]) {
      peers.serve(cart, port, socket => {
        reached++;
        socket.pipe(socket);
      });
    }
    ztunnels = await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  afterEach(async () => usePolicies(mesh.bed, ztunnels, []));

  test('a denied port is refused with 401 before the application hears of it, and both logs name the reason', async () => {
    await usePolicies(mesh.bed, ztunnels, [DENY_PORT]);
    const asked = reached;
    assert.notEqual(await tryEcho(peers, web, cart.ip4, CLOSED), 'ok');
    assert.equal(reached, asked);
    assert.equal(await tryEcho(peers, web, cart.ip4, OPEN), 'ok');
    const authority = `${cart.ip4}:${CLOSED}`;
    const [onN1, onN2] = ztunnels;
    const client = await awaitLine(onN1, l => l['dst.hbone_addr'] === authority);
    assert.equal(client.error, 'http status: 401 Unauthorized');
    assert.equal(client.level, 'error');
    const server = await awaitLine(onN2, l => l['dst.hbone_addr'] === authority);
    assert.equal(server.error, 'connection closed due to policy rejection: explicitly denied by: shop/no-7001');
    assert.equal(server['src.identity'], 'spiffe://cluster.local/ns/shop/sa/web');
  });

  test('the denial holds for plain traffic of peers without identity', async () => {
    await usePolicies(mesh.bed, ztunnels, [DENY_PORT]);
    assert.notEqual(await tryEcho(peers, outside, cart.ip4, CLOSED), 'ok');
    assert.notEqual(await tryEcho(peers, outside, cart.ip6, CLOSED), 'ok');
    assert.equal(await tryEcho(peers, outside, cart.ip4, OPEN), 'ok');
  });

  test('an allow policy for another principal refuses everybody else', async () => {
    const principals = [{ kind: 'exact' as const, value: 'cluster.local/ns/ops/sa/admin' }];
    const rules = [[[createMatch({ principals })]]];
    await usePolicies(mesh.bed, ztunnels, [{ name: 'ops-only', namespace: 'shop', app: 'cart', rules }]);
    assert.equal(await tryEcho(peers, admin, cart.ip4, OPEN), 'ok');
    assert.notEqual(await tryEcho(peers, web, cart.ip4, OPEN), 'ok');
    assert.notEqual(await tryEcho(peers, outside, cart.ip4, OPEN), 'ok');
    const none = 'connection closed due to policy rejection: allow policies exist, but none allowed';
    const line = await awaitLine(
      ztunnels[1],
      l => l.error === none && l['src.identity'] === 'spiffe://cluster.local/ns/shop/sa/web',
    );
    assert.equal(line['dst.hbone_addr'], `${cart.ip4}:${OPEN}`);
  });

  test('a new policy cuts the open connections it denies and leaves the others alone', async () => {
    const kept = await peers.connect(web, cart.ip4, OPEN);
    const cut = await peers.connect(web, cart.ip4, CLOSED);
    const cutPlain = await peers.connect(outside, cart.ip4, CLOSED);
    for (const socket of [kept, cut, cutPlain]) await echo(socket, 'before');
    const endings = Promise.all([endingOf(cut), endingOf(cutPlain)]);
    await usePolicies(mesh.bed, ztunnels, [DENY_PORT]);
    for (const ending of await endings) assert.match(ending, /ECONNRESET|end|close/);
    await echo(kept, 'after');
    kept.end();
    assert.equal(await endingOf(kept), 'end');
    const changed = 'connection closed due to policy change';
    const from = (pod: Pod) => (l: LogLine) => l.error === changed && String(l['src.addr']).startsWith(`${pod.ip4}:`);
    await Promise.all([awaitLine(ztunnels[1], from(web)), awaitLine(ztunnels[1], from(outside))]);
  });

  test('an unrelated change of policies leaves open connections alone', async () => {
    const socket = await peers.connect(web, cart.ip4, OPEN);
    await echo(socket, 'before');
    let isClosed = false;
    void once(socket, 'close').then(() => (isClosed = true));
    const rules = [[[createMatch({ destinationPorts: [OPEN] })]]];
    await usePolicies(mesh.bed, ztunnels, [{ name: 'elsewhere', namespace: 'ops', action: 'Deny', rules }]);
    await echo(socket, 'after');
    assert.equal(isClosed, false);
    socket.destroy();
  });

  test('a dry run denies nothing', async () => {
    await usePolicies(mesh.bed, ztunnels, [{ ...DENY_PORT, dryRun: true }]);
    assert.equal(await tryEcho(peers, web, cart.ip4, CLOSED), 'ok');
    const nobody = [{ kind: 'exact' as const, value: 'cluster.local/ns/no/sa/body' }];
    const allow: BedPolicy = {
      name: 'try',
      namespace: 'shop',
      dryRun: true,
      rules: [[[createMatch({ principals: nobody })]]],
    };
    await usePolicies(mesh.bed, ztunnels, [{ ...DENY_PORT, dryRun: true }, allow]);
    assert.equal(await tryEcho(peers, web, cart.ip4, OPEN), 'ok');
    assert.equal(await tryEcho(peers, outside, cart.ip4, CLOSED), 'ok');
  });
});
