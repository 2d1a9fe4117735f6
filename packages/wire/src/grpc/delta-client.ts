// The client's half of incremental xDS (Envoy's xDS protocol, "Incremental xDS"; quirks as Istio's ztunnel): what is
// subscribed, what is known in which version, and what to send when. Pure: no I/O, no clock. What is known outlives a stream,
// so that the next one asks only for the difference. Each response is answered once: ACK, or NACK that names what was bad.
import { create, type JsonObject } from '@bufbuild/protobuf';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
} from '../gen/discovery_pb.ts';

/** How this client introduces itself. */
export interface DeltaNode {
  readonly id: string;
  readonly metadata: JsonObject;
}

/** `onDemand` subscribes to nothing but what is demanded by name. */
export interface DeltaType {
  readonly typeUrl: string;
  readonly mode: 'wildcard' | 'onDemand';
}

export interface DeltaResource {
  readonly name: string;
  readonly version: string;
  readonly aliases: readonly string[];
  /** Type of `value` as the resource itself says; empty when the server left the value out. */
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

/** What one response says. */
export interface DeltaUpdate {
  readonly typeUrl: string;
  readonly resources: readonly DeltaResource[];
  readonly removed: readonly string[];
}

export interface RejectedResource {
  readonly name: string;
  readonly reason: string;
}

export interface DeltaAnswer {
  readonly request: DeltaDiscoveryRequest;
  /** Text of the NACK; undefined for an ACK. */
  readonly nack: string | undefined;
}

export interface DemandOutcome {
  /** What to send when a stream is open. */
  readonly requests: readonly DeltaDiscoveryRequest[];
  /** Whether the server has answered for that name already: what it said is in force. */
  readonly isAnswered: boolean;
  /** Resources that came only because of a demand that had to make room, and that nobody keeps up to date any more. */
  readonly dropped: readonly string[];
}

const EMPTY = new Uint8Array(0);
const MAX_NACK_TEXT = 16 << 10;

interface Demand {
  /** Whether the server answered, with a resource or by saying that there is none. */
  isAnswered: boolean;
  /** Resources that came under that name or alias. */
  readonly resources: Set<string>;
}

interface TypeState {
  readonly type: DeltaType;
  /** Resource name to the version that was accepted. */
  readonly known: Map<string, string>;
  /** Demanded names, least recently asked for first. */
  readonly demands: Map<string, Demand>;
}

export class DeltaClient {
  readonly #node: DeltaNode;
  readonly #types: ReadonlyMap<string, TypeState>;
  readonly #maxDemands: number;
  /** Types whose first response is still to come. */
  readonly #awaited: Set<string>;

  /** @param types in the order in which they are subscribed */
  constructor(node: DeltaNode, types: readonly DeltaType[], options: { readonly maxDemands?: number } = {}) {
    this.#node = node;
    this.#types = new Map(types.map(type => [type.typeUrl, { type, known: new Map(), demands: new Map() }]));
    this.#maxDemands = options.maxDemands ?? 10_000;
    this.#awaited = new Set(types.filter(({ mode }) => mode === 'wildcard').map(({ typeUrl }) => typeUrl));
  }

  /**
   * Whether each wildcard type has had a response once. One with bad resources counts: they are reported, and must not keep
   * a node from serving all others.
   */
  get isReady(): boolean {
    return this.#awaited.size === 0;
  }

  /** Names and versions that were accepted. */
  known(typeUrl: string): ReadonlyMap<string, string> {
    return this.#types.get(typeUrl)?.known ?? new Map();
  }

  /** Names on demand. */
  demanded(typeUrl: string): Iterable<string> {
    return this.#types.get(typeUrl)?.demands.keys() ?? [];
  }

  /** The first requests of a new stream, one a type. */
  open(): readonly DeltaDiscoveryRequest[] {
    return [...this.#types.values()].map(({ type, known, demands }) => {
      const versions: Record<string, string> = {};
      for (const name of demands.keys()) versions[name] = '';
      for (const [name, version] of known) versions[name] = version;
      // To subscribe to everything and take it back at once is how to subscribe to nothing.
      const names = type.mode === 'onDemand' ? ['*'] : [];
      return create(DeltaDiscoveryRequestSchema, {
        node: { id: this.#node.id, metadata: this.#node.metadata },
        typeUrl: type.typeUrl,
        resourceNamesSubscribe: names,
        resourceNamesUnsubscribe: names,
        initialResourceVersions: versions,
      });
    });
  }

