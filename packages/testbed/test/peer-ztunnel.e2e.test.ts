// Istio's own ztunnel enrols through our agent, reads our mesh file and carries traffic between our pods. Runs when
// ZTUNNEL_BIN names a build with its testing feature (for FAKE_CA).
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createMatch } from '@ambit/mesh';
import { Testbed } from '../src/bed.ts';
import { sandboxSkip } from '../src/sandbox-skip.ts';
import { Peers } from './peers.ts';

const binary = process.env['ZTUNNEL_BIN'] ?? '';
const skip = sandboxSkip() || (binary === '' && 'no peer: set ZTUNNEL_BIN');
const PEER = { command: [binary], env: { FAKE_CA: 'true', RUST_LOG: 'info', ZTUNNEL_WORKER_THREADS: '1' } };

describe('a bed with ztunnels of Istio', { skip }, () => {
  test('enrols pods before and after the start, carries their traffic with identities, and obeys policies', async () => {
    await using bed = await Testbed.create({ nodes: ['n1', 'n2'] });
    const web = await bed.addPod({ node: 'n1', name: 'web-1', namespace: 'shop', serviceAccount: 'web', app: 'web' });
    const cart = await bed.addPod({
      node: 'n2',
      name: 'cart-1',
      namespace: 'shop',
      serviceAccount: 'cart',
      app: 'cart',
    });
    const outside = await bed.addPod({ node: 'n1', name: 'outside', namespace: 'plain', enrolled: false });
    const service = await bed.addService({ name: 'cart', namespace: 'shop', ports: { 80: 8080 } });
    const principals = [{ kind: 'exact' as const, value: 'cluster.local/ns/shop/sa/web' }];
    await bed.setPolicies([
      { name: 'no-9999', namespace: 'shop', action: 'Deny', rules: [[[createMatch({ destinationPorts: [9999] })]]] },
      { name: 'web-only', namespace: 'shop', app: 'cart', rules: [[[createMatch({ principals })]]] },
    ]);
    await using peers = new Peers();
    for (const port of [8080, 9999]) peers.serve(cart, port);

    const [onN1, onN2] = await Promise.all([bed.startZtunnel('n1', PEER), bed.startZtunnel('n2', PEER)]);
    for (const vip of service.vips) {
      const seen = await peers.mustCall(web, vip.ip, 80);
      assert.equal(seen.port, 8080);
      assert.ok([cart.ip4, cart.ip6].includes(seen.local.ip), seen.local.ip);
    }
    assert.equal((await peers.mustCall(web, cart.ip6, 8080)).peer.ip, web.ip6, 'the application sees its real client');
    assert.notEqual(typeof (await peers.call(web, cart.ip4, 9999)), 'object');
    assert.notEqual(typeof (await peers.call(outside, cart.ip4, 8080)), 'object');
    const both =
      /src\.identity="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web".*dst\.identity="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/cart"/;
    // A connection is logged when it has ended, which may be after its answer came.
    assert.match(await onN1.waitForLine(both), /direction="outbound"/);
    await onN2.waitForLine(/direction="inbound"/);

    // It reads the mesh file at its start only; enrolment itself goes on.
    const late = await bed.addPod({ node: 'n2', name: 'late', namespace: 'shop' });
    await late.delete();
    for (const ztunnel of [onN1, onN2]) assert.equal((await ztunnel.stop()).code, 0);
  });
});
