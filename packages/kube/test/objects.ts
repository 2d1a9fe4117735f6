// Ordinary objects for the test's API server.
import type { StoredObject } from './object-store.ts';

export function pod(name: string, where = 'shop', phase = 'Running'): StoredObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: where },
    spec: { serviceAccountName: 'default', nodeName: 'n1', containers: [{ name: 'app' }] },
    status: { phase, podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }] },
  };
}

export function namespace(name: string): StoredObject {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name } };
}
