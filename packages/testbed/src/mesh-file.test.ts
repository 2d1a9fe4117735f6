import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createMatch, createService, createWorkload, type Ip, type Policy } from '@ambit/mesh';
import { TestbedError } from './errors.ts';
import { type MeshContents, renderMeshFile, writeMeshFile } from './mesh-file.ts';

const ip = (text: string): Ip => text as Ip;

const policy = (rules: Policy['rules']): Policy => {
  return { name: 'p', namespace: 'shop', scope: 'Namespace', action: 'Deny', dryRun: false, rules };
};

const CONTENTS: MeshContents = {
  workloads: [
    createWorkload({
      uid: 'c//Pod/shop/cart-1',
      name: 'cart-1',
      namespace: 'shop',
      serviceAccount: 'cart',
      protocol: 'HBONE',
      workloadIps: [ip('10.61.1.1'), ip('fd00:61:1::1')],
      services: new Map([['shop/cart.shop.svc.cluster.local', new Map([[80, 8080]])]]),
      locality: { region: 'r', zone: 'z', subzone: '' },
      applicationTunnel: { protocol: 'PROXY', port: undefined },
    }),
  ],
  services: [
    createService({
      name: 'cart',
      namespace: 'shop',
      hostname: 'cart.shop.svc.cluster.local',
      canonical: true,
      vips: [{ network: '', ip: ip('10.96.0.1') }],
      ports: new Map([[80, 8080]]),
      waypoint: {
        destination: { kind: 'hostname', namespace: 'shop', hostname: 'gw.example.com' },
        hboneMtlsPort: 15008,
      },
    }),
  ],
  policies: [
    policy([
      [
        [
          createMatch({
            principals: [
              { kind: 'exact', value: 'cluster.local/ns/shop/sa/web' },
              { kind: 'prefix', value: 'a"b: c' },
              { kind: 'suffix', value: '#x' },
              { kind: 'presence' },
            ],
            sourceIps: [{ ip: ip('10.0.0.0'), length: 8 }],
            notDestinationPorts: [5299],
            serviceAccounts: [{ namespace: 'shop', serviceAccount: 'web' }],
          }),
        ],
      ],
    ]),
  ],
};

test('a mesh is written one line an object, string matches with their tags', () => {
  const lines = renderMeshFile(CONTENTS).split('\n');
  assert.deepEqual(
    lines.map(line => line.slice(0, 30)),
    [
      'workloads:',
      '- {uid: "c//Pod/shop/cart-1", ',
      'policies:',
      '- {name: "p", namespace: "shop',
      'services:',
      '- {name: "cart", namespace: "s',
      '',
    ],
  );
  assert.equal(
    lines[3],
    '- {name: "p", namespace: "shop", scope: Namespace, action: Deny, dryRun: false, rules: [[[{' +
      'principals: [!Exact "cluster.local/ns/shop/sa/web", !Prefix "a\\"b: c", !Suffix "#x", !Presence []], ' +
      'serviceAccounts: [{"namespace":"shop","serviceAccount":"web"}], ' +
      'sourceIps: ["10.0.0.0/8"], notDestinationPorts: [5299]}]]]}',
  );
  assert.match(lines[1] ?? '', /services: \{"shop\/cart\.shop\.svc\.cluster\.local": \{80: 8080\}\}\}$/);
  assert.match(lines[1] ?? '', /applicationTunnel: \{"protocol":"PROXY"\}/);
  assert.match(lines[5] ?? '', /vips: \["\/10\.96\.0\.1"\], ports: \{80: 8080\}/);
  assert.match(lines[5] ?? '', /waypoint: \{destination: "shop\/gw\.example\.com", hboneMtlsPort: 15008\}/);
});

test('an empty mesh is three empty lists', () => {
  assert.equal(
    renderMeshFile({ workloads: [], services: [], policies: [] }),
    'workloads: []\npolicies: []\nservices: []\n',
  );
});

test('a match of no meaning is refused instead of being left out', () => {
  const bad = policy([[[createMatch({ namespaces: [{ kind: 'invalid', text: 'x' }] })]]]);
  assert.throws(
    () => renderMeshFile({ ...CONTENTS, policies: [bad] }),
    (error: unknown) => error instanceof TestbedError && error.code === 'testbed.argument',
  );
});

test('writing replaces the file and leaves nothing beside it, also when it cannot', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'ambit-mesh-file-'));
  try {
    const path = join(dir, 'mesh.yaml');
    await writeMeshFile(path, { workloads: [], services: [], policies: [] });
    await writeMeshFile(path, CONTENTS);
    assert.equal(await readFile(path, 'utf8'), renderMeshFile(CONTENTS));
    await assert.rejects(writeMeshFile(join(dir, 'none', 'mesh.yaml'), CONTENTS));
    assert.deepEqual(await readdir(dir), ['mesh.yaml']);
  } finally {
    await rm(dir, { recursive: true });
  }
});
