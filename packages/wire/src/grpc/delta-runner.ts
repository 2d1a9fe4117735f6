// Keeps one delta xDS stream to a server for as long as it is wanted: connects, applies what comes, answers, and comes back
// after any failure with back-off; what is known and what was demanded survive. One new connection a stream, so that roots,
// token and addresses are looked at afresh. It never gives up and never throws: what happens is in events and status.
import {
  AggregatedDiscoveryService,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
} from '../gen/discovery_pb.ts';
import { BackOff, type BackOffOptions } from './back-off.ts';
import { CallError } from './call-error.ts';
import {
  DeltaClient,
  type DeltaNode,
  type DeltaType,
  type DeltaUpdate,
  type RejectedResource,
} from './delta-client.ts';
import { type After, type DemandResult, DemandWaiters } from './demand-waiters.ts';
import type { GrpcCall } from './grpc-call.ts';
import type { GrpcTarget } from './grpc-target.ts';
import { type GrpcSession, openGrpcSession } from './transport.ts';

/** Names of upstream's `istio_xds_connection_terminations_total{reason}`. */
export type Termination = 'ConnectionError' | 'Reconnect' | 'Error' | 'Complete';

export type DeltaEvent =
  | { readonly kind: 'connected'; readonly attempt: number }
  | {
      readonly kind: 'ended';
      readonly reason: Termination;
      readonly error: CallError | undefined;
      readonly retryInMs: number;
    }
  | { readonly kind: 'nack'; readonly typeUrl: string; readonly nonce: string; readonly error: string }
  | { readonly kind: 'ready' };

export interface DeltaRunnerDeps {
  readonly target: GrpcTarget;
  /** Takes an update over as a whole, but for what it returns; never throws. Updates come one at a time. */
  readonly apply: (update: DeltaUpdate) => Promise<readonly RejectedResource[]> | readonly RejectedResource[];
  readonly onEvent: (event: DeltaEvent) => void;
  readonly now: () => number;
  readonly after: After;
  readonly random: () => number;
}

export interface DeltaRunnerOptions {
  readonly node: DeltaNode;
  readonly types: readonly DeltaType[];
  /** Longest wait for the answer to a demand; 5000. Upstream waits for ever. */
  readonly demandTimeoutMs?: number;
  /** Names waited for at the same time; 1024. */
  readonly maxWaiting?: number;
  /** Names subscribed on demand; the least recently wanted make room; 10 000. */
  readonly maxDemands?: number;
  readonly maxMessageBytes?: number;
  readonly backOff?: Partial<BackOffOptions>;
}

/** Counted since the start. Maps go by type URL. */
export interface DeltaStats {
  readonly terminations: Readonly<Record<Termination, number>>;
  readonly messages: ReadonlyMap<string, number>;
  /** Of the resources' payloads. */
  readonly messageBytes: ReadonlyMap<string, number>;
  readonly nacks: number;
  readonly rejectedResources: number;
  readonly demands: number;
  readonly demandsLate: number;
}

export interface DeltaStatus {
  readonly state: 'idle' | 'connecting' | 'connected' | 'waiting' | 'stopped';
  readonly url: string;
  readonly isReady: boolean;
  /** Connection attempts so far. */
  readonly attempts: number;
  /** When the present state began, milliseconds since the Unix epoch. */
  readonly sinceMs: number;
  readonly lastError: string | undefined;
  readonly lastNack: string | undefined;
  /** Resources known, by type URL. */
  readonly known: Readonly<Record<string, number>>;
}

const MAX_MESSAGE_BYTES = 200 << 20;
const METHOD = AggregatedDiscoveryService.method.deltaAggregatedResources;
type Call = GrpcCall<typeof METHOD.input, typeof METHOD.output>;

/** How one connection went. */
interface Life {
  readonly reason: Termination;
  readonly error: CallError | undefined;
  readonly livedMs: number;
  readonly delivered: boolean;
}

export class DeltaRunner {
  readonly #deps: DeltaRunnerDeps;
  readonly #options: DeltaRunnerOptions;
  readonly #client: DeltaClient;
  readonly #waiters: DemandWaiters;
  readonly #backOff: BackOff;
  readonly #stopping = new AbortController();
  readonly #ready = Promise.withResolvers<void>();
  readonly #terminations: Record<Termination, number> = { ConnectionError: 0, Reconnect: 0, Error: 0, Complete: 0 };
  readonly #messages = new Map<string, number>();
  readonly #messageBytes = new Map<string, number>();
  #counts = { nacks: 0, rejectedResources: 0, demands: 0, demandsLate: 0 };
  #state: DeltaStatus['state'] = 'idle';
  #sinceMs: number;
  #attempts = 0;
  #lastError: string | undefined;
  #lastNack: string | undefined;
  #call: Call | undefined;
  #running: Promise<void> | undefined;
  #isReady = false;

  constructor(deps: DeltaRunnerDeps, options: DeltaRunnerOptions) {
    this.#deps = deps;
    this.#options = options;
    const { node, types, maxDemands, demandTimeoutMs = 5000, maxWaiting = 1024 } = options;
    this.#client = new DeltaClient(node, types, maxDemands === undefined ? {} : { maxDemands });
    this.#waiters = new DemandWaiters(deps.after, { timeoutMs: demandTimeoutMs, maxNames: maxWaiting });
    this.#backOff = new BackOff(deps.random, options.backOff);
    this.#sinceMs = deps.now();
  }

