// Where credentials come from, and what is loaded to read them.
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { stringify } from 'yaml';
import { createKubeClient, type KubeClient } from '../src/kube-client.ts';
import type { Surroundings } from '../src/endpoint.ts';
import type { KubeAccess } from '../src/kube-config.ts';
import type { ApiServer } from './api-server.ts';
import { selfSigned, startServer, temporaryDirectory } from './serving.ts';

const LIMIT = { timeout: 20_000 };

const loaded: string[] = [];
registerHooks({
  resolve(specifier, context, next) {
    loaded.push(specifier);
    return next(specifier, context);
  },
});
const wasLoaded = (name: string): boolean => loaded.includes(name);

interface Bench {
  readonly server: ApiServer;
  /** Those that the server takes; to be changed by the test. */
  readonly tokens: string[];
  readonly directory: string;
  readonly ca: string;
}

async function bench(t: TestContext): Promise<Bench> {
  const tokens = ['first'];
  const tls = selfSigned(t, 'server');
  const server = await startServer(t, { tls, auth: { tokens } });
  return { server, tokens, directory: temporaryDirectory(t), ca: tls.cert };
}

function client(t: TestContext, access: KubeAccess, surroundings: Partial<Surroundings> = {}): KubeClient {
  const nowhere = { env: {}, home: '/nonexistent', serviceAccountDirectory: '/nonexistent' };
  const kube = createKubeClient(access, { surroundings: { ...nowhere, ...surroundings } });
  t.after(() => kube.close());
  return kube;
}

const ask = async (kube: KubeClient): Promise<number> => (await kube.request({ path: '/api/v1/pods' })).status;

function kubeconfig({ server, ca }: Bench, user: object, cluster: object = {}): object {
  return {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'test',
    clusters: [
      {
        name: 'c',
        cluster: { server: server.url, 'certificate-authority-data': Buffer.from(ca).toString('base64'), ...cluster },
      },
    ],
    users: [{ name: 'u', user }],
    contexts: [{ name: 'test', context: { cluster: 'c', user: 'u' } }],
  };
}

function written(directory: string, config: object, name = 'config'): string {
  const file = path.join(directory, name);
  writeFileSync(file, stringify(config));
  return file;
}

describe('the service account of a pod', LIMIT, () => {
  test('is shown to the server that the environment names, and read again as the kubelet rotates it', async t => {
    const { server, tokens, directory, ca } = await bench(t);
    writeFileSync(path.join(directory, 'token'), 'first\n');
    writeFileSync(path.join(directory, 'ca.crt'), ca);
    const env = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: String(server.port) };
    const kube = client(t, { inCluster: true }, { env, serviceAccountDirectory: directory });
    assert.equal(await ask(kube), 200);
    tokens.splice(0, 1, 'second');
    assert.equal(await ask(kube), 401);
    writeFileSync(path.join(directory, 'token'), 'second');
    assert.equal(await ask(kube), 200);
    // Nothing else named, it is also what is used.
    assert.equal(await ask(client(t, {}, { env, serviceAccountDirectory: directory })), 200);
  });

  test('without files it has no credentials, without the environment no server', async t => {
    const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '6443' };
    const kube = client(t, { inCluster: true }, { env });
    assert.equal((await kube.open()).server, 'https://[fd00::1]:6443/');
    await assert.rejects(ask(kube), { name: 'KubeError', code: 'kube.credentials' });
    await assert.rejects(ask(client(t, { inCluster: true })), { code: 'kube.config' });
    await assert.rejects(ask(client(t, {})), { code: 'kube.config' });
  });
});

