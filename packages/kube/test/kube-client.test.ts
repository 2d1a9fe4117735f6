// Who is let in: credentials of a kubeconfig against a real server, and bounds on what it answers.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { createKubeClient } from '../src/kube-client.ts';
import { pod } from './objects.ts';
import { selfSigned, startServer, temporaryDirectory } from './serving.ts';

const LIMIT = { timeout: 15_000 };

describe('access to the API server', LIMIT, () => {
  test('a client certificate', async t => {
    const client = selfSigned(t, 'client');
    const server = await startServer(t, {
      tls: { ...selfSigned(t, 'server'), clientCa: client.cert },
      auth: { tokens: [] },
    });
    const user = {
      'client-certificate-data': Buffer.from(client.cert).toString('base64'),
      'client-key-data': Buffer.from(client.key).toString('base64'),
    };
    const kube = createKubeClient({ kubeconfig: server.writeKubeconfig(temporaryDirectory(t), user) });
    t.after(() => kube.close());
    assert.equal((await kube.request({ path: '/api/v1/pods' })).status, 200);
    const nobody = createKubeClient({ kubeconfig: server.writeKubeconfig(temporaryDirectory(t)) });
    t.after(() => nobody.close());
    assert.equal((await nobody.request({ path: '/api/v1/pods' })).status, 401);
  });

  test('a server with a certificate of another CA is not talked to', async t => {
    const server = await startServer(t, { tls: selfSigned(t, 'server'), auth: { tokens: ['secret'] } });
    const other = await startServer(t, { tls: selfSigned(t, 'other'), auth: { tokens: ['secret'] } });
    const directory = temporaryDirectory(t);
    const mixed = readFileSync(server.writeKubeconfig(directory), 'utf8').replace(server.url, other.url);
    const file = path.join(directory, 'mixed');
    writeFileSync(file, mixed);
    const kube = createKubeClient({ kubeconfig: file });
    t.after(() => kube.close());
    await assert.rejects(kube.request({ path: '/api/v1/pods' }), { code: 'kube.unreachable' });
    assert.equal(other.requests.length, 0);
  });

  test('an answer beyond the bound is refused', async t => {
    const server = await startServer(t);
    for (let i = 0; i < 20; i += 1) server.put(pod(`p${String(i)}`));
    const kube = createKubeClient({ kubeconfig: server.writeKubeconfig(temporaryDirectory(t)) });
    t.after(() => kube.close());
    await assert.rejects(kube.request({ path: '/api/v1/pods', maxBytes: 1000 }), { code: 'kube.bad_response' });
  });
});
