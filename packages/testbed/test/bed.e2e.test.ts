// The bed as its users see it: pods, services, policies, the life of a ztunnel process, and what is left at the end.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Testbed } from '../src/bed.ts';
import { TestbedError } from '../src/errors.ts';
import { mustRun } from '../src/run-command.ts';
import { insideSandbox, SANDBOX_DIR } from '../src/sandbox.ts';
import { sandboxSkip } from '../src/sandbox-skip.ts';
import { Peers } from './peers.ts';

const FAKE = [process.execPath, join(import.meta.dirname, 'fake-ztunnel.ts')];

const fails =
  (code: string, text = /./) =>
  (error: unknown) => {
    return error instanceof TestbedError && error.code === code && text.test(`${error.message}\n${error.next}`);
  };

test('a bed outside a sandbox is refused', { skip: insideSandbox() && 'inside a sandbox' }, async () => {
  await assert.rejects(Testbed.create({ nodes: ['n1'] }), fails('testbed.no_sandbox'));
});

describe('a bed', { skip: sandboxSkip() }, () => {
  test('runs programs in pods, as processes of that network, and ends them with the pod', async () => {
    await using bed = await Testbed.create({ nodes: ['n1', 'n2'] });
    const a = await bed.addPod({ node: 'n1', name: 'a', namespace: 'plain', enrolled: false });
    const b = await bed.addPod({ node: 'n2', name: 'b', namespace: 'plain', enrolled: false });
    await using peers = new Peers();
    peers.serve(b, 80);
    assert.equal((await peers.mustCall(a, b.ip4, 80)).peer.ip, a.ip4);
    const result = await a.run('sh', ['-c', 'cat; echo "$X" >&2; exit 3'], {
      input: 'in',
      env: { X: 'y', PATH: process.env['PATH'] },
    });
    assert.deepEqual(result, { code: 3, signal: null, stdout: 'in', stderr: 'y\n' });
    await assert.rejects(a.run('sleep', ['100'], { timeoutMs: 50 }), fails('testbed.timeout', /sleep 100 in plain\.a/));
    // A fixed path: a directory on it that we may not read would make it 126.
    assert.equal((await a.run('no-such-program', [], { env: { PATH: '/usr/bin:/bin:/usr/sbin:/sbin' } })).code, 127);
    const stubborn = a.exec('sh', ['-c', 'trap "" TERM; echo up; sleep 100 & wait; wait; wait'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    assert.ok(stubborn.stdout);
    await once(stubborn.stdout, 'data');
    const ended = once(stubborn, 'exit');
    await a.delete();
    await a.delete();
    assert.deepEqual(await ended, [null, 'SIGKILL']);
    assert.equal(existsSync(a.netnsPath), false);
    assert.throws(() => a.exec('true'), fails('testbed.closed'));
    const again = await bed.addPod({ node: 'n1', name: 'a', namespace: 'plain', enrolled: false });
    assert.equal((await peers.mustCall(again, b.ip6, 80)).peer.ip, again.ip6);
  });

  test('keeps the mesh file true: pods, endpoints of services, policies and whom they select', async () => {
    await using bed = await Testbed.create({ nodes: ['n1'], trustDomain: 'td.example' });
    const file = async () => readFile(bed.meshFilePath, 'utf8');
    assert.equal(await file(), 'workloads: []\npolicies: []\nservices: []\n');
    const service = await bed.addService({ name: 'cart', namespace: 'shop', ports: { 80: 8080 } });
    assert.deepEqual(
      service.vips.map(({ ip }) => ip),
      ['10.96.0.1', 'fd00:96::1'],
    );
    const pod = await bed.addPod({
      node: 'n1',
      name: 'cart-1',
      namespace: 'shop',
      serviceAccount: 'cart',
      app: 'cart',
    });
    await bed.addPod({ node: 'n1', name: 'stranger', namespace: 'plain', enrolled: false });
    await bed.setPolicies([{ name: 'p', namespace: 'shop', app: 'cart', rules: [] }]);
    const lines = (await file()).split('\n');
    assert.match(
      lines[1] ?? '',
      /uid: "Kubernetes\/\/Pod\/shop\/cart-1".*trustDomain: "td\.example".*"10\.61\.1\.1","fd00:61:1::1".*protocol: HBONE/,
    );
    assert.match(
      lines[1] ?? '',
      /authorizationPolicies: \["shop\/p"\].*services: \{"shop\/cart\.shop\.svc\.cluster\.local": \{80: 8080\}\}/,
    );
    assert.match(lines[2] ?? '', /plain\/stranger.*protocol: TCP.*services: \{\}/);
    assert.match(lines[4] ?? '', /name: "p".*scope: WorkloadSelector, action: Allow/);
    await pod.delete();
    await bed.removeService(service);
    await bed.setPolicies([]);
    assert.doesNotMatch(await file(), /shop/);
  });

  test('starts a ztunnel with its environment, enrols pods before and after, and stops it', async () => {
    const devCa = { certPath: '/nowhere/root.pem', keyPath: '/nowhere/key.pem' };
    await using bed = await Testbed.create({ nodes: ['n1', 'n2'], devCa });
    await bed.addPod({ node: 'n2', name: 'early', namespace: 'shop' });
    await bed.addPod({ node: 'n1', name: 'elsewhere', namespace: 'shop' });
    const ztunnel = await bed.startZtunnel('n2', { command: FAKE, env: { EXTRA: 'yes', POD_NAME: undefined } });
    const environment = JSON.parse(ztunnel.log().split('\n')[0] ?? '') as Record<string, string>;
    const expected = {
      NODE_NAME: 'n2',
      LOCAL_XDS_PATH: bed.meshFilePath,
      XDS_ADDRESS: '',
      INPOD_UDS: bed.node('n2').agent.path,
      AMBIT_DEV_CA_CERT: '/nowhere/root.pem',
      EXTRA: 'yes',
    };
    for (const [name, value] of Object.entries(expected)) assert.equal(environment[name], value, name);
    assert.equal('POD_NAME' in environment, false);
    await ztunnel.waitForLine(/request snapshotSent/);
    assert.match(ztunnel.log(), /request add\nrequest snapshotSent$/);
    const late = await bed.addPod({ node: 'n2', name: 'late', namespace: 'shop' });
    assert.match(await mustRun('nsenter', [`--net=${late.netnsPath}`, 'nft', 'list', 'ruleset']), /istio-ambient-nat/);
    await late.delete();
    await ztunnel.waitForLine(/request del/);
    assert.match(ztunnel.log(), /snapshotSent\nrequest add\nrequest del$/);
    assert.deepEqual(await ztunnel.stop(), { code: 0, signal: null });
    assert.match(ztunnel.log(), /draining$/);
    await ztunnel.waitForLine(/request del/, 1);
    await assert.rejects(ztunnel.waitForLine(/never said/, 10), fails('testbed.timeout', /never said/));
  });

  test('a ztunnel that ends, never gets ready or refuses a pod is an error that quotes it', async () => {
    await using bed = await Testbed.create({ nodes: ['n1'] });
    await assert.rejects(
      bed.startZtunnel('n1', { command: FAKE, env: { FAKE: 'die' } }),
      fails('testbed.command_failed', /status 3[^]*out of luck/),
    );
    await assert.rejects(
      bed.startZtunnel('n1', { command: FAKE, env: { FAKE: 'mute' }, readyTimeoutMs: 300 }),
      fails('testbed.timeout', /is not ready after 300 ms: ./),
    );
    const pod = await bed.addPod({ node: 'n1', name: 'a', namespace: 'shop' });
    const refusing = { command: FAKE, env: { FAKE: 'refuse' } };
    await assert.rejects(bed.startZtunnel('n1', refusing), fails('enrol.refused', /shop\/a: no room/));
    await pod.delete();
    await bed.startZtunnel('n1', refusing);
    await assert.rejects(bed.addPod({ node: 'n1', name: 'a', namespace: 'shop' }), fails('enrol.refused'));
    assert.deepEqual(bed.pods, []);
  });

  test('wrong names and taken names are refused', async () => {
    await using bed = await Testbed.create({ nodes: ['n1'] });
    const pod = { node: 'n1', name: 'a', namespace: 'shop', enrolled: false };
    await bed.addPod(pod);
    await assert.rejects(bed.addPod(pod), fails('testbed.name_taken'));
    await assert.rejects(bed.addPod({ ...pod, name: 'A.b' }), fails('testbed.argument'));
    await assert.rejects(bed.addPod({ ...pod, node: 'n9' }), fails('testbed.unknown'));
    const service = { name: 's', namespace: 'shop', ports: { 80: 80 } };
    await bed.addService(service);
    await assert.rejects(bed.addService(service), fails('testbed.name_taken'));
    await assert.rejects(bed.addService({ ...service, name: 't', vips: ['10.0.0.300'] }), fails('testbed.argument'));
    await assert.rejects(Testbed.create({ nodes: ['n1'], busyTimeoutMs: 20 }), fails('testbed.busy'));
  });

  test('a closed bed leaves nothing in the sandbox, and the next one can use it', async () => {
    const state = async () => [
      await mustRun('ip', ['-o', 'addr']),
      readdirSync('/run/netns'),
      readdirSync(SANDBOX_DIR),
    ];
    const earlier = await state();
    const bed = await Testbed.create({ nodes: ['n1', 'n2'] });
    const waiting = Testbed.create({ nodes: ['n1'] });
    await bed.addPod({ node: 'n1', name: 'a', namespace: 'shop' });
    await bed.startZtunnel('n1', { command: FAKE });
    const program = bed.node('n2').processes.exec('sleep', ['1000'], { stdio: 'ignore' });
    await bed.close();
    await bed.close();
    assert.notEqual(program.signalCode, null);
    await assert.rejects(bed.addPod({ node: 'n1', name: 'b', namespace: 'shop' }), fails('testbed.closed'));
    const next = await waiting;
    await next.close();
    assert.deepEqual(await state(), earlier);
  });
});
