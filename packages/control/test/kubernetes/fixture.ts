// What the tests of this directory share: a server with ordinary objects, a source that follows it with short times, and
// the state that a sink has been told.
import type { TestContext } from 'node:test';
import {
  createKubernetesSource,
  type KubernetesSource,
  type KubernetesSourceOptions,
} from '../../src/kubernetes/kubernetes-source.ts';
import { SILENT_LOG } from '@ambit/log';
import type { Timing } from '@ambit/kube';
import { readObject } from '../../src/objects/index.ts';
import { formatRef, type KubeObject, type ObjectChange } from '../../src/objects/types.ts';
import type { ApiServer } from '../../../kube/test/api-server.ts';
import { temporaryDirectory } from '../../../kube/test/serving.ts';
import { Waiting } from '../../../kube/test/waiting.ts';

export const SHORT: Partial<Timing> = {
  pageSize: 3,
  retryMinMs: 5,
  retryMaxMs: 50,
  probeMs: 40,
  forbiddenMs: 30,
  requestMs: 5000,
};

/** Everything a sink was told, as it stands now, and a way to wait for it to be so. */
export class View {
  readonly objects = new Map<string, KubeObject>();
  readonly batches: (readonly ObjectChange[])[] = [];
  readonly #waiting = new Waiting();

  readonly sink = (changes: readonly ObjectChange[]): void => {
    this.batches.push(changes);
    for (const { ref, object } of changes) {
      if (object === undefined) this.objects.delete(formatRef(ref));
      else this.objects.set(formatRef(ref), object);
    }
    this.#waiting.changed();
  };

  get keys(): readonly string[] {
    return [...this.objects.keys()].sort();
  }

  async until(condition: () => boolean): Promise<void> {
    await this.#waiting.until(condition);
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
