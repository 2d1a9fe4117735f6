import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { BroadcastChannel } from 'node:worker_threads';
import { createService, createWorkload, MeshState, parseIp } from '@ambit/mesh';
import { systemClock } from '../src/clock.ts';
import { parseConfig } from '../src/config.ts';
import type { ResolverSet } from '../src/dns/dns-messages.ts';
import type { CertificateState } from '../src/identity/certificate-manager.ts';
import { Log, LogFilter } from '../src/log.ts';
import { type IdentityStore } from '../src/supervisor/identity-users.ts';
import { Supervisor, type SupervisorDeps } from '../src/supervisor.ts';
import type { PodInfo, ToWorker } from '../src/worker-protocol.ts';
import { workerSettings } from '../src/worker-settings.ts';
import type { Heard } from './tiny-worker.ts';

const IDENTITY = 'spiffe://cluster.local/ns/shop/sa/web';

/** Everything workers heard, and a way to wait for more. */
class Ear {
  readonly #channel: BroadcastChannel;
  readonly heard: Heard[] = [];
  #onHeard: () => void = () => undefined;

  constructor(name: string) {
    this.#channel = new BroadcastChannel(name);
    this.#channel.addEventListener('message', event => {
      // The tiny worker posts nothing else.
      this.heard.push((event as unknown as { data: Heard }).data);
      this.#onHeard();
    });
  }

  of<T extends ToWorker['type']>(index: number, type: T): Extract<ToWorker, { type: T }>[] {
    return this.heard
      .filter(({ index: from, message }) => from === index && message.type === type)
      .map(({ message }) => message as Extract<ToWorker, { type: T }>);
  }

  async until(isTrue: () => boolean): Promise<void> {
    while (!isTrue()) await new Promise<void>(resolve => (this.#onHeard = resolve));
  }

  close(): void {
    this.#channel.close();
  }
}

interface World {
  readonly supervisor: Supervisor;
  readonly mesh: MeshState;
  readonly ear: Ear;
  readonly wanted: string[];
  readonly forgotten: string[];
  readonly states: Map<string, CertificateState>;
  readonly lines: string[];
  /** Workers that ended. */
  readonly gone: number[];
  records: number;
}

async function withWorkers(
  workers: number,
  run: (world: World) => Promise<void>,
  answerTimeoutMs = 20_000,
  lookup?: SupervisorDeps['lookup'],
  /** Does something while the first worker starts, and has `run` begin when that one is ready. */
  early?: (supervisor: Supervisor) => void,
): Promise<void> {
  const name = randomUUID();
  const config = parseConfig({ NETWORK: name, ZTUNNEL_WORKER_THREADS: String(workers) }, { cores: 2 });
  const filter = LogFilter.parse('info');
  assert.ok(filter !== undefined);
  const lines: string[] = [];
  const log = new Log({ write: line => lines.push(line), now: () => 0 }, { format: 'plain', filter });
  const states = new Map<string, CertificateState>();
  const gone: number[] = [];
  const [wanted, forgotten]: [string[], string[]] = [[], []];
  const identities: IdentityStore = {
    want: identity => void wanted.push(identity),
    need: () => undefined,
    forget: identity => void forgotten.push(identity),
    state: identity => states.get(identity),
  };
  const mesh = new MeshState();
  const supervisor = new Supervisor(
    {
      view: mesh,
      identities,
      clock: systemClock,
      random: () => 0.5,
      log: log.scope('ztunnel::supervisor'),
      onRecords: () => world.records++,
      onWorkerGone: index => void gone.push(index),
      ...(lookup === undefined ? {} : { lookup }),
    },
    {
      entry: new URL('./tiny-worker.ts', import.meta.url),
      workers,
      settings: workerSettings(config, { opens: true, queries: true }),
      routes: { network: '', illegalPorts: new Set([15008]), preserveSource: true, localhostAppTunnel: true },
      names: { clusterDomain: 'cluster.local', ipv6: true, preferredNamespace: undefined, searchDomains: undefined },
      answerTimeoutMs,
    },
  );
  const world: World = { supervisor, mesh, ear: new Ear(name), wanted, forgotten, states, lines, gone, records: 0 };
  try {
    const started = supervisor.start();
    early?.(supervisor);
    await (early === undefined ? started : supervisor.serving);
    await run(world);
    await started;
  } finally {
    await supervisor.stop();
    world.ear.close();
  }
}

const pod = (uid: string, name = 'web-1'): PodInfo => ({ uid, name, namespace: 'shop', serviceAccount: 'web' });

function addWorkload(mesh: MeshState): void {
  const ip = parseIp('10.0.0.1');
  assert.ok(ip !== undefined);
  const workload = createWorkload({
    uid: 'w',
    name: 'web-1',
    namespace: 'shop',
    serviceAccount: 'web',
    trustDomain: 'cluster.local',
    workloadIps: [ip],
  });
  mesh.applyBatch({ upsertWorkloads: [workload] });
}

test('the first worker comes before the others, who are told on joining what it was told meanwhile', () =>
  withWorkers(
    3,
    async ({ supervisor, ear }) => {
      assert.equal(await supervisor.openPod(pod('a'), undefined), undefined);
      for (const index of [0, 1, 2]) {
        await ear.until(() => ear.of(index, 'podAdd').length > 0);
        const heard = ear.heard.filter(({ index: from }) => from === index).map(({ message }) => message.type);
        assert.deepEqual(
          heard.filter(type => type === 'revocations' || type === 'podAdd'),
          ['revocations', 'podAdd'],
          'who is revoked comes before anybody is let in',
        );
      }
    },
    20_000,
    undefined,
    supervisor => supervisor.setRevocations(['r1']),
  ));

test('workers hear what is said of an open pod, replaced ones too; what is said of others is dropped', () =>
  withWorkers(2, async ({ supervisor, ear }) => {
    await supervisor.openPod(pod('a'), undefined);
    supervisor.describePod({ ...pod('a'), l7: 'off' });
    supervisor.describePod({ ...pod('b'), l7: 'on' });
    await ear.until(() => [0, 1].every(index => ear.of(index, 'podInfo').length === 1));
    assert.deepEqual(ear.of(1, 'podInfo')[0]?.pod, { ...pod('a'), l7: 'off' });
    assert.equal(supervisor.podInfo('a')?.l7, 'off');
    assert.equal(supervisor.podInfo('b'), undefined);
    await supervisor.openPod(pod('c', 'crash-1'), undefined);
    await ear.until(() => ear.of(1, 'podAdd').some(({ pod: told }) => told.uid === 'a' && told.l7 === 'off'));
  }));

test('a pod is enrolled when all workers opened it, and closed when all let go', () =>
  withWorkers(2, async ({ supervisor, ear }) => {
    assert.equal(await supervisor.openPod(pod('a'), undefined), undefined);
    // What the workers repeat comes on another channel than their answers.
    await ear.until(() => [0, 1].every(index => ear.of(index, 'podAdd').length === 1));
    assert.equal(supervisor.stats.pods, 1);
    await supervisor.closePod('a', 'immediate', 0);
    await ear.until(() => [0, 1].every(index => ear.of(index, 'podRemove').length === 1));
    assert.deepEqual([ear.of(0, 'podRemove')[0]?.mode, ear.of(1, 'podRemove')[0]?.mode], ['immediate', 'immediate']);
    assert.deepEqual(supervisor.stats, {
      workersReplaced: 0,
      pods: 0,
      podsOpened: 1,
      podsFailed: 0,
      podsClosed: 1,
      tunnelsMoved: 0,
      lookupsFailed: 0,
    });
    await supervisor.closePod('never', 'immediate', 0);
  }));

test('one worker that cannot open a pod closes it on the others, and the pod can be tried again', () =>
  withWorkers(2, async ({ supervisor, ear }) => {
    const failure = await supervisor.openPod(pod('a', 'fail-1'), undefined);
    assert.deepEqual(failure, { code: 'enrol.port_taken', message: 'port 15008 is taken' });
    await ear.until(() => ear.of(0, 'podRemove').length === 1);
    assert.equal(supervisor.stats.pods, 0);
    assert.equal(await supervisor.openPod(pod('a'), undefined), undefined);
  }));

test('a worker that does not answer fails the opening, is replaced, and serves again', () =>
  withWorkers(
    1,
    async ({ supervisor }) => {
      const failure = await supervisor.openPod(pod('a', 'mute'), undefined);
      assert.equal(failure?.code, 'enrol.failed');
      assert.match(failure.message, /did not answer within 3000 ms/);
      assert.equal(await supervisor.openPod(pod('a'), undefined), undefined);
      assert.equal(supervisor.stats.workersReplaced, 1);
    },
    3000,
  ));

test('workload, policies and certificates reach every worker, and questions about routes are answered', () =>
  withWorkers(2, async world => {
    const { supervisor, mesh, ear, wanted, forgotten } = world;
    await supervisor.openPod(pod('a'), undefined);
    assert.deepEqual(wanted, []);
    assert.equal(ear.of(0, 'podState')[0]?.workload, undefined);
    addWorkload(mesh);
    supervisor.onMeshChanged();
    assert.deepEqual(wanted, [IDENTITY]);
    await ear.until(() =>
      [0, 1].every(index => ear.of(index, 'inboundRoute').length === 1 && ear.of(index, 'recordsTaken').length === 1),
    );
    assert.equal(ear.of(0, 'podState').at(-1)?.workload?.uid, 'w');
    assert.equal(ear.of(0, 'forgetRoutes').length, 1);
    assert.equal(ear.of(1, 'outboundRoute')[0]?.route.kind, 'passthrough');
    assert.equal(ear.of(1, 'inboundRoute')[0]?.route.kind, 'deliver');
    assert.equal(world.records, 2);
    const material = { identity: IDENTITY, certChainPem: 'c', privateKeyPem: 'k', rootsPem: 'r' };
    supervisor.onCertificate(IDENTITY, { kind: 'available', certificate: { material, notBeforeMs: 0, notAfterMs: 1 } });
    supervisor.onCertificate(IDENTITY, { kind: 'unavailable', error: 'gone' });
    await ear.until(() => ear.of(1, 'certificate').length === 2);
    assert.deepEqual(
      ear.of(1, 'certificate').map(({ material: m, error }) => [m?.certChainPem, error]),
      [
        ['c', undefined],
        [undefined, 'gone'],
      ],
    );
    // A second pod of the same account shares the certificate; only when both are gone is it forgotten.
    await supervisor.openPod({ ...pod('b'), name: 'web-1' }, undefined);
    assert.deepEqual(wanted, [IDENTITY]);
    await supervisor.closePod('a', 'immediate', 0);
    assert.deepEqual(forgotten, []);
    await supervisor.closePod('b', 'graceful', 1000);
    assert.deepEqual(forgotten, [IDENTITY]);
  }));

test('a worker that dies is replaced and told everything again', () =>
  withWorkers(2, async ({ supervisor, mesh, ear, states, lines, gone }) => {
    addWorkload(mesh);
    const material = { identity: IDENTITY, certChainPem: 'c', privateKeyPem: 'k', rootsPem: 'r' };
    states.set(IDENTITY, { kind: 'available', certificate: { material, notBeforeMs: 0, notAfterMs: 1 } });
    const resolvers: ResolverSet = { resolvers: [], timeoutMs: 5000, attempts: 2, rotate: false };
    supervisor.setResolvers(resolvers);
    await supervisor.openPod(pod('a'), undefined);
    // The last that the worker hears of this pod.
    await ear.until(() => ear.of(1, 'resolvers').length === 1 && ear.of(1, 'recordsTaken').length === 1);
    const before = ear.heard.length;
    const crash = supervisor.openPod(pod('b', 'crash-1'), undefined);
    const replay = (): Heard[] => ear.heard.slice(before).filter(({ index }) => index === 1);
    await ear.until(() => replay().filter(({ message }) => message.type === 'podAdd').length >= 3);
    // The second message of the replacement and on: first the certificates, then each pod with its state.
    const types = replay().map(({ message }) => message.type);
    assert.ok(types.includes('certificate'));
    // And where to ask, before there is a pod that could.
    const fresh = types.slice(types.indexOf('podAdd') + 1);
    assert.ok(fresh.includes('resolvers') && fresh.indexOf('resolvers') < fresh.indexOf('podAdd'), String(types));
    assert.ok(
      lines.some(line => line.includes('asked to crash') && line.includes('worker.died')),
      lines.join('\n'),
    );
    assert.ok(supervisor.stats.workersReplaced >= 1);
    assert.deepEqual([...new Set(gone)], [1]);
    await supervisor.closePod('b', 'immediate', 0);
    const failure = await crash;
    assert.equal(failure?.code, 'drain.pod_removed');
    await ear.until(() => replay().some(({ message }) => message.type === 'podState' && message.uid === 'a'));
    await supervisor.closePod('a', 'immediate', 0);
    assert.equal(supervisor.stats.pods, 0);
  }));

test('a drain reaches all workers, refuses new pods and ends when they are done', () =>
  withWorkers(2, async ({ supervisor, ear }) => {
    await supervisor.openPod(pod('a'), undefined);
    await supervisor.drain(1000);
    await ear.until(() => [0, 1].every(index => ear.of(index, 'drain').length === 1));
    assert.equal((await supervisor.openPod(pod('b'), undefined))?.code, 'drain.pod_removed');
  }));

test('a route waits for what the control plane says, and without an answer it is refused and forgotten at the next word', async () => {
  const asked: string[] = [];
  const answers: ((isSure: boolean) => void)[] = [];
  const lookup = (destination: string): Promise<boolean> => {
    asked.push(destination);
    return new Promise(resolve => answers.push(resolve));
  };
  await withWorkers(
    1,
    async ({ supervisor, ear, mesh }) => {
      addWorkload(mesh);
      assert.equal(await supervisor.openPod(pod('a'), undefined), undefined);
      while (answers.length === 0) await new Promise(resolve => setImmediate(resolve));
      assert.deepEqual(asked, ['10.0.0.2']);
      assert.equal(ear.of(0, 'outboundRoute').length, 0);
      answers[0]?.(false);
      await ear.until(() => ear.of(0, 'outboundRoute').length === 1);
      const [refused] = ear.of(0, 'outboundRoute');
      assert.ok(refused?.route.kind === 'deny');
      assert.equal(refused.route.reason, 'route.unknown_destination');
      assert.equal(supervisor.stats.lookupsFailed, 1);
      // Nothing changed, but this may be the answer that came late.
      supervisor.onMeshChanged({ addresses: false, policies: false });
      await ear.until(() => ear.of(0, 'forgetRoutes').length === 1);
      supervisor.onMeshChanged({ addresses: false, policies: false });
      supervisor.onMeshChanged({ addresses: true, policies: false });
      await ear.until(() => ear.of(0, 'forgetRoutes').length === 2);
      // The pod's own workload and policies are the same, so nobody is told of them again.
      assert.equal(ear.of(0, 'podState').length, 1);
    },
    20_000,
    lookup,
  );
});

test('revoked certificates reach every worker, and those that come later before any pod', () =>
  withWorkers(1, async ({ supervisor, ear }) => {
    supervisor.setRevocations(['k1']);
    await ear.until(() => ear.of(0, 'revocations').length === 1);
    assert.deepEqual(ear.of(0, 'revocations')[0]?.keys, ['k1']);
  }));

test('a worker is told what a name is, and all workers when that is no longer so', () =>
  withWorkers(2, async ({ supervisor, mesh, ear }) => {
    await supervisor.openPod(pod('a'), undefined);
    addWorkload(mesh);
    supervisor.onMeshChanged();
    await ear.until(() => [0, 1].every(index => ear.of(index, 'dnsDecision').length > 0));
    assert.equal(ear.of(0, 'dnsDecision')[0]?.decision.kind, 'forward');
    assert.equal(ear.of(0, 'forgetNames').length, 0);
    const [ip] = ['10.9.0.1'].map(parseIp);
    assert.ok(ip !== undefined);
    const hostname = 'cart.shop.svc.cluster.local';
    const cart = createService({ name: 'cart', namespace: 'shop', hostname, vips: [{ network: '', ip }] });
    mesh.applyBatch({ upsertServices: [cart] });
    supervisor.onMeshChanged();
    await ear.until(() => [0, 1].every(index => ear.of(index, 'forgetNames').length > 0));
    assert.deepEqual(ear.of(1, 'forgetNames')[0]?.stale, { kind: 'labels', labels: new Set(['cart']) });
    supervisor.setSearchDomains(['example.org']);
    await ear.until(() => [0, 1].every(index => ear.of(index, 'forgetNames').length > 1));
    assert.deepEqual(ear.of(0, 'forgetNames')[1]?.stale, { kind: 'all' });
  }));

test('workers hear who reads what, replaced ones too', () =>
  withWorkers(2, async ({ supervisor, ear }) => {
    supervisor.setReaders({ opens: false, queries: true });
    await ear.until(() => [0, 1].every(index => ear.of(index, 'readers').length === 1));
    assert.deepEqual(ear.of(0, 'readers'), [{ type: 'readers', opens: false, queries: true }]);
    void supervisor.openPod(pod('c', 'crash-1'), undefined);
    await ear.until(() => ear.of(1, 'readers').length >= 2);
  }));

test('a question goes to all workers and their answers come in order', () =>
  withWorkers(2, async ({ supervisor }) => {
    const answers = await supervisor.ask({ kind: 'connections', limit: 1 }, 20_000);
    const nothing = { kind: 'connections', pods: [], leftOut: 0 };
    assert.deepEqual(answers, [
      { worker: 0, answer: nothing },
      { worker: 1, answer: nothing },
    ]);
  }));

test('nobody waits for the answer of a worker that died', () =>
  withWorkers(2, async ({ supervisor, ear }) => {
    void supervisor.openPod(pod('c', 'crash-1'), undefined);
    await ear.until(() => ear.of(0, 'podAdd').length === 1);
    // The limit is far longer than this test may take.
    const [first] = await supervisor.ask({ kind: 'connections', limit: 1 }, 600_000);
    assert.equal(first?.worker, 0);
  }));
