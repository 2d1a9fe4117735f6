import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CniHooks, Membership } from '../agent/hooks.ts';
import { CniError } from '../errors.ts';
import type { AgentPod } from '../pod/agent-pod.ts';
import { handleCni } from './cni-requests.ts';
import { CNI_VERSIONS } from './cni-version.ts';
import { readJsonObject } from './plugin-config.ts';

const POD: AgentPod = {
  uid: 'u1',
  name: 'cart-1',
  namespace: 'shop',
  serviceAccount: 'cart',
  labels: {},
  annotations: {},
  hostNetwork: false,
  ips: [],
  phase: 'Pending',
  netnsPath: undefined,
};
const ENV = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'c1',
  CNI_NETNS: '/var/run/netns/cni-1',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt/cni/bin',
  CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-1;K8S_POD_INFRA_CONTAINER_ID=c1',
};
const CONFIG = { cniVersion: '1.0.0', name: 'k8s', type: 'ambit-cni', pod_namespace: 'istio-system' };
const RESULT = {
  cniVersion: '1.0.0',
  interfaces: [{ name: 'eth0', sandbox: '/var/run/netns/cni-1' }],
  ips: [{ address: '10.1.0.7/24', gateway: '10.1.0.1', interface: 0 }, { address: '::ffff:10.1.0.7/120' }],
  dns: {},
  theirs: [1],
};

interface Calls {
  readonly lookups: string[];
  readonly enrolments: unknown[][];
  readonly collected: (readonly string[])[];
}

function agent(membership: Membership, more: Partial<CniHooks> = {}): { hooks: CniHooks; calls: Calls } {
  const calls: Calls = { lookups: [], enrolments: [], collected: [] };
  const hooks: CniHooks = {
    lookup: async (namespace, name, _signal, uid = '') => {
      calls.lookups.push(`${namespace}/${name}${uid}`);
      return membership;
    },
    enrol: async (pod, ips, netnsPath) => {
      calls.enrolments.push([pod.uid, ips, netnsPath]);
    },
    check: async () => [],
    collect: async ids => {
      calls.collected.push(ids);
    },
    notReady: () => undefined,
    ...more,
  };
  return { hooks, calls };
}

const MEMBER: Membership = { kind: 'member', pod: POD };
const OUTSIDER: Membership = { kind: 'outsider', why: 'nothing selects it' };

async function run(hooks: CniHooks, config: object, env: object = {}) {
  const request = { env: { ...ENV, ...env }, stdin: JSON.stringify({ ...CONFIG, ...config }) };
  const handled = await handleCni(request, hooks, AbortSignal.abort());
  const json = handled.stdout === '' ? {} : readJsonObject(handled.stdout);
  return { ...handled, json };
}

test('ADD enrols a member with the addresses of the chain, each once, and passes the result on', async () => {
  const { hooks, calls } = agent(MEMBER);
  const answer = await run(hooks, { prevResult: RESULT });
  assert.deepEqual(calls.enrolments, [['u1', ['10.1.0.7'], '/var/run/netns/cni-1']]);
  assert.deepEqual([answer.status, answer.outcome, answer.pod], [0, 'enrolled', 'shop/cart-1']);
  assert.deepEqual(answer.json, RESULT);
});

test('ADD without prevResult answers with an empty result', async () => {
  const { hooks, calls } = agent(MEMBER);
  assert.deepEqual((await run(hooks, {})).json, { cniVersion: '1.0.0' });
  assert.deepEqual(calls.enrolments, [['u1', [], '/var/run/netns/cni-1']]);
});

test('ADD of an outsider passes the result on and enrols nobody', async () => {
  const { hooks, calls } = agent(OUTSIDER);
  const answer = await run(hooks, { prevResult: RESULT });
  assert.deepEqual(answer.json, RESULT);
  assert.deepEqual([calls.enrolments.length, answer.why], [0, 'nothing selects it']);
});

test('ADD fails, to be tried again, when the pod is unknown or cannot be enrolled', async () => {
  const unknown = await run(agent({ kind: 'unknown', why: 'no such pod' }).hooks, {});
  assert.deepEqual([unknown.status, unknown.json['code']], [1, 11]);
  const refusing = agent(MEMBER, {
    enrol: async () => {
      throw new CniError('enrol.no_ztunnel', 'no ztunnel on this node', { next: 'start it' });
    },
  });
  const failed = await run(refusing.hooks, { prevResult: RESULT });
  assert.deepEqual([failed.status, failed.json['code'], failed.json['cniVersion']], [1, 11, '1.0.0']);
  assert.match(String(failed.json['msg']), /shop\/cart-1: no ztunnel on this node \[enrol\.no_ztunnel\]/);
  assert.equal(failed.json['details'], 'next: start it');
});

