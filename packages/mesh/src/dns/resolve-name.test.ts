import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { balancer, ip, mesh, pod, service } from '../../test/fixture.ts';
import type { Service } from '../service.ts';
import { ENDPOINT_TTL_SECONDS, resolveName, SERVICE_TTL_SECONDS } from './resolve-name.ts';
import type { DnsClient, DnsDecision, DnsQuestion, DnsSettings } from './types.ts';

const SETTINGS: DnsSettings = {
  clusterDomain: 'cluster.local',
  ipv6: true,
  preferredNamespace: undefined,
  searchDomains: undefined,
};
const CLIENT: DnsClient = { namespace: 'ns1', network: '' };

const kube = (name: string, namespace: string, fields: Parameters<typeof service>[1] = {}): Service =>
  service(name, { namespace, canonical: true, ...fields });
const entry = (hostname: string, vips: readonly string[], fields: Parameters<typeof service>[1] = {}): Service =>
  service(hostname, { namespace: 'ns1', hostname, vips, ...fields });
const headless = (key: string) => ({ services: { [key]: { 80: 8080 } } });

const STATE = mesh({
  services: [
    kube('productpage', 'ns1', { vips: ['/9.9.9.9'] }),
    kube('example', 'ns2', { vips: ['/10.10.10.10'] }),
    kube('dual', 'ns1', { vips: ['/1.1.1.2', '/2001:db8::2'] }),
    kube('only-v4', 'ns1', { vips: ['/1.1.1.3', '/2001:db8::3'], ipFamilies: 'IPv4' }),
    kube('only-v6', 'ns1', { vips: ['/1.1.1.4', '/2001:db8::4'], ipFamilies: 'IPv6' }),
    kube('details', 'ns2', { vips: ['/8.8.8.8'], hostname: 'details.ns2.svc.cluster.remote' }),
    kube('nw2-only', 'ns1', { vips: ['nw2/4.4.4.4'] }),
    kube('nw1-nw2', 'ns1', { vips: ['/4.4.4.5', 'nw2/4.4.4.6'] }),
    kube('headless', 'ns1'),
    kube('headless6', 'ns1'),
    kube('empty', 'ns1'),
    kube('unready', 'ns1', { loadBalancer: balancer('Standard', [], 'AllowAll') }),
    kube('private', 'ns2', { vips: ['/4.4.4.7'], visibility: 'Namespace' }),
    entry('www.google.com', ['/1.1.1.1']),
    entry('headless.example.com', []),
    entry('*.wildcard', ['/3.3.3.1']),
    entry('*.b.wildcard', ['/3.3.3.2']),
    entry('*.svc.mesh.company.net', ['/10.1.2.3']),
    entry('MiXed.Example.COM', ['/5.5.5.5']),
    entry('both.io', ['/6.6.6.1'], { namespace: 'ns3' }),
    entry('both.io', ['/6.6.6.2'], { namespace: 'ns4' }),
    entry('canonical.io', ['/6.6.6.3'], { namespace: 'ns3' }),
    entry('canonical.io', ['/6.6.6.4'], { namespace: 'ns4', canonical: true }),
    entry('mine.io', ['/6.6.6.5'], { namespace: 'ns0', canonical: true }),
    entry('mine.io', ['/6.6.6.6']),
    entry('twice.io', ['/6.6.6.7', '/6.6.6.7']),
  ],
  workloads: [
    pod('headless-0', { ips: ['30.30.30.30'], ...headless('ns1/headless.ns1.svc.cluster.local') }),
    pod('headless-1', { ips: ['31.31.31.31', '2001:db8::31'], ...headless('ns1/headless.ns1.svc.cluster.local') }),
    pod('sick', { ips: ['32.32.32.32'], status: 'Unhealthy', ...headless('ns1/headless.ns1.svc.cluster.local') }),
    pod('far', { ips: ['33.33.33.33'], network: 'nw2', ...headless('ns1/headless.ns1.svc.cluster.local') }),
    pod('v6-0', { ips: ['2001:db8::33'], ...headless('ns1/headless6.ns1.svc.cluster.local') }),
    pod('named', { ips: ['34.34.34.34'], hostname: 'alias-0', ...headless('ns1/headless6.ns1.svc.cluster.local') }),
    pod('twin', { uid: 'a', ips: ['35.1.1.1'], ...headless('ns1/headless6.ns1.svc.cluster.local') }),
    pod('twin', { uid: 'b', ips: ['35.1.1.2'], ...headless('ns1/headless6.ns1.svc.cluster.local') }),
    pod('unready-0', { ips: ['36.1.1.1'], status: 'Unhealthy', ...headless('ns1/unready.ns1.svc.cluster.local') }),
    pod('web', { ips: ['37.1.1.1'], ...headless('ns1/productpage.ns1.svc.cluster.local') }),
  ],
});

