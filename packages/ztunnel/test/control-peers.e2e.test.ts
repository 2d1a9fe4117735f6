// Istio's own ztunnel on our control plane and our authority, beside ours: same objects, same policies, one mesh. Runs when
// ZTUNNEL_BIN names one (a build without its testing feature will do: it gets real certificates here).
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { type ControlProcess, type Pod, sandboxSkip, type Testbed, type ZtunnelProcess } from '@ambit/testbed';
import {
  certificatesOf,
  ECHO,
  makeBed,
  policyYaml,
  serveEcho,
  startControl,
  synczOf,
  until,
  untilSynced,
} from './control-mesh.ts';
import { awaitLine, linesOf, type LogLine, startOurs } from './e2e-mesh.ts';
import { echo, endingOf, Net, readBytes, tryEcho } from './e2e-net.ts';

const binary = process.env['ZTUNNEL_BIN'] ?? '';
const skip = sandboxSkip() || (binary === '' && 'no peer: set ZTUNNEL_BIN');

const CLOSED = 7001;
const SINK = 7002;
const ID = (pod: Pod) => `spiffe://cluster.local/ns/${pod.namespace}/sa/${pod.serviceAccount}`;

/**
 * Ours also asks only for what its pods want to reach. Upstream's cannot well: it waits for an answer that is named by the
 * address, control planes answer with the pod, and so the first connection to each address hangs.
 */
type Kind = 'ours' | 'ours on demand' | 'theirs';

async function start(bed: Testbed, node: string, kind: Kind): Promise<ZtunnelProcess> {
  if (kind === 'ours') return startOurs(bed, node);
  const onDemand = { XDS_ON_DEMAND: 'true', ISTIO_META_DNS_CAPTURE: 'false' };
  if (kind === 'ours on demand') return startOurs(bed, node, { env: onDemand });
  const env = { RUST_LOG: 'info', LOG_FORMAT: 'json', ZTUNNEL_WORKER_THREADS: '1' };
  return bed.startZtunnel(node, { command: [binary], env });
}