test('ADD says that trying again is no use when two pods claim one namespace', async () => {
  const refusing = agent(MEMBER, {
    enrol: async () => {
      throw new CniError('enrol.netns_foreign', 'it belongs to shop/db-1');
    },
  });
  assert.equal((await run(refusing.hooks, {})).json['code'], 100);
});

test('an error that is no CniError fails the ADD too', async () => {
  const broken = agent(MEMBER, {
    enrol: async () => {
      throw new TypeError('a bug');
    },
  });
  assert.deepEqual((await run(broken.hooks, {})).json['code'], 11);
});

for (const [what, config, env] of [
  ["the agent's own pod", {}, { CNI_ARGS: 'K8S_POD_NAMESPACE=istio-system;K8S_POD_NAME=istio-cni-node-x' }],
  ["the agent's own pod under our name", {}, { CNI_ARGS: 'K8S_POD_NAMESPACE=istio-system;K8S_POD_NAME=ambit-agent-x' }],
  ['a pod of an excluded namespace', { exclude_namespaces: ['shop'] }, {}],
  ['what is no pod', {}, { CNI_ARGS: '' }],
  ['any pod while the mesh is off', { ambient_enabled: false }, {}],
] as const) {
  test(`ADD lets ${what} pass without asking`, async () => {
    const { hooks, calls } = agent({ kind: 'unknown', why: 'must not be asked' });
    assert.equal((await run(hooks, config, env)).status, 0);
    assert.deepEqual(calls.lookups, []);
  });
}

