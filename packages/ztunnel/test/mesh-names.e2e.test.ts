// Names of the mesh while it changes, from the control plane's objects to the answer in a pod: an answer that is no longer true
// is not given once the node has acknowledged the change, although workers keep answers.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type ControlProcess, type Pod, sandboxSkip, type Testbed } from '@ambit/testbed';
import { makeBed, startControl, until, untilSynced } from './control-mesh.ts';
import { startOurs } from './e2e-mesh.ts';
import { missing } from './peer-programs.ts';

function service(name: string, clusterIp: string): string {
  return `apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: shop}
spec:
  clusterIP: ${clusterIp}
  clusterIPs: [${clusterIp}]
  selector: {app: ${name}}
  ports: [{name: tcp, port: 80, targetPort: 7000}]
`;
}

describe('names of a mesh that changes', { skip: sandboxSkip() || missing('dig') }, () => {
  const closers = new AsyncDisposableStack();
  let bed: Testbed;
  let control: ControlProcess;
  let web: Pod;
  const db: Pod[] = [];

  before(async () => {
    bed = closers.use(await makeBed());
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    for (const name of ['db-0', 'db-1']) {
      db.push(await bed.addPod({ node: 'n2', name, namespace: 'shop', serviceAccount: 'db', app: 'db' }));
    }
    await bed.writeObjects('db.yaml', service('db', 'None'));
    await bed.writeObjects('cart.yaml', service('cart', '10.96.7.1'));
    control = await startControl(bed);
    await startOurs(bed, 'n1', { env: { ISTIO_META_DNS_CAPTURE: 'true' } });
    await untilSynced(control, 1);
  });

  after(async () => closers.disposeAsync());

  async function lookUp(name: string): Promise<readonly string[]> {
    const { stdout } = await web.run('dig', ['@127.0.0.1', '-p', '15053', '+short', '+tries=1', name]);
    return stdout
      .split('\n')
      .filter(line => line !== '')
      .toSorted();
  }

  /** Makes a change and waits until the node has acknowledged it. */
  async function change(make: () => Promise<unknown>): Promise<void> {
    const { pushes } = (await untilSynced(control, 1)).counters;
    await make();
    await until(async () => (await untilSynced(control, 1)).counters.pushes > pushes, 'the change is pushed');
    await untilSynced(control, 1);
  }

  test('a service that gets another address is told with it at once', async () => {
    assert.deepEqual(await lookUp('cart.shop.svc.cluster.local'), ['10.96.7.1']);
    assert.deepEqual(await lookUp('cart'), ['10.96.7.1']);
    for (let last = 2; last < 8; last++) {
      await change(async () => bed.writeObjects('cart.yaml', service('cart', `10.96.7.${last}`)));
      assert.deepEqual(await lookUp('cart.shop.svc.cluster.local'), [`10.96.7.${last}`]);
      assert.deepEqual(await lookUp('cart'), [`10.96.7.${last}`]);
    }
  });

  test('a headless service is its pods, each of which has its own name', async () => {
    const [first, second] = db;
    assert.ok(first !== undefined && second !== undefined);
    assert.deepEqual(await lookUp('db'), [first.ip4, second.ip4].toSorted());
    assert.deepEqual(await lookUp('db-1.db.shop.svc.cluster.local'), [second.ip4]);
    await change(async () => bed.removePod(second));
    assert.deepEqual(await lookUp('db'), [first.ip4]);
    assert.deepEqual(await lookUp('db-0.db'), [first.ip4]);
    const third = await bed.addPod({ node: 'n2', name: 'db-1', namespace: 'shop', serviceAccount: 'db', app: 'db' });
    await until(async () => (await lookUp('db-1.db')).includes(third.ip4), 'the pod that came back has its name');
    assert.deepEqual(await lookUp('db'), [first.ip4, third.ip4].toSorted());
  });
});
