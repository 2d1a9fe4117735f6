import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { balancer, gateway, ip, mesh, pod, ports, service, vip } from '../test/fixture.ts';
import { parseCidr } from './address.ts';
import type { Service } from './service.ts';
import { serviceKey } from './service.ts';
import { MeshState } from './state.ts';
import type { Workload } from './workload.ts';

const block = (text: string, network = '') => ({ network, cidr: parseCidr(text) ?? assert.fail(text) });

function endpointNames(state: MeshState, of: Service): readonly string[] {
  return state
    .endpoints(of)
    .map(endpoint => endpoint.workload.name)
    .toSorted();
}

const HOST = 'svc.ns.svc.cluster.local';
const svc = service('svc', { vips: ['/10.0.0.1'], ports: { 80: 8080 } });
const member = (name: string, fields: Parameters<typeof pod>[1] = {}): Workload =>
  pod(name, { services: { [`ns/${HOST}`]: { 80: 8080 } }, ...fields });

describe('S2, S3: looking up', () => {
  const state = mesh(
    {
      workloads: [
        pod('local', { ips: ['10.1.0.1'], node: 'here', serviceAccount: 'sa' }),
        pod('remote', { ips: ['10.1.0.2'], node: 'there', serviceAccount: 'sa', hostname: 'vm.example.com' }),
      ],
      services: [svc],
    },
    { localNode: 'here' },
  );

  test('by address, host name and miss', () => {
    assert.deepEqual(state.findAddress('', ip('10.1.0.1'), undefined)?.kind, 'workload');
    assert.deepEqual(state.findAddress('', ip('10.0.0.1'), undefined)?.kind, 'service');
    assert.equal(state.findAddress('', ip('10.0.0.9'), undefined), undefined);
    assert.equal(state.findAddress('elsewhere', ip('10.1.0.1'), undefined), undefined);
    assert.equal(state.serviceByHostname(HOST, 'ns')?.name, 'svc');
    assert.equal(state.workloadByHostname('ns', 'vm.example.com')?.name, 'remote');
    assert.equal(state.workloadByHostname('other', 'vm.example.com'), undefined);
  });

  test('a pod finds its own workload by all three names, on its own node only', () => {
    const local = { name: 'local', namespace: 'ns', serviceAccount: 'sa' };
    assert.equal(state.workloadForPod(local)?.name, 'local');
    for (const wrong of [
      { ...local, name: 'x' },
      { ...local, namespace: 'x' },
      { ...local, serviceAccount: 'x' },
    ]) {
      assert.equal(state.workloadForPod(wrong), undefined);
    }
    assert.equal(state.workloadForPod({ ...local, name: 'remote' }), undefined);
  });

  test('an identity is in use while a local workload has it', () => {
    const view = mesh({ workloads: [pod('a', { node: 'here', serviceAccount: 'sa' })] }, { localNode: 'here' });
    view.applyBatch({ upsertWorkloads: [pod('b', { node: 'here', serviceAccount: 'sa' })] });
    view.applyBatch({ removeWorkloads: ['cluster1//Pod/ns/a'] });
    assert.ok(view.usesIdentity('ns', 'sa'));
    view.applyBatch({ removeWorkloads: ['cluster1//Pod/ns/b'] });
    assert.ok(!view.usesIdentity('ns', 'sa'));
  });
});

