// Two control planes for one mesh: of one authority, each with a state of its own, and the nodes are led from one to the
// other and back. Two that would share a state directory are one too many.
import assert from 'node:assert/strict';
import { copyFile, mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type ControlProcess, type Pod, sandboxSkip, type Testbed, type ZtunnelProcess } from '@ambit/testbed';
import {
  ECHO,
  Forwarder,
  Load,
  makeBed,
  policyYaml,
  scratch,
  serveEcho,
  startControl,
  until,
  untilSynced,
  writeCa,
} from './control-mesh.ts';
import { linesOf, startOurs } from './e2e-mesh.ts';
import { Net, tryEcho } from './e2e-net.ts';

const CLOSED = 7001;
const DAY_MS = 86_400_000;
const DENY = policyYaml('no-7001', 'shop', {
  action: 'DENY',
  rules: [{ to: [{ operation: { ports: [String(CLOSED)] } }] }],
});

describe('two control planes', { skip: sandboxSkip() }, () => {
  const closers = new AsyncDisposableStack();
  let bed: Testbed;
  let peers: Net;
  let caDirectory: string;
  let first: ControlProcess;
  let second: ControlProcess;
  let forwarder: Forwarder;
  let ztunnels: readonly [ZtunnelProcess, ZtunnelProcess];
  let web: Pod;
  let cart: Pod;
  const otherPorts = 100;
  const otherState = { directory: '' };

  before(async () => {
    peers = closers.use(new Net());
    bed = closers.use(await makeBed());
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    for (const port of [ECHO, CLOSED]) serveEcho(peers, cart, port);
    caDirectory = await writeCa({
      notBefore: new Date(Date.now() - DAY_MS),
      notAfter: new Date(Date.now() + 10 * DAY_MS),
    });
    first = await startFirst();
    forwarder = closers.use(await Forwarder.open(first));
    forwarder.leadTo(first.url);
    // What proves a node to one must prove it to the other.
    otherState.directory = await scratch('second');
    await mkdir(otherState.directory, { recursive: true, mode: 0o700 });
    await copyFile(join(first.stateDirectory, 'token-key.pem'), join(otherState.directory, 'token-key.pem'));
    const roots = join(caDirectory, 'root-cert.pem');
    const env = { XDS_ADDRESS: forwarder.url, CA_ADDRESS: forwarder.url, XDS_ROOT_CA: roots, CA_ROOT_CA: roots };
    ztunnels = await Promise.all([startOurs(bed, 'n1', { env }), startOurs(bed, 'n2', { env })]);
    await untilSynced(first);
  });

  after(async () => closers.disposeAsync());

  async function startFirst(): Promise<ControlProcess> {
    return startControl(bed, { flags: ['--ca-dir', caDirectory] });
  }

  async function startSecond(): Promise<ControlProcess> {
    const flags = ['--ca-dir', caDirectory];
    return startControl(bed, { flags, portOffset: otherPorts, stateDirectory: otherState.directory });
  }

  /** Names that a ztunnel knows, of workloads, services and policies. */
  async function known(ztunnel: ZtunnelProcess): Promise<readonly string[]> {
    const { stdout } = await bed.node(ztunnel.node.name).processes.run('curl', ['-sS', 'localhost:15000/config_dump']);
    const dump = JSON.parse(stdout) as Readonly<Record<string, readonly { readonly name: string }[]>>;
    return ['workloads', 'services', 'policies'].flatMap(kind =>
      (dump[kind] ?? []).map(each => `${kind} ${each.name}`),
    );
  }

  test('of two with one state directory the second is refused, and the first goes on', async () => {
    const account = join(first.stateDirectory, 'issued.jsonl');
    const { ino } = await stat(account);
    await assert.rejects(startControl(bed, { flags: ['--ca-dir', caDirectory], portOffset: otherPorts }), {
      next: /config\.state_in_use/,
    });
    assert.equal((await stat(account)).ino, ino, "the first one's account of certificates was replaced under it");
    assert.equal((await untilSynced(first)).clients.length, 2);
    assert.deepEqual(await first.ask('GET', '/ca/crl').then(answer => Object.keys(answer as object)), ['crl']);
  });

  test('nodes go from one to the other and back under load, lose nothing, and follow whoever they are led to', async () => {
    second = await startSecond();
    const held = await Promise.all(ztunnels.map(known));
    assert.ok(
      held.every(names => names.some(name => name === 'workloads cart')),
      JSON.stringify(held),
    );
    const load = new Load(peers, web, [cart.ip4, ECHO]);
    await load.more(100);
    // The one in use dies; the other one has the same objects.
    first.process.kill('SIGKILL');
    await first.ended;
    forwarder.leadTo(second.url);
    await untilSynced(second, 2, 30_000);
    assert.deepEqual(await Promise.all(ztunnels.map(known)), held);
    await bed.writeObjects('deny.yaml', DENY);
    await until(async () => (await tryEcho(peers, web, cart.ip4, CLOSED)) !== 'ok', 'the second one is followed');
    // Back, while both live: neither is told that the other one ever was.
    first = await startFirst();
    forwarder.leadTo(first.url);
    await untilSynced(first, 2, 30_000);
    assert.notEqual(await tryEcho(peers, web, cart.ip4, CLOSED), 'ok');
    const late = await bed.addPod({ node: 'n2', name: 'late', namespace: 'shop', serviceAccount: 'late' });
    serveEcho(peers, late);
    await until(
      async () => (await Promise.all(ztunnels.map(known))).every(names => names.includes('workloads late')),
      'the new pod is known',
    );
    assert.equal(await tryEcho(peers, web, late.ip4, ECHO), 'ok');
    await late.delete();
    await bed.writeObjects('deny.yaml', '');
    await until(async () => (await tryEcho(peers, web, cart.ip4, CLOSED)) === 'ok', 'the first one is followed');
    await until(
      async () => JSON.stringify(await Promise.all(ztunnels.map(known))) === JSON.stringify(held),
      'everything is as before',
    );
    const { failures } = await load.stop();
    assert.deepEqual(failures, []);
    for (const ztunnel of ztunnels) {
      const removals = linesOf(ztunnel).filter(({ message }) => message.startsWith('handling RBAC delete'));
      assert.deepEqual(
        removals.map(({ message }) => message),
        ['handling RBAC delete shop/no-7001'],
      );
    }
  });
});
