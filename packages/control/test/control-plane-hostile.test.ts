// A running control plane and peers that mean harm: revoked while connected, names made to confuse, calls that never end.
import assert from 'node:assert/strict';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { X509Certificate } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import { makeCsr } from '../src/ca/openssl-testing.ts';
import { ADDRESS, ControlPeer, nodeOf } from './control-plane-peer.ts';
import { type RunningControl, Workspace } from './control-plane-running.ts';
import { podYaml, SHOP, WEB } from './control-plane-shop.ts';

describe('a control plane among hostile peers', () => {
  let workspace: Workspace;
  let control: RunningControl;
  let peer: ControlPeer;
  let token: string;

  before(async () => {
    workspace = await Workspace.make(SHOP);
    control = await workspace.start();
    peer = await ControlPeer.secure(control);
    token = await control.token('n1');
  });

  after(async () => {
    peer.client.close();
    await workspace[Symbol.asyncDispose]();
  });

  /** Somebody who shows a certificate of the shop's web. */
  const withCertificate = async (name: string) => {
    const csr = await makeCsr(workspace.directory, { name });
    const keyPem = await readFile(join(workspace.directory, `${name}.key`), 'utf8');
    const [chainPem = ''] = await peer.certificate({ csr, identity: WEB, token });
    return { peer: await ControlPeer.secure(control, { chainPem, keyPem }), chainPem };
  };

  test('ends the open stream of a certificate that is revoked, and of no other', async () => {
    const bad = await withCertificate('bad');
    using badPeer = bad.peer;
    const good = await withCertificate('good');
    using goodPeer = good.peer;
    const node = () => nodeOf('n1', { NAMESPACE: 'shop', SERVICE_ACCOUNT: 'web' });
    const revoked = await badPeer.stream().follow(node()).untilFollowed();
    const kept = await goodPeer.stream().follow(node()).untilFollowed();
    const serial = new X509Certificate(bad.chainPem).serialNumber;
    assert.equal((await control.act('POST', '/ca/revoke', { serial })).status, 200);
    assert.equal((await revoked.failure()).code, status.UNAUTHENTICATED);
    await workspace.write('after.yaml', podYaml('after', 'n1', '10.20.0.77'));
    await kept.until(() => kept.has(ADDRESS, 'Kubernetes//Pod/shop/after'));
  });

  test('gives a node no identity of a pod that failed, moved away or is gone', async () => {
    const csr = await makeCsr(workspace.directory, { name: 'mover' });
    const identity = 'spiffe://cluster.local/ns/shop/sa/mover';
    using plain = ControlPeer.plain(control);
    const stream = await plain.stream().follow(nodeOf('n1')).untilFollowed();
    const uid = 'Kubernetes//Pod/shop/mover';
    const onN2 = await control.token('n2');
    const isGiven = async (by: string) =>
      peer.certificate({ csr, identity, token: by }).then(
        () => true,
        (error: { code: number }) => {
          assert.equal(error.code, status.UNAUTHENTICATED);
          return false;
        },
      );
    const answers = async () => [await isGiven(token), await isGiven(onN2)];
    const change = async (text: string | undefined) => {
      const former = stream.held.get(ADDRESS)?.get(uid)?.version;
      if (text === undefined) await workspace.remove('mover.yaml');
      else await workspace.write('mover.yaml', text);
      await stream.until(() => stream.held.get(ADDRESS)?.get(uid)?.version !== former);
    };
    await change(podYaml('mover', 'n1', '10.20.0.88'));
    assert.deepEqual(await answers(), [true, false]);
    await change(podYaml('mover', 'n2', '10.20.0.88'));
    assert.deepEqual(await answers(), [false, true]);
    await change(podYaml('mover', 'n2', '10.20.0.88').replace('Running', 'Failed'));
    assert.deepEqual(await answers(), [false, false]);
    await change(podYaml('mover', 'n1', '10.20.0.88'));
    assert.deepEqual(await answers(), [true, false]);
    await change(undefined);
    assert.deepEqual(await answers(), [false, false]);
  });

  test('takes names that mean something to JavaScript for names', async () => {
    using plain = ControlPeer.plain(control);
    const stream = await plain.stream().follow(nodeOf('n1')).untilFollowed();
    const labels = '{ __proto__: polluted, constructor: c, toString: t, app: proto }';
    const pod = podYaml('proto', 'n1', '10.20.0.99').replace('{ app: proto }', labels);
    await workspace.write(
      'proto.yaml',
      `${pod.replace('uid: uid-proto', 'uid: uid-proto, annotations: { __proto__: { x: y } }')}
---
apiVersion: v1
kind: Namespace
metadata: { name: __proto__, labels: ${labels} }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: constructor, namespace: shop }
spec: { selector: { matchLabels: ${labels} }, action: DENY, rules: [{ from: [{ source: { namespaces: [__proto__] } }] }] }
`,
    );
    await workspace.write('after-proto.yaml', podYaml('after-proto', 'n1', '10.20.0.98'));
    await stream.until(() => stream.has(ADDRESS, 'Kubernetes//Pod/shop/after-proto'));
    for (const path of [
      '/debug/addresses',
      '/debug/diagnostics',
      '/debug/config',
      '/debug/syncz',
      '/debug/certificates',
    ]) {
      assert.equal((await control.tell(path)).status, 200, path);
    }
    assert.doesNotMatch((await control.tell('/debug/config')).text, /polluted/);
    for (const body of [
      '{"__proto__":{"namespace":"a"},"serviceAccount":"b"}',
      '{"constructor":{}}',
      '[]',
      'null',
      '1',
    ]) {
      assert.equal((await control.act('POST', '/ca/token', JSON.parse(body))).status, 400, body);
    }
  });

  test('shows nobody a key or a token, in pages, logs or the audit log', async () => {
    const csr = await makeCsr(workspace.directory, { name: 'secret' });
    await peer.certificate({ csr, identity: WEB, token: `${token}x` }).catch(() => undefined);
    const pages = (await control.tell('/')).text.trim().split('\n');
    assert.ok(pages.length > 5);
    const said = await Promise.all(pages.map(async path => (await control.tell(path)).text));
    const all = [...said, control.log(), await readFile(join(control.state, 'audit.jsonl'), 'utf8')].join('\n');
    assert.doesNotMatch(all, /PRIVATE KEY/);
    const [, payload = '?', signature = '?'] = token.split('.');
    for (const part of [payload, signature]) assert.ok(!all.includes(part));
    for (const name of ['root-key.pem', 'token-key.pem']) {
      const key = await readFile(join(control.state, name), 'utf8');
      const [, body = '?'] = /PRIVATE KEY-----\n([A-Za-z0-9+/]{40})/.exec(key) ?? [];
      assert.ok(body.length === 40 && !all.includes(body));
      assert.equal((await stat(join(control.state, name))).mode & 0o777, 0o600);
    }
    assert.equal((await stat(control.state)).mode & 0o777, 0o700);
    assert.equal((await stat(join(control.state, 'admin.sock'))).mode & 0o777, 0o600);
  });
});
