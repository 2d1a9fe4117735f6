// The canary of an enrolled pod: what one connection proves, that no policy is in its way, and that nobody else gets
// anything from it.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { CANARY_ADDRESSES, CANARY_PORT, type CanaryAnswer } from '@ambit/mesh';
import { type Pod, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { linesOf, makeMesh, type Mesh, startOurs, usePolicies } from './e2e-mesh.ts';
import { endingOf, Net, tryEcho } from './e2e-net.ts';

const ECHO = 7000;

describe('the canary', { skip: sandboxSkip() }, () => {
  let mesh: Mesh;
  let peers: Net;
  let onN1: ZtunnelProcess;
  let web: Pod;
  let outside: Pod;

  before(async () => {
    mesh = await makeMesh();
    peers = new Net();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    outside = await bed.addPod({ node: 'n1', name: 'outside', namespace: 'plain', enrolled: false });
    peers.serve(web, ECHO, socket => void socket.pipe(socket));
    await bed.addService({ name: 'web', namespace: 'shop', ports: { [ECHO]: ECHO }, pods: [web] });
    // One worker, so that all connections of a pod share their tunnels.
    onN1 = await startOurs(bed, 'n1', { env: { ZTUNNEL_WORKER_THREADS: '1' } });
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  async function ask(ip: string): Promise<CanaryAnswer> {
    const socket = await peers.connect(web, ip, CANARY_PORT);
    let text = '';
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await once(socket, 'end', { signal: AbortSignal.timeout(10_000) });
    socket.end();
    return JSON.parse(text) as CanaryAnswer;
  }

  test('it comes back with the identity that both ends proved, over either family', async () => {
    for (const ip of Object.values(CANARY_ADDRESSES)) {
      const answer = await ask(ip);
      const identity = 'spiffe://cluster.local/ns/shop/sa/web';
      assert.deepEqual([answer.canary, answer.peer, answer.local], [1, identity, identity]);
      assert.equal(answer.group, 'X25519MLKEM768');
      assert.match(answer.cipher, /^TLS_/);
      assert.ok(Date.parse(answer.notAfter) > Date.now());
      assert.equal(answer.workload, 'shop/web');
    }
  });

  test('a policy that denies everything does not keep it back, and it is no line of the access log', async () => {
    await usePolicies(mesh.bed, [onN1], [{ name: 'nobody', namespace: 'shop', app: 'web', rules: [] }]);
    assert.notEqual(await tryEcho(peers, outside, web.ip4, ECHO), 'ok', 'the policy is in force');
    await ask(CANARY_ADDRESSES.ipv4);
    await usePolicies(mesh.bed, [onN1], []);
    assert.equal(await tryEcho(peers, web, web.ip4, ECHO), 'ok');
    const told = linesOf(onN1).filter(line => JSON.stringify(line).includes(CANARY_ADDRESSES.ipv4));
    assert.deepEqual(told, []);
  });

  test('it has a tunnel of its own, and those that carry traffic are left alone', async () => {
    const vip = mesh.bed.services[0]?.vips[0]?.ip ?? assert.fail();
    const tunnels = async (): Promise<number> => {
      const filter = ['-Htn', 'state', 'established', 'dport', '=', ':15008'];
      return (await web.run('ss', filter)).stdout.split('\n').filter(line => line !== '').length;
    };
    const first = await peers.connect(web, vip, ECHO);
    first.write('a');
    await once(first, 'data');
    assert.equal(await tunnels(), 1);
    await ask(CANARY_ADDRESSES.ipv4);
    const second = await peers.connect(web, vip, ECHO);
    second.write('b');
    await once(second, 'data');
    // A canary's tunnel closes a moment after its answer.
    let left = await tunnels();
    for (let round = 0; left > 1 && round < 50; round++) {
      await ask(CANARY_ADDRESSES.ipv6);
      left = await tunnels();
    }
    assert.equal(left, 1);
    first.destroy();
    second.destroy();
  });

  test('many at once have a tunnel each', async () => {
    const reached = async (): Promise<number> => {
      const { stdout } = await web.run('cat', ['/proc/net/snmp']);
      const [names = '', values = ''] = stdout.split('\n').filter(line => line.startsWith('Tcp:'));
      return Number(values.split(' ')[names.split(' ').indexOf('ActiveOpens')]);
    };
    const opened = await reached();
    const count = 30;
    const answers = await Promise.all(Array.from({ length: count }, async () => ask(CANARY_ADDRESSES.ipv4)));
    assert.equal(answers.length, count);
    // The pod's connection and the proxy's tunnel, for each of them.
    assert.equal((await reached()) - opened, 2 * count);
  });

  test('from outside its port is closed, and its address leads nowhere', async () => {
    // The proxy takes the connection and resets it, of which the client may hear before it knows that it was connected.
    const socket = await peers.connect(outside, web.ip4, CANARY_PORT).catch(() => undefined);
    let heard = '';
    socket?.on('data', (chunk: Buffer) => (heard += chunk.toString()));
    if (socket !== undefined) assert.notEqual(await endingOf(socket), 'nothing happened');
    assert.equal(heard, '');
    const far = await peers.connect(outside, CANARY_ADDRESSES.ipv4, CANARY_PORT).catch((error: Error) => error.message);
    assert.equal(typeof far, 'string');
  });
});
