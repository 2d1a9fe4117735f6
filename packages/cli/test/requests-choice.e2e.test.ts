// Whose requests are read, as the annotation `ambit.io/l7` says it to our node agent, and on the way to a pod that runs already:
// what is off has no series and no reader.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import { type Pod, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { AgentUnderTest, asAgentPod } from '../../cni/test/agent-under-test.ts';
import { makeMesh, type Mesh, startOurs } from '../../ztunnel/test/e2e-mesh.ts';
import { Net } from '../../ztunnel/test/e2e-net.ts';
import { RequestCounts } from '../../ztunnel/test/request-counts.ts';

const WEB = 8080;
const OTHER = 8081;
const PATIENCE_MS = 20_000;

describe('the annotation of requests that are read', { skip: sandboxSkip(), timeout: 120_000 }, () => {
  let mesh: Mesh;
  let peers: Net;
  let web: Pod;
  let cart: Pod;
  let agents: AgentUnderTest[] = [];
  let ztunnels: ZtunnelProcess[];
  let counts: RequestCounts;

  before(async () => {
    mesh = await makeMesh('outside');
    peers = new Net();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    for (const port of [WEB, OTHER]) {
      peers.listen(
        cart,
        port,
        http.createServer((_request, response) => response.end('ok')),
      );
    }
    const start = async (pod: Pod, l7: string | undefined) =>
      AgentUnderTest.start(
        bed.node(pod.node.name),
        [{ kind: 'label', name: 'shop', isAmbient: true }, put(pod, l7)],
        {},
      );
    agents = await Promise.all([start(web, undefined), start(cart, `off,${OTHER}=on`)]);
    ztunnels = await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
    await Promise.all([agentOf(0).until(web.uid, 'enabled'), agentOf(1).until(cart.uid, 'enabled')]);
    const [source, destination] = ztunnels;
    assert.ok(source !== undefined && destination !== undefined);
    counts = new RequestCounts(bed, { source, destination });
  });

  after(async () => {
    await Promise.all(agents.map(async agent => agent.stop()));
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  function put(pod: Pod, l7: string | undefined) {
    const annotations: Record<string, string> = l7 === undefined ? {} : { 'ambit.io/l7': l7 };
    return { kind: 'put', pod: asAgentPod(pod, { annotations }) } as const;
  }

  function agentOf(index: number): AgentUnderTest {
    const agent = agents[index];
    assert.ok(agent);
    return agent;
  }

  /** A request on a connection of its own, and how much each end's count of a port grew, once the source's `grows` or not. */
  async function ask(port: number): Promise<void> {
    const { stdout } = await web.run('curl', ['-sS', `http://${cart.ip4}:${port}/`]);
    assert.equal(stdout, 'ok');
  }

  /** Asks again until both ends count a request as `wanted` says; each end's own side is what its pod's annotation says. */
  async function until(port: number, wanted: { readonly source: number; readonly destination: number }): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const earlier = await counts.edges(port);
      await ask(port);
      // The end that counts has counted; and connections that are over have told everything.
      const now = await counts.edges(port);
      const grown = { source: now.source - earlier.source, destination: now.destination - earlier.destination };
      if (grown.source === wanted.source && grown.destination === wanted.destination) return;
      if (performance.now() > deadline) assert.deepEqual(grown, wanted);
    }
  }

  test('off means that there is no series, except where a port is on', async () => {
    await until(WEB, { source: 1, destination: 0 });
    assert.deepEqual(await counts.series('destination', 'istio_requests_total'), []);
    await until(OTHER, { source: 1, destination: 1 });
    assert.notDeepEqual(await counts.series('destination', 'istio_requests_total'), []);
  });

  test('a running pod that is described anew is read anew', async () => {
    agentOf(1).tell(put(cart, 'on'));
    await until(WEB, { source: 1, destination: 1 });
    agentOf(1).tell(put(cart, `${WEB}=off`));
    await until(WEB, { source: 1, destination: 0 });
    await until(OTHER, { source: 1, destination: 1 });
    agentOf(0).tell(put(web, 'off'));
    await until(OTHER, { source: 0, destination: 1 });
    agentOf(1).tell(put(cart, undefined));
    await until(WEB, { source: 0, destination: 1 });
  });
});
