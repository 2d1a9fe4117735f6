// Our node proxies on a control plane with istiod's habits (istiod-like.ts): they become ready, serve traffic, and nothing
// of theirs notices that their streams are ended every two seconds.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Ip, ipToBytes, parseIp } from '@ambit/mesh';
import { type Pod, sandboxSkip, type Testbed, type ZtunnelProcess } from '@ambit/testbed';
import {
  Action,
  ADDRESS_TYPE_URL,
  AUTHORIZATION_TYPE_URL,
  encodeAddress,
  encodeAuthorization,
  Scope,
  TunnelProtocol,
} from '@ambit/wire/resources';
import { ECHO, Load, makeBed, scratch, serveEcho, until } from './control-mesh.ts';
import { awaitLine, linesOf, type LogLine, startOurs } from './e2e-mesh.ts';
import { echo, endingOf, Net, tryEcho } from './e2e-net.ts';
import { IstiodLike } from './istiod-like.ts';

const HOST = '10.61.0.1';
const CLOSED = 7001;
/** Makes the first response larger than four megabytes, where gRPC's clients stop by default. */
const FILLERS = 8000;
const MAX_AGE_MS = 2000;
const LAG = 2;
const CART = 'cart.shop.svc.cluster.local';
const DENY = encodeAuthorization({
  name: 'no-7001',
  namespace: 'shop',
  scope: Scope.NAMESPACE,
  action: Action.DENY,
  groups: [{ rules: [{ matches: [{ destinationPorts: [CLOSED] }] }] }],
});
const ID = (pod: Pod) => `spiffe://cluster.local/ns/${pod.namespace}/sa/${pod.serviceAccount}`;
const uidOf = ({ namespace, name }: Pod) => `Kubernetes//Pod/${namespace}/${name}`;