describe('S7, S10, V5: workloads and services come and go', () => {
  test('a workload that precedes its service is an endpoint once the service arrives', () => {
    const state = mesh({ workloads: [member('a')] });
    state.applyBatch({ upsertServices: [svc] });
    assert.deepEqual(endpointNames(state, svc), ['a']);
  });

  test('pushing the service again keeps its endpoints, deleting and re-adding too', () => {
    const state = mesh({ workloads: [member('a')], services: [svc] });
    state.applyBatch({ upsertServices: [{ ...svc, canonical: true }] });
    assert.deepEqual(endpointNames(state, svc), ['a']);
    state.applyBatch({ removeServices: [serviceKey(svc)] });
    assert.equal(state.serviceByVip('', ip('10.0.0.1'), undefined), undefined);
    state.applyBatch({ upsertServices: [svc] });
    assert.deepEqual(endpointNames(state, svc), ['a']);
  });

  test('addresses of a service follow its updates', () => {
    const state = mesh({ services: [svc] });
    state.applyBatch({ upsertServices: [{ ...svc, vips: [vip('/10.0.0.2'), vip('/10.0.0.2')] }] });
    assert.equal(state.serviceByVip('', ip('10.0.0.1'), undefined), undefined);
    assert.equal(state.serviceByVip('', ip('10.0.0.2'), undefined)?.name, 'svc');
    state.applyBatch({ removeServices: [serviceKey(svc)] });
    assert.equal(state.serviceByVip('', ip('10.0.0.2'), undefined), undefined);
  });

  test('a workload that leaves a service, changes its address or goes leaves nothing behind', () => {
    const state = mesh({ workloads: [member('a', { ips: ['10.1.0.1'] })], services: [svc] });
    state.applyBatch({ upsertWorkloads: [pod('a', { ips: ['10.1.0.2'] })] });
    assert.deepEqual(endpointNames(state, svc), []);
    assert.equal(state.workloadByAddress('', ip('10.1.0.1')), undefined);
    assert.equal(state.workloadByAddress('', ip('10.1.0.2'))?.name, 'a');
    state.applyBatch({ removeWorkloads: ['cluster1//Pod/ns/a'] });
    assert.equal(state.workloadByAddress('', ip('10.1.0.2')), undefined);
    assert.deepEqual(state.counts, { workloads: 0, services: 1, policies: 0 });
  });

  test('a workload that moves to another network is found there only', () => {
    const state = mesh({
      workloads: [pod('a', { ips: ['10.1.0.1'], network: 'one' }), pod('b', { network: 'one', ips: ['10.1.0.9'] })],
    });
    state.applyBatch({ upsertWorkloads: [pod('a', { ips: ['10.1.0.1'], network: 'two' })] });
    assert.equal(state.workloadByAddress('one', ip('10.1.0.1')), undefined);
    assert.equal(state.workloadByAddress('two', ip('10.1.0.1'))?.name, 'a');
  });

  test('removal by xDS name finds workloads first, then services, and reports the rest', () => {
    const state = mesh({ workloads: [member('a')], services: [svc] });
    const outcome = state.applyBatch({
      removeAddresses: ['cluster1//Pod/ns/a', serviceKey(svc), 'no/such', 'nothing'],
    });
    assert.deepEqual(outcome.unknown, ['no/such', 'nothing']);
    assert.deepEqual(state.counts, { workloads: 0, services: 0, policies: 0 });
  });

  test('updates come before removals in a batch', () => {
    const state = mesh({});
    state.applyBatch({ upsertWorkloads: [member('a')], removeWorkloads: ['cluster1//Pod/ns/a'] });
    assert.equal(state.workloadByUid('cluster1//Pod/ns/a'), undefined);
  });

  test('every batch is a new version', () => {
    const state = mesh({});
    const before = state.version;
    state.applyBatch({});
    assert.ok(state.version > before);
  });

  test('replacing everything forgets what was there', () => {
    const state = mesh({ workloads: [member('a', { ips: ['10.1.0.1'] })], services: [svc] });
    state.replaceAll({ workloads: [pod('b')], services: [], policies: [] });
    assert.equal(state.workloadByAddress('', ip('10.1.0.1')), undefined);
    assert.deepEqual(state.counts, { workloads: 1, services: 0, policies: 0 });
    assert.equal(state.workloadByUid('cluster1//Pod/ns/b')?.name, 'b');
  });

  test('endpoints declared by the service join those that name it; the workload’s own word wins', () => {
    const declared = (uid: string) => [uid, { workloadUid: uid, port: ports({ 80: 9 }), status: 'Unhealthy' }] as const;
    const own = service('svc', {
      endpoints: new Map(['a', 'b', 'c'].map(name => declared(`cluster1//Pod/ns/${name}`))),
    });
    const state = mesh({ workloads: [member('a'), pod('b')], services: [own] });
    const found = state
      .endpoints(own)
      .map(endpoint => [endpoint.workload.name, endpoint.ports.get(80), endpoint.isHealthy]);
    assert.deepEqual(found, [
      ['a', 8080, true],
      ['b', 9, false],
    ]);
    assert.ok(state.isEndpoint(own, 'cluster1//Pod/ns/b'));
    assert.ok(!state.isEndpoint(own, 'cluster1//Pod/ns/z'));
  });
});

test('S9: unhealthy endpoints stay known, so a changed health policy finds them', () => {
  const state = mesh({ workloads: [member('a', { status: 'Unhealthy' })], services: [svc] });
  assert.deepEqual(state.endpoints(svc)[0]?.isHealthy, false);
  const allowing = { ...svc, loadBalancer: balancer('Standard', [], 'AllowAll') };
  state.applyBatch({ upsertServices: [allowing] });
  assert.equal(state.endpoints(allowing).length, 1);
});

