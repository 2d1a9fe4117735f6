// Support for tests of the xDS server: resources to serve, requests to make, and a client's memory of what it was sent.
import type { DeltaRequest } from '@ambit/wire/grpc-server';
import type { ResourceDelta, XdsResource } from '../model/resource.ts';
import type { SessionResponse } from './session.ts';
import { type ResourceType, XdsStore } from './store.ts';

export function makeWorkload(
  name: string,
  version: string,
  more: { readonly ips?: readonly string[]; readonly services?: readonly string[]; readonly node?: string } = {},
): XdsResource {
  const { ips = [], services = [], node = '' } = more;
  const value = Buffer.from(`${name} ${version}`);
  return { kind: 'workload', name, version, aliases: ips.map(ip => `/${ip}`), value, services, node };
}

export function makeService(name: string, version: string, vips: readonly string[] = []): XdsResource {
  const value = Buffer.from(`${name} ${version}`);
  return { kind: 'service', name, version, aliases: vips.map(ip => `/${ip}`), value, services: [], node: '' };
}

export function makePolicy(name: string, version: string): XdsResource {
  const value = Buffer.from(`${name} ${version}`);
  return { kind: 'authorization', name, version, aliases: [], value, services: [], node: '' };
}

/** Upserts of resources, and removals by name. */
export function delta(
  resources: readonly XdsResource[],
  removed: { readonly addresses?: readonly string[]; readonly authorizations?: readonly string[] } = {},
): ResourceDelta {
  const gone = (names: readonly string[] = []) => names.map(name => [name, undefined] as const);
  const ofKind = (isPolicy: boolean) =>
    resources.filter(({ kind }) => (kind === 'authorization') === isPolicy).map(found => [found.name, found] as const);
  return {
    addresses: new Map([...ofKind(false), ...gone(removed.addresses)]),
    authorizations: new Map([...ofKind(true), ...gone(removed.authorizations)]),
  };
}

export function storeOf(...resources: readonly XdsResource[]): XdsStore {
  const store = new XdsStore();
  store.apply(delta(resources));
  return store;
}

export function makeRequest(typeUrl: string, more: Partial<DeltaRequest> = {}): DeltaRequest {
  return {
    $typeName: 'envoy.service.discovery.v3.DeltaDiscoveryRequest',
    typeUrl,
    resourceNamesSubscribe: [],
    resourceNamesUnsubscribe: [],
    initialResourceVersions: {},
    responseNonce: '',
    ...more,
  };
}

/** What a client holds of one type: applies responses as ztunnel does, and notes what it was sent twice. */
export class Holdings {
  readonly versions = new Map<string, string>();
  /** Names sent at the version already held. */
  readonly repeated: string[] = [];

  apply(response: SessionResponse, store: XdsStore, type: ResourceType): void {
    const resources = response.resources === 'everything' ? store.resources(type).values() : response.resources;
    for (const { name, version } of resources) {
      if (this.versions.get(name) === version) this.repeated.push(name);
      this.versions.set(name, version);
    }
    for (const name of response.removed) this.versions.delete(name);
  }
}
