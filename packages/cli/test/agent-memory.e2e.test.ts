// What an agent with a full node takes: 250 pods, all enrolled and served.
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { describe, test } from 'node:test';
import { createNetNs, Fd, type NetNs, setLink } from '@ambit/native';
import { sandboxSkip } from '@ambit/testbed';
import { makeMesh, startOurs } from '../../ztunnel/test/e2e-mesh.ts';
import type { Word } from '../../cni/test/agent-process.ts';
import { AgentUnderTest } from '../../cni/test/agent-under-test.ts';
import { somePod } from '../../cni/test/list-source.ts';

const PODS = 250;

describe('the memory of an agent', { skip: sandboxSkip(), timeout: 120_000 }, () => {
  test('250 pods fit into 90 MB', async t => {
    await using mesh = await makeMesh('outside');
    const node = mesh.bed.node('n1');
    // Fills the cache of compiled code: filling it costs memory too.
    const first = await AgentUnderTest.start(node, []);
    await first.stop();
    const second = await AgentUnderTest.start(node, []);
    t.diagnostic(`resident without pods: ${await resident(second)} MB`);
    await second.stop();
    const namespaces = Array.from({ length: PODS }, () => createNetNs());
    for (const netns of namespaces) netns.run(() => setLink(1, { up: true }));
    const fds = namespaces.map(openAgain);
    const words = fds.map(
      (fd, i): Word => ({
        kind: 'put',
        pod: somePod(`many-${i}`, [], `/proc/${process.pid}/fd/${fd.number}`),
      }),
    );
    const agent = await AgentUnderTest.start(node, [{ kind: 'label', name: 'shop', isAmbient: true }, ...words]);
    const idle = await resident(agent);
    const ztunnel = await startOurs(mesh.bed, 'n1');
    await agent.waitForLine(/Pod enrolled\tpod="shop\/many-249"/, 60_000);
    assert.deepEqual((await agent.ask('/v1/status'))['pods'], { enabled: PODS, pending: 0, none: 0 });
    t.diagnostic(`resident with ${PODS} pods: ${idle} MB before a ztunnel came, ${await resident(agent)} MB after`);
    await ztunnel.stop();
    await agent.stop();
    for (const each of [...namespaces, ...fds]) each.close();
  });
});

async function resident(agent: AgentUnderTest): Promise<string> {
  return (Number((await agent.ask('/v1/status'))['residentBytes']) / 1_048_576).toFixed(1);
}

/** A descriptor whose number can be told to another process. */
function openAgain(netns: NetNs): Fd {
  return netns.run(() => new Fd(openSync('/proc/thread-self/ns/net', 'r')));
}