describe('S8: several workloads with one address', () => {
  const entry = (more: Partial<Workload> = {}) => ({ ...pod('entry', { ips: ['10.1.0.1'] }), uid: 'entry', ...more });
  const real = (more: Partial<Workload> = {}) => ({ ...pod('real', { ips: ['10.1.0.1'] }), ...more });

  for (const order of [
    [entry(), real()],
    [real(), entry()],
  ]) {
    test(`a pod is preferred, added ${order.map(workload => workload.name).join(' then ')}`, () => {
      const state = mesh({ workloads: order });
      assert.equal(state.workloadByAddress('', ip('10.1.0.1'))?.name, 'real');
      state.applyBatch({ upsertWorkloads: [real()] });
      state.applyBatch({ removeWorkloads: [real().uid] });
      assert.equal(state.workloadByAddress('', ip('10.1.0.1'))?.name, 'entry');
    });
  }

  test('a pod without the tunnel still comes before an entry with it', () => {
    const state = mesh({ workloads: [real(), entry({ protocol: 'HBONE' })] });
    assert.equal(state.workloadByAddress('', ip('10.1.0.1'))?.name, 'real');
  });

  test('of equals the newest wins', () => {
    const [one, two] = [real({ uid: 'c//Pod/ns/1', name: 'one' }), real({ uid: 'c//Pod/ns/2', name: 'two' })];
    const state = mesh({ workloads: [one, two] });
    assert.equal(state.workloadByAddress('', ip('10.1.0.1'))?.name, 'two');
    state.applyBatch({ upsertWorkloads: [one] });
    assert.equal(state.workloadByAddress('', ip('10.1.0.1'))?.name, 'one');
  });
});

describe('V1, V2: who owns an address or a name', () => {
  const claim = (namespace: string, more: Partial<Service> = {}) => ({
    ...service('svc', { namespace, hostname: 'shared.example', vips: ['/10.0.0.1'] }),
    ...more,
  });
  const owner = (state: MeshState, client: string | undefined) =>
    state.serviceByVip('', ip('10.0.0.1'), client)?.namespace;

  test('V1: the client’s namespace, then canonical, then the smallest key, whatever the order of arrival', () => {
    for (const services of [
      [claim('a'), claim('b'), claim('c', { canonical: true })],
      [claim('c', { canonical: true }), claim('b'), claim('a')],
    ]) {
      const state = mesh({ services });
      assert.deepEqual(
        ['b', 'z', undefined].map(client => owner(state, client)),
        ['b', 'c', 'c'],
      );
      state.applyBatch({ removeServices: ['c/shared.example'] });
      assert.deepEqual(
        ['b', 'z', undefined].map(client => owner(state, client)),
        ['b', 'a', 'a'],
      );
      assert.equal(state.serviceByHostname('shared.example', 'b')?.namespace, 'b');
    }
  });

  test('two services of one namespace with one address do not replace each other', () => {
    const second = service('second', { namespace: 'a', hostname: 'second.example', vips: ['/10.0.0.1'] });
    const state = mesh({ services: [claim('a'), second] });
    state.applyBatch({ removeServices: ['a/second.example'] });
    assert.equal(owner(state, 'a'), 'a');
  });

  test('V2: NAMESPACE visibility hides by address, block and name, and not without a client', () => {
    const hidden = { ...claim('a', { visibility: 'Namespace' as const }), cidrVips: [block('10.9.0.0/16')] };
    const state = mesh({ services: [hidden] });
    assert.deepEqual(
      ['a', 'b', undefined].map(client => owner(state, client)),
      ['a', undefined, 'a'],
    );
    assert.equal(state.serviceByVip('', ip('10.9.0.1'), 'b'), undefined);
    assert.equal(state.serviceByVip('', ip('10.9.0.1'), 'a')?.namespace, 'a');
    assert.equal(state.serviceByHostname('shared.example', 'b'), undefined);
  });

  test('V3: an exact address that is hidden falls through to a block', () => {
    const wide = service('wide', { namespace: 'b', cidrVips: [block('10.0.0.0/24')] });
    const state = mesh({ services: [claim('a', { visibility: 'Namespace' }), wide] });
    assert.equal(owner(state, 'b'), 'b');
    assert.equal(owner(state, 'a'), 'a');
  });
});