describe('node proxies on a control plane like istiod', { skip: sandboxSkip() }, () => {
  let bed: Testbed;
  let peers: Net;
  let istiod: IstiodLike;
  let tokenPath: string;
  let ztunnels: readonly [ZtunnelProcess, ZtunnelProcess];
  let nodes: readonly string[];
  let web: Pod;
  let cart: Pod;

  before(async () => {
    bed = await makeBed();
    peers = new Net();
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    const { vips } = await bed.addService({ name: 'cart', namespace: 'shop', ports: { 80: ECHO } });
    for (const pod of [web, cart]) for (const port of [ECHO, CLOSED]) serveEcho(peers, pod, port);
    istiod = await IstiodLike.start({ host: HOST, maxAgeMs: MAX_AGE_MS, lag: LAG });
    istiod.tokens.add('first-token');
    const fillers = Array.from({ length: FILLERS }, (_, i) => filler(i));
    assert.ok(fillers.reduce((sum, [, value]) => sum + value.length, 0) > 4 << 20);
    istiod.change({
      addresses: {
        ...Object.fromEntries(fillers),
        [`shop/${CART}`]: serviceOf(vips.map(({ ip }) => ip)),
        [uidOf(web)]: workloadOf(web),
        [uidOf(cart)]: workloadOf(cart, true),
      },
    });
    const directory = await scratch('istiod');
    tokenPath = join(directory, 'token');
    const rootPath = join(directory, 'root-cert.pem');
    await writeFile(tokenPath, 'first-token', { mode: 0o600 });
    await writeFile(rootPath, istiod.rootsPem);
    const env = {
      LOCAL_XDS_PATH: undefined,
      XDS_ADDRESS: istiod.url,
      CA_ADDRESS: istiod.url,
      XDS_ROOT_CA: rootPath,
      CA_ROOT_CA: rootPath,
      ALT_XDS_HOSTNAME: istiod.hostname,
      ALT_CA_HOSTNAME: istiod.hostname,
      AUTH_TOKEN: tokenPath,
    };
    ztunnels = await Promise.all([startOurs(bed, 'n1', { env }), startOurs(bed, 'n2', { env })]);
    nodes = [...new Set(istiod.streams.map(({ node }) => node))];
    assert.equal(nodes.length, 2);
  });

  after(async () => {
    await bed.close();
    await peers[Symbol.asyncDispose]();
    istiod[Symbol.dispose]();
  });

  test('they get certificates once the authority knows their pods, and carry traffic both ways', async () => {
    for (const [from, to] of [
      [web, cart],
      [cart, web],
    ] as const) {
      await until(async () => (await tryEcho(peers, from, to.ip4, ECHO)) === 'ok', `${from.name} reaches ${to.name}`);
      const isIt = (line: LogLine) => line['src.identity'] === ID(from) && line['dst.identity'] === ID(to);
      const receiver = ztunnels[to === cart ? 1 : 0];
      await awaitLine(receiver, line => line.direction === 'inbound' && isIt(line));
    }
    for (const { ip } of bed.services[0]?.vips ?? []) assert.equal(await tryEcho(peers, web, ip, 80), 'ok');
    for (const pod of [web, cart]) {
      assert.equal(istiod.refused.get(ID(pod)), LAG);
      assert.equal(istiod.issued.get(ID(pod)), 1);
    }
  });

  test('connections old and new do not notice that each stream is ended after two seconds', async () => {
    const kept = await peers.connect(web, cart.ip4, ECHO);
    const load = new Load(peers, web, [cart.ip4, ECHO], { pauseMs: 10 });
    const first = istiod.streams.length;
    for (let turn = 0; turn < 3; turn++) {
      await istiod.reconnected(nodes, 1);
      await echo(kept, `turn ${turn}`);
    }
    const { failures, fresh } = await load.stop();
    assert.deepEqual(failures, []);
    assert.ok(fresh > 50);
    kept.destroy();
    // Who came back brought all that it knew, and so was not told it again.
    for (const { brought } of istiod.streams.slice(first)) {
      assert.equal(Object.keys(brought.get(ADDRESS_TYPE_URL) ?? {}).length, FILLERS + 3);
    }
    for (const pod of [web, cart]) assert.equal(istiod.issued.get(ID(pod)), 1, 'certificates outlive streams');
  });

  test('a policy that is pushed takes effect, and one that went away between two streams is forgotten', async () => {
    const kept = await peers.connect(web, cart.ip4, ECHO);
    const cut = await peers.connect(web, cart.ip4, CLOSED);
    for (const socket of [kept, cut]) await echo(socket, 'before');
    const ending = endingOf(cut);
    istiod.change({ policies: { 'shop/no-7001': DENY } });
    assert.match(await ending, /ECONNRESET|end|close/);
    await istiod.reconnected(nodes, 1);
    await istiod.settled(2);
    assert.notEqual(await tryEcho(peers, web, cart.ip4, CLOSED), 'ok', 'it stays over a reconnect');
    for (const { brought } of istiod.streams.slice(-1)) {
      assert.deepEqual(brought.get(AUTHORIZATION_TYPE_URL), { 'shop/no-7001': '' }, 'policies have no versions');
    }
    istiod.change({ policies: { 'shop/no-7001': undefined } });
    await until(async () => (await tryEcho(peers, web, cart.ip4, CLOSED)) === 'ok', 'it is forgotten');
    await echo(kept, 'after');
    kept.destroy();
  });

  test('a pod that comes is reached once its certificate is there, and one that was removed no more', async () => {
    const late = await bed.addPod({ node: 'n2', name: 'late', namespace: 'shop', serviceAccount: 'late' });
    serveEcho(peers, late);
    istiod.change({ addresses: { [uidOf(late)]: workloadOf(late) } });
    const isIt = (line: LogLine) => line['src.identity'] === ID(web) && line['dst.identity'] === ID(late);
    await until(async () => {
      await tryEcho(peers, web, late.ip4, ECHO);
      return linesOf(ztunnels[1]).some(line => line.direction === 'inbound' && isIt(line));
    }, 'the new pod is reached through the mesh');
    assert.equal(istiod.refused.get(ID(late)), LAG);
    await late.delete();
    // What nobody knew of is removed in the same breath.
    istiod.change({ addresses: { [uidOf(late)]: undefined, 'Kubernetes//Pod/shop/never': undefined } });
    await istiod.settled(2);
    await istiod.reconnected(nodes, 1);
    for (const { brought } of istiod.streams.slice(-1)) {
      assert.equal(brought.get(ADDRESS_TYPE_URL)?.[uidOf(late)], undefined);
    }
    assert.equal(await tryEcho(peers, web, cart.ip4, ECHO), 'ok');
  });

  test('a new token is taken with the next stream, and the old one is not missed', async () => {
    istiod.tokens.add('second-token');
    await writeFile(tokenPath, 'second-token', { mode: 0o600 });
    await istiod.reconnected(nodes, 2);
    istiod.tokens.delete('first-token');
    await istiod.reconnected(nodes, 1);
    for (const node of nodes) {
      assert.equal(istiod.streams.findLast(stream => stream.node === node)?.token, 'second-token');
    }
  });

  test('what was not asked for is refused and harms nothing; each response is answered once, with its nonce', async () => {
    const strange = 'type.googleapis.com/envoy.config.cluster.v3.Cluster';
    istiod.pushStrange(strange);
    await istiod.settled(2);
    assert.equal(await tryEcho(peers, web, cart.ip4, ECHO), 'ok');
    assert.deepEqual(
      new Set(istiod.streams.flatMap(({ nacks }) => nacks.map(({ typeUrl }) => typeUrl))),
      new Set([strange]),
    );
    assert.deepEqual(
      istiod.streams.flatMap(stream => stream.strange),
      [],
    );
    for (const ztunnel of ztunnels) assert.equal(ztunnel.isRunning, true);
  });
});

