// Which entries must be translated again: collected while changes come in, resolved once at the end of a batch. The rules
// of who depends on what are all here and in mesh-model.ts; the property test holds them against translating everything.
import { isDeepStrictEqual } from 'node:util';
import type { KubeObject, Labels } from '../objects/types.ts';
import { podsNamedBy } from './endpoint-slice.ts';
import { localityOfNode, sameLocality } from './locality.ts';
import type { Lookup } from './lookup.ts';
import type { AnyEntry, ObjectStore } from './object-store.ts';
import { bindsAlike, type Relations, selectorOf } from './relations.ts';
import { matches } from './selector-index.ts';
import { LABEL } from './well-known.ts';
import { entryLabels } from './workload-entry.ts';

/** Workloads that a selector finds. */
interface Selection {
  readonly selector: Labels;
  /** Policies hold for endpoints of ServiceEntries too, by the labels of those. */
  readonly withServiceEntries: boolean;
}

export class Stale {
  readonly entries = new Set<AnyEntry>();
  readonly #store: ObjectStore;
  readonly #relations: Relations;
  readonly #lookup: Lookup;
  readonly #selections = new Map<string, Selection[]>();
  readonly #everywhere: Selection[] = [];

  constructor(store: ObjectStore, relations: Relations, lookup: Lookup) {
    this.#store = store;
    this.#relations = relations;
    this.#lookup = lookup;
  }

  /** Marks what depends on one object, itself not among it. Waypoints, networks and policies are the model's to settle. */
  dependentsOf(before: KubeObject | undefined, after: KubeObject | undefined): void {
    const object = after ?? before;
    switch (object?.kind) {
      case 'Node':
        this.#node(object.metadata.name, before, after);
        break;
      case 'Namespace':
        this.#namespace(object.metadata.name, before, after);
        break;
      case 'Service':
      case 'ServiceEntry':
        this.#service(before, after);
        break;
      case 'EndpointSlice':
        for (const slice of [before, after]) this.#podsOfSlice(slice);
        break;
      default:
    }
  }

  workloads(): void {
    for (const kind of ['Pod', 'WorkloadEntry', 'ServiceEntry', 'EndpointSlice'] as const) {
      for (const entry of this.#store.all(kind)) this.mark(entry);
    }
  }

  everything(): void {
    this.workloads();
    for (const entry of this.#store.all('Service')) this.mark(entry);
  }

  workloadsIn(namespace: string): void {
    for (const kind of ['Pod', 'WorkloadEntry', 'ServiceEntry'] as const) {
      for (const entry of this.#store.in(kind, namespace)) this.mark(entry);
    }
  }

  waypointUsersIn(namespace: string): void {
    this.workloadsIn(namespace);
    for (const entry of this.#store.in('Service', namespace)) this.mark(entry);
  }

  /** Workloads of one namespace, or of all, that a policy's selector finds. */
  policySelected(namespace: string | undefined, selector: Labels): void {
    this.#select(namespace, { selector, withServiceEntries: true });
  }

  /** Everything that may be an endpoint of a Service or ServiceEntry. */
  endpointsOf(object: KubeObject): void {
    const { namespace, name } = object.metadata;
    const selector = selectorOf(object);
    if (selector !== undefined) this.#select(namespace, { selector, withServiceEntries: false });
    if (object.kind !== 'Service') return;
    for (const slice of this.#relations.slicesOfService.get(`${namespace}/${name}`)) {
      this.mark(slice);
      this.#podsOfSlice(slice.object);
    }
  }

  /** Finds the workloads of all selectors that were noted, each workload looked at once. */
  resolve(): void {
    const namespaces = this.#everywhere.length > 0 ? this.#workloadNamespaces() : this.#selections.keys();
    for (const namespace of namespaces) {
      const selections = [...this.#everywhere, ...(this.#selections.get(namespace) ?? [])];
      for (const entry of this.#store.in('Pod', namespace))
        this.#markSelected(entry, entry.object.metadata.labels, selections);
      for (const entry of this.#store.in('WorkloadEntry', namespace))
        this.#markSelected(entry, entryLabels(entry.object), selections);
      const forEntries = selections.filter(({ withServiceEntries }) => withServiceEntries);
      if (forEntries.length === 0) continue;
      for (const entry of this.#store.in('ServiceEntry', namespace))
        this.#markSelected(entry, entry.object.metadata.labels, forEntries);
    }
  }

  #workloadNamespaces(): Set<string> {
    const namespaces = new Set<string>();
    for (const kind of ['Pod', 'WorkloadEntry', 'ServiceEntry'] as const) {
      for (const namespace of this.#store.namespaces(kind)) namespaces.add(namespace);
    }
    return namespaces;
  }

  #markSelected(entry: AnyEntry, labels: Labels, selections: readonly Selection[]): void {
    if (this.entries.has(entry)) return;
    if (selections.some(({ selector }) => matches(selector, labels))) this.mark(entry);
  }

  #select(namespace: string | undefined, selection: Selection): void {
    if (namespace === undefined) {
      this.#everywhere.push(selection);
      return;
    }
    const noted = this.#selections.get(namespace);
    if (noted === undefined) this.#selections.set(namespace, [selection]);
    else noted.push(selection);
  }

  #node(name: string, before: KubeObject | undefined, after: KubeObject | undefined): void {
    const old = localityOfNode(before?.kind === 'Node' ? before : undefined);
    const current = localityOfNode(after?.kind === 'Node' ? after : undefined);
    if (sameLocality(old, current)) return;
    for (const pod of this.#relations.podsOfNode.get(name)) this.mark(pod);
  }

  /** Labels decide about waypoints, annotations about load balancing. */
  #namespace(name: string, before: KubeObject | undefined, after: KubeObject | undefined): void {
    const parts = (object: KubeObject | undefined): unknown =>
      object && [object.metadata.labels, object.metadata.annotations];
    if (!isDeepStrictEqual(parts(before), parts(after))) this.waypointUsersIn(name);
  }

  #service(before: KubeObject | undefined, after: KubeObject | undefined): void {
    // Its waypoint's policy is on its endpoints too, so then anything about it may matter to them.
    const isAlike = before !== undefined && after !== undefined && bindsAlike(before, after);
    if (isAlike && !this.#lookup.settings.autoAllowWaypoints) return;
    for (const object of [before, after]) if (object !== undefined) this.endpointsOf(object);
  }

  /** Pods named by a slice. Those that its Service selects by itself do not care what the slice says. */
  #podsOfSlice(slice: KubeObject | undefined): void {
    if (slice?.kind !== 'EndpointSlice') return;
    const { namespace, labels } = slice.metadata;
    const service = this.#lookup.service(namespace, labels[LABEL.serviceName] ?? '');
    const selector = service && selectorOf(service);
    for (const target of podsNamedBy(slice)) {
      const pod = this.#store.get('Pod', target.namespace, target.name);
      if (pod === undefined || pod.object.metadata.uid !== target.uid) continue;
      const isSelected =
        selector !== undefined && target.namespace === namespace && matches(selector, pod.object.metadata.labels);
      if (!isSelected) this.mark(pod);
    }
  }

  mark(entry: AnyEntry): void {
    this.entries.add(entry);
  }
}