describe('V4: address blocks', () => {
  const wide = service('broad', { namespace: 'a', cidrVips: [block('10.0.0.0/8'), block('fd00::/8')] });
  const narrow = service('narrow', { namespace: 'a', cidrVips: [block('10.1.0.0/16'), block('fd00:1::/32')] });
  const foreign = service('foreign', { namespace: 'b', cidrVips: [block('10.0.0.0/8')] });
  const exact = service('exact', { namespace: 'z', vips: ['/10.1.2.3'] });
  const state = mesh({ services: [wide, narrow, foreign, exact] });
  const owner = (address: string, client?: string, network = '') =>
    state.serviceByVip(network, ip(address), client)?.name;

  test('longest prefix wins, exact beats it, families and networks are apart', () => {
    assert.equal(owner('10.1.0.9', 'a'), 'narrow');
    assert.equal(owner('10.2.0.9', 'a'), 'broad');
    assert.equal(owner('fd00:1::9', 'a'), 'narrow');
    assert.equal(owner('fd77::9', 'a'), 'broad');
    assert.equal(owner('10.1.2.3', 'a'), 'exact');
    assert.equal(owner('11.0.0.1'), undefined);
    assert.equal(owner('10.1.0.9', 'a', 'elsewhere'), undefined);
  });

  test('the client’s namespace beats the prefix', () => assert.equal(owner('10.1.0.9', 'b'), 'foreign'));

  test('endpoint changes never leave an older copy of the service behind', () => {
    const view = mesh({ services: [wide] });
    for (let index = 0; index < 5; index++) {
      view.applyBatch({ upsertServices: [{ ...wide, canonical: index % 2 === 0 }] });
      view.applyBatch({ upsertWorkloads: [pod(`w${index}`, { services: { [serviceKey(wide)]: { 80: 80 } } })] });
      const found = view.serviceByVip('', ip('10.5.0.1'), undefined) ?? assert.fail();
      assert.equal(found.canonical, index % 2 === 0);
      assert.equal(view.endpoints(found).length, index + 1);
    }
    view.applyBatch({ removeServices: [serviceKey(wide)] });
    assert.equal(view.serviceByVip('', ip('10.5.0.1'), undefined), undefined);
  });
});

test('any history of updates ends where its result stated at once would', () => {
  const names = ['a', 'b', 'c', 'd'];
  const addresses = ['10.1.0.1', '10.1.0.2', '10.1.0.3'];
  const change = fc.record({
    name: fc.constantFrom(...names),
    present: fc.boolean(),
    addresses: fc.subarray(addresses),
    services: fc.subarray(['ns/x', 'ns/y']),
    node: fc.constantFrom('here', 'there'),
    hostname: fc.constantFrom('', 'h'),
  });
  const services = [service('x', { hostname: 'x' }), service('y', { hostname: 'y' })];
  fc.assert(
    fc.property(fc.array(change, { maxLength: 20 }), changes => {
      const state = new MeshState({ localNode: 'here' });
      state.applyBatch({ upsertServices: services });
      const expected = new Map<string, Workload>();
      for (const { name, present, services: of, ...fields } of changes) {
        const workload = pod(name, {
          ips: fields.addresses,
          node: fields.node,
          hostname: fields.hostname,
          services: Object.fromEntries(of.map(key => [key, { 80: 8080 }])),
        });
        // Delete first: a map keeps the place of a key that is set again, the mesh counts it as the newest.
        expected.delete(workload.uid);
        if (present) expected.set(workload.uid, workload);
        state.applyBatch(present ? { upsertWorkloads: [workload] } : { removeWorkloads: [workload.uid] });
      }
      const fresh = new MeshState({ localNode: 'here' });
      fresh.replaceAll({ workloads: [...expected.values()], services, policies: [] });
      for (const address of addresses) {
        assert.equal(state.workloadByAddress('', ip(address))?.uid, fresh.workloadByAddress('', ip(address))?.uid);
      }
      for (const one of services) assert.deepEqual(endpointNames(state, one), endpointNames(fresh, one));
      for (const name of names) {
        const key = { name, namespace: 'ns', serviceAccount: name };
        assert.equal(state.workloadForPod(key)?.uid, fresh.workloadForPod(key)?.uid);
        assert.equal(state.usesIdentity('ns', name), fresh.usesIdentity('ns', name));
      }
      assert.equal(state.workloadByHostname('ns', 'h')?.uid, fresh.workloadByHostname('ns', 'h')?.uid);
      assert.deepEqual(state.counts, fresh.counts);
    }),
    { seed: 21, numRuns: 500 },
  );
});

test('a stored workload equals the one given, with repeated parts shared', () => {
  const full = () =>
    pod('w', {
      ips: ['10.0.0.1', 'fd00::1'],
      protocol: 'HBONE',
      services: { 'ns/x': { 80: 8080 } },
      waypoint: gateway('/10.0.0.9'),
      networkGateway: gateway('ns/gw'),
      applicationTunnel: { protocol: 'PROXY', port: undefined },
      authorizationPolicies: ['a/b'],
      locality: { region: 'r', zone: 'z', subzone: 's' },
      nativeTunnel: true,
      status: 'Unhealthy',
      capacity: 3,
      networkMode: 'HostNetwork',
      network: 'n',
      node: 'node',
      hostname: 'h',
      clusterId: 'c',
      workloadName: 'wn',
      workloadType: 'job',
      canonicalName: 'cn',
      canonicalRevision: 'cr',
    });
  const state = mesh({ workloads: [full(), { ...full(), uid: 'second' }] });
  const [first, second] = [state.workloadByUid('cluster1//Pod/ns/w'), state.workloadByUid('second')];
  assert.deepEqual(first, full());
  assert.ok(first !== undefined && second !== undefined);
  assert.equal(first.services, second.services);
  assert.equal(first.locality, second.locality);
  assert.equal(first.waypoint, second.waypoint);
});