  /** Resolves once each wildcard type has had a first response; for good. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  get stats(): DeltaStats {
    return {
      ...this.#counts,
      terminations: { ...this.#terminations },
      messages: new Map(this.#messages),
      messageBytes: new Map(this.#messageBytes),
    };
  }

  get status(): DeltaStatus {
    const types = this.#options.types.map(({ typeUrl }) => [typeUrl, this.#client.known(typeUrl).size] as const);
    return {
      state: this.#state,
      url: this.#deps.target.url,
      isReady: this.#isReady,
      attempts: this.#attempts,
      sinceMs: this.#sinceMs,
      lastError: this.#lastError,
      lastNack: this.#lastNack,
      known: Object.fromEntries(types),
    };
  }

  /** Begins to connect. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Ends the stream and all waits; resolves when nothing more will be applied. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#waiters.stop();
    await this.#running;
    this.#become('stopped');
  }

  /** Asks for a name of an on-demand type and waits for what the server says, for a limited time. */
  async demand(typeUrl: string, name: string): Promise<DemandResult> {
    if (this.#stopping.signal.aborted) return 'late';
    const { requests, isAnswered, dropped } = this.#client.demand(typeUrl, name);
    for (const request of requests) this.#call?.send(request);
    if (dropped.length > 0) await this.#deps.apply({ typeUrl, resources: [], removed: dropped });
    if (isAnswered) return 'answered';
    this.#counts.demands++;
    const result = await this.#waiters.wait(name);
    if (result !== 'answered') this.#counts.demandsLate++;
    return result;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const { reason, error, livedMs, delivered } = await this.#live();
      if (signal.aborted) return;
      this.#terminations[reason]++;
      this.#lastError = error?.message ?? this.#lastError;
      const retryInMs = this.#backOff.next(livedMs, delivered);
      this.#become('waiting');
      this.#deps.onEvent({ kind: 'ended', reason, error, retryInMs });
      await this.#pause(retryInMs);
    }
  }

  async #live(): Promise<Life> {
    const { now, target } = this.#deps;
    this.#attempts++;
    this.#become('connecting');
    const { signal } = this.#stopping;
    let session: GrpcSession | undefined;
    let call: Call | undefined;
    let startedMs: number | undefined;
    let delivered = false;
    try {
      session = await openGrpcSession(target, { signal });
      const maxMessageBytes = this.#options.maxMessageBytes ?? MAX_MESSAGE_BYTES;
      call = await session.stream(METHOD, { signal, maxMessageBytes });
      startedMs = now();
      for (const request of this.#client.open()) call.send(request);
      this.#call = call;
      this.#become('connected');
      this.#deps.onEvent({ kind: 'connected', attempt: this.#attempts });
      for await (const response of call.messages()) {
        delivered = true;
        call.send(await this.#take(response));
      }
      return { reason: 'Complete', error: undefined, livedMs: now() - startedMs, delivered };
    } catch (thrown) {
      const error =
        thrown instanceof CallError ? thrown : new CallError('grpc.lost', 'UNKNOWN', String(thrown), { cause: thrown });
      const livedMs = startedMs === undefined ? 0 : now() - startedMs;
      return { reason: terminationOf(error, call?.isOpen === true), error, livedMs, delivered };
    } finally {
      this.#call = undefined;
      session?.close();
    }
  }

  async #take(response: DeltaDiscoveryResponse): Promise<DeltaDiscoveryRequest> {
    const update = this.#client.read(response);
    const { typeUrl } = update;
    const bytes = update.resources.reduce((sum, { value }) => sum + value.length, 0);
    this.#messages.set(typeUrl, (this.#messages.get(typeUrl) ?? 0) + 1);
    this.#messageBytes.set(typeUrl, (this.#messageBytes.get(typeUrl) ?? 0) + bytes);
    const isOurs = this.#options.types.some(type => type.typeUrl === typeUrl);
    const rejected = isOurs ? await this.#deps.apply(update) : [];
    const { request, nack } = this.#client.answer(response, rejected);
    this.#counts.rejectedResources += rejected.length;
    if (nack !== undefined) {
      this.#counts.nacks++;
      this.#lastNack = nack;
      this.#deps.onEvent({ kind: 'nack', typeUrl, nonce: response.nonce, error: nack });
    }
    this.#waiters.onUpdate(update);
    if (!this.#isReady && this.#client.isReady) {
      this.#isReady = true;
      this.#deps.onEvent({ kind: 'ready' });
      this.#ready.resolve();
    }
    return request;
  }

  #become(state: DeltaStatus['state']): void {
    this.#state = state;
    this.#sinceMs = this.#deps.now();
  }

  async #pause(ms: number): Promise<void> {
    const { signal } = this.#stopping;
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#deps.after(ms, resolve);
    const onAbort = (): void => resolve();
    signal.addEventListener('abort', onAbort);
    await promise;
    signal.removeEventListener('abort', onAbort);
    cancel();
  }
}

/** Upstream's classes. `wasOpen`: the server had accepted the stream. */
function terminationOf({ code, status, message }: CallError, wasOpen: boolean): Termination {
  if (code === 'xds.no_roots' || code === 'grpc.credentials') return 'Error';
  if (!wasOpen) return 'ConnectionError';
  switch (status) {
    case 'UNKNOWN':
    case 'CANCELLED':
    case 'DEADLINE_EXCEEDED':
      return 'Reconnect';
    case 'UNAVAILABLE':
      return /transport is closing|received prior goaway/.test(message) ? 'Reconnect' : 'Error';
    default:
      return 'Error';
  }
}
