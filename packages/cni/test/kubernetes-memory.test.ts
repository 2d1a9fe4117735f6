// What it takes to follow an API server: the agent has 90 MB in all.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import type { StoredObject } from '../../kube/test/api-server.ts';
import { startServer, temporaryDirectory } from '../../kube/test/serving.ts';
import { FRUGAL_ENV, FRUGAL_FLAGS } from '../src/frugal.ts';

const PODS = 250;
const NAMESPACES = 1000;
const MAX_GROWTH_MB = 16;

/** Some 10 KB, as ordinary pods are: more than half of it is bookkeeping that nobody here reads. */
function pod(i: number): StoredObject {
  const managedFields = Array.from({ length: 40 }, (_, k) => ({
    manager: 'kubelet',
    operation: 'Update',
    fieldsV1: { [`f:status-${k}`]: { 'f:conditions': { 'k:{"type":"Ready"}': { '.': {}, 'f:lastProbeTime': {} } } } },
  }));
  const env = Array.from({ length: 40 }, (_, k) => ({ name: `VARIABLE_${k}`, value: 'v'.repeat(40) }));
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `pod-${i}`, namespace: `ns-${i % 20}`, labels: { app: `app-${i}` }, managedFields },
    spec: { nodeName: 'n1', serviceAccountName: 'web', containers: [{ name: 'app', env }] },
    status: { phase: 'Running', podIPs: [{ ip: `10.0.${i >> 8}.${i & 255}` }] },
  };
}

test('following 250 pods and 1000 namespaces takes a few MB', { timeout: 60_000 }, async t => {
  const server = await startServer(t);
  for (let i = 0; i < PODS; i += 1) server.put(pod(i));
  for (let i = 0; i < NAMESPACES; i += 1) {
    const name = `ns-${i}`;
    server.put({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name, labels: { 'kubernetes.io/metadata.name': name } },
    });
  }
  const directory = temporaryDirectory(t);
  const script = path.join(import.meta.dirname, 'kubernetes-memory-process.ts');
  const args = [...FRUGAL_FLAGS, script, server.writeKubeconfig(directory), String(PODS)];
  const env = { PATH: process.env['PATH'], ...FRUGAL_ENV, NODE_COMPILE_CACHE: path.join(directory, 'cache') };
  await promisify(execFile)(process.execPath, args, { env }); // fills the cache of compiled code, which costs memory too
  const { stdout } = await promisify(execFile)(process.execPath, args, { env });
  const [before = Number.NaN, after = Number.NaN] = stdout.trim().split(' ').map(Number);
  t.diagnostic(`resident ${before} MB before, ${after} MB in step`);
  assert.ok(after - before < MAX_GROWTH_MB, `grew from ${before} to ${after} MB`);
});
