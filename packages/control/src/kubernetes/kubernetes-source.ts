// A Kubernetes API server as a source of objects: one reflector for each resource (and, where only some namespaces are
// wanted, for each of them), their changes gathered into batches. What is forbidden, absent or unreadable holds nothing
// else up; what was seen last stays in force while the server is away.
import type { Diagnostic } from '../diagnostic.ts';
import {
  createDiscovery,
  createKubeClient,
  DEFAULT_TIMING,
  KnownObjects,
  type KubeAccess,
  type KubeClient,
  KubeError,
  type ReadObject,
  Reflector,
  type ReflectorCounts,
  type ResourceType,
  type Timing,
} from '@ambit/kube';
import type { Log } from '@ambit/log';
import type { Kind, KubeObject } from '../objects/types.ts';
import type { ChangeSink, Source } from '../sources/source.ts';
import { ChangeBatch } from './change-batch.ts';
import { RESOURCE_TYPES } from './resources.ts';

export interface KubernetesSourceOptions extends KubeAccess {
  /** Use these connections, which the caller closes; else own ones are made from the access options. */
  readonly client?: KubeClient | undefined;
  /** Look only into these; undefined: into all, which needs cluster-wide rights. */
  readonly namespaces?: readonly string[] | undefined;
  /** Only these kinds; undefined: all that the mesh is made of. */
  readonly kinds?: readonly Kind[] | undefined;
  readonly log: Log;
  readonly readObject: ReadObject<KubeObject, Diagnostic, Kind>;
  readonly timing?: Partial<Timing> | undefined;
  /** In [0, 1), for jitter. */
  readonly random?: (() => number) | undefined;
}

export interface KubernetesSource extends Source {
  /** What its reflectors have done so far, summed up. */
  readonly counts: Readonly<ReflectorCounts>;
}

/** More would be noise, and status must stay small however broken a cluster is. */
const MAX_PROBLEMS = 100;

export function createKubernetesSource(options: KubernetesSourceOptions): KubernetesSource {
  const log = options.log.scope('kubernetes');
  const timing: Timing = { ...DEFAULT_TIMING, ...options.timing };
  const client = options.client ?? createKubeClient(options);
  const closing = new AbortController();
  const synced = Promise.withResolvers<void>();
  synced.promise.catch(() => undefined); // start() passes it on; close() may reject it before anybody asks
  const parts: { readonly reflector: Reflector; readonly known: KnownObjects<KubeObject, Diagnostic, Kind> }[] = [];
  let batch: ChangeBatch | undefined;
  let running: Promise<unknown> = Promise.resolve();
  let state: 'new' | 'starting' | 'synced' | 'closed' = 'new';
  let server = '';

  const onSettled = (): void => {
    if (state !== 'starting' || parts.some(({ reflector }) => !reflector.isSettled)) return;
    batch?.flush(); // the last list's objects, before anybody is told that all are there
    state = 'synced';
    log.info('In step with the API server', { server, problems: problems().length });
    synced.resolve();
  };

  const problems = (): readonly Diagnostic[] => {
    const found: Diagnostic[] = parts.flatMap(({ reflector }) =>
      reflector.problem === undefined ? [] : [reflector.problem],
    );
    let more = 0;
    for (const { known } of parts) {
      for (const problem of known.problems()) {
        if (found.length < MAX_PROBLEMS) found.push(problem);
        else more += 1;
      }
    }
    return more === 0 ? found : [...found, furtherProblems(more)];
  };

  const begin = (sink: ChangeSink): void => {
    const changes = new ChangeBatch(sink);
    batch = changes;
    const discovery = createDiscovery({ client, shareMs: Math.min(5000, timing.probeMs / 4) });
    for (const scope of scopesOf(options)) {
      const { kind } = scope.type;
      const known = new KnownObjects({
        kind,
        read: options.readObject,
        emit: (name, object) => changes.add({ ref: { kind, ...name }, object }),
      });
      const random = options.random ?? Math.random;
      const reflector = new Reflector({ client, discovery, known, log, random, timing, onSettled }, scope);
      parts.push({ reflector, known });
    }
    running = Promise.all(parts.map(({ reflector }) => reflector.run(closing.signal)));
    if (parts.length === 0) onSettled();
  };

  return {
    async start(sink) {
      if (state !== 'new') throw new KubeError('kube.started', 'the source was started before');
      state = 'starting';
      // A configuration that cannot be read is the one thing that no waiting mends.
      ({ server } = await client.open());
      if (closing.signal.aborted) throw closedError();
      begin(sink);
      await synced.promise;
    },
    get status() {
      return {
        name: `kubernetes ${server === '' ? '(not yet known)' : server}`,
        isSynced: state === 'synced',
        problems: problems(),
      };
    },
    get counts() {
      const sum: ReflectorCounts = { lists: 0, watches: 0, events: 0, oversized: 0, malformed: 0 };
      for (const { reflector } of parts) {
        for (const key of Object.keys(sum) as (keyof ReflectorCounts)[]) sum[key] += reflector.counts[key];
      }
      return sum;
    },
    async close() {
      if (state !== 'closed') {
        state = 'closed';
        batch?.close();
        closing.abort();
        synced.reject(closedError());
        if (options.client === undefined) client.close();
      }
      await running;
    },
  };
}

interface KindScope {
  readonly type: ResourceType<Kind>;
  readonly namespace: string | undefined;
}

function scopesOf({ namespaces, kinds }: KubernetesSourceOptions): readonly KindScope[] {
  const types = RESOURCE_TYPES.filter(type => kinds === undefined || kinds.includes(type.kind));
  const named = namespaces === undefined ? undefined : [...new Set(namespaces)];
  return types.flatMap((type): readonly KindScope[] => {
    const isSplit = named !== undefined && (type.isNamespaced || type.kind === 'Namespace');
    return isSplit ? named.map(namespace => ({ type, namespace })) : [{ type, namespace: undefined }];
  });
}

function furtherProblems(count: number): Diagnostic {
  return {
    code: 'config.more_problems',
    severity: 'error',
    message: `${String(count)} more problems are not listed`,
    remedy: 'mend those that are listed',
  };
}

function closedError(): KubeError {
  return new KubeError('kube.closed', 'the source was closed before it was in step with the API server');
}
