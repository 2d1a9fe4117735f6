// Keeps one resource (of one namespace, or of all) in step with the API server: a paged list, then a watch from its
// version on, resumed from the last event or bookmark when it ends, and a new list with a difference when the version
// is too old (410). https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
//
//   resolving -> listing -> watching -+-> watching   (ended; broken: after a pause)
//       ^           ^                 +-> listing    (410, an event too long to read)
//       |           +-- pausing <-----+-> resolving  (404: the CRD went away)
//       +-- pausing (absent, forbidden, failed)
//
// Whatever stands in the way becomes `problem`; what was delivered stays in force, but for a resource that is gone.
import { setTimeout as sleep } from 'node:timers/promises';
import { errorText, type Log } from '@ambit/log';
import type { KubeProblem } from './problem.ts';
import { Backoff, jitter } from './backoff.ts';
import type { Discovery } from './discovery.ts';
import { at, listAt, textAt } from './json.ts';
import type { KubeClient, KubeResponse } from './kube-client.ts';
import { isExpired } from './refusal.ts';
import { forbidden, noList, refused, thrown } from './reflector-problems.ts';
import { apiVersionOf, collectionPath, qualifiedName, type ResourceType } from './resource-type.ts';
import type { Timing } from './timing.ts';
import { readWatch, type WatchEnd } from './watch-reader.ts';

/** Whom a reflector tells what the server says. Nothing may throw. */
export interface ObjectSink {
  /** How many objects it holds. */
  readonly count: number;
  /** A whole list begins: until `endList`, what is not put counts as gone. A list that broke off is begun again. */
  readonly beginList: () => void;
  readonly endList: () => void;
  /** @param apiVersion of the collection; an object's own goes before it. */
  readonly put: (raw: unknown, apiVersion: string) => void;
  readonly remove: (raw: unknown) => void;
  /** The resource itself is gone, and so is everything of it. */
  readonly clear: () => void;
}

export interface ReflectorDeps {
  readonly client: KubeClient;
  readonly discovery: Discovery;
  readonly known: ObjectSink;
  readonly log: Log;
  readonly random: () => number;
  readonly timing: Timing;
  /** The first list is complete, or there is none to be had (absent, forbidden). Called once. */
  readonly onSettled: () => void;
  /** A list is whole and was told. Called for each, before the watch begins. */
  readonly onListed?: () => void;
}

export interface ReflectorScope {
  readonly type: ResourceType;
  /** Undefined: all of them. */
  readonly namespace: string | undefined;
}

type State =
  | { readonly kind: 'resolving' }
  | { readonly kind: 'listing'; readonly served: Collection }
  | { readonly kind: 'watching'; readonly served: Collection; readonly from: string }
  | { readonly kind: 'pausing'; readonly ms: number; readonly next: State };

interface Collection {
  readonly path: string;
  readonly apiVersion: string;
  readonly selector: Readonly<Record<string, string>>;
}

/** What has happened so far, for status and tests. */
export interface ReflectorCounts {
  lists: number;
  watches: number;
  events: number;
  /** Events longer than `maxEventBytes`. */
  oversized: number;
  /** Events that were no JSON or no event. */
  malformed: number;
}

/** Go writes an empty list as null. */
function isList(body: unknown): boolean {
  return Array.isArray(at(body, 'items')) || textAt(body, 'kind').endsWith('List');
}

export class Reflector {
  readonly scope: ReflectorScope;
  readonly counts: ReflectorCounts = { lists: 0, watches: 0, events: 0, oversized: 0, malformed: 0 };
  readonly #deps: ReflectorDeps;
  readonly #backoff: Backoff;
  #problem: KubeProblem | undefined;
  #isSettled = false;

  constructor(deps: ReflectorDeps, scope: ReflectorScope) {
    this.#deps = deps;
    this.scope = scope;
    const { retryMinMs, retryMaxMs } = deps.timing;
    this.#backoff = new Backoff({ minMs: retryMinMs, maxMs: retryMaxMs, random: deps.random });
  }

  get isSettled(): boolean {
    return this.#isSettled;
  }

  /** What keeps this resource from being up to date; undefined when nothing does. */
  get problem(): KubeProblem | undefined {
    return this.#problem;
  }