function ask(
  name: string,
  type: DnsQuestion['type'] = 'A',
  client: Partial<DnsClient> = {},
  settings: Partial<DnsSettings> = {},
): DnsDecision {
  return resolveName(STATE, { ...CLIENT, ...client }, { name, type }, { ...SETTINGS, ...settings });
}

type Expected = 'forward' | { readonly canonical?: string; readonly addresses: readonly string[] };

/** Comparable: what a client would see, addresses in order of text. */
function seen(decision: DnsDecision): unknown {
  if (decision.kind !== 'answer') return decision.kind;
  const addresses = decision.addresses.toSorted();
  return decision.canonical === undefined ? { addresses } : { canonical: decision.canonical, addresses };
}

const found = (...addresses: readonly string[]): Expected => ({ addresses });
const under = (canonical: string, ...addresses: readonly string[]): Expected => ({ canonical, addresses });
const EMPTY = found();
const GOOGLE = found('1.1.1.1');

describe('Q3: look-ups of a client in ns1', () => {
  const a: readonly (readonly [string, Expected])[] = [
    ['productpage', found('9.9.9.9')],
    ['productpage.ns1', found('9.9.9.9')],
    ['productpage.ns1.svc', found('9.9.9.9')],
    ['productpage.ns1.svc.cluster.local', found('9.9.9.9')],
    ['productpage.ns1.svc.cluster.local.ns1.svc.cluster.local', under('productpage.ns1.svc.cluster.local', '9.9.9.9')],
    ['productpage.ns1.svc.cluster.local.svc.cluster.local', under('productpage.ns1.svc.cluster.local', '9.9.9.9')],
    ['productpage.ns1.svc.cluster.local.cluster.local', under('productpage.ns1.svc.cluster.local', '9.9.9.9')],
    ['productpage.ns1.ns1.svc.cluster.local', under('productpage.ns1', '9.9.9.9')],
    ['productpage.ns1.svc.ns1.svc.cluster.local', under('productpage.ns1.svc', '9.9.9.9')],
    ['productpage.svc.cluster.local', under('productpage', '9.9.9.9')],
    ['productpage.cluster.local', under('productpage', '9.9.9.9')],
    ['productpage.ns2', 'forward'],
    ['productpage.ns2.svc.cluster.local', 'forward'],
    ['productpage.ns1.svc.other.local', 'forward'],
    ['example', 'forward'],
    ['example.ns2', found('10.10.10.10')],
    ['example.ns2.svc', found('10.10.10.10')],
    ['example.ns2.svc.cluster.local', found('10.10.10.10')],
    ['example.ns2.ns1.svc.cluster.local', under('example.ns2', '10.10.10.10')],
    ['example.ns1.svc.cluster.local', 'forward'],
    ['details.ns2.svc.cluster.remote', found('8.8.8.8')],
    ['details.ns2.svc.cluster.remote.ns1.svc.cluster.local', under('details.ns2.svc.cluster.remote', '8.8.8.8')],
    ['details.ns2.svc.cluster.local', 'forward'],
    ['details', 'forward'],
    ['www.google.com', GOOGLE],
    ['www.google.com.ns1.svc.cluster.local', under('www.google.com', '1.1.1.1')],
    ['www.google.com.svc.cluster.local', under('www.google.com', '1.1.1.1')],
    ['www.google.com.cluster.local', under('www.google.com', '1.1.1.1')],
    ['google.com', 'forward'],
    ['x.www.google.com', 'forward'],
    ['www.bing.com', 'forward'],
    ['', 'forward'],
    ['a.wildcard', found('3.3.3.1')],
    ['b.wildcard', found('3.3.3.1')],
    ['a.b.wildcard', found('3.3.3.2')],
    ['a.b.c.wildcard', found('3.3.3.1')],
    ['*.wildcard', found('3.3.3.1')],
    ['wildcard', 'forward'],
    ['awildcard', 'forward'],
    ['a.b.wildcard.ns1.svc.cluster.local', found('3.3.3.2')],
    ['foo.svc.mesh.company.net', found('10.1.2.3')],
    ['foo.svc.mesh.company.net.ns1.svc.cluster.local', found('10.1.2.3')],
    ['svc.mesh.company.net', 'forward'],
    ['nw2-only.ns1.svc.cluster.local', EMPTY],
    ['nw1-nw2.ns1.svc.cluster.local', found('4.4.4.5')],
    ['headless', found('30.30.30.30', '31.31.31.31')],
    ['headless.ns1.svc.cluster.local', found('30.30.30.30', '31.31.31.31')],
    ['headless.ns1.ns1.svc.cluster.local', under('headless.ns1', '30.30.30.30', '31.31.31.31')],
    ['empty.ns1.svc.cluster.local', EMPTY],
    ['unready', found('36.1.1.1')],
    ['headless.example.com', 'forward'],
    ['headless.example.com.ns1.svc.cluster.local', 'forward'],
    ['private.ns2', 'forward'],
    ['mixed.example.com', found('5.5.5.5')],
    ['twice.io', found('6.6.6.7')],
    ['dual', found('1.1.1.2')],
    ['only-v4', found('1.1.1.3')],
    ['only-v6', EMPTY],
  ];
  for (const [name, expected] of a) test(`A "${name}"`, () => assert.deepEqual(seen(ask(name)), expected));

  const aaaa: readonly (readonly [string, Expected])[] = [
    ['productpage', EMPTY],
    ['productpage.ns1.ns1.svc.cluster.local', under('productpage.ns1')],
    ['dual', found('2001:db8::2')],
    ['only-v4', EMPTY],
    ['only-v6', found('2001:db8::4')],
    ['headless', found('2001:db8::31')],
    ['www.bing.com', 'forward'],
  ];
  for (const [name, expected] of aaaa) {
    test(`AAAA "${name}"`, () => assert.deepEqual(seen(ask(name, 'AAAA')), expected));
  }
});

