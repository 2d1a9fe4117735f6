// What a change costs and what it reports; the meaning of objects is tested beside their translations.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type KubeObject, refOf } from '../objects/types.ts';
import type { MeshModel } from './mesh-model.ts';
import * as make from './model-fixture.ts';

/** Translations that some changes cost. */
function cost(model: MeshModel, ...objects: readonly KubeObject[]): number {
  const before = model.counts.translations;
  model.apply(objects.map(make.put));
  return model.counts.translations - before;
}

function mesh(): KubeObject[] {
  const objects: KubeObject[] = [make.node('n1'), make.node('n2')];
  for (let n = 0; n < 50; n++) {
    const where = `ns${n}`;
    objects.push(make.namespace(where));
    for (let app = 0; app < 5; app++) objects.push(make.service(`s${app}`, { app: `${app}` }, { in: where }));
    for (let at = 0; at < 200; at++) {
      const spec = { nodeName: n === 0 && at < 3 ? 'n2' : 'n1' };
      objects.push(
        make.pod(`p${at}`, { app: `${at % 5}` }, { in: where, spec, status: { podIPs: [`10.${n}.0.${at}`] } }),
      );
    }
  }
  return objects;
}

describe('the cost of one change among 10 000 pods', () => {
  const model = make.modelOf(mesh());

  it('is one translation for a pod', () => {
    const pod = make.pod('p7', { app: '2' }, { in: 'ns3', status: { isReady: false, podIPs: ['10.3.0.7'] } });
    assert.equal(cost(model, pod), 1);
  });

  it('is the pods of a node for a node, and nothing when its place is the same', () => {
    assert.equal(cost(model, make.node('n2', { 'topology.kubernetes.io/zone': 'z' })), 3);
    assert.equal(cost(model, make.node('n2', { 'topology.kubernetes.io/zone': 'z', other: 'label' })), 0);
  });

  it('is the selected pods for the ports of a service, itself alone for its addresses', () => {
    const spec = { ports: [{ name: 'http', port: 81, targetPort: 1, protocol: 'TCP', appProtocol: '' }] };
    assert.equal(cost(model, make.service('s1', { app: '1' }, { in: 'ns4', spec })), 41);
    const readdressed = { ...spec, clusterIPs: ['10.96.7.7'] };
    assert.equal(cost(model, make.service('s1', { app: '1' }, { in: 'ns4', spec: readdressed })), 1);
  });

  it('is the pods of the old and the new selector for a service', () => {
    assert.equal(cost(model, make.service('s2', { app: '3' }, { in: 'ns5' })), 81);
  });

  it('is the selected pods for a policy, and the policy alone for its rules', () => {
    const policy = (action: string): KubeObject => ({
      kind: 'AuthorizationPolicy',
      metadata: make.meta('p', 'ns6'),
      spec: { action, selector: { app: '0' }, targetRefs: [], rules: [] },
    });
    assert.equal(cost(model, policy('ALLOW')), 41);
    assert.equal(cost(model, policy('DENY')), 1);
  });

  it('is one namespace for a label of that namespace', () => {
    assert.equal(cost(model, make.namespace('ns8', { 'istio.io/use-waypoint': 'w' })), 205);
  });

  it('is those who use it for a gateway, and itself for one that nobody uses', () => {
    assert.equal(cost(model, make.gateway('unused', { in: 'ns9' })), 1);
    assert.equal(cost(model, make.gateway('w', { in: 'ns8' })), 206);
    assert.equal(cost(model, make.gateway('w', { in: 'ns8', metadata: { labels: { unrelated: 'x' } } })), 1);
  });
});

