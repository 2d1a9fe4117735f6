import assert from 'node:assert/strict';
import { test } from 'node:test';
import { baggageSource } from './baggage-source.ts';

const SAID = 'k8s.cluster.name=c2,k8s.namespace.name=shop,k8s.deployment.name=web,service.name=site,service.version=v3';

test('what the header says is a workload without pod and account', () => {
  const source = baggageSource([SAID]);
  assert.deepEqual(source, {
    uid: '',
    name: '',
    namespace: 'shop',
    serviceAccount: '',
    trustDomain: '',
    workloadName: 'web',
    workloadType: 'deployment',
    canonicalName: 'site',
    canonicalRevision: 'v3',
    cluster: 'c2',
    node: '',
    region: '',
    zone: '',
  });
  assert.equal(baggageSource([SAID]), source, 'read once');
});

test('nothing, rubbish and empty values tell nothing', () => {
  for (const headers of [[], [''], ['nonsense'], ['service.name='], ['other=1'], ['service.name=\u00e9'], ['', '']]) {
    assert.equal(baggageSource(headers), undefined, JSON.stringify(headers));
  }
});

test('a peer that says something else each time is read rightly each time', () => {
  for (let index = 0; index < 1000; index++)
    assert.equal(baggageSource([`service.name=s${index}`])?.canonicalName, `s${index}`);
  assert.equal(baggageSource(['service.name=s1'])?.canonicalName, 's1');
});

test('names are bounded and free of what a terminal would obey', () => {
  assert.equal(baggageSource([`service.name=${'x'.repeat(5000)}`])?.canonicalName.length, 256);
  assert.equal(baggageSource(['service.name=a%1b%5b2J%0ab'])?.canonicalName, 'a\ufffd[2J\ufffdb');
});
