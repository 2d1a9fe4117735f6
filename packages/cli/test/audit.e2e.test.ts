// The continuous proof, against whoever tampers: real pods, the real agent, our ztunnel. Each case is found within ten seconds,
// by its own code, and mended where the agent can; a node that nobody touches has no finding at all.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type AuditReport, DEFAULT_PROBE_SNAT, NftablesBackend } from '@ambit/cni';
import { addAddress, deleteAddress, findLink, NetNs, runNft } from '@ambit/native';
import { type BedNode, mustRun, type Pod, runCommand, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { type Mesh, makeMesh, startOurs } from '../../ztunnel/test/e2e-mesh.ts';
import { Net, tryEcho } from '../../ztunnel/test/e2e-net.ts';
import type { Word } from '../../cni/test/agent-process.ts';
import { AgentUnderTest, asAgentPod, askHttp } from '../../cni/test/agent-under-test.ts';

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const ECHO = 7000;
const FOUND_MS = 10_000;
const CALM_MS = 60_000;
const MEMBERS: Word = { kind: 'label', name: 'shop', isAmbient: true };
const OUTSIDERS: Word = { kind: 'label', name: 'plain', isAmbient: false };
const PLAN = {
  dnsCapture: false,
  bypassInbound: false,
  virtualInterfaces: [],
  ipv6: true,
  probeSnat: DEFAULT_PROBE_SNAT,
};

describe('the audit', { skip: sandboxSkip(), timeout: 400_000 }, () => {
  let mesh: Mesh;
  let net: Net;
  let n1: BedNode;
  let web: Pod;
  let cart: Pod;
  let outsider: Pod;
  let agent: AgentUnderTest;
  let calmAgent: AgentUnderTest;
  let ztunnel: ZtunnelProcess;
  let calmSince = 0;
  const falseAlarms: string[] = [];

  before(async () => {
    mesh = await makeMesh('outside');
    net = new Net();
    const { bed } = mesh;
    n1 = bed.node('n1');
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    outsider = await bed.addPod({ node: 'n1', name: 'outsider', namespace: 'plain', enrolled: false });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    net.serve(cart, ECHO, socket => void socket.pipe(socket));
    [agent, calmAgent] = await Promise.all([
      AgentUnderTest.start(n1, [MEMBERS, OUTSIDERS, put(web), put(outsider)]),
      AgentUnderTest.start(bed.node('n2'), [MEMBERS, put(cart)]),
    ]);
    [ztunnel] = await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
    await Promise.all([agent.until(web.uid, 'enabled'), calmAgent.until(cart.uid, 'enabled')]);
    calmSince = performance.now();
    calmAgent.onLine(line => {
      if (line.includes('\tFinding\t')) falseAlarms.push(line);
    });
  });

  after(async () => {
    await Promise.all([agent.stop(), calmAgent.stop()]);
    await mesh[Symbol.asyncDispose]();
    await net[Symbol.asyncDispose]();
  });

  const put = (pod: Pod, more = {}): Word => ({ kind: 'put', pod: asAgentPod(pod, more) });
  const call = async () => tryEcho(net, web, cart.ip4, ECHO);

  async function audit(of = agent, body = ''): Promise<AuditReport> {
    const { status, json, text } = await askHttp(join(of.runDirectory, 'agent.sock'), 'POST', '/v1/audit', body);
    assert.equal(status, 200, text);
    return json as unknown as AuditReport;
  }

  /** The next time that the agent says so by itself; begin to wait before tampering. */
  async function said(what: 'Finding' | 'Finding repaired' | 'Finding gone', code: string, pod: string) {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const begun = performance.now();
    const stop = agent.onLine(line => {
      const parts = line.split('\t');
      if (parts[3] === what && line.includes(`code="${code}"`) && line.includes(`pod="${pod}"`)) {
        resolve(performance.now() - begun);
      }
    });
    const timer = setTimeout(
      () => reject(new Error(`no "${what}" of ${code} at ${pod}:\n${agent.log().slice(-3000)}`)),
      FOUND_MS,
    );
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      stop();
    }
  }

  async function foundAfter(code: string, pod: string, tamper: () => unknown): Promise<number> {
    const found = said('Finding', code, pod);
    found.catch(() => undefined);
    await tamper();
    return found;
  }

  async function mendedAfter(code: string, pod: string, tamper: () => unknown): Promise<void> {
    const mended = said('Finding repaired', code, pod);
    mended.catch(() => undefined);
    await foundAfter(code, pod, tamper);
    await mended;
  }

  const nft = async (pod: Pod, ...args: readonly string[]) =>
    mustRun('ip', ['netns', 'exec', pod.netns, 'nft', ...args]);

  test('all is well: members are proven by their canaries, outsiders are untouched', async () => {
    const report = await audit();
    assert.deepEqual(report.findings, []);
    assert.equal(report.clean, true);
    const [member, other] = report.pods;
    assert.deepEqual([member?.pod, member?.rules, member?.listeners], ['shop/web', 'ok', 'ok']);
    assert.equal(member?.canary?.result, 'ok');
    assert.ok((member?.certificate?.remainingSeconds ?? 0) > 60);
    assert.deepEqual([other?.pod, other?.member, other?.rules, other?.canary], ['plain/outsider', false, 'ok', null]);
  });

  for (const [name, code, tamper] of [
    ['rules flushed', 'audit.rules_drift', async pod => nft(pod, 'flush', 'ruleset')],
    [
      'one chain emptied',
      'audit.rules_drift',
      async pod => nft(pod, 'flush', 'chain', 'inet', 'istio-ambient-mangle', 'istio-prerouting'),
    ],
    [
      'one rule deleted',
      'audit.rules_drift',
      async pod => {
        const chain = ['inet', 'istio-ambient-nat', 'istio-output'];
        const stdout = await nft(pod, '-a', 'list', 'chain', ...chain);
        const handles = [...stdout.matchAll(/redirect to :15001 # handle (\d+)/g)].map(match => match[1] ?? '');
        assert.ok(handles.length > 0, stdout);
        await nft(pod, 'delete', 'rule', ...chain, 'handle', handles[0] ?? '');
      },
    ],
    [
      'a rule put before all others',
      'audit.rules_drift',
      async pod => nft(pod, 'insert', 'rule', 'inet', 'istio-ambient-nat', 'istio-output', 'tcp dport 7000 accept'),
    ],
    ['the route removed', 'audit.routes_drift', async pod => pod.run('ip', ['route', 'flush', 'table', '100'])],
    [
      'the routing rule removed',
      'audit.routes_drift',
      async pod => pod.run('ip', ['rule', 'del', 'priority', '32764']),
    ],
  ] satisfies readonly (readonly [string, string, (pod: Pod) => Promise<unknown>])[]) {
    test(`${name}: found and mended`, async () => {
      const pod = await mesh.bed.addPod({ node: 'n1', name: name.replaceAll(' ', '-'), namespace: 'shop' });
      agent.tell(put(pod));
      await agent.until(pod.uid, 'enabled');
      await mendedAfter(code, `shop/${pod.name}`, async () => tamper(pod));
      assert.equal(await tryEcho(net, pod, cart.ip4, ECHO), 'ok');
      using netns = NetNs.open(pod.netnsPath);
      assert.deepEqual((await new NftablesBackend().verify(netns, PLAN, undefined)).drift, []);
      agent.tell({ kind: 'drop', uid: pod.uid });
    });
  }

  test('rules left in a pod that is no member: found and removed', async () => {
    using netns = NetNs.open(outsider.netnsPath);
    await mendedAfter('audit.leftover_rules', 'plain/outsider', async () => new NftablesBackend().apply(netns, PLAN));
    assert.deepEqual((await new NftablesBackend().verify(netns, undefined, undefined)).drift, []);
  });

  test('traffic led past the mesh by rules of others is found by the canary alone', async () => {
    const marks = { family: 'inet', table: 'foreign' };
    await foundAfter('audit.canary_failed', 'shop/web', () =>
      NetNs.open(web.netnsPath).run(() =>
        runNft({
          nftables: [
            { add: { table: { family: 'inet', name: 'foreign' } } },
            {
              add: { chain: { ...marks, name: 'out', type: 'route', hook: 'output', prio: -250, policy: 'accept' } },
            },
            {
              add: {
                rule: {
                  ...marks,
                  chain: 'out',
                  expr: [{ mangle: { key: { meta: { key: 'mark' } }, value: 0x539 } }],
                },
              },
            },
          ],
        }),
      ),
    );
    const report = await audit();
    assert.deepEqual(codesOf(report), ['audit.canary_failed']);
    const [pod] = report.pods;
    assert.deepEqual([pod?.rules, pod?.listeners, pod?.canary?.result], ['ok', 'ok', 'plaintext']);
    const gone = said('Finding gone', 'audit.canary_failed', 'shop/web');
    await nft(web, 'delete', 'table', 'inet', 'foreign');
    await gone;
  });

  test('a look that is to mend nothing leaves what it finds', async () => {
    const mended = said('Finding repaired', 'audit.rules_drift', 'shop/web');
    await nft(web, 'flush', 'ruleset');
    const report = await audit(agent, '{"repair":false}');
    const [finding] = report.findings.filter(({ code }) => code === 'audit.rules_drift');
    assert.ok(finding);
    assert.equal(report.clean, false);
    await mended;
  });

  test('a listener that is gone: found, and ztunnel serves the pod anew', async t => {
    const port = ['sport', '=', ':15001'];
    // One a worker, and each call may leave some.
    for (let tries = 0; tries < 5; tries++) await web.run('ss', ['-K', '-tln', ...port]);
    const { stdout: left } = await web.run('ss', ['-tlnH', ...port]);
    if (left !== '') return t.skip('this kernel does not close sockets for others (ss -K)');
    await said('Finding repaired', 'audit.listener_gone', 'shop/web');
    assert.equal(await call(), 'ok');
  });

  test('a namespace that was never the pod’s: found, and the right one is taken', async () => {
    const job = await mesh.bed.addPod({ node: 'n1', name: 'job', namespace: 'shop', serviceAccount: 'job' });
    const stray = await mesh.bed.addPod({ node: 'n1', name: 'stray', namespace: 'plain', enrolled: false });
    // Nobody knows its address yet, so nobody can object.
    agent.tell(put(job, { ips: [], netnsPath: stray.netnsPath }));
    await agent.until(job.uid, 'enabled');
    await mendedAfter('audit.wrong_netns', 'shop/job', () => agent.tell(put(job)));
    await agent.until(job.uid, 'enabled');
    assert.equal(await tryEcho(net, job, cart.ip4, ECHO), 'ok');
    const { pods } = (await agent.ask('/v1/pods')) as { pods: { uid: string; netns: string }[] };
    assert.equal(pods.find(({ uid }) => uid === job.uid)?.netns, job.netnsPath);
    agent.tell({ kind: 'drop', uid: job.uid });
    await mesh.bed.removePod(stray);
  });

  test('an address that another pod has by now: found, and its old owner is let go', async () => {
    const old = await mesh.bed.addPod({ node: 'n1', name: 'old', namespace: 'shop', serviceAccount: 'old' });
    const young = await mesh.bed.addPod({ node: 'n1', name: 'young', namespace: 'shop', serviceAccount: 'young' });
    agent.tell(put(old, { ips: [old.ip4] }), put(young, { ips: [young.ip4] }));
    await Promise.all([agent.until(old.uid, 'enabled'), agent.until(young.uid, 'enabled')]);
    await foundAfter('audit.address_reused', 'shop/old', () => {
      onDevice(old, index => deleteAddress(index, `${old.ip4}/32`));
      onDevice(young, index => addAddress(index, `${old.ip4}/32`));
    });
    // Its namespace is not its own any more, so it must not be served there.
    await agent.until(old.uid, 'none');
    agent.tell({ kind: 'drop', uid: old.uid }, { kind: 'drop', uid: young.uid });
  });

  test('no ztunnel: found, and over when there is one', async () => {
    await foundAfter('audit.ztunnel_down', 'node', async () => ztunnel.stop());
    const gone = said('Finding gone', 'audit.ztunnel_down', 'node');
    gone.catch(() => undefined);
    ztunnel = await startOurs(mesh.bed, 'n1');
    await gone;
    await agent.until(web.uid, 'enabled');
    assert.equal(await call(), 'ok');
  });

  test('no certificate: found', async () => {
    await ztunnel.stop();
    const found = once(findingOf(agent, 'audit.certificate_missing'), 'found', { signal: AbortSignal.timeout(40_000) });
    ztunnel = await startOurs(mesh.bed, 'n1', {
      env: { AMBIT_DEV_CA_CERT: undefined, AMBIT_DEV_CA_KEY: undefined, CA_ADDRESS: 'https://127.0.0.1:1' },
    });
    await found;
    const report = await audit();
    assert.equal(report.pods.find(({ uid }) => uid === web.uid)?.canary?.result, 'denied');
  });

  test('the command says the same, and its status says that something was found', async () => {
    const asked = [MAIN, 'audit', '--socket', join(agent.runDirectory, 'agent.sock')];
    const table = await runCommand(process.execPath, asked, { timeoutMs: 60_000 });
    assert.equal(table.code, 1, table.stderr);
    assert.match(table.stdout, /^NODE +POD +MEMBER.*\nn1 +shop\/web +yes +ok +ok +.*certificate_missing( \+\d+)?\n/);
    assert.match(table.stdout, /\nn1: 2 pods, \d+ findings?/);
    const json = await runCommand(process.execPath, [...asked, '-o', 'json'], { timeoutMs: 60_000 });
    assert.equal(json.code, 1, json.stderr);
    const report = JSON.parse(json.stdout) as AuditReport;
    assert.deepEqual(codesOf(report), ['audit.certificate_missing']);
    assert.ok(report.lastRun !== null && report.lastRun.seconds < 1);
  });

  test('on a node that nobody touched there was no finding, for a minute at least', async () => {
    await delay(Math.max(0, CALM_MS - (performance.now() - calmSince)));
    const report = await audit(calmAgent);
    assert.deepEqual(report.findings, []);
    assert.deepEqual(falseAlarms, []);
    assert.equal(report.pods[0]?.canary?.result, 'ok');
  });

  function onDevice(pod: Pod, f: (index: number) => void): void {
    using netns = NetNs.open(pod.netnsPath);
    netns.run(() => {
      const link = findLink('eth0');
      assert.ok(link);
      f(link.index);
    });
  }
});

function codesOf({ findings }: AuditReport): readonly string[] {
  return findings.filter(({ repaired }) => !repaired).map(({ code }) => code);
}

/** `found` when the agent says that it found this. */
function findingOf(agent: AgentUnderTest, code: string): EventTarget {
  const target = new EventTarget();
  const stop = agent.onLine(line => {
    if (!line.includes('\tFinding\t') || !line.includes(`code="${code}"`)) return;
    stop();
    target.dispatchEvent(new Event('found'));
  });
  return target;
}
