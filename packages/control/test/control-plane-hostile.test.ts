// A running control plane and peers that mean harm: revoked while connected, names made to confuse, calls that never end.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
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
});
