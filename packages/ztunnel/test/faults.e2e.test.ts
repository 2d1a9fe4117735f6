// What goes wrong around a node proxy: pods and agents vanish, configuration turns to nonsense, descriptors run out, the
// process is killed or told to end. Pods never fall back to plain text, and all works again once the fault is over.
import assert from 'node:assert/strict';
import { readFile, rename, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Reactor } from '@ambit/native';
import { BedAgent, type Pod, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import {
  awaitLine,
  awaitNewLine,
  descriptorsOf,
  linesOf,
  type LogLine,
  makeMesh,
  type Mesh,
  startOurs,
  ZTUNNEL,
} from './e2e-mesh.ts';
import { echo, endingOf, Net, tryEcho } from './e2e-net.ts';

const ECHO = 7000;
const MANY = 10_000;
const AT_ONCE = 64;

describe('faults around the node proxy', { skip: sandboxSkip() }, () => {
  let mesh: Mesh;
  let peers: Net;
  let onN1: ZtunnelProcess;
  let onN2: ZtunnelProcess;
  let web: Pod;
  let cart: Pod;
  let reached = 0;

  before(async () => {
    mesh = await makeMesh();
    peers = new Net();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    serveEcho(cart);
    [onN1, onN2] = await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  // Each fault starts from, and leaves behind, a mesh that works.
  beforeEach(async () => assert.equal(await tryEcho(peers, web, cart.ip4, ECHO), 'ok'));
  afterEach(async () => assert.equal(await tryEcho(peers, web, cart.ip4, ECHO), 'ok'));

  function serveEcho(pod: Pod): void {
    peers.serve(pod, ECHO, socket => {
      reached++;
      socket.pipe(socket);
    });
  }

  /** A pod that both proxies have heard of; until then it is an address like any outside the mesh. */
  async function addKnown(name: string): Promise<Pod> {
    const isLoaded = (line: LogLine) => line.message === 'local config initialized';
    const loaded = [onN1, onN2].map(async ztunnel => awaitNewLine(ztunnel, isLoaded));
    const pod = await mesh.bed.addPod({ node: 'n2', name, namespace: 'shop' });
    await Promise.all(loaded);
    return pod;
  }

  async function openEcho(to = cart): Promise<Socket> {
    const socket = await peers.connect(web, to.ip4, ECHO);
    await echo(socket, 'open');
    return socket;
  }

  test('a pod that vanishes takes its connections with it, and no others', async () => {
    const doomed = await addKnown('doomed');
    serveEcho(doomed);
    const kept = await openEcho();
    const lost = await openEcho(doomed);
    const ending = endingOf(lost);
    await doomed.delete();
    assert.match(await ending, /ECONNRESET|end|close/);
    const line = await awaitLine(onN2, l => l['dst.hbone_addr'] === `${doomed.ip4}:${ECHO}`);
    assert.equal(line.error, 'connection closed due to connection drain');
    await echo(kept, 'still here');
    kept.destroy();
  });

  test('a mesh file that is nonsense is reported once with its place, and the last good mesh stays', async () => {
    const { meshFilePath } = mesh.bed;
    const good = await readFile(meshFilePath, 'utf8');
    const open = await openEcho();
    const isComplaint = (l: LogLine) => l.message.startsWith('The local configuration cannot be used');
    for (const nonsense of ['workloads: [ {\n', `${good}\nworkload: []\n`]) {
      const said = [onN1, onN2].map(async ztunnel => awaitNewLine(ztunnel, isComplaint));
      // At once, as an editor does: half a file would be one more version.
      await writeFile(`${meshFilePath}.new`, nonsense);
      await rename(`${meshFilePath}.new`, meshFilePath);
      for (const { error } of await Promise.all(said)) assert.match(String(error), /\d+:\d+|line \d+/);
      assert.equal(await tryEcho(peers, web, cart.ip6, ECHO), 'ok');
    }
    for (const ztunnel of [onN1, onN2]) assert.equal(linesOf(ztunnel).filter(isComplaint).length, 2);
    const late = await addKnown('late');
    serveEcho(late);
    assert.equal(await tryEcho(peers, web, late.ip4, ECHO), 'ok');
    await echo(open, 'still here');
    open.destroy();
    await late.delete();
  });

  test(`${MANY} connections leave no descriptor behind`, async () => {
    const storm = async (count: number): Promise<void> => {
      let started = 0;
      const worker = async (): Promise<void> => {
        while (started++ < count) assert.equal(await tryEcho(peers, web, cart.ip4, ECHO), 'ok');
      };
      await Promise.all(Array.from({ length: AT_ONCE }, worker));
    };
    // The first storm opens the tunnels that are kept.
    await storm(AT_ONCE * 8);
    const counts = async () => Promise.all([onN1, onN2].map(descriptorsOf));
    await delayUntilStable(counts);
    const [n1, n2] = await counts();
    const tunnels = await tunnelsOf(web);
    await storm(MANY);
    await until(async () => {
      const [now1 = 0, now2 = 0] = await counts();
      return now1 <= (n1 ?? 0) + 4 && now2 <= (n2 ?? 0) + 4;
    }, 'descriptors are closed again');
    assert.ok((await tunnelsOf(web)) <= tunnels + 2, 'tunnels pile up');
  });

  test('a killed proxy leaves its pods without network, never in plain text, until another one starts', async () => {
    const open = await openEcho();
    const ending = endingOf(open);
    onN1.process.kill('SIGKILL');
    await onN1.ended;
    assert.notEqual(await ending, 'nothing happened');
    const asked = reached;
    assert.equal(await tryEcho(peers, web, cart.ip4, ECHO), 'ECONNREFUSED');
    assert.equal(await tryEcho(peers, web, cart.ip6, ECHO), 'ECONNREFUSED');
    assert.equal(reached, asked);
    onN1 = await startOurs(mesh.bed, 'n1');
  });

  test('a proxy out of descriptors keeps what is open and serves new connections once some end', async () => {
    await onN1.stop();
    const limited = ['sh', '-c', 'ulimit -n 300; exec "$0" "$@"', ...ZTUNNEL];
    onN1 = await startOurs(mesh.bed, 'n1', { command: limited });
    const first = await openEcho();
    const sockets = await Promise.all(Array.from({ length: 330 }, () => peers.connect(web, cart.ip4, ECHO)));
    for (const socket of sockets) socket.write('hello');
    await until(async () => (await descriptorsOf(onN1)) >= 298, 'descriptors run out');
    await echo(first, 'still here');
    assert.equal(onN1.isRunning, true);
    for (const socket of sockets) socket.destroy();
    await until(async () => (await descriptorsOf(onN1)) < 200, 'descriptors are free again');
    assert.equal(await tryEcho(peers, web, cart.ip4, ECHO), 'ok');
    await echo(first, 'and still');
    first.destroy();
    await onN1.stop();
    onN1 = await startOurs(mesh.bed, 'n1');
  });

  test('a proxy told to end lets open connections finish, refuses new ones, and ends with status 0', async () => {
    for (const stopped of ['n1', 'n2'] as const) {
      const open = await openEcho();
      const ztunnel = stopped === 'n1' ? onN1 : onN2;
      ztunnel.process.kill('SIGTERM');
      await awaitLine(ztunnel, l => l.message.startsWith('Shutdown requested'));
      await until(async () => (await tryEcho(peers, web, cart.ip4, ECHO)) !== 'ok', 'new connections are refused');
      await echo(open, 'one more thing');
      open.end();
      assert.equal(await endingOf(open), 'end');
      assert.deepEqual(await ztunnel.ended, { code: 0, signal: null });
      const fresh = await startOurs(mesh.bed, stopped);
      if (stopped === 'n1') onN1 = fresh;
      else onN2 = fresh;
    }
  });

  test('a connection that does not end is cut at the deadline, and the status is 0', async () => {
    await onN1.stop();
    onN1 = await startOurs(mesh.bed, 'n1', { env: { CONNECTION_TERMINATION_DEADLINE: '1s' } });
    const open = await openEcho();
    const ending = endingOf(open);
    onN1.process.kill('SIGTERM');
    assert.match(await ending, /ECONNRESET|end|close/);
    assert.deepEqual(await onN1.ended, { code: 0, signal: null });
    const cut = await awaitLine(onN1, l => l.scope === 'access' && l.error !== undefined);
    assert.equal(cut.error, 'connection closed due to connection drain');
    onN1 = await startOurs(mesh.bed, 'n1');
  });

  test('an agent that goes away leaves the pods served; the next one finds the proxy again', async () => {
    const { agent, ip4, processes } = mesh.bed.node('n1');
    const status = async () => {
      const url = `http://${ip4}:15021/healthz/ready`;
      return (await processes.run('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', url])).stdout;
    };
    assert.equal(await status(), '200');
    const open = await openEcho();
    agent.close();
    await until(async () => (await status()) !== '200', 'the proxy is not ready without an agent');
    await echo(open, 'still here');
    assert.equal(await tryEcho(peers, web, cart.ip4, ECHO), 'ok');

    const reactor = new Reactor();
    let isWanted = true;
    const polled = (async () => {
      while (isWanted) await reactor.pollAsync(-1);
    })();
    const next = new BedAgent(reactor, agent.path);
    const { uid, name, namespace, serviceAccount, netnsPath } = web;
    next.add(uid, { name, namespace, serviceAccount }, netnsPath);
    await until(async () => (await status()) === '200', 'the proxy is ready again');
    await echo(open, 'all the time');
    open.destroy();
    next.close();
    isWanted = false;
    reactor.close();
    await polled;
  });
});

/** Established connections to tunnel ports of others, from inside a pod. */
async function tunnelsOf(pod: Pod): Promise<number> {
  const { stdout } = await pod.run('ss', ['-Htn', 'state', 'established', 'dport', '=', ':15008']);
  return stdout.split('\n').filter(line => line !== '').length;
}

/** Polls what has no event: descriptors of another process, a page. @throws when it does not come true in 15 s */
async function until(isTrue: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 15_000;
  while (!(await isTrue())) {
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await delay(25);
  }
}

/** Waits until two looks in a row see the same. */
async function delayUntilStable(look: () => Promise<readonly number[]>): Promise<void> {
  let last = '';
  await until(async () => {
    const now = JSON.stringify(await look());
    const isSame = now === last;
    last = now;
    await delay(100);
    return isSame;
  }, 'descriptors settle');
}