describe('MeshModel', () => {
  it('reports what really changed, and nothing for a change that means the same', () => {
    const model = make.modelOf([make.pod('x')]);
    const uid = 'Kubernetes//Pod/a/x';
    assert.equal(model.apply([make.put(make.pod('x'))]).addresses.size, 0);
    const changed = model.apply([make.put(make.pod('x', {}, { status: { isReady: false } }))]);
    assert.deepEqual([...changed.addresses.keys()], [uid]);
    assert.equal(changed.addresses.get(uid), model.address(uid));
    const removed = model.apply([make.gone(make.pod('x'))]);
    assert.deepEqual([...removed.addresses], [[uid, undefined]]);
    assert.equal(model.address(uid), undefined);
  });

  it('reports nothing for an object that came and went in one batch', () => {
    const model = make.modelOf([]);
    const delta = model.apply([make.put(make.pod('x')), make.gone(make.pod('x'))]);
    assert.equal(delta.addresses.size, 0);
    assert.deepEqual(
      { ...model.counts, translations: 0 },
      { objects: 0, addresses: 0, authorizations: 0, translations: 0 },
    );
  });

  it('ignores the removal of what was never there', () => {
    const model = make.modelOf([]);
    assert.equal(model.apply([make.gone(make.pod('x'))]).addresses.size, 0);
  });

  it('gives the version of a resource as 16 hexadecimal digits that follow its content', () => {
    const versionOf = (isReady: boolean): string | undefined =>
      make.modelOf([make.pod('x', {}, { status: { isReady } })]).address('Kubernetes//Pod/a/x')?.version;
    assert.match(versionOf(true) ?? '', /^[0-9a-f]{16}$/);
    assert.equal(versionOf(true), versionOf(true));
    assert.notEqual(versionOf(true), versionOf(false));
  });

  it('says of a workload which services and which node it has', () => {
    const model = make.modelOf([
      make.service('s', { app: 'q' }),
      make.service('r', { app: 'q' }),
      make.pod('x', { app: 'q' }),
    ]);
    const resource = model.address('Kubernetes//Pod/a/x');
    assert.deepEqual(resource?.services, ['a/r.a.svc.cluster.local', 'a/s.a.svc.cluster.local']);
    assert.equal(resource?.node, 'n1');
  });

  it('takes a name from one object to another in one batch', () => {
    const host = 'x.a.svc.cluster.local';
    const model = make.modelOf([make.serviceEntry('e', [host], { spec: { resolution: 'STATIC' } })]);
    const delta = model.apply([make.put(make.service('x')), make.gone(make.serviceEntry('e', [host]))]);
    assert.deepEqual([...delta.addresses.keys()], [`a/${host}`]);
    assert.equal(make.serviceIn(model, `a/${host}`).name, 'x');
  });

  it('knows which identities are on a node, and forgets pods that have ended', () => {
    const model = make.modelOf([make.pod('x', {}, { metadata: { uid: 'u' }, spec: { serviceAccountName: 's' } })]);
    assert.equal(model.hasIdentityOnNode('n1', 'a', 's'), true);
    assert.equal(model.hasIdentityOnNode('n2', 'a', 's'), false);
    assert.equal(model.hasIdentityOnNode('n1', 'b', 's'), false);
    assert.equal(model.hasIdentityOnNode('n1', 'a', 't'), false);
    assert.deepEqual(model.pod('a', 'x'), { uid: 'u', node: 'n1', serviceAccount: 's' });
    model.apply([make.put(make.pod('x', {}, { spec: { serviceAccountName: 's' }, status: { phase: 'Failed' } }))]);
    assert.equal(model.hasIdentityOnNode('n1', 'a', 's'), false);
    assert.equal(model.pod('a', 'y'), undefined);
  });

  it('returns objects as they came', () => {
    const pod = make.pod('x');
    assert.equal(make.modelOf([pod]).object(refOf(pod)), pod);
  });

  it('leaves entries of another revision out', () => {
    const other = { labels: { 'istio.io/rev': 'canary' } };
    const model = make.modelOf([make.serviceEntry('e', ['h.example'], { metadata: other })]);
    assert.deepEqual([...model.addresses()], []);
    const theirs = make.modelOf([make.serviceEntry('e', ['h.example'], { metadata: other })], { revision: 'canary' });
    assert.equal(theirs.counts.addresses, 1);
  });
});