describe('a kubeconfig', LIMIT, () => {
  test('with a token file beside it is YAML, and the file is read again', async t => {
    const it = await bench(t);
    writeFileSync(path.join(it.directory, 'token'), 'old');
    const kube = client(t, { kubeconfig: written(it.directory, kubeconfig(it, { tokenFile: 'token', token: 'no' })) });
    assert.equal(await ask(kube), 401);
    writeFileSync(path.join(it.directory, 'token'), ' first\n');
    assert.equal(await ask(kube), 200);
  });

  test('with certificates in files shows the new one once it is there', async t => {
    const [known, stranger] = [selfSigned(t, 'known'), selfSigned(t, 'stranger')];
    const tls = { ...selfSigned(t, 'server'), clientCa: known.cert };
    const server = await startServer(t, { tls, auth: { tokens: [] } });
    const directory = temporaryDirectory(t);
    const put = ({ cert, key }: typeof known): void => {
      writeFileSync(path.join(directory, 'client.crt'), cert);
      writeFileSync(path.join(directory, 'client.key'), key);
    };
    writeFileSync(path.join(directory, 'ca.crt'), tls.cert);
    put(stranger);
    const files = { 'client-certificate': 'client.crt', 'client-key': path.join(directory, 'client.key') };
    const cluster = { 'certificate-authority': 'ca.crt', 'certificate-authority-data': undefined };
    const it = { server, tokens: [], directory, ca: '' };
    const kube = client(t, { kubeconfig: written(directory, kubeconfig(it, files, cluster)) });
    assert.equal(await ask(kube), 401);
    put(known);
    assert.equal(await ask(kube), 200);
  });

  test('is the one in KUBECONFIG, else the one at home, and its contexts can be chosen', async t => {
    const it = await bench(t);
    const config = {
      ...kubeconfig(it, { token: 'first' }),
      contexts: [
        { name: 'test', context: { cluster: 'c', user: 'none' } },
        { name: 'other', context: { cluster: 'c', user: 'u' } },
      ],
    };
    const home = temporaryDirectory(t);
    mkdirSync(path.join(home, '.kube'));
    written(path.join(home, '.kube'), config);
    assert.equal(await ask(client(t, {}, { home })), 401);
    assert.equal(await ask(client(t, { context: 'other' }, { home })), 200);
    const env = { KUBECONFIG: written(it.directory, kubeconfig(it, { token: 'first' })) };
    assert.equal(await ask(client(t, {}, { home, env })), 200);
    await assert.rejects(ask(client(t, { context: 'third' }, { home })), /no context "third"; it has: test, other/);
  });

  test('that cannot work is refused with the reason', async t => {
    const it = await bench(t);
    const cases: readonly [object, RegExp][] = [
      [{ ...kubeconfig(it, {}), clusters: [] }, /names no cluster/],
      [kubeconfig(it, {}, { server: 'ftp://x' }), /is no address of an API server/],
      [kubeconfig(it, {}, { server: 'http://127.0.0.1:1' }), /is not encrypted/],
      [['a', 'list'], /holds no object/],
    ];
    for (const [config, reason] of cases) {
      await assert.rejects(ask(client(t, { kubeconfig: written(it.directory, config) })), reason);
    }
    writeFileSync(path.join(it.directory, 'config'), 'a: [');
    await assert.rejects(ask(client(t, { kubeconfig: path.join(it.directory, 'config') })), { code: 'kube.config' });
    const gone = kubeconfig(it, { 'client-certificate': 'gone.crt' });
    await assert.rejects(ask(client(t, { kubeconfig: written(it.directory, gone) })), { code: 'kube.credentials' });
  });

  test('of the ordinary sort never loads the official client; a plugin or a second file does', async t => {
    const it = await bench(t);
    const plain = written(it.directory, kubeconfig(it, { token: 'first' }), 'plain');
    assert.equal(await ask(client(t, { kubeconfig: plain })), 200);
    assert.equal(wasLoaded('yaml'), true); // so the hook sees what is loaded
    assert.equal(wasLoaded('@kubernetes/client-node'), false);
    const credential = { apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential' };
    const plugin = path.join(it.directory, 'plugin');
    const answer = JSON.stringify({ ...credential, status: { token: 'first' } });
    writeFileSync(plugin, `#!/bin/sh\necho '${answer}'\n`, { mode: 0o755 });
    const exec = { apiVersion: credential.apiVersion, command: plugin, interactiveMode: 'Never' };
    assert.equal(await ask(client(t, { kubeconfig: written(it.directory, kubeconfig(it, { exec })) })), 200);
    assert.equal(wasLoaded('@kubernetes/client-node'), true);
    const { users, ...rest } = kubeconfig(it, { token: 'first' }) as { readonly users: unknown };
    const parts = [
      written(it.directory, { apiVersion: 'v1', kind: 'Config', users }, 'users'),
      written(it.directory, rest, 'rest'),
      path.join(it.directory, 'missing'),
    ];
    assert.equal(await ask(client(t, {}, { env: { KUBECONFIG: parts.join(path.delimiter) } })), 200);
  });
});