  /** What a response says, for whoever applies it; `answer` comes next. Changes nothing. */
  read(response: DeltaDiscoveryResponse): DeltaUpdate {
    return {
      typeUrl: response.typeUrl,
      resources: response.resources.map(({ name, version, aliases, resource }) => ({
        name,
        version,
        aliases,
        typeUrl: resource?.typeUrl ?? '',
        value: resource?.value ?? EMPTY,
      })),
      removed: response.removedResources,
    };
  }

  /** The response was applied but for what was rejected. */
  answer(response: DeltaDiscoveryResponse, rejected: readonly RejectedResource[]): DeltaAnswer {
    const state = this.#types.get(response.typeUrl);
    if (state === undefined) {
      // Upstream says ACK, which claims that it is followed.
      return answerTo(response, `type ${JSON.stringify(response.typeUrl.slice(0, 200))} was not asked for`);
    }
    this.#awaited.delete(response.typeUrl);
    this.#note(state, response, new Set(rejected.map(({ name }) => name)));
    if (rejected.length === 0) return answerTo(response, undefined);
    return answerTo(response, rejected.map(({ name, reason }) => `${name}: ${reason}`).join('; '));
  }

  /** Asks for a name of a type; asking again keeps it from being the one that makes room. */
  demand(typeUrl: string, name: string): DemandOutcome {
    const state = this.#types.get(typeUrl);
    // With a wildcard subscription what the server has is here.
    if (state === undefined || state.type.mode === 'wildcard') return { requests: [], isAnswered: true, dropped: [] };
    const present = state.demands.get(name);
    if (present !== undefined) {
      state.demands.delete(name);
      state.demands.set(name, present);
      return { requests: [], isAnswered: present.isAnswered, dropped: [] };
    }
    const [unsubscribe, dropped] = this.#makeRoom(state);
    const isKnown = state.known.has(name);
    state.demands.set(name, { isAnswered: isKnown, resources: new Set(isKnown ? [name] : []) });
    const request = create(DeltaDiscoveryRequestSchema, {
      typeUrl,
      resourceNamesSubscribe: [name],
      resourceNamesUnsubscribe: [...unsubscribe],
    });
    return { requests: [request], isAnswered: isKnown, dropped };
  }

  #note({ known, demands }: TypeState, response: DeltaDiscoveryResponse, bad: ReadonlySet<string>): void {
    for (const { name, version, aliases } of response.resources) {
      // A rejected one keeps the version of the good one that is still in force, if any.
      if (!bad.has(name)) known.set(name, version);
      if (demands.size === 0) continue;
      for (const key of [name, ...aliases]) {
        const demand = demands.get(key);
        if (demand === undefined) continue;
        demand.isAnswered = true;
        if (!bad.has(name)) demand.resources.add(name);
      }
    }
    for (const name of response.removedResources) {
      known.delete(name);
      const demand = demands.get(name);
      if (demand === undefined) continue;
      demand.isAnswered = true;
      demand.resources.delete(name);
    }
  }

  #makeRoom(state: TypeState): readonly [unsubscribe: readonly string[], dropped: readonly string[]] {
    const unsubscribe: string[] = [];
    const orphans = new Set<string>();
    while (state.demands.size >= this.#maxDemands) {
      const [oldest] = state.demands;
      if (oldest === undefined) break;
      const [name, { resources }] = oldest;
      state.demands.delete(name);
      unsubscribe.push(name);
      for (const resource of resources) orphans.add(resource);
    }
    if (orphans.size > 0)
      for (const { resources } of state.demands.values()) for (const name of resources) orphans.delete(name);
    for (const name of orphans) state.known.delete(name);
    return [unsubscribe, [...orphans]];
  }
}

function answerTo({ typeUrl, nonce }: DeltaDiscoveryResponse, nack: string | undefined): DeltaAnswer {
  const text = nack !== undefined && nack.length > MAX_NACK_TEXT ? `${nack.slice(0, MAX_NACK_TEXT)}...` : nack;
  // The code stays 0 as upstream's; the presence of the detail is what makes it a NACK.
  const detail = text === undefined ? {} : { errorDetail: { message: text } };
  return { request: create(DeltaDiscoveryRequestSchema, { typeUrl, responseNonce: nonce, ...detail }), nack: text };
}
