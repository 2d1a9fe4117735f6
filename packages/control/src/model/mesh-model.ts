// The mesh as ztunnels see it, kept up to date: objects in, resources out. After any sequence of changes the resources are
// those that a new model makes of the final objects; a change costs what depends on it, not the size of the mesh.
// It does no I/O, has no clock, and never throws on an object that the reader let through.
import type { Diagnostic } from '../diagnostic.ts';
import { formatRef, type KubeObject, type ObjectChange, type ObjectRef } from '../objects/types.ts';
import { isOurs } from './ours.ts';
import { peerAuthenticationDiagnostics, peerAuthenticationPolicies, policyResources } from '../policies/index.ts';
import type { MeshSettings } from '../settings.ts';
import { authorizationResource, type Translation } from './draft.ts';
import { Gateways } from './gateways.ts';
import { listedSelector, Lookup } from './lookup.ts';
import { type AnyEntry, ObjectStore } from './object-store.ts';
import { hasEnded } from './pod-workload.ts';
import { Relations } from './relations.ts';
import type { PodDirectory, ResourceDelta, XdsResource } from './resource.ts';
import { ResourceTable } from './resource-table.ts';
import { Stale } from './stale.ts';
import { translate } from './translate.ts';

export interface ModelCounts {
  readonly objects: number;
  /** Workloads and services together. */
  readonly addresses: number;
  readonly authorizations: number;
  /** Translations of one object since the start: a measure of how local changes stay. */
  readonly translations: number;
}

const NOTHING: readonly never[] = [];

export class MeshModel implements PodDirectory {
  readonly #settings: MeshSettings;
  readonly #store = new ObjectStore();
  readonly #relations: Relations;
  readonly #lookup: Lookup;
  readonly #gateways: Gateways;
  readonly #addresses = new ResourceTable();
  readonly #authorizations = new ResourceTable();
  /** Resources that come from several objects together: network gateways, converted PeerAuthentications. */
  #shared: { gateways: readonly XdsResource[]; peerAuthentications: readonly XdsResource[] };
  #peerAuthenticationFindings: readonly Diagnostic[] = NOTHING;
  #translations = 0;

  constructor(settings: MeshSettings) {
    this.#settings = settings;
    this.#relations = new Relations(settings);
    this.#lookup = new Lookup(settings, this.#store, this.#relations);
    this.#gateways = new Gateways(this.#store, this.#relations, this.#lookup);
    this.#shared = { gateways: NOTHING, peerAuthentications: NOTHING };
    this.#lookup.network = settings.network ?? '';
  }

  get counts(): ModelCounts {
    return {
      objects: this.#store.size,
      addresses: this.#addresses.size,
      authorizations: this.#authorizations.size,
      translations: this.#translations,
    };
  }