function workloadOf(pod: Pod, isCart = false): Uint8Array {
  return encodeAddress({
    type: {
      case: 'workload',
      value: {
        uid: uidOf(pod),
        name: pod.name,
        namespace: pod.namespace,
        serviceAccount: pod.serviceAccount,
        node: pod.node.name,
        addresses: [pod.ip4, pod.ip6].map(bytesOf),
        tunnelProtocol: TunnelProtocol.HBONE,
        clusterId: 'Kubernetes',
        workloadName: pod.name,
        canonicalName: pod.name,
        services: isCart ? { [`shop/${CART}`]: { ports: [{ servicePort: 80, targetPort: ECHO }] } } : {},
      },
    },
  });
}

function serviceOf(vips: readonly Ip[]): Uint8Array {
  return encodeAddress({
    type: {
      case: 'service',
      value: {
        name: 'cart',
        namespace: 'shop',
        hostname: CART,
        canonical: true,
        addresses: vips.map(ip => ({ network: '', address: ipToBytes(ip) })),
        ports: [{ servicePort: 80, targetPort: ECHO }],
      },
    },
  });
}

/** A pod somewhere else, as large meshes have many. */
function filler(i: number): readonly [string, Uint8Array] {
  const uid = `Kubernetes//Pod/elsewhere/filler-${i}-7d9f8b6c5-${i.toString(36).padStart(5, '0')}`;
  const value = {
    uid,
    name: `filler-${i}`,
    namespace: 'elsewhere',
    serviceAccount: `filler-${i % 500}`,
    node: `node-${i % 1000}`,
    addresses: [Uint8Array.of(10, 128 + (i >> 16), (i >> 8) & 255, i & 255)],
    tunnelProtocol: TunnelProtocol.HBONE,
    clusterId: 'Kubernetes',
    workloadName: `filler-${i}`,
    canonicalName: `filler-${i}`,
    canonicalRevision: 'latest',
    locality: { region: 'region-'.repeat(30), zone: 'zone-'.repeat(20), subzone: 'subzone-'.repeat(10) },
  };
  return [uid, encodeAddress({ type: { case: 'workload', value } })];
}

function bytesOf(text: string): Uint8Array {
  const ip = parseIp(text);
  if (ip === undefined) throw new Error(`no address: ${text}`);
  return ipToBytes(ip);
}