  /** Runs until the signal; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    let state: State = { kind: 'resolving' };
    while (!signal.aborted) {
      try {
        state = await this.#step(state, signal);
      } catch (error) {
        if (signal.aborted) return;
        state = this.#failed(thrown(this.scope, error), state.kind === 'pausing' ? state.next : state);
      }
    }
  }

  async #step(state: State, signal: AbortSignal): Promise<State> {
    switch (state.kind) {
      case 'resolving':
        return await this.#resolve(signal);
      case 'listing':
        return await this.#list(state, signal);
      case 'watching':
        return await this.#watch(state, signal);
      case 'pausing':
        await sleep(state.ms, undefined, { signal });
        return state.next;
    }
  }

  async #resolve(signal: AbortSignal): Promise<State> {
    const { type, namespace } = this.scope;
    const found = await this.#deps.discovery.find(type, signal);
    if (found.kind === 'absent') {
      if (this.#deps.known.count > 0) this.#deps.log.info('Resource is gone', { resource: qualifiedName(type) });
      this.#deps.known.clear();
      this.#problem = undefined; // to have no such objects is a fine state to be in
      this.#settle();
      return { kind: 'pausing', ms: jitter(this.#deps.timing.probeMs, this.#deps.random), next: { kind: 'resolving' } };
    }
    const selectors = [
      ...(type.fieldSelector === undefined ? [] : [type.fieldSelector]),
      // One Namespace object: rights may be given by name, and such a list must say which.
      ...(type.kind === 'Namespace' && namespace !== undefined ? [`metadata.name=${namespace}`] : []),
    ];
    const served: Collection = {
      path: collectionPath(type, found.version, namespace),
      apiVersion: apiVersionOf(type.group, found.version),
      selector: selectors.length === 0 ? {} : { fieldSelector: selectors.join(',') },
    };
    return { kind: 'listing', served };
  }

  async #list(state: State & { kind: 'listing' }, signal: AbortSignal): Promise<State> {
    const { client, known, timing } = this.#deps;
    const { path, apiVersion, selector } = state.served;
    this.counts.lists += 1;
    known.beginList();
    let token = '';
    let isPaged = true;
    for (;;) {
      const response = await client.request({
        path,
        query: {
          ...selector,
          ...(isPaged ? { limit: String(timing.pageSize) } : {}),
          ...(token === '' ? {} : { continue: token }),
        },
        signal,
        ...this.#accepting('PartialObjectMetadataList'),
        timeoutMs: timing.requestMs,
        maxBytes: isPaged ? timing.maxPageBytes : timing.maxPageBytes * 16,
      });
      if (isPaged && token !== '' && isExpired(response.body, response.status)) {
        // The server forgot the snapshot between two pages. A whole list cannot expire half-way.
        isPaged = false;
        token = '';
        known.beginList();
        continue;
      }
      if (response.status !== 200) return this.#refused('list', response, state);
      // Whoever answers in the server's stead must not take everything away.
      if (!isList(response.body)) return this.#failed(noList(this.scope), state);
      for (const item of listAt(response.body, 'items')) known.put(item, apiVersion);
      token = textAt(response.body, 'metadata', 'continue');
      if (token !== '') continue;
      known.endList();
      this.#problem = undefined;
      this.#settle();
      this.#deps.onListed?.();
      return { kind: 'watching', served: state.served, from: textAt(response.body, 'metadata', 'resourceVersion') };
    }
  }

  async #watch(state: State & { kind: 'watching' }, signal: AbortSignal): Promise<State> {
    const { client, random, timing } = this.#deps;
    const [least, most] = timing.watchSeconds;
    const begun = performance.now();
    let from = state.from;
    const stream = await client.stream({
      path: state.served.path,
      query: {
        ...state.served.selector,
        watch: 'true',
        allowWatchBookmarks: 'true',
        resourceVersion: from,
        timeoutSeconds: String(Math.round(least + (most - least) * random())),
      },
      signal,
      ...this.#accepting('PartialObjectMetadata'),
      timeoutMs: timing.requestMs,
    });
    if (stream.kind === 'refused') {
      if (isExpired(stream.response.body, stream.response.status)) return this.#relist(state.served);
      return this.#refused('watch', stream.response, state);
    }
    this.counts.watches += 1;
    this.#problem = undefined;
    const end = await readWatch(stream, {
      maxEventBytes: timing.maxEventBytes,
      idleMs: timing.idleMs,
      onEvent: (type, object) => {
        this.#apply(type, object, state.served.apiVersion);
        // Kept as it goes: whatever ends this stream, the next one starts after what was applied.
        const version = textAt(object, 'metadata', 'resourceVersion');
        if (version !== '') from = version;
      },
    });
    signal.throwIfAborted();
    if (performance.now() - begun >= timing.stableMs) this.#backoff.reset();
    return this.#afterWatch(end, { ...state, from });
  }

  /** https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches */
  #accepting(as: string): { readonly accept?: string } {
    if (this.scope.type.isMetadataOnly !== true) return {};
    return { accept: `application/json;as=${as};g=meta.k8s.io;v=v1,application/json` };
  }

  #apply(type: string, object: unknown, apiVersion: string): void {
    this.counts.events += 1;
    switch (type) {
      case 'ADDED':
      case 'MODIFIED':
        this.#deps.known.put(object, apiVersion);
        return;
      case 'DELETED':
        this.#deps.known.remove(object);
        return;
      default: // BOOKMARK, and what may be invented after it: only its version counts
    }
  }

  #afterWatch(end: WatchEnd, state: State & { kind: 'watching' }): State {
    const { log } = this.#deps;
    const resource = qualifiedName(this.scope.type);
    switch (end.kind) {
      case 'ended':
        // Not a failure, but a server that ends every watch at once must not be asked without a pause.
        return { kind: 'pausing', ms: this.#backoff.next(), next: state };
      case 'broken':
        log.debug('Watch broke', { resource, cause: errorText(end.error) });
        return { kind: 'pausing', ms: this.#backoff.next(), next: state };
      case 'idle':
        log.debug('Watch was silent for too long', { resource });
        return { kind: 'pausing', ms: this.#backoff.next(), next: state };
      case 'malformed':
        this.counts.malformed += 1;
        log.warn('Watch sent what is no event', { resource });
        return this.#relist(state.served);
      case 'oversized':
        this.counts.oversized += 1;
        log.warn('Watch sent an event that is too long', { resource });
        // Resuming would meet the same event again; a list has other bounds.
        return this.#relist(state.served);
      case 'error':
        if (isExpired(end.status)) return this.#relist(state.served);
        return this.#failed(refused(this.scope, 'watch', Number(at(end.status, 'code') ?? 0), end.status), state);
    }
  }

  #relist(served: Collection): State {
    this.#deps.log.debug('List anew', { resource: qualifiedName(this.scope.type) });
    return { kind: 'pausing', ms: this.#backoff.next(), next: { kind: 'listing', served } };
  }

  #refused(verb: 'list' | 'watch', response: KubeResponse, state: State): State {
    const { type, namespace } = this.scope;
    switch (response.status) {
      case 403:
        this.#setProblem(forbidden(this.scope, verb, response.body));
        this.#settle();
        return {
          kind: 'pausing',
          ms: jitter(this.#deps.timing.forbiddenMs, this.#deps.random),
          next: state,
        };
      case 404:
        // Only discovery says whether a resource is gone: a proxy in between may answer 404 too.
        if (type.group !== '')
          return this.#failed(refused(this.scope, verb, 404, response.body), { kind: 'resolving' });
        break;
      default:
    }
    const next = this.#failed(refused(this.scope, verb, response.status, response.body), state);
    const atLeastMs = Math.min(response.retryAfterMs ?? 0, this.#deps.timing.retryMaxMs);
    this.#deps.log.debug('Refused', { resource: type.plural, namespace, status: response.status });
    return next.kind === 'pausing' ? { ...next, ms: Math.max(next.ms, atLeastMs) } : next;
  }

  #failed(problem: KubeProblem, next: State): State {
    this.#setProblem(problem);
    return { kind: 'pausing', ms: this.#backoff.next(), next };
  }

  /** Logged when it begins or becomes another, not at every attempt. */
  #setProblem(problem: KubeProblem): void {
    if (this.#problem?.code !== problem.code) this.#deps.log.warn(problem.message, { code: problem.code });
    this.#problem = problem;
  }

  #settle(): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    this.#deps.onSettled();
  }
}
