// A whole control plane as a process, with grpc-js as its xDS client: what is served, to whom, and how it starts and ends.
import assert from 'node:assert/strict';
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { ADDRESS, AUTHORIZATION, ControlPeer, type DeltaStream, nodeOf } from './control-plane-peer.ts';
import { type RunningControl, Workspace } from './control-plane-running.ts';
import { CART_IP, CART_POD, CART_SERVICE, podYaml, policyYaml, SHOP, WEB_POD } from './control-plane-shop.ts';

interface Syncz {
  readonly clients: ReadonlyArray<{
    readonly node: string;
    readonly identity?: string;
    readonly types: ReadonlyArray<{
      readonly typeUrl: string;
      readonly nonceAcked: string;
      readonly lastNack?: { readonly message: string; readonly version: string };
    }>;
  }>;
}

describe('a control plane on files', () => {
  let workspace: Workspace;
  let control: RunningControl;
  let plain: ControlPeer;
  let secure: ControlPeer;

  before(async () => {
    workspace = await Workspace.make(SHOP);
    control = await workspace.start();
    plain = ControlPeer.plain(control);
    secure = await ControlPeer.secure(control);
  });

  after(async () => {
    await using _ = workspace;
    for (const peer of [plain, secure]) peer.client.close();
  });

  const clientOf = async (node: string) =>
    (await control.page<Syncz>('/debug/syncz')).clients.find(client => client.node === node);

  test('tells the same to who comes in plain text and to who shows a token over TLS', async () => {
    const near = plain.stream().follow(nodeOf('n1'));
    const token = await control.token('n1');
    const node = nodeOf('n1');
    const far = secure.stream(token).follow(node);
    for (const stream of [near, far]) await stream.untilFollowed();
    assert.deepEqual(near.names(ADDRESS), [CART_POD, WEB_POD, CART_SERVICE]);
    assert.deepEqual(near.names(AUTHORIZATION), ['shop/no-9999']);
    for (const type of [ADDRESS, AUTHORIZATION]) assert.deepEqual(far.versions(type), near.versions(type));
    assert.equal((await clientOf(node.id))?.identity, 'spiffe://cluster.local/ns/istio-system/sa/ztunnel');
    for (const stream of [near, far]) stream.cancel();
  });

  test('answers an address with its pod, and one that nobody has as removed', async () => {
    const stream = plain.stream();
    const [known, unknown] = [`/${CART_IP}`, '/10.99.99.99'];
    // To take everything and give it back is how a client asks for nothing but what it names.
    stream.send({ node: nodeOf('n9'), typeUrl: ADDRESS, subscribe: ['*'], unsubscribe: ['*'] });
    stream.send({ typeUrl: ADDRESS, subscribe: [known, unknown] });
    await stream.until(({ responses }) => responses.some(({ removed }) => removed.includes(unknown)));
    await stream.until(({ names }) => names.length >= 0 && stream.has(ADDRESS, CART_POD));
    assert.equal(stream.has(ADDRESS, WEB_POD), false, 'what was not asked for is not told');
    const [pod] = stream.responses.flatMap(({ resources }) => resources).filter(({ name }) => name === CART_POD);
    assert.ok(pod?.aliases.includes(known), String(pod?.aliases));
    stream.cancel();
  });

  test('tells who comes back with versions only what is different', async () => {
    const first = await plain.stream().follow(nodeOf('n1')).untilFollowed();
    const known = {
      [ADDRESS]: { ...first.versions(ADDRESS), [WEB_POD]: 'old', 'Kubernetes//Pod/shop/gone': '1' },
      [AUTHORIZATION]: first.versions(AUTHORIZATION),
    };
    first.cancel();
    const second = await plain.stream().follow(nodeOf('n1'), known).untilFollowed();
    assert.deepEqual(second.names(ADDRESS), [WEB_POD]);
    assert.deepEqual(second.responses.find(({ typeUrl }) => typeUrl === ADDRESS)?.removed, [
      'Kubernetes//Pod/shop/gone',
    ]);
    assert.deepEqual(second.names(AUTHORIZATION), []);
    second.cancel();
  });

  test('shows what a client refused, against that client, and goes on telling it', async () => {
    const node = nodeOf('n1');
    const stream = plain.stream();
    stream.isPolite = false;
    await stream.follow(node).untilFollowed();
    const nonce = stream.responses.find(({ typeUrl }) => typeUrl === ADDRESS)?.nonce ?? '';
    stream.send({ typeUrl: ADDRESS, nonce, error: 'I cannot read this' });
    await control.line(line => line['code'] === 'xds.nack' && line['node'] === node.id);
    const [address] = (await clientOf(node.id))?.types.filter(({ typeUrl }) => typeUrl === ADDRESS) ?? [];
    assert.equal(address?.lastNack?.message, 'I cannot read this');
    assert.equal(address?.lastNack?.version, nonce);
    assert.equal(address?.nonceAcked, '');
    await workspace.write('after-nack.yaml', podYaml('after-nack', 'n1', '10.20.0.9'));
    await stream.until(() => stream.has(ADDRESS, 'Kubernetes//Pod/shop/after-nack'));
    await workspace.remove('after-nack.yaml');
    await stream.until(() => !stream.has(ADDRESS, 'Kubernetes//Pod/shop/after-nack'));
    stream.cancel();
  });

  test('lets nobody in over TLS without a proof, or as somebody else', async () => {
    const of = async (stream: DeltaStream, node = nodeOf('n1')) => (await stream.follow(node).failure()).code;
    const token = await control.token('n1');
    assert.equal(await of(secure.stream()), status.UNAUTHENTICATED);
    assert.equal(await of(secure.stream(`${token.slice(0, -4)}AAAA`)), status.UNAUTHENTICATED);
    assert.equal(await of(secure.stream(await control.token(undefined, 'shop/web'))), status.PERMISSION_DENIED);
    assert.equal(
      await of(secure.stream(await control.token(undefined, 'istio-system/waypoint'))),
      status.PERMISSION_DENIED,
    );
    assert.equal(await of(secure.stream(token), nodeOf('n2')), status.PERMISSION_DENIED, 'the node is proven too');
  });

  test('brings changes of files to clients, and keeps the good state of a file that broke', async () => {
    const stream = await plain.stream().follow(nodeOf('n1')).untilFollowed();
    await workspace.write('extra.yaml', policyYaml('no-8888', 8888));
    await stream.until(() => stream.has(AUTHORIZATION, 'shop/no-8888'));
    const heard = stream.responses.length;
    await workspace.write('extra.yaml', `${policyYaml('no-8888', 8888)}  broken: [`);
    await control.line(line => line['code'] === 'config.yaml_syntax');
    interface Problem {
      readonly code: string;
      readonly place?: { readonly file: string; readonly line: number };
    }
    const [problem] = await control.page<readonly Problem[]>('/debug/diagnostics');
    assert.equal(problem?.place?.file, join(workspace.objects, 'extra.yaml'));
    assert.equal(problem.place.line, 7);
    // What is good goes on meanwhile, and is the next thing that is heard.
    await workspace.write('more.yaml', policyYaml('no-7777', 7777));
    await stream.until(() => stream.has(AUTHORIZATION, 'shop/no-7777'));
    assert.equal(stream.responses.length, heard + 1);
    assert.ok(stream.has(AUTHORIZATION, 'shop/no-8888'));
    await workspace.write('extra.yaml', policyYaml('no-6666', 6666));
    await stream.until(() => stream.has(AUTHORIZATION, 'shop/no-6666') && !stream.has(AUTHORIZATION, 'shop/no-8888'));
    assert.deepEqual(await control.page('/debug/diagnostics'), []);
    for (const name of ['extra.yaml', 'more.yaml']) await workspace.remove(name);
    await stream.until(() => stream.names(AUTHORIZATION).length === 1);
    stream.cancel();
  });

  test('tells on its admin port that it is ready, to those who ask by our names, and changes nothing there', async () => {
    assert.deepEqual(await control.tell('/ready'), { status: 200, text: 'ready\n' });
    const host = (value: string) => ({ headers: { host: value } });
    assert.equal((await control.tell('/debug/syncz', host('attacker.example'))).status, 403);
    assert.equal((await control.tell('/debug/syncz', host(`localhost:${control.adminPort}`))).status, 200);
    assert.equal((await control.tell('/debug/syncz', { method: 'POST' })).status, 405);
    for (const path of ['/ca/token', '/ca/revoke', '/ca/rotate-root']) {
      assert.notEqual((await control.tell(path, { method: 'POST' })).status, 200, path);
      assert.equal((await control.tell(path)).status, 404, path);
    }
  });

  test('tells no key and no token on any page', async () => {
    const token = await control.token('n1');
    const paths = (await control.tell('/')).text.trim().split('\n');
    assert.ok(paths.includes('/debug/syncz') && paths.includes('/debug/certificates'));
    for (const path of paths) {
      const { status: code, text } = await control.tell(path);
      assert.equal(code, 200, path);
      assert.doesNotMatch(text, /PRIVATE KEY/, path);
      assert.ok(!text.includes(token.split('.')[1] ?? '?'), path);
    }
    assert.ok(!control.log().includes(token.split('.')[2] ?? '?'));
  });

  test('keeps its secrets and its acting door to its own user', async () => {
    const modeOf = async (name: string) => ((await stat(join(control.state, name))).mode & 0o777).toString(8);
    assert.equal(await modeOf('.'), '700');
    for (const name of ['admin.sock', 'root-key.pem', 'token-key.pem']) assert.equal(await modeOf(name), '600', name);
  });

  test('is the only one on its state directory', async () => {
    const rootPem = await control.rootPem();
    const second = workspace.launch();
    assert.equal(await second.ended, 1);
    assert.match(second.complaint, /\[config\.state_in_use\]\n {2}next {4}/);
    assert.equal(await control.rootPem(), rootPem);
    assert.equal((await control.act('GET', '/ca/status')).status, 200, 'the first still answers');
  });
});

