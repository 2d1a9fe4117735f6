// Pods of this node and all namespaces, from a Kubernetes API server. What was seen last stays in force while the server is
// away. A list that is forbidden is not taken for an empty one: `start` waits until it is allowed, since whoever has no pods
// un-enrols the node's.
import { isDeepStrictEqual } from 'node:util';
import {
  createDiscovery,
  createKubeClient,
  DEFAULT_TIMING,
  KnownObjects,
  type KubeAccess,
  type KubeClient,
  type KubeProblem,
  type ObjectName,
  type ObjectSink,
  Reflector,
  type ReflectorCounts,
  type ResourceType,
  type Timing,
} from '@ambit/kube';
import type { Log } from '@ambit/log';
import { CniError } from '../errors.ts';
import { type AgentPod, podName, type PodNamespace } from '../pod/agent-pod.ts';
import { type DaemonSetName, type DaemonSetState, lookUpDaemonSet } from './kubernetes-daemon-set.ts';
import { KubernetesEvents } from './kubernetes-events.ts';
import { kubernetesError } from './kubernetes-error.ts';
import { readKubernetesNamespace, readKubernetesPod } from './kubernetes-objects.ts';
import { noteStatus } from './kubernetes-status.ts';
import type { PodEventSink } from './pod-events.ts';
import type { PodSource, PodSourceEvents, RedirectionStatus } from './pod-source.ts';

export interface KubernetesPodSourceOptions extends KubeAccess {
  /** Use these connections, which the caller closes; else own ones are made from the access options. */
  readonly client?: KubeClient | undefined;
  /** Of this node, as in pods' `spec.nodeName`. */
  readonly nodeName: string;
  readonly log: Log;
  readonly timing?: Partial<Timing> | undefined;
  /** In [0, 1), for jitter. */
  readonly random?: (() => number) | undefined;
}

export interface KubernetesPodSource extends PodSource {
  /** What keeps it from being in step with the server now. */
  readonly problems: () => readonly KubeProblem[];
  /** Pods', then namespaces'. */
  readonly counts: () => readonly Readonly<ReflectorCounts>[];
  /** Says something on pods of this source; of others it says nothing. */
  readonly podEvents: PodEventSink;
  /** For the decision whether to clean up. @throws CniError cni.kubernetes */
  readonly daemonSet: (name: DaemonSetName, signal?: AbortSignal) => Promise<DaemonSetState>;
}

/**
 * A page is held in memory as a whole, and what that took is not given back: pages are of some 200 KB. Pods are 10 KB each,
 * more than 250 on a node are rare.
 */
const PODS_IN_PAGE = 20;
const NAMESPACES_IN_PAGE = 200;

