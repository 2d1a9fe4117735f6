// Against a real HTTP server in place of the API server, and one in place of Istio's agent.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test, type TestContext } from 'node:test';
import { decodeCmdAdd } from '../cmd-add.ts';
import { readJsonObject } from '../plugin-config.ts';
import { runFullPlugin } from './full-plugin.ts';
import { readKubeAccess } from './kube-reader.ts';

const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' };
const PREVIOUS = { cniVersion: '1.0.0', ips: [{ address: '10.1.0.7/24' }, { address: 'fd00::7/64' }] };

interface Answers {
  /** By path; a number is a status. */
  readonly [path: string]: object | number;
}

class Cluster {
  readonly runDir = mkdtempSync(join(tmpdir(), 'ambit-full-'));
  readonly asked: string[] = [];
  readonly events: unknown[] = [];
  readonly #t: TestContext;

  constructor(t: TestContext) {
    this.#t = t;
    t.after(() => rmSync(this.runDir, { recursive: true }));
  }

  async apiServer(answers: Answers): Promise<void> {
    const server = await this.#serve(0, async (request, response) => {
      this.asked.push(request.url ?? '');
      assert.equal(request.headers.authorization, 'Bearer secret');
      const answer = answers[request.url ?? ''] ?? 404;
      response.writeHead(typeof answer === 'number' ? answer : 200);
      response.end(JSON.stringify(typeof answer === 'number' ? {} : answer));
    });
    const { port } = server.address() as AddressInfo;
    const config = {
      clusters: [{ cluster: { server: `http://127.0.0.1:${port}` } }],
      users: [{ user: { token: 'secret' } }],
    };
    writeFileSync(join(this.runDir, 'istio-cni-kubeconfig'), JSON.stringify(config));
  }

  async agent(status: number): Promise<void> {
    await this.#serve(join(this.runDir, 'pluginevent.sock'), async (request, response) => {
      this.events.push([request.method, request.url, decodeCmdAdd(await text(request))]);
      response.writeHead(status);
      response.end(status === 200 ? '' : 'no ztunnel');
    });
  }

  async run(config: object = {}, env: object = {}) {
    const stdin = JSON.stringify({
      cniVersion: '1.0.0',
      name: 'k8s',
      cni_agent_run_dir: this.runDir,
      pod_namespace: 'istio-system',
      enable_ambient_detection_retry: false,
      prevResult: PREVIOUS,
      ...config,
    });
    const request = {
      env: {
        CNI_COMMAND: 'ADD',
        CNI_CONTAINERID: 'c1',
        CNI_NETNS: '/var/run/netns/cni-1',
        CNI_IFNAME: 'eth0',
        CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-1',
        ...env,
      },
      stdin,
    };
    const answer = await runFullPlugin(request, AbortSignal.timeout(60_000), { spacingMs: 1 });
    return { ...answer, json: answer.stdout === '' ? {} : readJsonObject(answer.stdout) };
  }

  async #serve(
    where: number | string,
    answer: (request: IncomingMessage, response: ServerResponse) => Promise<void>,
  ): Promise<Server> {
    const server = createServer((request, response) => void answer(request, response));
    server.listen(where as number, typeof where === 'number' ? '127.0.0.1' : undefined);
    await once(server, 'listening');
    this.#t.after(() => server.close());
    return server;
  }
}

function cluster(namespaceLabels: object, pod: object = {}): Answers {
  const metadata = { uid: 'u1', labels: {}, annotations: {} };
  return {
    '/api/v1/namespaces/shop': { metadata: { labels: namespaceLabels } },
    '/api/v1/namespaces/shop/pods/cart-1': { metadata: { ...metadata, ...pod }, spec: {} },
  };
}

test("enrols a pod of a labelled namespace with Istio's agent and passes the result on", async t => {
  const c = new Cluster(t);
  await c.apiServer(cluster(AMBIENT));
  await c.agent(200);
  assert.deepEqual((await c.run()).json, PREVIOUS);
  const event = {
    netnsPath: '/var/run/netns/cni-1',
    podName: 'cart-1',
    podNamespace: 'shop',
    ips: ['10.1.0.7', 'fd00::7'],
  };
  assert.deepEqual(c.events, [['POST', '/cmdadd', event]]);
});

test('enrols a labelled pod of a plain namespace', async t => {
  const c = new Cluster(t);
  await c.apiServer(cluster({}, { labels: AMBIENT }));
  await c.agent(200);
  assert.deepEqual([(await c.run()).outcome, c.events.length], ['enrolled', 1]);
});