test('clients are told to come again when it ends, and its successor knows root, tokens and versions', async () => {
  await using workspace = await Workspace.make(SHOP);
  const first = await workspace.start();
  const token = await first.token('n1');
  const rootPem = await first.rootPem();
  using peer = await ControlPeer.secure(first);
  const stream = await peer.stream(token).follow(nodeOf('n1')).untilFollowed();
  assert.equal(await first.stop(), 0);
  assert.equal((await stream.failure()).code, status.UNAVAILABLE);
  assert.equal(first.complaint, '');

  const second = await workspace.start();
  assert.equal(await second.rootPem(), rootPem);
  using again = await ControlPeer.secure(second);
  const known = { [ADDRESS]: stream.versions(ADDRESS), [AUTHORIZATION]: stream.versions(AUTHORIZATION) };
  const resumed = await again.stream(token).follow(nodeOf('n1'), known).untilFollowed();
  assert.deepEqual([...resumed.names(ADDRESS), ...resumed.names(AUTHORIZATION)], [], 'nothing is different');
  assert.equal(await second.stop('SIGINT'), 0);
});

test('it takes over the state directory of one that was killed', async () => {
  await using workspace = await Workspace.make(SHOP);
  const first = await workspace.start();
  const token = await first.token('n1');
  await first.stop('SIGKILL');
  const second = await workspace.start();
  using peer = await ControlPeer.secure(second);
  await peer.stream(token).follow(nodeOf('n1')).untilFollowed();
});

test('until every source has delivered it is not ready and turns xDS clients away', async () => {
  await using workspace = await Workspace.make(SHOP);
  const kubeconfig = join(workspace.directory, 'kubeconfig');
  const cluster = { server: 'https://127.0.0.1:1' };
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'c', cluster }],
    users: [{ name: 'u', user: {} }],
    contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'c',
  };
  await writeFile(kubeconfig, JSON.stringify(config));
  const control = await workspace.start({ kubernetes: 'kubeconfig', kubeconfig }, 'Listening');
  assert.equal((await control.tell('/ready')).status, 503);
  using peer = ControlPeer.plain(control);
  assert.equal((await peer.stream().follow(nodeOf('n1')).failure()).code, status.UNAVAILABLE);
  assert.equal(await control.stop(), 0);
});
