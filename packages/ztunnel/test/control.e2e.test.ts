// A mesh that lives on our control plane, as a whole: objects are files, certificates come from its authority, and what
// somebody writes into a file takes effect on two nodes without anybody being restarted.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import { type ControlProcess, type Pod, sandboxSkip, type Testbed, type ZtunnelProcess } from '@ambit/testbed';
import {
  certificatesOf,
  ECHO,
  makeBed,
  peerAuthenticationYaml,
  policyYaml,
  serveEcho,
  startControl,
  until,
  untilSynced,
} from './control-mesh.ts';
import { awaitLine, type LogLine, startOurs } from './e2e-mesh.ts';
import { echo, endingOf, Net, tryEcho } from './e2e-net.ts';

const CLOSED = 7001;
const WEB = 8080;
const ID = (pod: Pod) => `spiffe://cluster.local/ns/${pod.namespace}/sa/${pod.serviceAccount}`;

describe('a mesh that lives on our control plane', { skip: sandboxSkip() }, () => {
  let bed: Testbed;
  let peers: Net;
  let control: ControlProcess;
  let onN1: ZtunnelProcess;
  let onN2: ZtunnelProcess;
  let web: Pod;
  let cart: Pod;
  let outside: Pod;

  before(async () => {
    bed = await makeBed();
    peers = new Net();
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    outside = await bed.addPod({ node: 'n1', name: 'outside', namespace: 'plain', enrolled: false });
    await bed.addService({ name: 'cart', namespace: 'shop', ports: { 80: WEB } });
    for (const pod of [web, cart]) for (const port of [ECHO, CLOSED]) serveEcho(peers, pod, port);
    for (const pod of [web, cart]) serveWeb(peers, pod);
    control = await startControl(bed);
    [onN1, onN2] = await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
    await untilSynced(control);
  });

  after(async () => {
    await bed.close();
    await peers[Symbol.asyncDispose]();
  });

  /** What curl in a pod gets: the body, or its exit status. */
  async function curl(from: Pod, url: string): Promise<string> {
    const { code, stdout } = await from.run('curl', ['-sS', '--max-time', '5', url]);
    return code === 0 ? stdout : `curl ended with ${code}`;
  }

  test('pods reach each other both ways, by certificates of the control plane', async () => {
    assert.equal(await curl(web, `http://${cart.ip4}:${WEB}/`), 'cart\n');
    assert.equal(await curl(cart, `http://[${web.ip6}]:${WEB}/`), 'web\n');
    const [vip] = bed.services.flatMap(({ vips }) => vips.map(({ ip }) => ip));
    assert.equal(await curl(web, `http://${vip}/`), 'cart\n');
    for (const [client, server, sender, receiver] of [
      [web, cart, onN1, onN2],
      [cart, web, onN2, onN1],
    ] as const) {
      const isOurs = (line: LogLine) => line['src.identity'] === ID(client) && line['dst.identity'] === ID(server);
      await awaitLine(sender, line => line.direction === 'outbound' && isOurs(line));
      await awaitLine(receiver, line => line.direction === 'inbound' && isOurs(line));
    }
    const issued = await certificatesOf(control);
    assert.deepEqual(
      issued.map(({ identity, node }) => `${identity} ${node}`),
      [`${ID(cart)} n2`, `${ID(web)} n1`],
    );
  });

  test('a policy written as YAML cuts what it denies on open connections, and nothing else; removed, it lets in', async () => {
    const kept = await peers.connect(web, cart.ip4, ECHO);
    const cut = await peers.connect(web, cart.ip4, CLOSED);
    for (const socket of [kept, cut]) await echo(socket, 'before');
    const ending = endingOf(cut);
    const to = [{ operation: { ports: [String(CLOSED)] } }];
    await bed.writeObjects('deny.yaml', policyYaml('no-7001', 'shop', { action: 'DENY', rules: [{ to }] }));
    assert.match(await ending, /ECONNRESET|end|close/);
    await awaitLine(onN2, ({ error }) => error === 'connection closed due to policy change');
    await untilSynced(control);
    assert.notEqual(await tryEcho(peers, web, cart.ip4, CLOSED), 'ok');
    assert.equal(await tryEcho(peers, web, cart.ip4, ECHO), 'ok');
    await echo(kept, 'after');
    await bed.writeObjects('deny.yaml', '');
    await untilOk(web, cart.ip4, CLOSED);
    await echo(kept, 'at the end');
    kept.destroy();
  });

  test('an allow policy for one account refuses the others, plain traffic too, until it is rewritten', async () => {
    const only = (account: string) =>
      policyYaml('only', 'shop', {
        selector: { matchLabels: { app: 'cart' } },
        rules: [{ from: [{ source: { principals: [`cluster.local/ns/shop/sa/${account}`] } }] }],
      });
    await bed.writeObjects('only.yaml', only('nobody'));
    await until(async () => (await tryEcho(peers, web, cart.ip4, ECHO)) !== 'ok', 'web is refused');
    assert.equal(await tryEcho(peers, cart, web.ip4, ECHO), 'ok');
    await bed.writeObjects('only.yaml', only('web'));
    await untilOk(web, cart.ip4, ECHO);
    assert.notEqual(await tryEcho(peers, outside, cart.ip4, ECHO), 'ok');
    await bed.writeObjects('only.yaml', '');
    await untilOk(outside, cart.ip4, ECHO);
  });

  test('STRICT refuses plain text on open connections and new ones, and what is encrypted goes on', async () => {
    const kept = await peers.connect(web, cart.ip4, ECHO);
    const plain = await peers.connect(outside, cart.ip4, ECHO);
    for (const socket of [kept, plain]) await echo(socket, 'before');
    const ending = endingOf(plain);
    await bed.writeObjects('strict.yaml', peerAuthenticationYaml('default', 'shop', 'STRICT'));
    assert.match(await ending, /ECONNRESET|end|close/);
    assert.notEqual(await tryEcho(peers, outside, cart.ip4, ECHO), 'ok');
    assert.notEqual(await tryEcho(peers, outside, cart.ip6, ECHO), 'ok');
    assert.equal(await tryEcho(peers, web, cart.ip4, ECHO), 'ok');
    await echo(kept, 'after');
    await bed.writeObjects('strict.yaml', '');
    await untilOk(outside, cart.ip4, ECHO);
    await echo(kept, 'at the end');
    kept.destroy();
  });

  test('a pod and a service added later are reached by their addresses, encrypted, and gone when removed', async () => {
    const late = await bed.addPod({ node: 'n2', name: 'late', namespace: 'shop', serviceAccount: 'late' });
    const { vips } = await bed.addService({ name: 'late', namespace: 'shop', ports: { 80: WEB } });
    serveWeb(peers, late);
    const [vip] = vips.map(({ ip }) => ip);
    await until(async () => (await curl(web, `http://${vip}/`)) === 'late\n', 'the service is known');
    assert.equal(await curl(web, `http://${late.ip4}:${WEB}/`), 'late\n');
    const isOurs = (line: LogLine) => line['src.identity'] === ID(web) && line['dst.identity'] === ID(late);
    await awaitLine(onN2, line => line.direction === 'inbound' && isOurs(line));
    const issued = await certificatesOf(control);
    assert.deepEqual(
      issued.filter(({ identity }) => identity === ID(late)).map(({ node }) => node),
      ['n2'],
    );
    await late.delete();
    await untilSynced(control);
    await until(async () => (await curl(web, `http://${vip}/`)) !== 'late\n', 'the pod is gone');
  });

  /** Waits until a connection gets through: what was allowed again takes a moment to reach the nodes. */
  async function untilOk(from: Pod, ip: string, port: number): Promise<void> {
    await until(async () => (await tryEcho(peers, from, ip, port)) === 'ok', `${from.name} reaches ${ip}:${port}`);
  }
});

/** Answers with the pod's name. */
function serveWeb(peers: Net, pod: Pod): void {
  peers.listen(
    pod,
    WEB,
    http.createServer((_request, response) => void response.end(`${pod.name}\n`)),
  );
}
