// What Gateways, their classes, their pods and the root namespace decide for many others: waypoints, this cluster's
// network, and the gateways of other networks. Noted while changes come in, decided once a batch; only a difference in
// the outcome spreads to those who use it.
import { isDeepStrictEqual } from 'node:util';
import type { KubeObject } from '../objects/types.ts';
import { formatGatewayAddress } from './gateway-address.ts';
import type { Lookup } from './lookup.ts';
import {
  gatewayAddressOf,
  localNetwork,
  networkGatewayResource,
  networkGatewaysOf,
  orderedGateways,
} from './networks.ts';
import type { NetworkGateway } from './networks.ts';
import type { ObjectStore } from './object-store.ts';
import type { Relations } from './relations.ts';
import type { XdsResource } from './resource.ts';
import type { Stale } from './stale.ts';
import { inboundBinding, type InboundBinding, type Waypoint, waypointOf } from './waypoint.ts';
import { LABEL } from './well-known.ts';
import { wireTrustDomain } from './workload-parts.ts';

export interface SettledGateways {
  readonly hasChangedNetworkGateways: boolean;
  /** The network gateways as workloads; meaningful when they changed. */
  readonly resources: readonly XdsResource[];
}

interface State {
  readonly waypoint: Waypoint | undefined;
  readonly binding: InboundBinding | undefined;
}

export class Gateways {
  readonly #store: ObjectStore;
  readonly #relations: Relations;
  readonly #lookup: Lookup;
  /** `namespace/name` of the Gateways to look at again. */
  readonly #noted = new Set<string>();
  readonly #states = new Map<string, State>();
  #all: readonly NetworkGateway[] = [];
  #mayHaveNetworkGateways = false;
  #isRootNoted = false;

  constructor(store: ObjectStore, relations: Relations, lookup: Lookup) {
    this.#store = store;
    this.#relations = relations;
    this.#lookup = lookup;
  }

  note(before: KubeObject | undefined, after: KubeObject | undefined): void {
    for (const object of [before, after]) {
      if (object === undefined) continue;
      const { namespace, name, labels } = object.metadata;
      switch (object.kind) {
        case 'Gateway':
          this.#noted.add(`${namespace}/${name}`);
          this.#mayHaveNetworkGateways ||= networkGatewaysOf(object).length > 0;
          break;
        case 'GatewayClass':
          for (const { object: gateway } of this.#relations.gatewaysOfClass.get(name)) {
            this.#noted.add(`${gateway.metadata.namespace}/${gateway.metadata.name}`);
          }
          break;
        case 'Pod':
          // Only the policies that let a waypoint through name its accounts.
          if (this.#lookup.settings.autoAllowWaypoints && labels[LABEL.gatewayName] !== undefined) {
            this.#noted.add(`${namespace}/${labels[LABEL.gatewayName]}`);
          }
          break;
        case 'Namespace':
          this.#isRootNoted ||= name === this.#lookup.settings.rootNamespace;
          break;
        default:
      }
    }
  }

  settle(stale: Stale): SettledGateways {
    this.#settleNetwork(stale);
    for (const key of this.#noted) this.#settleWaypoint(key, stale);
    this.#noted.clear();
    return this.#settleNetworkGateways(stale);
  }

  #settleNetwork(stale: Stale): void {
    if (!this.#isRootNoted) return;
    this.#isRootNoted = false;
    const { settings } = this.#lookup;
    const network = localNetwork(settings, this.#lookup.namespace(settings.rootNamespace));
    if (network === this.#lookup.network) return;
    this.#lookup.network = network;
    for (const key of this.#states.keys()) this.#noted.add(key);
    stale.everything();
  }

  #settleWaypoint(key: string, stale: Stale): void {
    const slash = key.indexOf('/');
    const entry = this.#store.get('Gateway', key.slice(0, slash), key.slice(slash + 1));
    const state = this.#stateOf(entry?.object);
    if (isDeepStrictEqual(state, this.#states.get(key))) return;
    if (state === undefined) this.#states.delete(key);
    else this.#states.set(key, state);
    if (state?.waypoint === undefined) this.#lookup.waypoints.delete(key);
    else this.#lookup.waypoints.set(key, state.waypoint);
    if (entry !== undefined) stale.mark(entry);
    this.#markUsers(key, stale);
  }

  #stateOf(gateway: KubeObject | undefined): State | undefined {
    if (gateway?.kind !== 'Gateway') return undefined;
    const gatewayClass = this.#store.get('GatewayClass', '', gateway.spec.gatewayClassName)?.object;
    const { namespace, name } = gateway.metadata;
    const accounts = this.#serviceAccounts(`${namespace}/${name}`);
    return {
      waypoint: waypointOf(gateway, gatewayClass, this.#lookup.network, accounts),
      binding: inboundBinding(gateway, gatewayClass),
    };
  }

  #serviceAccounts(key: string): readonly string[] {
    if (!this.#lookup.settings.autoAllowWaypoints) return [];
    // One for each pod, so several pods say the same account several times, as upstream has it.
    const accounts: string[] = [];
    for (const { object } of this.#relations.usersOfGateway.get(key)) {
      if (object.kind !== 'Pod') continue;
      const { namespace, labels } = object.metadata;
      if (`${namespace}/${labels[LABEL.gatewayName] ?? ''}` === key) accounts.push(object.spec.serviceAccountName);
    }
    return accounts.sort();
  }

  #markUsers(key: string, stale: Stale): void {
    for (const user of this.#relations.usersOfGateway.get(key)) {
      stale.mark(user);
      if (this.#lookup.settings.autoAllowWaypoints) stale.endpointsOf(user.object);
    }
    for (const namespace of this.#relations.namespacesOfGateway.get(key)) stale.waypointUsersIn(namespace);
  }

  #settleNetworkGateways(stale: Stale): SettledGateways {
    if (!this.#mayHaveNetworkGateways) return { hasChangedNetworkGateways: false, resources: [] };
    const all = orderedGateways([...this.#store.all('Gateway')].flatMap(({ object }) => networkGatewaysOf(object)));
    if (isDeepStrictEqual(all, this.#all)) return { hasChangedNetworkGateways: false, resources: [] };
    this.#all = all;
    this.#mayHaveNetworkGateways = all.length > 0;
    const addresses = new Map(all.toReversed().map(gateway => [gateway.network, gatewayAddressOf(gateway)]));
    const format = (map: typeof addresses): string[] =>
      [...map].map(([network, address]) => `${network} ${formatGatewayAddress(address)}`).sort();
    if (!isDeepStrictEqual(format(addresses), format(new Map(this.#lookup.networkGateways)))) {
      this.#lookup.networkGateways.clear();
      for (const [network, address] of addresses) this.#lookup.networkGateways.set(network, address);
      stale.workloads();
    }
    const trustDomain = wireTrustDomain(this.#lookup);
    return {
      hasChangedNetworkGateways: true,
      resources: all.map(gateway => networkGatewayResource(gateway, trustDomain)),
    };
  }
}