test("a pod named like the agent's in another namespace is asked for", async () => {
  const { hooks, calls } = agent(MEMBER);
  await run(hooks, {}, { CNI_ARGS: 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=istio-cni-node-x' });
  assert.deepEqual(calls.lookups, ['shop/istio-cni-node-x']);
});

test('the UID that a runtime says goes along, so that an older pod of the name is not meant', async () => {
  const { hooks, calls } = agent(MEMBER);
  await run(hooks, {}, { CNI_ARGS: 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-1;K8S_POD_UID=-u2' });
  assert.deepEqual(calls.lookups, ['shop/cart-1-u2']);
});

test('DEL succeeds and prints nothing, whatever it is given', async () => {
  const { hooks } = agent(MEMBER);
  const handled = await handleCni({ env: { CNI_COMMAND: 'DEL' }, stdin: '{' }, hooks, AbortSignal.abort());
  assert.deepEqual([handled.status, handled.stdout], [0, '']);
});

test('CHECK reports what is wrong with a member, and needs 0.4.0', async () => {
  const env = { CNI_COMMAND: 'CHECK' };
  assert.equal((await run(agent(MEMBER).hooks, {}, env)).status, 0);
  const wrong = await run(agent(MEMBER, { check: async () => ['rule 3 is missing'] }).hooks, {}, env);
  assert.match(String(wrong.json['msg']), /rule 3 is missing/);
  assert.equal((await run(agent(OUTSIDER).hooks, {}, env)).stdout, '');
  assert.equal((await run(agent(MEMBER).hooks, { cniVersion: '0.3.1' }, env)).json['code'], 1);
});

test('STATUS asked for members is code 50 while their ADD could not succeed', async () => {
  const env = { CNI_COMMAND: 'STATUS' };
  const config = { cniVersion: '1.1.0', ambit_status: 'members' };
  const idle = agent(MEMBER, { notReady: () => 'no ztunnel is connected' });
  const answer = await run(idle.hooks, config, env);
  assert.deepEqual([answer.status, answer.json['code']], [1, 50]);
  assert.equal((await run(agent(MEMBER).hooks, config, env)).stdout, '');
});

test('STATUS of a runtime succeeds without a ztunnel, whose pod could not start otherwise, and needs 1.1.0', async () => {
  const env = { CNI_COMMAND: 'STATUS' };
  const idle = agent(MEMBER, { notReady: () => 'no ztunnel is connected' });
  assert.deepEqual((await run(idle.hooks, { cniVersion: '1.1.0' }, env)).status, 0);
  assert.equal((await run(idle.hooks, { cniVersion: '1.0.0' }, env)).json['code'], 1);
});

test('GC hands on the containers that still are; null is none of them, and no list at all does nothing', async () => {
  const { hooks, calls } = agent(MEMBER);
  const gc = (more: object) => run(hooks, { cniVersion: '1.1.0', ...more }, { CNI_COMMAND: 'GC' });
  const list = [{ containerID: 'c1', ifname: 'eth0' }];
  assert.equal((await gc({ 'cni.dev/valid-attachments': list })).status, 0);
  assert.equal((await gc({ 'cni.dev/valid-attachments': null, 'cni.dev/attachments': null })).status, 0);
  assert.equal((await gc({})).status, 0);
  assert.deepEqual(calls.collected, [['c1'], []]);
  for (const bad of ['c1', [{}], ['c1']])
    assert.equal((await gc({ 'cni.dev/valid-attachments': bad })).json['code'], 7);
  assert.equal(calls.collected.length, 2);
});

test('VERSION lists every version, without a configuration too', async () => {
  const { hooks } = agent(MEMBER);
  const answer = await run(hooks, { cniVersion: '0.4.0' }, { CNI_COMMAND: 'VERSION' });
  assert.deepEqual(answer.json, { cniVersion: '0.4.0', supportedVersions: [...CNI_VERSIONS] });
  const bare = await handleCni({ env: { CNI_COMMAND: 'VERSION' }, stdin: '' }, hooks, AbortSignal.abort());
  assert.match(bare.stdout, /"cniVersion":"1.1.0"/);
});

for (const [what, code, config, env] of [
  ['a version that is not spoken', 1, { cniVersion: '2.0.0' }, {}],
  ['no container id', 4, {}, { CNI_CONTAINERID: '' }],
  ['a container id with a slash', 4, {}, { CNI_CONTAINERID: '../x' }],
  ['a relative namespace path', 4, {}, { CNI_NETNS: 'netns/x' }],
  ['an interface name that is too long', 4, {}, { CNI_IFNAME: 'sixteen-letters-' }],
  ['unknown arguments', 4, {}, { CNI_ARGS: 'A=1' }],
  ['an argument without a value', 4, {}, { CNI_ARGS: 'IgnoreUnknown' }],
  ['a pod name that is none', 4, {}, { CNI_ARGS: 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=../x' }],
  ['a result whose address is none', 6, { prevResult: { ips: [{ address: 'x' }] } }, {}],
  ['a network without a name', 7, { name: '' }, {}],
  ['a selector that is none', 7, { enablement_selectors: [{ podSelectr: {} }] }, {}],
  ['an unknown command', 4, {}, { CNI_COMMAND: 'UPDATE' }],
] as const) {
  test(`refuses ${what} with code ${code}, enrolling nobody`, async () => {
    const { hooks, calls } = agent(MEMBER);
    const answer = await run(hooks, config, env);
    assert.deepEqual([answer.status, answer.json['code'], calls.enrolments.length], [1, code, 0]);
  });
}

test('passes a result through unchanged at every version', async () => {
  const family = { version: '4', address: '10.1.0.7/24', gateway: '10.1.0.1' };
  const results: Record<string, object> = {
    '0.1.0': { ip4: { ip: '10.1.0.7/24', gateway: '10.1.0.1' } },
    '0.3.1': { ips: [family], routes: [{ dst: '0.0.0.0/0' }] },
    '1.1.0': { ips: [{ address: '10.1.0.7/24' }], interfaces: [{ name: 'eth0', mtu: 1400 }] },
  };
  const likes: Record<string, string> = { '0.2.0': '0.1.0', '0.3.0': '0.3.1', '0.4.0': '0.3.1', '1.0.0': '1.1.0' };
  for (const cniVersion of CNI_VERSIONS) {
    const { hooks, calls } = agent(MEMBER);
    const prevResult = { cniVersion, ...results[likes[cniVersion] ?? cniVersion] };
    const answer = await run(hooks, { cniVersion, prevResult });
    assert.deepEqual(answer.json, prevResult);
    assert.deepEqual(calls.enrolments[0]?.[1], ['10.1.0.7'], cniVersion);
  }
});

test('converts a result that the runtime has kept from another version', async () => {
  const cached = { cniVersion: '0.2.0', ip4: { ip: '10.1.0.7/24', gateway: '10.1.0.1' }, ip6: { ip: 'fd00::7/64' } };
  const newer = await run(agent(OUTSIDER).hooks, { cniVersion: '0.4.0', prevResult: cached });
  assert.deepEqual(newer.json, {
    cniVersion: '0.4.0',
    ips: [
      { version: '4', address: '10.1.0.7/24', gateway: '10.1.0.1' },
      { version: '6', address: 'fd00::7/64' },
    ],
    routes: [],
  });
  const plain = await run(agent(OUTSIDER).hooks, { cniVersion: '1.0.0', prevResult: newer.json });
  assert.deepEqual(plain.json['ips'], [{ address: '10.1.0.7/24', gateway: '10.1.0.1' }, { address: 'fd00::7/64' }]);
  const old = await run(agent(OUTSIDER).hooks, { cniVersion: '0.2.0', prevResult: plain.json });
  assert.deepEqual(old.json, cached);
});