test('without IPv6 no AAAA record is told, of names the mesh knows', () => {
  assert.deepEqual(seen(ask('dual', 'AAAA', {}, { ipv6: false })), EMPTY);
  assert.deepEqual(seen(ask('headless', 'AAAA', {}, { ipv6: false })), EMPTY);
  assert.deepEqual(seen(ask('www.bing.com', 'AAAA', {}, { ipv6: false })), 'forward');
  assert.deepEqual(seen(ask('dual', 'A', {}, { ipv6: false })), found('1.1.1.2'));
});

describe('of several services of one host name', () => {
  test('the one in the client\u2019s namespace answers, canonical or not', () => {
    assert.deepEqual(seen(ask('mine.io')), found('6.6.6.6'));
  });
  test('else the canonical one', () => assert.deepEqual(seen(ask('canonical.io')), found('6.6.6.4')));
  test('canonical comes before the preferred namespace', () => {
    assert.deepEqual(seen(ask('canonical.io', 'A', {}, { preferredNamespace: 'ns3' })), found('6.6.6.4'));
  });
  test('else the preferred namespace', () => {
    assert.deepEqual(seen(ask('both.io', 'A', {}, { preferredNamespace: 'ns4' })), found('6.6.6.2'));
  });
  test('else the first by key', () => assert.deepEqual(seen(ask('both.io')), found('6.6.6.1')));
  test('one without an address is passed over', () => {
    const state = mesh({
      services: [entry('x.io', [], { canonical: true }), entry('x.io', ['/1.2.3.4'], { namespace: 'ns9' })],
    });
    assert.deepEqual(seen(resolveName(state, CLIENT, { name: 'x.io', type: 'A' }, SETTINGS)), found('1.2.3.4'));
  });
});

test('who asks decides what a short name means and what is seen', () => {
  assert.deepEqual(seen(ask('example', 'A', { namespace: 'ns2' })), found('10.10.10.10'));
  assert.deepEqual(seen(ask('private', 'A', { namespace: 'ns2' })), found('4.4.4.7'));
  assert.deepEqual(seen(ask('productpage', 'A', { namespace: 'ns2' })), 'forward');
  assert.deepEqual(seen(ask('nw1-nw2.ns1', 'A', { network: 'nw2' })), found('4.4.4.6'));
  assert.deepEqual(seen(ask('headless.ns1', 'A', { network: 'nw2' })), found('33.33.33.33'));
});

