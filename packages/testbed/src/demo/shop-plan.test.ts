// The objects that the control plane reads and the pods that the demo makes are two descriptions of one shop.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { SHOP_NODES, SHOP_PODS, SHOP_SERVICES } from './shop-plan.ts';

const OBJECTS = join(import.meta.dirname, '..', '..', '..', '..', 'examples', 'shop');

interface KubeObject {
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: Readonly<Record<string, unknown>>;
  readonly status: { readonly podIP: string; readonly podIPs: readonly { readonly ip: string }[] };
}

function objectsOf(file: string, kind: string): KubeObject[] {
  const text = readFileSync(join(OBJECTS, file), 'utf8');
  const all = parseAllDocuments(text).map(document => document.toJS() as KubeObject);
  return all.filter(object => object.kind === kind);
}

const byName = (a: { name: string }, b: { name: string }): number => (a.name < b.name ? -1 : 1);

test('pods.yaml has the pods that the demo makes, at the addresses that it gives them', () => {
  const written = objectsOf('pods.yaml', 'Pod').map(({ metadata, spec, status }) => ({
    name: metadata.name,
    namespace: metadata.namespace,
    serviceAccount: spec['serviceAccountName'] ?? 'default',
    node: spec['nodeName'],
    enrolled: metadata.annotations?.['ambient.istio.io/redirection'] === 'enabled',
    app: metadata.labels?.['app'],
    addresses: [status.podIP, ...status.podIPs.map(({ ip }) => ip)],
  }));
  const made = Object.values(SHOP_PODS).map(({ ip4, ip6, ...pod }) => ({
    ...pod,
    app: pod.name,
    addresses: [ip4, ip4, ip6],
  }));
  assert.deepEqual(written.toSorted(byName), made.toSorted(byName));
});

test('services.yaml has the services that the programs call', () => {
  const portNamed = new Map([['http', 8080]]);
  const written = objectsOf('services.yaml', 'Service').map(({ metadata, spec }) => {
    const [port, ...others] = spec['ports'] as { port: number; targetPort?: number | string }[];
    assert.ok(port !== undefined && others.length === 0);
    const target = port.targetPort ?? port.port;
    const targetPort = typeof target === 'string' ? portNamed.get(target) : target;
    return {
      name: metadata.name,
      namespace: metadata.namespace,
      addresses: spec['clusterIPs'],
      port: port.port,
      targetPort,
    };
  });
  const called = Object.values(SHOP_SERVICES).map(({ ip4, ip6, ...service }) => ({
    ...service,
    addresses: [ip4, ip6],
  }));
  assert.deepEqual(written.toSorted(byName), called.toSorted(byName));
});

test('namespaces.yaml has the nodes of the demo', () => {
  const names = objectsOf('namespaces.yaml', 'Node').map(({ metadata }) => metadata.name);
  assert.deepEqual(names, SHOP_NODES);
});
