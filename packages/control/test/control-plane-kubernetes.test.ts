// A whole control plane on a Kubernetes API server: objects in, resources out, tokens proven by the server, the root in a
// Secret, trust in every namespace; and what stays in force while the server is away.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { makeCsr } from '../src/ca/openssl-testing.ts';
import { ADDRESS, AUTHORIZATION, ControlPeer, type DeltaStream, nodeOf } from './control-plane-peer.ts';
import { type RunningControl, Workspace } from './control-plane-running.ts';
import { CART, CART_POD, WEB, WEB_POD } from './control-plane-shop.ts';
import { type ApiServer, startApiServer, type StoredObject } from '../../kube/test/api-server.ts';

const TOKEN = 'ztunnel-on-n1';

function tls(directory: string): { readonly cert: string; readonly key: string } {
  const [cert, key] = [join(directory, 'api.crt'), join(directory, 'api.key')];
  const kind = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1'];
  const names = ['-subj', '/CN=api', '-addext', 'subjectAltName=IP:127.0.0.1'];
  execFileSync('openssl', [...kind, '-keyout', key, '-out', cert, ...names], { stdio: 'ignore' });
  return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
}

function pod(name: string, namespace: string, node: string, ip: string): StoredObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, uid: `uid-${name}`, labels: { app: name } },
    spec: { serviceAccountName: name, nodeName: node, containers: [{ name: 'app', image: 'app' }] },
    status: { phase: 'Running', podIP: ip, podIPs: [{ ip }], conditions: [{ type: 'Ready', status: 'True' }] },
  };
}

const named = (kind: string, name: string): StoredObject => ({ apiVersion: 'v1', kind, metadata: { name } });

describe('a control plane on a Kubernetes API server', () => {
  let workspace: Workspace;
  let api: ApiServer;
  let control: RunningControl;
  let peer: ControlPeer;
  let stream: DeltaStream;
  let flags: Readonly<Record<string, string>>;

  before(async () => {
    workspace = await Workspace.make({});
    api = await startApiServer({ tls: tls(workspace.directory), auth: { tokens: ['ours'] } });
    for (const name of ['istio-system', 'shop', 'kube-public']) api.put(named('Namespace', name));
    for (const name of ['n1', 'n2']) api.put(named('Node', name));
    api.put(pod('ztunnel', 'istio-system', 'n1', '10.20.0.9'));
    api.put(pod('web', 'shop', 'n1', '10.20.0.1'));
    api.put(pod('cart', 'shop', 'n2', '10.20.0.2'));
    api.tokens.set(TOKEN, {
      username: 'system:serviceaccount:istio-system:ztunnel',
      groups: ['system:serviceaccounts', 'system:authenticated'],
      audiences: ['istio-ca'],
      extra: {
        'authentication.kubernetes.io/pod-name': ['ztunnel'],
        'authentication.kubernetes.io/pod-uid': ['uid-ztunnel'],
      },
    });
    flags = {
      files: '',
      kubernetes: 'kubeconfig',
      kubeconfig: api.writeKubeconfig(workspace.directory),
      caStorage: 'secret',
      publishTrust: 'on',
    };
    control = await workspace.start(flags);
    peer = await ControlPeer.secure(control);
    stream = peer.stream(TOKEN).follow(nodeOf('n1'));
    await stream.untilFollowed();
  });

  after(async () => {
    peer.client.close();
    // The control plane first: it would come back to the server for as long as it runs.
    await workspace[Symbol.asyncDispose]();
    await api.close();
  });

  test('serves what the API server holds, to a node that the API server vouches for', () => {
    assert.deepEqual(stream.names(ADDRESS), ['Kubernetes//Pod/istio-system/ztunnel', CART_POD, WEB_POD]);
  });

  test('a change of an object is a change of a resource, and absent CRDs are no hindrance', async () => {
    api.put(pod('late', 'shop', 'n1', '10.20.0.3'));
    await stream.until(({ names }) => names.call(stream, ADDRESS).includes('Kubernetes//Pod/shop/late'));
    api.remove('Pod', 'shop', 'late');
    await stream.until(({ names }) => !names.call(stream, ADDRESS).includes('Kubernetes//Pod/shop/late'));
    assert.deepEqual(stream.names(AUTHORIZATION), []);
  });

  test('a token that the API server does not know proves nobody', async () => {
    const csr = await makeCsr(workspace.directory, {});
    await assert.rejects(peer.certificate({ csr, identity: WEB, token: 'made-up' }), { code: status.UNAUTHENTICATED });
  });

  test('a node gets certificates for pods that run on it, and for no others', async () => {
    const csr = await makeCsr(workspace.directory, {});
    const [leaf = ''] = await peer.certificate({ csr, identity: WEB, token: TOKEN });
    assert.equal(new X509Certificate(leaf).subjectAltName, `URI:${WEB}`);
    await assert.rejects(peer.certificate({ csr, identity: CART, token: TOKEN }), { code: status.UNAUTHENTICATED });
  });

  test('the root is in a Secret, and trust in every namespace but the ones that are nobody’s', async () => {
    const secret = api.get('Secret', 'istio-system', 'istio-ca-secret') as StoredObject & {
      data: Record<string, string>;
    };
    const root = Buffer.from(secret.data['ca-cert.pem'] ?? '', 'base64').toString();
    assert.equal(root.trim(), (await control.rootPem()).trim());
    await api.until(() => api.get('ConfigMap', 'shop', 'istio-ca-root-cert') !== undefined);
    const map = api.get('ConfigMap', 'shop', 'istio-ca-root-cert') as StoredObject & { data: Record<string, string> };
    assert.equal((map.data['root-cert.pem'] ?? '').trim(), root.trim());
    assert.equal(api.get('ConfigMap', 'kube-public', 'istio-ca-root-cert'), undefined);
  });

  test('another control plane on the same cluster, with nothing on its disk, has the same root and the same versions', async () => {
    const state = join(workspace.directory, 'state-2');
    const twin = await workspace.start({ ...flags, state });
    try {
      assert.equal(await twin.rootPem(), await control.rootPem());
      using other = await ControlPeer.secure(twin);
      const same = other.stream(TOKEN).follow(nodeOf('n1'));
      await same.untilFollowed();
      assert.deepEqual(same.versions(ADDRESS), stream.versions(ADDRESS));
      same.cancel();
    } finally {
      await twin.stop();
      rmSync(state, { recursive: true });
    }
  });

  test('while the API server is away the last state is served and proven certificates go on; nobody new is let in', async () => {
    api.faults.fail = () => 503;
    api.breakConnections();
    using again = await ControlPeer.secure(control);
    const csr = await makeCsr(workspace.directory, {});
    // Proven less than a minute ago.
    await again.certificate({ csr, identity: WEB, token: TOKEN });
    await assert.rejects(again.certificate({ csr, identity: WEB, token: 'never-seen' }), {
      code: status.UNAUTHENTICATED,
    });
    const held = again.stream(TOKEN).follow(nodeOf('n1'));
    await held.untilFollowed();
    assert.deepEqual(held.names(ADDRESS), stream.names(ADDRESS));
    held.cancel();
    api.faults.fail = undefined;
    api.put(pod('back', 'shop', 'n1', '10.20.0.4'));
    await stream.until(({ names }) => names.call(stream, ADDRESS).includes('Kubernetes//Pod/shop/back'));
  });
});