test('all wildcards of the asked name come before its expansions, as upstream', () => {
  const state = mesh({ services: [kube('example', 'ns2', { vips: ['/1.1.1.1'] }), entry('*.ns2', ['/2.2.2.2'])] });
  const decision = resolveName(state, CLIENT, { name: 'example.ns2', type: 'A' }, SETTINGS);
  assert.deepEqual(seen(decision), found('2.2.2.2'));
});

test('Q7: the search list of a dedicated proxy replaces that of a pod', () => {
  const settings = { searchDomains: ['example.org'] };
  assert.deepEqual(seen(ask('www.google.com.example.org', 'A', {}, settings)), under('www.google.com', '1.1.1.1'));
  assert.deepEqual(seen(ask('www.google.com.ns1.svc.cluster.local', 'A', {}, settings)), 'forward');
});

describe('names of single pods', () => {
  const cases: readonly (readonly [string, Expected])[] = [
    ['headless-0.headless.ns1.svc.cluster.local', found('30.30.30.30')],
    ['headless-0.headless', found('30.30.30.30')],
    ['headless-0.headless.ns1', found('30.30.30.30')],
    ['headless-0.headless.ns1.svc', found('30.30.30.30')],
    ['headless-0.headless.ns1.ns1.svc.cluster.local', under('headless-0.headless.ns1', '30.30.30.30')],
    ['alias-0.headless6', found('34.34.34.34')],
    ['unready-0.unready', found('36.1.1.1')],
    // Nobody may rely on a pod that is not ready; the cluster's own DNS says what it says.
    ['sick.headless', 'forward'],
    ['far.headless', 'forward'],
    ['nobody.headless', 'forward'],
    ['twin.headless6', 'forward'],
    // A service with an address of its own has no names of pods.
    ['web.productpage', 'forward'],
    ['headless-0', 'forward'],
    ['x.headless-0.headless.ns1.svc.cluster.local', 'forward'],
  ];
  for (const [name, expected] of cases) test(`A "${name}"`, () => assert.deepEqual(seen(ask(name)), expected));
  test('have no record of a family the pod lacks', () => {
    assert.deepEqual(seen(ask('headless-0.headless', 'AAAA')), EMPTY);
  });
});

test('names that lead to pods are kept for a shorter time', () => {
  const ttl = (name: string): number | undefined => {
    const decision = ask(name);
    return decision.kind === 'answer' ? decision.ttlSeconds : undefined;
  };
  assert.equal(ttl('productpage'), SERVICE_TTL_SECONDS);
  assert.equal(ttl('headless'), ENDPOINT_TTL_SECONDS);
  assert.equal(ttl('headless-0.headless'), ENDPOINT_TTL_SECONDS);
});

describe('a decision says why', () => {
  const why = (...args: Parameters<typeof ask>): string =>
    ask(...args)
      .steps.map(({ what }) => what)
      .join('\n');
  test('which name it was', () => {
    assert.match(
      why('example.ns2.ns1.svc.cluster.local'),
      /^example\.ns2 is example\.ns2\.ns1\.svc\.cluster\.local without a search domain\nexample\.ns2 is short for example\.ns2\.svc\.cluster\.local\nexample\.ns2\.svc\.cluster\.local is service ns2\/example/,
    );
  });
  test('what did not count', () => {
    assert.match(why('headless.example.com'), /headless\.example\.com has no address of its own/);
    assert.match(why('private.ns2'), /seen in its own namespace only/);
    assert.match(why('nw2-only'), /1 of its addresses are in other networks\nit has no A record/);
    assert.match(why('twin.headless6'), /is the name of 2 endpoints/);
    assert.match(why('www.bing.com'), /no service of the mesh is called www\.bing\.com/);
  });
});

test('a decision survives structured cloning', () => {
  const decision = ask('headless');
  assert.deepEqual(structuredClone(decision), decision);
  assert.ok(decision.kind === 'answer' && decision.addresses.includes(ip('30.30.30.30')));
});
