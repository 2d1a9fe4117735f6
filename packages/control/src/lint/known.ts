// The objects of an input as the checks ask about them. What is absent from an input may exist elsewhere: people check one
// file of many. So a reference counts as dangling only among kinds of which the input has at least one object.
import { hasEnded } from '../model/pod-workload.ts';
import { matches } from '../model/selector-index.ts';
import { ANNOTATION, LABEL } from '../model/well-known.ts';
import type {
  Kind,
  KubeObject,
  Labels,
  ObjectOf,
  PodObject,
  ServiceObject,
  WorkloadEntryObject,
} from '../objects/types.ts';
import type { MeshSettings } from '../settings.ts';

export type WorkloadObject = PodObject | WorkloadEntryObject;

export class Known {
  readonly settings: MeshSettings;
  readonly #byKind = new Map<Kind, KubeObject[]>();
  readonly #names = new Set<string>();
  readonly #namespaces = new Map<string, ObjectOf<'Namespace'>>();
  readonly #selections = new Map<string, readonly WorkloadObject[]>();
  readonly #services = new Map<string, ServiceObject[]>();
  readonly #outsiders = new Map<string, readonly WorkloadObject[]>();
  readonly #workloads = new Map<string, WorkloadObject[]>();

  constructor(objects: Iterable<KubeObject>, settings: MeshSettings) {
    this.settings = settings;
    for (const object of objects) {
      const { namespace, name } = object.metadata;
      addTo(this.#byKind, object.kind, object);
      this.#names.add(`${object.kind}/${namespace}/${name}`);
      if (object.kind === 'Service') addTo(this.#services, namespace, object);
      if (object.kind === 'Namespace') this.#namespaces.set(name, object);
      if (object.kind === 'WorkloadEntry' || (object.kind === 'Pod' && !hasEnded(object))) {
        addTo(this.#workloads, namespace, object);
      }
    }
  }

  all<K extends Kind>(kind: K): readonly ObjectOf<K>[] {
    // Kept by their kind.
    return (this.#byKind.get(kind) ?? []) as unknown as readonly ObjectOf<K>[];
  }

  *everything(): Iterable<KubeObject> {
    for (const objects of this.#byKind.values()) yield* objects;
  }

  /** Whether a reference to the object points to nothing, as far as the input can tell. */
  lacks(kind: Kind, namespace: string, name: string): boolean {
    return this.#byKind.has(kind) && !this.#names.has(`${kind}/${namespace}/${name}`);
  }

  /** `default` comes with each namespace. An account that something runs as exists, whatever else is known. */
  lacksAccount(namespace: string, name: string): boolean {
    if (name === 'default' || !this.lacks('ServiceAccount', namespace, name)) return false;
    return !this.workloads(namespace).some(workload => accountOf(workload) === name);
  }

  namespace(name: string): ObjectOf<'Namespace'> | undefined {
    return this.#namespaces.get(name);
  }

  get knowsWorkloads(): boolean {
    return this.#workloads.size > 0;
  }

  /** Pods that have not ended, and WorkloadEntries. */
  workloads(namespace: string): readonly WorkloadObject[] {
    return this.#workloads.get(namespace) ?? [];
  }

  services(namespace: string): readonly ServiceObject[] {
    return this.#services.get(namespace) ?? [];
  }

  /** @param namespace undefined: of all */
  select(namespace: string | undefined, selector: Labels): readonly WorkloadObject[] {
    // Policies and services share selectors, and every policy asks about services.
    const key = `${namespace ?? ''}\0${JSON.stringify(selector)}`;
    const known = this.#selections.get(key);
    if (known !== undefined) return known;
    const candidates = namespace === undefined ? [...this.#workloads.values()].flat() : this.workloads(namespace);
    const chosen = candidates.filter(workload => matches(selector, labelsOf(workload)));
    this.#selections.set(key, chosen);
    return chosen;
  }

  /** Whether a ztunnel serves it, now or as soon as its node agent gets to it. */
  isMember(workload: WorkloadObject): boolean {
    return isCaptured(workload) || this.isToBeCaptured(workload);
  }

  /** Members have one, and so have pods with a sidecar. */
  #hasIdentity(workload: WorkloadObject): boolean {
    return this.isMember(workload) || hasSidecar(workload);
  }

  /** Workloads of the namespace that cannot prove who they are. */
  outsiders(namespace: string): readonly WorkloadObject[] {
    const known = this.#outsiders.get(namespace);
    if (known !== undefined) return known;
    const found = this.workloads(namespace).filter(workload => !this.#hasIdentity(workload));
    this.#outsiders.set(namespace, found);
    return found;
  }

  /** What `istio.io/dataplane-mode` says, of the pod or its namespace. */
  isToBeCaptured(workload: WorkloadObject): boolean {
    if (workload.kind !== 'Pod' || workload.spec.hostNetwork) return false;
    const { labels, namespace } = workload.metadata;
    if (hasSidecar(workload) || labels[LABEL.gatewayName] !== undefined) return false;
    const mode = labels[DATAPLANE_MODE] ?? this.namespace(namespace)?.metadata.labels[DATAPLANE_MODE];
    return mode === 'ambient';
  }
}

export const DATAPLANE_MODE = 'istio.io/dataplane-mode';

/** What the translation goes by. */
export function isCaptured(workload: WorkloadObject): boolean {
  const { annotations } = workload.metadata;
  const tunnels = (labelsOf(workload)[LABEL.tunnel] ?? '').split(',');
  return tunnels.includes('http') || annotations[ANNOTATION.redirection] === 'enabled';
}

function hasSidecar({ metadata }: WorkloadObject): boolean {
  return metadata.annotations['sidecar.istio.io/status'] !== undefined;
}

export function labelsOf(workload: WorkloadObject): Labels {
  const { labels } = workload.metadata;
  return workload.kind === 'Pod' ? labels : { ...labels, ...workload.spec.labels };
}

export function accountOf({ kind, spec }: WorkloadObject): string {
  return kind === 'Pod' ? spec.serviceAccountName : spec.serviceAccount;
}

function addTo<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}
