import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createService, createWorkload, type DnsSettings, MeshState, parseIp, resolveName } from '@ambit/mesh';
import { queryFor } from './dns-testing.ts';
import { LabelFilter, MeshLabels } from './mesh-labels.ts';

const DOMAIN = 'cluster.local';
const label = fc.constantFrom('a', 'b', 'c', 'n1', 'n2', 'svc', 'cluster', 'local', 'p', 'X', 'h');
const host = fc
  .record({
    labels: fc.array(label, { minLength: 1, maxLength: 4 }),
    end: fc.constantFrom('', '.svc.cluster.local', '.n1.svc.cluster.local', '.cluster.local'),
  })
  .map(({ labels, end }) => labels.join('.') + end);
const hostOrWildcard = fc.oneof(
  host,
  host.map(name => `*.${name}`),
);

function meshOf(hosts: readonly string[]): MeshState {
  const mesh = new MeshState();
  const ip = parseIp('10.9.0.1') ?? assert.fail();
  const services = hosts.map((hostname, index) =>
    createService({
      name: `s${index}`,
      namespace: 'n1',
      hostname,
      // Some without an address, so that their endpoints have names.
      vips: index % 3 === 2 ? [] : [{ network: '', ip }],
    }),
  );
  const member = new Map(services.map(({ namespace, hostname }) => [`${namespace}/${hostname}`, new Map([[80, 80]])]));
  const workload = { uid: 'w', name: 'p', namespace: 'n1', hostname: 'h', workloadIps: [ip], services: member };
  mesh.applyBatch({ upsertServices: services, upsertWorkloads: [createWorkload(workload)] });
  return mesh;
}

test('what is called foreign the mesh would have forwarded, whatever its services are called', () => {
  let foreign = 0;
  fc.assert(
    fc.property(
      fc.array(hostOrWildcard, { maxLength: 5 }),
      host,
      fc.constantFrom(undefined, ['b.c', 'a'], ['n2.svc.cluster.local', 'local']),
      (hosts, name, searchDomains) => {
        const filter = new LabelFilter(new MeshLabels(hosts, DOMAIN).bits);
        if (!filter.isForeign(queryFor(name), 0)) return;
        foreign++;
        const settings: DnsSettings = {
          clusterDomain: DOMAIN,
          ipv6: true,
          preferredNamespace: undefined,
          searchDomains,
        };
        const asked = { name: name.toLowerCase(), type: 'A' } as const;
        const { kind } = resolveName(meshOf(hosts), { namespace: 'n1', network: '' }, asked, settings);
        assert.equal(kind, 'forward');
      },
    ),
    { numRuns: 3000, seed: 1034 },
  );
  // Else it proves nothing.
  assert.ok(foreign > 300, `${foreign} names were foreign`);
});

test('few foreign names are taken for ones of the mesh, with many services too', () => {
  for (const count of [10, 10_000]) {
    const hosts = Array.from({ length: count }, (_, index) => `service-${index}.ns.svc.cluster.local`);
    const filter = new LabelFilter(new MeshLabels(hosts, DOMAIN).bits);
    assert.ok(!filter.isForeign(queryFor('service-7.ns'), 0));
    let wrong = 0;
    for (let index = 0; index < 2000; index++) if (!filter.isForeign(queryFor(`h${index}.example.com`), 0)) wrong++;
    assert.ok(wrong < 40, `${wrong} of 2000`);
  }
});

test('labels that are added count at once, until another filter is due', () => {
  const labels = new MeshLabels(['a.ns.svc.cluster.local'], DOMAIN);
  const filter = new LabelFilter(labels.bits);
  assert.ok(filter.isForeign(queryFor('later.ns'), 0));
  assert.ok(labels.add('later'));
  assert.ok(!filter.isForeign(queryFor('LATER.ns'), 0));
  let added = 1;
  while (labels.add(`more-${added}`)) added++;
  assert.ok(added < 1000);
});
