// The delta xDS server: lets clients in (proven, bounded, paced), keeps the state they are served, pushes changes.
// Identity fails closed; a client that is too slow, too fast or broken costs itself its stream and nobody else theirs.
import { randomBytes } from 'node:crypto';
import { type DeltaCall, type DeltaHandler, type DeltaRequest, GrpcError } from '@ambit/wire/grpc-server';
import type { Authenticator, Caller } from '../auth/caller.ts';
import type { Log } from '@ambit/log';
import type { ResourceDelta } from '../model/resource.ts';
import { BoundedLog } from './bounded-log.ts';
import { CallerPlaces } from './caller-places.ts';
import { XdsClient } from './client.ts';
import { checkIdentity, type ClientNode, readClientNode } from './client-node.ts';
import { DEFAULT_LIMITS, SYSTEM_CLOCK, type XdsClock, type XdsLimits, type XdsServerOptions } from './options.ts';
import { PendingPush } from './pending-push.ts';
import { lapseOf, type Proof } from './proof.ts';
import { DeltaSession } from './session.ts';
import { SharedEncodings } from './shared-encodings.ts';
import type { XdsStatus } from './status.ts';
import { XdsStore } from './store.ts';
import { TokenBucket } from '../token-bucket.ts';

const MAX_CONNECT_WAIT_MS = 1_000;
/** Node ids whose rate and drops are remembered; the longest unseen are forgotten first. */
const MAX_REMEMBERED_NODES = 10_000;

interface NodeMemory {
  readonly bucket: TokenBucket;
  dropped: number;
}

export class XdsServer {
  /** Serves callers that `options.authenticate` proves. */
  readonly handler: DeltaHandler;
  readonly #log: Log;
  readonly #clock: XdsClock;
  readonly #limits: XdsLimits;
  readonly #store = new XdsStore();
  readonly #encodings: SharedEncodings;
  readonly #pending: PendingPush;
  readonly #clients = new Set<XdsClient>();
  readonly #proofs = new WeakMap<XdsClient, Proof>();
  readonly #refusals: BoundedLog;
  readonly #places: CallerPlaces;
  readonly #nodes = new Map<string, NodeMemory>();
  readonly #connects: TokenBucket;
  readonly #counters = { accepted: 0, refused: 0, dropped: 0, nacks: 0, unknownTypes: 0, pushes: 0 };
  #streams = 0;
  #version = '';
  #state: 'unsynced' | 'serving' | 'closed' = 'unsynced';

  constructor(options: XdsServerOptions) {
    this.#log = options.log.scope('xds');
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#refusals = new BoundedLog(this.#log, () => this.#clock.now());
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    const { maxClients, maxOfCaller } = this.#limits;
    this.#places = new CallerPlaces({ ofBound: maxOfCaller, ofUnbound: Math.ceil(maxClients / 4) });
    this.#encodings = new SharedEncodings(this.#store, this.#limits.maxSnapshots);
    const debounce = { quietMs: 20, maxMs: 200, ...options.debounce };
    this.#pending = new PendingPush(this.#clock, debounce, delta => this.#push(delta));
    this.#connects = new TokenBucket(this.#limits.connectsPerSecond, this.#limits.connectBurst, this.#clock.now());
    this.handler = this.handlerFor(options.authenticate);
  }

  /** A handler for a listener with another way to prove callers; undefined for the one on loopback. */
  handlerFor(authenticate: Authenticator | undefined): DeltaHandler {
    return call => this.#serve(call, authenticate);
  }