for (const [what, namespaceLabels, pod] of [
  ['of a plain namespace', {}, {}],
  ['that opts out', AMBIENT, { labels: { 'istio.io/dataplane-mode': 'none' } }],
  ['with a sidecar', AMBIENT, { annotations: { 'sidecar.istio.io/status': '{}' } }],
] as const) {
  test(`lets a pod ${what} pass, without an agent`, async t => {
    const c = new Cluster(t);
    await c.apiServer(cluster(namespaceLabels, pod));
    const answer = await c.run();
    assert.deepEqual([answer.status, answer.outcome, answer.json], [0, 'passed', PREVIOUS]);
  });
}

test('a generic sidecar without the annotation is a member', async t => {
  const c = new Cluster(t);
  await c.apiServer(cluster(AMBIENT, { annotations: { other: 'x' } }));
  await c.agent(200);
  assert.equal((await c.run()).outcome, 'enrolled');
});

test('a member does not start when the agent refuses, or is not there', async t => {
  const c = new Cluster(t);
  await c.apiServer(cluster(AMBIENT));
  const alone = await c.run();
  assert.deepEqual([alone.status, alone.json['code']], [1, 11]);
  assert.match(String(alone.json['msg']), /cannot reach the node agent on .*pluginevent\.sock/);
  await c.agent(500);
  const refused = await c.run();
  assert.deepEqual([refused.status, refused.json['code']], [1, 11]);
  assert.match(String(refused.json['msg']), /answers 500: no ztunnel/);
});

test('an API server without the pod: an outsider after two looks, or a failure after thirty-one', async t => {
  const c = new Cluster(t);
  await c.apiServer({ '/api/v1/namespaces/shop': { metadata: { labels: AMBIENT } } });
  assert.equal((await c.run()).outcome, 'passed');
  assert.equal(c.asked.filter(path => path.endsWith('cart-1')).length, 2);
  const strict = await c.run({ enable_ambient_detection_retry: true });
  assert.deepEqual([strict.status, strict.json['code']], [1, 11]);
  assert.equal(c.asked.filter(path => path.endsWith('cart-1')).length, 33);
});

test('an older pod of the same name is not taken for the one that starts', async t => {
  const c = new Cluster(t);
  await c.apiServer(cluster({}));
  const env = { CNI_ARGS: 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-1;K8S_POD_UID=u2' };
  const answer = await c.run({ enable_ambient_detection_retry: true }, env);
  assert.match(String(answer.json['msg']), /has another pod shop\/cart-1/);
});

test('without a kubeconfig only pods that are none of ours start', async t => {
  const c = new Cluster(t);
  assert.deepEqual((await c.run()).json['code'], 11);
  assert.equal((await c.run({ exclude_namespaces: ['shop'] })).status, 0);
  const own = 'K8S_POD_NAMESPACE=istio-system;K8S_POD_NAME=istio-cni-node-x';
  assert.equal((await c.run({}, { CNI_ARGS: own })).status, 0);
  assert.equal((await c.run({}, { CNI_COMMAND: 'DEL' })).status, 0);
});

test('STATUS asked for members says whether an agent listens', async t => {
  const c = new Cluster(t);
  const ask = () => c.run({ cniVersion: '1.1.0', ambit_status: 'members' }, { CNI_COMMAND: 'STATUS' });
  assert.equal((await ask()).json['code'], 50);
  await c.agent(200);
  assert.equal((await ask()).status, 0);
});

test("reads the kubeconfig that Istio's agent writes, and refuses one with a choice in it", t => {
  const { runDir } = new Cluster(t);
  const path = join(runDir, 'kubeconfig');
  const yaml = [
    'apiVersion: v1',
    'clusters:',
    '- cluster:',
    '    certificate-authority-data: Q0E=',
    '    server: "https://[fd00::1]:443"',
    '  name: local',
    'users:',
    '- name: istio-cni',
    '  user:',
    '    token: abc.def',
    '',
  ];
  writeFileSync(path, yaml.join('\n'));
  const access = readKubeAccess(path);
  assert.deepEqual(access, { server: 'https://[fd00::1]:443', token: 'abc.def', ca: 'CA', verifiesTls: true });
  writeFileSync(path, [...yaml, '    token: other'].join('\n'));
  assert.throws(() => readKubeAccess(path), /more than one token/);
  writeFileSync(path, '{}');
  assert.throws(() => readKubeAccess(path), /no server or no token/);
});
