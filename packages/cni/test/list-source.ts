// A source of pods that a test changes as it likes, and that remembers what status was noted on them.
import type { AgentPod, PodNamespace } from '../src/pod/agent-pod.ts';
import {
  type PodSource,
  type PodSourceEvents,
  REDIRECTION_ANNOTATION,
  type RedirectionStatus,
} from '../src/sources/pod-source.ts';

const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' };

export class ListSource implements PodSource {
  readonly #pods = new Map<string, AgentPod>();
  readonly #namespaces = new Map<string, PodNamespace>();
  /** Every status in order, `name status`. */
  readonly statuses: string[] = [];
  #events: PodSourceEvents | undefined;

  start(events: PodSourceEvents): Promise<void> {
    this.#events = events;
    return Promise.resolve();
  }

  pods(): Iterable<AgentPod> {
    return this.#pods.values();
  }

  pod(namespace: string, name: string): AgentPod | undefined {
    return [...this.#pods.values()].find(pod => pod.namespace === namespace && pod.name === name);
  }

  namespace(name: string): PodNamespace | undefined {
    return this.#namespaces.get(name);
  }

  setStatus(pod: AgentPod, status: RedirectionStatus): Promise<void> {
    this.statuses.push(`${pod.name} ${status}`);
    const now = this.#pods.get(pod.uid);
    if (now === undefined) return Promise.resolve();
    const { [REDIRECTION_ANNOTATION]: _old, ...annotations } = now.annotations;
    this.put({
      ...now,
      annotations: status === undefined ? annotations : { ...annotations, [REDIRECTION_ANNOTATION]: status },
    });
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#events = undefined;
    return Promise.resolve();
  }

  label(name: string, isAmbient: boolean, annotations: PodNamespace['annotations'] = {}): void {
    const before = this.#namespaces.get(name);
    const namespace = { name, labels: isAmbient ? AMBIENT : {}, annotations };
    this.#namespaces.set(name, namespace);
    this.#events?.onNamespace(namespace, before);
  }

  put(pod: AgentPod): void {
    const before = this.#pods.get(pod.uid);
    this.#pods.set(pod.uid, pod);
    this.#events?.onPod(pod, before);
  }

  drop(uid: string): void {
    const pod = this.#pods.get(uid);
    this.#pods.delete(uid);
    if (pod !== undefined) this.#events?.onPodGone(pod);
  }

  status(uid: string): string | undefined {
    return this.#pods.get(uid)?.annotations[REDIRECTION_ANNOTATION];
  }
}

/** A running pod of namespace `shop`. */
export function somePod(uid: string, ips: readonly string[], netnsPath?: string): AgentPod {
  return {
    uid,
    name: uid,
    namespace: 'shop',
    serviceAccount: 'default',
    labels: {},
    annotations: {},
    hostNetwork: false,
    ips,
    phase: 'Running',
    netnsPath,
  };
}
