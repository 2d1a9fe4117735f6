// Our agent with Istio's own ztunnel: enrolled from a snapshot and after it, over restarts of either, kept and taken out.
// Runs when ZTUNNEL_BIN names a build with its testing feature (for FAKE_CA).
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Pod, sandboxSkip, Testbed } from '@ambit/testbed';
import { AgentUnderTest, asAgentPod } from '../../cni/test/agent-under-test.ts';
import type { Word } from '../../cni/test/agent-process.ts';
import { echo, Net, tryEcho } from '../../ztunnel/test/e2e-net.ts';

const binary = process.env['ZTUNNEL_BIN'] ?? '';
const skip = sandboxSkip() || (binary === '' && 'no peer: set ZTUNNEL_BIN');
const PEER = { command: [binary], env: { FAKE_CA: 'true', RUST_LOG: 'info', ZTUNNEL_WORKER_THREADS: '1' } };
const ECHO = 7000;
const MEMBERS: Word = { kind: 'label', name: 'shop', isAmbient: true };
const put = (pod: Pod): Word => ({ kind: 'put', pod: asAgentPod(pod) });

describe('the node agent with a ztunnel of Istio', { skip, timeout: 120_000 }, () => {
  test('serves it a snapshot, changes, and another snapshot after each restart', async () => {
    await using bed = await Testbed.create({ nodes: ['n1', 'n2'], enrolment: 'outside' });
    await using net = new Net();
    const web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    const late = await bed.addPod({ node: 'n1', name: 'late', namespace: 'shop' });
    const cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    net.serve(cart, ECHO, socket => socket.pipe(socket));
    let onN1 = await AgentUnderTest.start(bed.node('n1'), [MEMBERS, put(web)]);
    const onN2 = await AgentUnderTest.start(bed.node('n2'), [MEMBERS, put(cart)]);
    let [ztunnel] = await Promise.all([bed.startZtunnel('n1', PEER), bed.startZtunnel('n2', PEER)]);
    await Promise.all([onN1.until(web.uid, 'enabled'), onN2.until(cart.uid, 'enabled')]);
    const call = async (from: Pod) => tryEcho(net, from, cart.ip4, ECHO);
    assert.equal(await call(web), 'ok');
    await ztunnel.waitForLine(/src\.identity="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web"/);

    onN1.tell({ kind: 'put', pod: asAgentPod(late, { ips: [], netnsPath: undefined }) });
    assert.equal((await onN1.cni('ADD', late)).status, 0);
    assert.equal(await call(late), 'ok');

    const open = await net.connect(web, cart.ip4, ECHO);
    await echo(open, 'before');
    // A field that it does not know, and an ADD of what it serves: it ignores both.
    for (const l7 of ['on', 'off,8080=on']) {
      onN1.tell({ kind: 'put', pod: asAgentPod(web, { annotations: { 'ambit.io/l7': l7 } }) });
      assert.equal(await call(web), 'ok');
      await echo(open, `after ${l7}`);
    }
    await onN1.until(web.uid, 'enabled');
    await onN1.kill();
    onN1 = await AgentUnderTest.start(bed.node('n1'), [MEMBERS, put(web), put(late)]);
    for (const { uid } of [web, late]) await onN1.until(uid, 'enabled');
    await echo(open, 'after the agent’s restart');
    open.destroy();

    ztunnel.process.kill('SIGKILL');
    await ztunnel.ended;
    assert.notEqual(await call(web), 'ok');
    ztunnel = await bed.startZtunnel('n1', PEER);
    for (const { uid } of [web, late]) await onN1.until(uid, 'enabled');
    assert.equal(await call(web), 'ok');

    onN1.tell({ kind: 'drop', uid: late.uid });
    await ztunnel.waitForLine(/pod delete request|workload.*remov|delete/i);
    assert.equal(await call(web), 'ok', 'the others stay');
    for (const agent of [onN1, onN2]) assert.equal((await agent.stop()).code, 0);
  });
});
