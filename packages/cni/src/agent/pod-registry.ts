// All pods of this node, whichever source tells of them (Kubernetes, this machine's registry, a container engine), merged by
// UID: the first source that has a pod speaks for it, and the next takes over when it no longer does.
import type { AgentPod, PodNamespace } from '../pod/agent-pod.ts';
import type { PodSource, RedirectionStatus } from '../sources/pod-source.ts';

export interface RegistryEvents {
  /** The pod is new or other than before. */
  readonly onPod: (pod: AgentPod, before: AgentPod | undefined) => void;
  /** No source has it any more. */
  readonly onPodGone: (pod: AgentPod) => void;
  /** What holds for the pods of this namespace may have changed. */
  readonly onNamespace: (namespace: PodNamespace, before: PodNamespace | undefined) => void;
}

export class PodRegistry {
  readonly #sources: readonly PodSource[];
  /** By UID, in the order of sources. */
  readonly #owners = new Map<string, ReadonlyMap<PodSource, AgentPod>>();
  readonly #waiting = new Set<() => void>();
  #isComplete = false;

  constructor(sources: readonly PodSource[]) {
    this.#sources = sources;
  }

  /** Whether every source has delivered. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Resolves when all sources are complete; events begin with that. @throws what a source throws */
  async start(events: RegistryEvents, signal: AbortSignal): Promise<void> {
    await Promise.all(
      this.#sources.map(async source => {
        await source.start(this.#eventsOf(source, events), signal);
        for (const pod of source.pods()) this.#put(source, pod);
      }),
    );
    this.#isComplete = true;
    this.#changed();
  }

  *pods(): Iterable<AgentPod> {
    for (const owners of this.#owners.values()) {
      for (const pod of owners.values()) {
        yield pod;
        break;
      }
    }
  }

  byUid(uid: string): AgentPod | undefined {
    return this.#owner(uid)?.[1];
  }

  /** By name, which in Kubernetes is one pod at a time. */
  pod(namespace: string, name: string): AgentPod | undefined {
    for (const source of this.#sources) {
      const pod = source.pod(namespace, name);
      if (pod !== undefined) return pod;
    }
    return undefined;
  }

  /** The namespace as the source of that pod knows it. */
  namespaceOf(pod: AgentPod): PodNamespace | undefined {
    const source = this.#owner(pod.uid)?.[0];
    if (source !== undefined) return source.namespace(pod.namespace);
    for (const each of this.#sources) {
      const namespace = each.namespace(pod.namespace);
      if (namespace !== undefined) return namespace;
    }
    return undefined;
  }

  /** Notes it where the pod came from; a pod that is gone is no error. @throws what the source throws */
  async setStatus(uid: string, status: RedirectionStatus): Promise<void> {
    const owner = this.#owner(uid);
    if (owner !== undefined) await owner[0].setStatus(owner[1], status);
  }

  /** Resolves at the next change of anything, and when the signal aborts. */
  async changed(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.add(resolve);
    signal.addEventListener('abort', () => resolve(), { once: true });
    await promise;
    this.#waiting.delete(resolve);
  }

  async close(): Promise<void> {
    await Promise.all(this.#sources.map(async source => source.close()));
  }

  #eventsOf(source: PodSource, events: RegistryEvents) {
    return {
      onPod: (pod: AgentPod) => {
        const before = this.byUid(pod.uid);
        this.#put(source, pod);
        const now = this.byUid(pod.uid);
        if (this.#isComplete && now !== undefined && now !== before) events.onPod(now, before);
        this.#changed();
      },
      onPodGone: (pod: AgentPod) => {
        const owners = new Map(this.#owners.get(pod.uid));
        if (!owners.delete(source)) return;
        if (owners.size > 0) this.#owners.set(pod.uid, owners);
        else this.#owners.delete(pod.uid);
        if (!this.#isComplete) return;
        const now = this.byUid(pod.uid);
        if (now === undefined) events.onPodGone(pod);
        else events.onPod(now, pod);
        this.#changed();
      },
      onNamespace: (namespace: PodNamespace, before: PodNamespace | undefined) => {
        if (this.#isComplete) events.onNamespace(namespace, before);
        this.#changed();
      },
    };
  }

  #put(source: PodSource, pod: AgentPod): void {
    const owners = new Map(this.#owners.get(pod.uid)).set(source, pod);
    const ordered = this.#sources.flatMap(each => {
      const known = owners.get(each);
      return known === undefined ? [] : [[each, known] as const];
    });
    this.#owners.set(pod.uid, new Map(ordered));
  }

  #owner(uid: string): readonly [PodSource, AgentPod] | undefined {
    for (const owner of this.#owners.get(uid) ?? []) return owner;
    return undefined;
  }

  #changed(): void {
    for (const resolve of this.#waiting) resolve();
  }
}
