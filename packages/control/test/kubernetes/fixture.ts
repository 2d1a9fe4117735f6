// What the tests of this directory share: a server with ordinary objects, a source that follows it with short times, and
// the state that a sink has been told.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import {
  createKubernetesSource,
  type KubernetesSource,
  type KubernetesSourceOptions,
} from '../../src/kubernetes/kubernetes-source.ts';
import type { Timing } from '../../src/kubernetes/timing.ts';
import { SILENT_LOG } from '@ambit/log';
import { readObject } from '../../src/objects/index.ts';
import { formatRef, type KubeObject, type ObjectChange } from '../../src/objects/types.ts';
import { type ApiServer, type ApiServerOptions, startApiServer, type StoredObject } from './api-server.ts';

export const SHORT: Partial<Timing> = {
  pageSize: 3,
  retryMinMs: 5,
  retryMaxMs: 50,
  probeMs: 40,
  forbiddenMs: 30,
  requestMs: 5000,
};

export function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'ambit-kube-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export async function startServer(t: TestContext, options: ApiServerOptions = {}): Promise<ApiServer> {
  const server = await startApiServer(options);
  t.after(() => server.close());
  return server;
}

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

/** Everything a sink was told, as it stands now, and a way to wait for it to be so. */
export class View {
  readonly objects = new Map<string, KubeObject>();
  readonly batches: (readonly ObjectChange[])[] = [];
  #waiting = new Set<() => void>();

  readonly sink = (changes: readonly ObjectChange[]): void => {
    this.batches.push(changes);
    for (const { ref, object } of changes) {
      if (object === undefined) this.objects.delete(formatRef(ref));
      else this.objects.set(formatRef(ref), object);
    }
    for (const check of this.#waiting) check();
  };

  get keys(): readonly string[] {
    return [...this.objects.keys()].sort();
  }

  async until(condition: () => boolean): Promise<void> {
    if (condition()) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const check = (): void => {
      if (condition()) resolve();
    };
    this.#waiting.add(check);
    await promise;
    this.#waiting.delete(check);
  }
}

export interface Followed {
  readonly source: KubernetesSource;
  readonly view: View;
  /** Of `start`. */
  readonly started: Promise<void>;
}

export function follow(t: TestContext, server: ApiServer, options: Partial<KubernetesSourceOptions> = {}): Followed {
  const source = createKubernetesSource({
    kubeconfig: server.writeKubeconfig(temporaryDirectory(t)),
    log: SILENT_LOG,
    readObject,
    ...options,
    timing: { ...SHORT, ...options.timing },
  });
  const view = new View();
  const started = source.start(view.sink);
  started.catch(() => undefined); // awaited by the test, or the test is over
  t.after(() => source.close());
  return { source, view, started };
}