  /** Takes changes in; returns which resources are different for it. Several changes of one object are fine. */
  apply(changes: readonly ObjectChange[]): ResourceDelta {
    const stale = new Stale(this.#store, this.#relations, this.#lookup);
    let hasPeerAuthenticationChange = false;
    for (const { ref, object } of changes) {
      const after = object !== undefined && isOurs(object, this.#settings) ? object : undefined;
      const before = this.#take(ref, after, stale);
      if (before === undefined && after === undefined) continue;
      stale.dependentsOf(before, after);
      this.#gateways.note(before, after);
      if (ref.kind === 'AuthorizationPolicy') this.#relist(before, after, stale);
      if (ref.kind === 'PeerAuthentication') {
        hasPeerAuthenticationChange = true;
        for (const one of [before, after]) this.#markPeers(one, stale);
      }
    }
    this.#settle(stale);
    if (hasPeerAuthenticationChange) this.#convertPeerAuthentications();
    this.#translateAll(stale);
    return { addresses: this.#addresses.delta(), authorizations: this.#authorizations.delta() };
  }

  address(name: string): XdsResource | undefined {
    return this.#addresses.get(name);
  }

  authorization(name: string): XdsResource | undefined {
    return this.#authorizations.get(name);
  }

  addresses(): Iterable<XdsResource> {
    return this.#addresses.values();
  }

  authorizations(): Iterable<XdsResource> {
    return this.#authorizations.values();
  }

  object(ref: ObjectRef): KubeObject | undefined {
    return this.#store.object(ref);
  }

  /** What there is to say about all objects now, in a stable order. */
  diagnostics(): readonly Diagnostic[] {
    const found = [...this.#peerAuthenticationFindings];
    for (const entry of this.#store.entries()) found.push(...entry.diagnostics);
    return found.sort((a, b) => compare(sortKey(a), sortKey(b)));
  }

  hasIdentityOnNode(node: string, namespace: string, serviceAccount: string): boolean {
    for (const { object } of this.#relations.podsOfNode.get(node)) {
      if (object.metadata.namespace !== namespace || hasEnded(object)) continue;
      if (object.spec.serviceAccountName === serviceAccount) return true;
    }
    return false;
  }

  pod(
    namespace: string,
    name: string,
  ): { readonly uid: string; readonly node: string; readonly serviceAccount: string } | undefined {
    const pod = this.#store.get('Pod', namespace, name)?.object;
    return pod && { uid: pod.metadata.uid, node: pod.spec.nodeName, serviceAccount: pod.spec.serviceAccountName };
  }

  /** Stores the new state; returns the old one. What a vanished object had made is taken back here. */
  #take(ref: ObjectRef, after: KubeObject | undefined, stale: Stale): KubeObject | undefined {
    const existing = this.#store.entry(ref);
    const before = existing?.object;
    if (after === undefined) {
      if (existing === undefined) return undefined;
      this.#relations.replace(existing, before, undefined);
      this.#store.remove(ref);
      stale.entries.delete(existing);
      this.#takeBack(existing.resources);
      return before;
    }
    const entry = existing ?? this.#store.add(after);
    this.#store.assign(entry, after);
    this.#relations.replace(entry, before, after);
    stale.mark(entry);
    return before;
  }

  /** Derived facts that many share: decided once a batch, and only what really changed spreads. */
  #settle(stale: Stale): void {
    const { hasChangedNetworkGateways, resources } = this.#gateways.settle(stale);
    for (const { claim, survivalChanged } of this.#relations.hosts.settle()) {
      stale.mark(claim.entry);
      if (survivalChanged) stale.endpointsOf(claim.entry.object);
    }
    for (const key of this.#relations.pool.settle()) {
      const slash = key.indexOf('/');
      for (const claim of this.#relations.hosts.claimsOf(key.slice(slash + 1), key.slice(0, slash)))
        stale.mark(claim.entry);
    }
    if (hasChangedNetworkGateways) {
      this.#takeBack(this.#shared.gateways);
      this.#shared.gateways = resources;
      this.#put(resources);
    }
    stale.resolve();
  }

  /** A policy that workloads list: its key is on them, so they change when it comes, goes, or selects others. */
  #relist(before: KubeObject | undefined, after: KubeObject | undefined, stale: Stale): void {
    const [old, current] = [before, after].map(object => {
      if (object?.kind !== 'AuthorizationPolicy') return undefined;
      return listedSelector(policyResources(object, this.#settings).authorization, object.spec.selector);
    });
    const metadata = (after ?? before)?.metadata;
    if (metadata === undefined) return;
    const { namespace } = metadata;
    const key = `${namespace}/${metadata.name}`;
    if (old !== undefined) this.#lookup.unlistPolicy(namespace, key, old);
    if (current !== undefined) this.#lookup.listPolicy(namespace, key, current);
    if (JSON.stringify(old) === JSON.stringify(current)) return;
    const reach = namespace === this.#settings.rootNamespace ? undefined : namespace;
    for (const selector of [old, current]) if (selector !== undefined) stale.policySelected(reach, selector);
  }

  #markPeers(object: KubeObject | undefined, stale: Stale): void {
    if (object?.kind !== 'PeerAuthentication') return;
    const { namespace } = object.metadata;
    const { selector } = object.spec;
    const isRoot = namespace === this.#settings.rootNamespace;
    if (selector !== undefined && Object.keys(selector).length > 0) stale.policySelected(namespace, selector);
    else if (isRoot) stale.workloads();
    else stale.workloadsIn(namespace);
  }

  #convertPeerAuthentications(): void {
    this.#lookup.forgetPeerAuthentications();
    const all = [...this.#store.all('PeerAuthentication')].map(({ object }) => object);
    this.#takeBack(this.#shared.peerAuthentications);
    this.#shared.peerAuthentications = peerAuthenticationPolicies(all, this.#settings).map(({ authorization }) =>
      authorizationResource(authorization),
    );
    this.#put(this.#shared.peerAuthentications);
    this.#peerAuthenticationFindings = peerAuthenticationDiagnostics(all, this.#settings);
  }

  #translateAll(stale: Stale): void {
    const translations: (readonly [AnyEntry, Translation])[] = [];
    for (const entry of stale.entries) {
      const translation = translate(entry.object, this.#lookup);
      if (translation === undefined) continue;
      this.#translations++;
      translations.push([entry, translation]);
    }
    for (const [entry] of translations) this.#takeBack(entry.resources);
    for (const [entry, { resources, diagnostics }] of translations) {
      entry.resources = resources;
      entry.diagnostics = diagnostics;
      this.#put(resources);
    }
  }

  #takeBack(resources: readonly XdsResource[]): void {
    for (const resource of resources) this.#tableOf(resource).takeBack(resource);
  }

  #put(resources: readonly XdsResource[]): void {
    for (const resource of resources) this.#tableOf(resource).put(resource);
  }

  #tableOf({ kind }: XdsResource): ResourceTable {
    return kind === 'authorization' ? this.#authorizations : this.#addresses;
  }
}

function sortKey({ ref, code, path, message }: Diagnostic): string {
  return `${ref === undefined ? '' : formatRef(ref)}\0${path ?? ''}\0${code}\0${message}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