for (const kinds of [
  ['ours', 'theirs'],
  ['theirs', 'ours'],
  ['theirs', 'theirs'],
  ['ours on demand', 'theirs'],
] as const) {
  describe(`on our control plane, ${kinds[0]} on n1 and ${kinds[1]} on n2`, { skip }, () => {
    let bed: Testbed;
    let peers: Net;
    let control: ControlProcess;
    let onN1: ZtunnelProcess;
    let onN2: ZtunnelProcess;
    let web: Pod;
    let cart: Pod;

    before(async () => {
      bed = await makeBed();
      peers = new Net();
      web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
      cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
      await bed.addService({ name: 'cart', namespace: 'shop', ports: { 80: ECHO } });
      for (const pod of [web, cart]) for (const port of [ECHO, CLOSED]) serveEcho(peers, pod, port);
      control = await startControl(bed);
      [onN1, onN2] = await Promise.all([start(bed, 'n1', kinds[0]), start(bed, 'n2', kinds[1])]);
      await untilSynced(control);
    });

    after(async () => {
      await bed.close();
      await peers[Symbol.asyncDispose]();
    });

    test('traffic flows both ways, to pods and the service, with certificates of our authority', async () => {
      for (const [from, to, sender, receiver] of [
        [web, cart, onN1, onN2],
        [cart, web, onN2, onN1],
      ] as const) {
        for (const ip of [to.ip4, to.ip6]) assert.equal(await tryEcho(peers, from, ip, ECHO), 'ok');
        const isIt = (line: LogLine) => line['src.identity'] === ID(from) && line['dst.identity'] === ID(to);
        await awaitLine(sender, line => line.direction === 'outbound' && isIt(line));
        await awaitLine(receiver, line => line.direction === 'inbound' && isIt(line));
      }
      for (const { ip } of bed.services[0]?.vips ?? []) assert.equal(await tryEcho(peers, web, ip, 80), 'ok');
      const issued = await certificatesOf(control);
      const pairs = new Set(issued.map(({ identity, node }) => `${identity} ${node}`));
      for (const pod of [web, cart]) assert.ok(pairs.has(`${ID(pod)} ${pod.node.name}`), [...pairs].join('\n'));
    });

    test('many connections at once and fifty megabytes in one of them arrive whole', async () => {
      peers.serve(cart, SINK, socket => {
        let bytes = 0;
        socket.on('data', chunk => (bytes += chunk.length));
        socket.once('end', () => socket.end(`got ${bytes}`));
      });
      for (let i = 0; i < 10; i++) {
        const results = await Promise.all(Array.from({ length: 10 }, async () => tryEcho(peers, web, cart.ip4, ECHO)));
        assert.deepEqual(new Set(results), new Set(['ok']));
      }
      const socket = await peers.connect(web, cart.ip4, SINK);
      const part = Buffer.alloc(1 << 20, 7);
      for (let i = 0; i < 50; i++) if (!socket.write(part)) await once(socket, 'drain');
      socket.end();
      const expected = `got ${50 << 20}`;
      assert.equal((await readBytes(socket, expected.length)).toString(), expected);
      socket.destroy();
    });

    test('a policy written into a file cuts what it denies on the other side, and nothing else', async () => {
      const kept = await peers.connect(web, cart.ip4, ECHO);
      const cut = await peers.connect(web, cart.ip4, CLOSED);
      for (const socket of [kept, cut]) await echo(socket, 'before');
      const ending = endingOf(cut);
      const rules = [{ to: [{ operation: { ports: [String(CLOSED)] } }] }];
      await bed.writeObjects('deny.yaml', policyYaml('no-7001', 'shop', { action: 'DENY', rules }));
      assert.match(await ending, /ECONNRESET|end|close/);
      assert.notEqual(await tryEcho(peers, web, cart.ip4, CLOSED), 'ok');
      assert.notEqual(await tryEcho(peers, cart, web.ip4, CLOSED), 'ok');
      await awaitLine(onN2, ({ error }) => /explicitly denied by: shop\/no-7001/.test(error ?? ''));
      await echo(kept, 'after');
      await bed.writeObjects('deny.yaml', '');
      await untilOk(web, cart, CLOSED);
      await echo(kept, 'at the end');
      kept.destroy();
    });

    test('an allow policy for one account is enforced by the proxy of the server', async () => {
      const only = (account: string) =>
        policyYaml('only', 'shop', {
          selector: { matchLabels: { app: 'cart' } },
          rules: [{ from: [{ source: { principals: [`cluster.local/ns/shop/sa/${account}`] } }] }],
        });
      await bed.writeObjects('only.yaml', only('nobody'));
      await until(async () => (await tryEcho(peers, web, cart.ip4, ECHO)) !== 'ok', 'web is refused');
      assert.equal(await tryEcho(peers, cart, web.ip4, ECHO), 'ok');
      await bed.writeObjects('only.yaml', only('web'));
      await untilOk(web, cart, ECHO);
      await bed.writeObjects('only.yaml', '');
    });

    test('a pod added later is enrolled, known to the other node and gone when it is removed', async () => {
      const late = await bed.addPod({ node: 'n2', name: 'late', namespace: 'shop', serviceAccount: 'late' });
      serveEcho(peers, late);
      const isIt = (line: LogLine) => line['src.identity'] === ID(web) && line['dst.identity'] === ID(late);
      // As long as the other node has not heard of the pod, it is an address like any other, and reached in plain text.
      await until(async () => {
        await tryEcho(peers, web, late.ip4, ECHO);
        return linesOf(onN2).some(line => line.direction === 'inbound' && isIt(line));
      }, 'the new pod is reached through the mesh');
      await untilOk(late, web, ECHO);
      await late.delete();
      await untilSynced(control);
      assert.notEqual(await tryEcho(peers, web, late.ip4, ECHO), 'ok');
    });

    test('a restarted control plane is found again, and its news reach both nodes', async () => {
      const kept = await peers.connect(web, cart.ip4, ECHO);
      await echo(kept, 'before');
      assert.equal((await control.stop()).code, 0);
      await echo(kept, 'away');
      assert.equal(await tryEcho(peers, web, cart.ip4, ECHO), 'ok');
      control = await startControl(bed);
      await untilSynced(control, 2, 60_000);
      const rules = [{ to: [{ operation: { ports: [String(CLOSED)] } }] }];
      await bed.writeObjects('deny.yaml', policyYaml('no-7001', 'shop', { action: 'DENY', rules }));
      for (const [from, to] of [
        [web, cart],
        [cart, web],
      ] as const) {
        await until(async () => (await tryEcho(peers, from, to.ip4, CLOSED)) !== 'ok', `${from.name} is refused`);
      }
      await echo(kept, 'back');
      kept.destroy();
      await bed.writeObjects('deny.yaml', '');
      await untilOk(web, cart, CLOSED);
    });

    test('a revoked client is cut by the proxy of the server, which finds the list in the state directory', async () => {
      const kept = await peers.connect(web, cart.ip4, ECHO);
      await echo(kept, 'before');
      const ending = endingOf(kept);
      const answer = await control.ask('POST', '/ca/revoke', { identity: ID(web) });
      assert.ok((answer as { revoked: readonly unknown[] }).revoked.length > 0, JSON.stringify(answer));
      assert.match(await ending, /ECONNRESET|end|close/);
      await awaitLine(onN2, ({ error }) => error === 'connection closed: peer certificate revoked by CRL');
      // And back: whoever is still good is still served.
      assert.equal(await tryEcho(peers, cart, cart.ip4, ECHO), 'ok');
    });

    test('no node refused anything that the control plane sent', async () => {
      const { counters, clients } = await synczOf(control);
      assert.equal(counters.nacks, 0);
      assert.deepEqual(
        clients.flatMap(({ types }) => types.map(({ lastNack }) => lastNack ?? 'none')),
        ['none', 'none', 'none', 'none'],
      );
    });

    /** Waits until a connection gets through: what was allowed again takes a moment to reach the nodes. */
    async function untilOk(from: Pod, to: Pod, port: number): Promise<void> {
      await until(
        async () => (await tryEcho(peers, from, to.ip4, port)) === 'ok',
        `${from.name} reaches ${to.name}:${port}`,
      );
    }
  });
}