export function createKubernetesPodSource(options: KubernetesPodSourceOptions): KubernetesPodSource {
  const log = options.log.scope('kubernetes');
  const client = options.client ?? createKubeClient(options, { userAgent: 'ambit-agent' });
  const timing: Timing = { ...DEFAULT_TIMING, ...options.timing };
  const random = options.random ?? Math.random;
  const pods = new Map<string, AgentPod>();
  const namespaces = new Map<string, PodNamespace>();
  const closing = new AbortController();
  const podEvents = new KubernetesEvents(
    {
      client,
      log,
      isKnown: ({ namespace, name, uid }) => pods.get(podName({ namespace, name }))?.uid === uid,
      nowMs: Date.now,
    },
    { nodeName: options.nodeName },
  );
  let reflectors: readonly Reflector[] = [];
  let running: Promise<unknown> = Promise.resolve();
  let isStarted = false;
  /** Undefined until `start` has resolved. */
  let told: PodSourceEvents | undefined;

  const putPod = (name: ObjectName, pod: AgentPod | undefined): void => {
    const key = podName(name);
    const before = pods.get(key);
    if (before !== undefined && pod !== undefined && isDeepStrictEqual(before, pod)) return;
    if (pod === undefined) pods.delete(key);
    else pods.set(key, pod);
    // One that was replaced under its name while nobody looked is another pod.
    const isSame = before?.uid === pod?.uid;
    if (before !== undefined && !isSame) told?.onPodGone(before);
    if (pod !== undefined) told?.onPod(pod, isSame ? before : undefined);
  };

  const putNamespace = ({ name }: ObjectName, namespace: PodNamespace | undefined): void => {
    const before = namespaces.get(name);
    if (namespace === undefined) {
      namespaces.delete(name);
      return;
    }
    if (before !== undefined && isDeepStrictEqual(before, namespace)) return;
    namespaces.set(name, namespace);
    told?.onNamespace(namespace, before);
  };

  const follow = (type: ResourceType, known: ObjectSink, pageSize: number): Promise<void> => {
    const listed = Promise.withResolvers<void>();
    const discovery = createDiscovery({ client, shareMs: 1000 });
    const reflector = new Reflector(
      {
        client,
        discovery,
        known,
        log,
        random,
        timing: { ...timing, pageSize },
        onSettled: () => undefined,
        onListed: listed.resolve,
      },
      { type, namespace: undefined },
    );
    reflectors = [...reflectors, reflector];
    running = Promise.all([running, reflector.run(closing.signal)]);
    return listed.promise;
  };

  const followAll = async (): Promise<void> => {
    const knownPods = new KnownObjects({ kind: 'Pod', read: readKubernetesPod, emit: putPod });
    const knownNamespaces = new KnownObjects({ kind: 'Namespace', read: readKubernetesNamespace, emit: putNamespace });
    await Promise.all([
      follow(podsOf(options.nodeName), knownPods, Math.min(timing.pageSize, PODS_IN_PAGE)),
      follow(NAMESPACES, knownNamespaces, Math.min(timing.pageSize, NAMESPACES_IN_PAGE)),
    ]);
  };

  const close = async (): Promise<void> => {
    closing.abort();
    told = undefined;
    await podEvents.close();
    if (options.client === undefined) client.close();
    await running;
  };

  return {
    async start(events, signal) {
      if (isStarted) throw new CniError('cni.kubernetes', 'the source was started before');
      isStarted = true;
      const aborted = Promise.withResolvers<never>();
      aborted.promise.catch(() => undefined);
      const giveUp = (): void => {
        aborted.reject(new CniError('cni.kubernetes', 'the source was closed before it knew all pods of this node'));
      };
      const either = AbortSignal.any([signal, closing.signal]);
      either.addEventListener('abort', giveUp, { once: true });
      if (either.aborted) giveUp();
      try {
        // A configuration that cannot be read is the one thing that no waiting mends.
        const { server } = await Promise.race([client.open(), aborted.promise]);
        await Promise.race([followAll(), aborted.promise]);
        told = events;
        log.info('In step with the API server', { server, pods: pods.size, namespaces: namespaces.size });
      } catch (error) {
        await close();
        throw kubernetesError('cannot follow the API server', error);
      } finally {
        either.removeEventListener('abort', giveUp);
      }
    },
    pods: () => pods.values(),
    pod: (namespace, name) => pods.get(podName({ namespace, name })),
    namespace: name => namespaces.get(name),
    async setStatus(pod: AgentPod, status: RedirectionStatus) {
      await noteStatus(client, pod, status, closing.signal);
    },
    podEvents,
    problems: () => reflectors.flatMap(({ problem }) => problem ?? []),
    counts: () => reflectors.map(({ counts }) => counts),
    daemonSet: async (name, signal) => await lookUpDaemonSet(client, name, options.nodeName, signal),
    close,
  };
}

const NAMESPACES: ResourceType = {
  kind: 'Namespace',
  group: '',
  versions: ['v1'],
  plural: 'namespaces',
  isNamespaced: false,
  isMetadataOnly: true,
};

/** Finished ones too: that a pod has finished is how its removal begins. */
function podsOf(nodeName: string): ResourceType {
  return {
    kind: 'Pod',
    group: '',
    versions: ['v1'],
    plural: 'pods',
    isNamespaced: true,
    fieldSelector: `spec.nodeName=${nodeName}`,
  };
}
