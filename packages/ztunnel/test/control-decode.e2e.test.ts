// A control plane (grpc-js) that sends what cannot be read, from its first response on: the node is ready and serves what
// it understood, says what it did not, and lets nobody to a workload whose policy it does not know.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ipToBytes, parseIp } from '@ambit/mesh';
import { type Pod, sandboxSkip } from '@ambit/testbed';
import {
  Action,
  ADDRESS_TYPE_URL,
  AUTHORIZATION_TYPE_URL,
  encodeAddress,
  encodeAuthorization,
  Scope,
  TunnelProtocol,
} from '@ambit/wire/resources';
import { type PeerStream, XdsPeer } from '../../wire/test/xds-peer.ts';
import { awaitRecord, ECHO, scratch, serveEcho, until } from './control-mesh.ts';
import { makeMesh, startOurs } from './e2e-mesh.ts';
import { echo, Net, tryEcho } from './e2e-net.ts';

const POLICY = 'shop/only-web';
const GARBAGE = Uint8Array.of(0xff, 0xff, 0xff, 0xff);
const ALLOW_WEB = encodeAuthorization({
  name: 'only-web',
  namespace: 'shop',
  scope: Scope.WORKLOAD_SELECTOR,
  action: Action.ALLOW,
  groups: [
    {
      rules: [{ matches: [{ principals: [{ matchType: { case: 'exact', value: 'cluster.local/ns/shop/sa/web' } }] }] }],
    },
  ],
});

describe('a control plane that sends what cannot be read', { skip: sandboxSkip() }, () => {
  const closers = new AsyncDisposableStack();
  let peers: Net;
  let control: XdsPeer;
  let records: string;
  let web: Pod;
  let cart: Pod;
  let outside: Pod;
  const streams: PeerStream[] = [];
  let nonce = 0;

  before(async () => {
    peers = closers.use(new Net());
    const { bed } = closers.use(await makeMesh());
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    outside = await bed.addPod({ node: 'n1', name: 'outside', namespace: 'plain', enrolled: false });
    for (const pod of [web, cart]) serveEcho(peers, pod);
    const directory = await scratch('decode');
    records = join(directory, 'records');
    const unixPath = join(directory, 'socket');
    control = await XdsPeer.start({ unixPath });
    closers.defer(() => control.stop());
    control.onStream = stream => {
      streams.push(stream);
      stream.sendResources(ADDRESS_TYPE_URL, `${++nonce}`, [
        workload(web, []),
        { name: 'Kubernetes//Pod/shop/broken', value: GARBAGE },
        workload(cart, [POLICY]),
      ]);
      stream.sendResources(AUTHORIZATION_TYPE_URL, `${++nonce}`, [{ name: POLICY, value: GARBAGE }]);
    };
    const env = { LOCAL_XDS_PATH: undefined, XDS_ADDRESS: `unix:${unixPath}` };
    await Promise.all([
      startOurs(bed, 'n1', { env }),
      startOurs(bed, 'n2', { env: { ...env, AMBIT_RECORDS_PATH: records } }),
    ]);
  });

  after(async () => closers.disposeAsync());

  function push(value: Uint8Array): void {
    for (const stream of streams) stream.sendResources(AUTHORIZATION_TYPE_URL, `${++nonce}`, [{ name: POLICY, value }]);
  }

  test('each resource that does not decode is refused by name', async () => {
    for (const stream of streams) {
      // Two openings, and an answer to each response.
      const answers = (await stream.received(4)).flatMap(({ errorDetail }) => errorDetail?.message ?? []);
      assert.equal(answers.length, 2);
      assert.ok(
        ['Kubernetes//Pod/shop/broken', POLICY].every(name => answers.some(answer => answer.includes(name))),
        answers.join('\n'),
      );
    }
  });

  test('a workload whose policy could not be read refuses everybody, others are reached', async () => {
    assert.equal(await tryEcho(peers, cart, web.ip4, ECHO), 'ok');
    assert.notEqual(await tryEcho(peers, web, cart.ip4, ECHO), 'ok');
    await awaitRecord(records, r => r.direction === 'inbound' && r.reason === 'policy.unknown');
    assert.notEqual(await tryEcho(peers, outside, cart.ip4, ECHO), 'ok');
  });

  test('with the policy it is reached by whom that allows, and a version that cannot be read changes nothing', async () => {
    push(ALLOW_WEB);
    await until(async () => (await tryEcho(peers, web, cart.ip4, ECHO)) === 'ok', 'web is let in');
    assert.notEqual(await tryEcho(peers, outside, cart.ip4, ECHO), 'ok');
    const open = await peers.connect(web, cart.ip4, ECHO);
    await echo(open, 'before');
    push(GARBAGE);
    for (const stream of streams) {
      const refused = async (): Promise<boolean> =>
        Promise.resolve(
          stream.requests.filter(({ errorDetail }) => errorDetail?.message.includes(POLICY)).length === 2,
        );
      await until(refused, 'it is refused');
    }
    await echo(open, 'after');
    open.destroy();
    assert.equal(await tryEcho(peers, web, cart.ip4, ECHO), 'ok');
    assert.notEqual(await tryEcho(peers, outside, cart.ip4, ECHO), 'ok');
  });
});

function workload(pod: Pod, authorizationPolicies: string[]): { readonly name: string; readonly value: Uint8Array } {
  const uid = `Kubernetes//Pod/${pod.namespace}/${pod.name}`;
  const { name, namespace, serviceAccount } = pod;
  const addresses = [pod.ip4, pod.ip6].flatMap(text => {
    const ip = parseIp(text);
    return ip === undefined ? [] : [ipToBytes(ip)];
  });
  const value = { uid, name, namespace, serviceAccount, node: pod.node.name, addresses, authorizationPolicies };
  const hbone = { ...value, clusterId: 'Kubernetes', tunnelProtocol: TunnelProtocol.HBONE };
  return { name: uid, value: encodeAddress({ type: { case: 'workload', value: hbone } }) };
}