  /** Takes what changed. The first call makes the server serve, also when it holds nothing. */
  update(delta: ResourceDelta): void {
    if (this.#state === 'closed') return;
    if (this.#state === 'serving') {
      this.#pending.add(delta);
      return;
    }
    this.#state = 'serving';
    this.#push(delta);
  }

  status(): XdsStatus {
    return {
      isSynced: this.#state === 'serving',
      addresses: this.#store.resources('address').size,
      authorizations: this.#store.resources('authorization').size,
      counters: { ...this.#counters },
      clients: [...this.#clients]
        .map(client => client.status(this.#nodes.get(client.node.id)?.dropped ?? 0))
        .sort((a, b) => (a.node < b.node ? -1 : Number(a.node > b.node))),
    };
  }

  /**
   * Ends the streams of clients whose proof has lapsed since: a certificate that was revoked or ended, a local token that
   * ended. To be called when the revoked change, and now and then.
   */
  async recheck(): Promise<void> {
    for (const client of this.#clients) {
      const proof = this.#proofs.get(client);
      const code = proof === undefined ? undefined : await lapseOf(proof);
      if (code === undefined || !this.#clients.has(client)) continue;
      this.#log.warn('Client is not proven any more', { node: client.node.id, code });
      client.fail(new GrpcError('unauthenticated', 'authentication failed'));
    }
  }

  /** Ends every stream with `unavailable`, and every later one at once. */
  close(): void {
    this.#state = 'closed';
    this.#pending.close();
    for (const client of this.#clients) client.fail(new GrpcError('unavailable', 'the control plane is shutting down'));
  }

  #push(delta: ResourceDelta): void {
    const changes = this.#store.apply(delta);
    if (changes.address.size + changes.authorization.size === 0) return;
    this.#counters.pushes++;
    this.#version = `${new Date(this.#clock.now()).toISOString()}/${this.#store.epoch}`;
    for (const client of this.#clients) client.storeChanged(changes);
  }

  async #serve(call: DeltaCall, authenticate: Authenticator | undefined): Promise<void> {
    const { peer } = call.context.credentials;
    if (this.#streams >= this.#limits.maxClients) {
      this.#counters.refused++;
      throw new GrpcError('resource_exhausted', 'too many clients');
    }
    this.#streams++;
    const requests = call.requests[Symbol.asyncIterator]();
    let client: XdsClient | undefined;
    try {
      client = await this.#admit(call, requests, authenticate).catch((error: unknown) => {
        this.#counters.refused++;
        // Who was not proven is in the log already, with the reason that the caller is not told.
        if (error instanceof GrpcError && error.code !== 'cancelled' && error.code !== 'unauthenticated') {
          this.#refusals.warn('Client refused', { peer, code: `xds.${error.code}`, reason: error.message });
        }
        throw error;
      });
      const reading = this.#read(client, requests, call.context.signal);
      reading.catch(() => undefined); // when the client fails first, its reading fails too, and says nothing new
      await Promise.race([reading, client.failure]);
    } catch (error) {
      if (client !== undefined) this.#left(client, call, error);
      throw error;
    } finally {
      this.#streams--;
      if (client !== undefined) {
        client.end();
        this.#clients.delete(client);
        this.#log.info('Client gone', { node: client.node.id, peer });
      }
    }
  }

  /** Everything before the first request is answered: nothing here costs more than one message of memory. */
  async #admit(
    call: DeltaCall,
    requests: AsyncIterator<DeltaRequest>,
    authenticate: Authenticator | undefined,
  ): Promise<XdsClient> {
    const { credentials, signal } = call.context;
    this.#checkServing();
    const proof = await this.#prove(credentials, authenticate);
    const caller = proof?.caller;
    if (caller !== undefined) this.#enter(caller, signal);
    // After the proof: strangers must not take the places of nodes that come back.
    const waitMs = this.#connects.take(this.#clock.now(), MAX_CONNECT_WAIT_MS);
    if (waitMs === undefined) throw new GrpcError('resource_exhausted', 'too many new connections');
    if (waitMs > 0) await this.#sleep(waitMs, signal);
    const first = await this.#firstRequest(requests);
    const node = readClientNode(first.node);
    if (caller !== undefined) checkIdentity(caller, node);
    if (this.#remember(node).bucket.take(this.#clock.now()) === undefined) {
      throw new GrpcError('resource_exhausted', `node ${node.id} reconnects too often`);
    }
    signal.throwIfAborted();
    this.#checkServing();
    const session = new DeltaSession(this.#store, {
      tag: randomBytes(6).toString('hex'),
      node: node.nodeName,
      maxNames: this.#limits.maxNames,
    });
    const client = new XdsClient({
      call,
      session,
      node,
      caller,
      encodings: this.#encodings,
      now: () => this.#clock.now(),
      stuckMs: this.#limits.stuckMs,
      version: () => this.#version,
    });
    this.#request(client, first);
    this.#clients.add(client);
    if (proof !== undefined) this.#proofs.set(client, proof);
    this.#counters.accepted++;
    this.#log.info('Client connected', { node: node.id, peer: credentials.peer, via: caller?.via ?? 'loopback' });
    return client;
  }

  async #read(client: XdsClient, requests: AsyncIterator<DeltaRequest>, signal: AbortSignal): Promise<void> {
    const { requestsPerSecond, requestBurst } = this.#limits;
    const bucket = new TokenBucket(requestsPerSecond, requestBurst, this.#clock.now());
    for (let turn = await requests.next(); turn.done !== true; turn = await requests.next()) {
      // A flood waits in the peer's own buffers, behind HTTP/2's window.
      const waitMs = bucket.take(this.#clock.now(), Number.POSITIVE_INFINITY) ?? 0;
      if (waitMs > 0) await this.#sleep(waitMs, signal);
      this.#request(client, turn.value);
    }
  }

  #request(client: XdsClient, request: DeltaRequest): void {
    const outcome = client.request(request);
    switch (outcome.kind) {
      case 'none':
        return;
      case 'nack':
        this.#counters.nacks++;
        this.#log.warn('Client refused resources', {
          code: 'xds.nack',
          node: client.node.id,
          type: outcome.typeUrl,
          nonce: outcome.nack.nonce,
          reason: outcome.nack.message,
        });
        return;
      case 'unknown_type':
        this.#counters.unknownTypes++;
        this.#log.info('Client asked for a type that is not served', {
          node: client.node.id,
          type: outcome.typeUrl.slice(0, 200),
        });
    }
  }

  async #prove(
    credentials: DeltaCall['context']['credentials'],
    authenticator: Authenticator | undefined,
  ): Promise<Proof | undefined> {
    if (authenticator === undefined) return undefined;
    const outcome = await authenticator.authenticate(credentials);
    if (outcome.kind === 'caller') return { caller: outcome.caller, credentials, authenticator };
    const { code, reason } = outcome;
    this.#refusals.warn('Caller not proven', { code, reason, peer: credentials.peer });
    throw new GrpcError('unauthenticated', 'authentication failed');
  }

  async #firstRequest(requests: AsyncIterator<DeltaRequest>): Promise<DeltaRequest> {
    const late = Promise.withResolvers<never>();
    const cancel = this.#clock.after(this.#limits.firstRequestMs, () => {
      late.reject(new GrpcError('deadline_exceeded', 'no request came'));
    });
    try {
      const turn = await Promise.race([requests.next(), late.promise]);
      if (turn.done === true) throw new GrpcError('invalid_argument', 'the stream ended without a request');
      return turn.value;
    } finally {
      cancel();
    }
  }

  /** Until the call ends. */
  #enter(caller: Caller, signal: AbortSignal): void {
    signal.throwIfAborted();
    const leave = this.#places.take(caller);
    if (leave === undefined) throw new GrpcError('resource_exhausted', 'too many streams of one caller');
    signal.addEventListener('abort', leave, { once: true });
  }

  #checkServing(): void {
    if (this.#state === 'unsynced') throw new GrpcError('unavailable', 'the control plane has no state yet');
    if (this.#state === 'closed') throw new GrpcError('unavailable', 'the control plane is shutting down');
  }

  #remember(node: ClientNode): NodeMemory {
    const { nodeConnectsPerSecond, nodeConnectBurst } = this.#limits;
    const memory = this.#nodes.get(node.id) ?? {
      bucket: new TokenBucket(nodeConnectsPerSecond, nodeConnectBurst, this.#clock.now()),
      dropped: 0,
    };
    // Taken out and put in again: the map's order is then that of use.
    this.#nodes.delete(node.id);
    this.#nodes.set(node.id, memory);
    const [oldest] = this.#nodes.keys();
    if (this.#nodes.size > MAX_REMEMBERED_NODES && oldest !== undefined) this.#nodes.delete(oldest);
    return memory;
  }

  #left(client: XdsClient, call: DeltaCall, error: unknown): void {
    if (!(error instanceof GrpcError) || call.context.signal.aborted) return;
    const isStuck = error.code === 'deadline_exceeded';
    if (isStuck) {
      this.#counters.dropped++;
      const memory = this.#nodes.get(client.node.id);
      if (memory !== undefined) memory.dropped++;
    }
    this.#log.warn('Client dropped', {
      code: isStuck ? 'xds.stuck' : `xds.${error.code}`,
      node: client.node.id,
      reason: error.message,
    });
  }

  #sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        cancel();
        reject(signal.reason as GrpcError);
      };
      const cancel = this.#clock.after(ms, () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      });
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }
}
