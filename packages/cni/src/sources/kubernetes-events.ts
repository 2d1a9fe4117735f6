// Events on pods, as the API server keeps them for an hour: core/v1, which `kubectl describe pod` shows and Istio's agent writes.
// The same reason of the same pod is one Event whose count grows. Best effort, fails open: whoever says something never waits;
// one write at a time with a deadline, a bounded queue, an allowance for each pod and one for all, and a pause after a failure.
import { randomBytes } from 'node:crypto';
import { codeOf, type KubeClient, type KubeResponse, refusalOf } from '@ambit/kube';
import { errorText, type Log } from '@ambit/log';
import { Allowance } from './allowance.ts';
import type { PodEvent, PodEventCounts, PodEventSink } from './pod-events.ts';

export interface KubernetesEventsDeps {
  readonly client: Pick<KubeClient, 'request'>;
  /** Whether the API server has this very pod, as far as is known: nothing is said of others'. */
  readonly isKnown: (event: PodEvent) => boolean;
  readonly log: Log;
  /** Milliseconds since 1970. */
  readonly nowMs: () => number;
}

export interface KubernetesEventsOptions {
  /** Where this agent is. */
  readonly nodeName: string;
  readonly limits?: Partial<EventLimits>;
}

export interface EventLimits {
  /** Writes at once of one pod, and milliseconds to each further one. Default 10 and 60 000. */
  readonly podBurst: number;
  readonly podEveryMs: number;
  /** Of all pods. Default 50 and 2 000. */
  readonly burst: number;
  readonly everyMs: number;
  /** That wait to be written. Default 64. */
  readonly maxQueue: number;
  /** Pods, and Events, that are remembered: the longest unsaid is forgotten, and begins anew. Default 1 024. */
  readonly maxKnown: number;
  /** After a failure that concerns all. Default 30 000. */
  readonly pauseMs: number;
  readonly timeoutMs: number;
}

const DEFAULTS: EventLimits = {
  podBurst: 10,
  podEveryMs: 60_000,
  burst: 50,
  everyMs: 2_000,
  maxQueue: 64,
  maxKnown: 1_024,
  pauseMs: 30_000,
  timeoutMs: 5_000,
};

const COMPONENT = 'ambit-agent';
const MAX_NAME = 253;
const MAX_MESSAGE_BYTES = 1024;

/** One Event of the API server; mutable, and only this file's. */
interface Series {
  latest: PodEvent;
  readonly eventName: string;
  readonly firstMs: number;
  lastMs: number;
  count: number;
  isWritten: boolean;
  isQueued: boolean;
}

export class KubernetesEvents implements PodEventSink {
  readonly #deps: KubernetesEventsDeps;
  readonly #nodeName: string;
  readonly #limits: EventLimits;
  /** By UID and reason, the longest unsaid first. */
  readonly #series = new Map<string, Series>();
  /** By UID, likewise. */
  readonly #pods = new Map<string, Allowance>();
  readonly #all: Allowance;
  readonly #queue: Series[] = [];
  readonly #counts = { written: 0, failed: 0, suppressed: 0 };
  readonly #ending = new AbortController();
  #writing: Promise<void> | undefined;
  #pausedUntilMs = 0;
  #isFailing = false;

  constructor(deps: KubernetesEventsDeps, { nodeName, limits }: KubernetesEventsOptions) {
    this.#deps = deps;
    this.#nodeName = nodeName;
    this.#limits = { ...DEFAULTS, ...limits };
    this.#all = new Allowance(this.#limits.burst, this.#limits.everyMs, deps.nowMs());
  }

  get counts(): PodEventCounts {
    return this.#counts;
  }

  readonly say = (event: PodEvent): void => {
    if (this.#ending.signal.aborted || !this.#deps.isKnown(event)) return;
    const now = this.#deps.nowMs();
    const series = this.#seriesOf(event, now);
    series.latest = event;
    series.lastMs = now;
    series.count++;
    // What waits to be written is written with this in it.
    if (series.isQueued) return;
    if (!this.#mayWrite(event.uid, now)) {
      this.#counts.suppressed++;
      return;
    }
    series.isQueued = true;
    this.#queue.push(series);
    this.#writing ??= this.#writeAll();
  };

  /** Resolves when nothing waits to be written. */
  async idle(): Promise<void> {
    await this.#writing;
  }

  /** Gives up what waits. Closing twice is fine. */
  async close(): Promise<void> {
    this.#ending.abort();
    this.#drop();
    await this.idle();
  }

  #seriesOf(event: PodEvent, now: number): Series {
    const key = `${event.uid} ${event.reason}`;
    const series = this.#series.get(key) ?? {
      latest: event,
      eventName: eventNameOf(event.name),
      firstMs: now,
      lastMs: now,
      count: 0,
      isWritten: false,
      isQueued: false,
    };
    remember(this.#series, key, series, this.#limits.maxKnown);
    return series;
  }

  #mayWrite(uid: string, now: number): boolean {
    const { podBurst, podEveryMs, maxQueue, maxKnown } = this.#limits;
    const ofPod = this.#pods.get(uid) ?? new Allowance(podBurst, podEveryMs, now);
    remember(this.#pods, uid, ofPod, maxKnown);
    if (now < this.#pausedUntilMs || this.#queue.length >= maxQueue) return false;
    // The pod's first: one that floods must not use up what is for all.
    return ofPod.take(now) && this.#all.take(now);
  }

  async #writeAll(): Promise<void> {
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      next.isQueued = false;
      await this.#write(next);
    }
    this.#writing = undefined;
  }

  async #write(series: Series): Promise<void> {
    try {
      let response = series.isWritten ? await this.#patch(series) : await this.#create(series);
      // The server forgets them when they are an hour old.
      if (series.isWritten && response.status === 404) response = await this.#create(series);
      if (response.status >= 300) {
        this.#onRefusal(series, response);
        return;
      }
      series.isWritten = true;
      this.#isFailing = false;
      this.#counts.written++;
    } catch (error) {
      if (!this.#ending.signal.aborted) this.#onFailure(series, errorText(error), true);
    }
  }

  #create(series: Series): Promise<KubeResponse> {
    const { namespace, name, uid, reason } = series.latest;
    const metadata = { name: series.eventName, namespace };
    const involvedObject = { apiVersion: 'v1', kind: 'Pod', namespace, name, uid };
    const source = { component: COMPONENT, host: this.#nodeName };
    const from = { source, reportingComponent: COMPONENT, reportingInstance: this.#nodeName };
    const firstTimestamp = timestamp(series.firstMs);
    const body = { apiVersion: 'v1', kind: 'Event', metadata, involvedObject, reason, firstTimestamp, ...from };
    return this.#send('POST', namespace, '', { ...body, ...changing(series) });
  }

  #patch(series: Series): Promise<KubeResponse> {
    return this.#send('PATCH', series.latest.namespace, `/${series.eventName}`, changing(series));
  }

  #send(method: 'POST' | 'PATCH', namespace: string, rest: string, body: object): Promise<KubeResponse> {
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/events${rest}`;
    const { timeoutMs } = this.#limits;
    return this.#deps.client.request({ method, path, body, signal: this.#ending.signal, timeoutMs });
  }

  #onRefusal(series: Series, { status, body }: KubeResponse): void {
    // Others are about this Event or its namespace; these are about us, or the server.
    const concernsAll = status === 401 || status === 403 || status === 429 || status >= 500;
    this.#onFailure(series, `${refusalOf(status, body).message}  [${codeOf(status)}]`, concernsAll, status);
  }

  #onFailure({ latest }: Series, error: string, concernsAll: boolean, status = 0): void {
    this.#counts.failed++;
    const next = status === 403 ? 'allow the agent the verbs create and patch on events' : undefined;
    // Once, until one is written again: it is told nowhere else, and nothing depends on it.
    if (!this.#isFailing) {
      const pod = `${latest.namespace}/${latest.name}`;
      this.#deps.log.warn('Events of pods cannot be written', { pod, reason: latest.reason, error, next });
    }
    this.#isFailing = true;
    if (!concernsAll) return;
    this.#pausedUntilMs = this.#deps.nowMs() + this.#limits.pauseMs;
    this.#counts.suppressed += this.#drop();
  }

  #drop(): number {
    const dropped = this.#queue.splice(0);
    for (const series of dropped) series.isQueued = false;
    return dropped.length;
  }
}

/** What a further occurrence changes. */
function changing({ latest, lastMs, count }: Series): object {
  return { type: latest.type, message: cut(latest.message), count, lastTimestamp: timestamp(lastMs) };
}

/** Puts it last, and forgets the first where there are too many. */
function remember<V>(map: Map<string, V>, key: string, value: V, max: number): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= max) return;
  for (const first of map.keys()) {
    map.delete(first);
    return;
  }
}

/** Of the pod's name as much as leaves a valid name. */
function eventNameOf(podName: string): string {
  const suffix = `.${randomBytes(8).toString('hex')}`;
  return `${podName.slice(0, MAX_NAME - suffix.length).replace(/[.-]+$/, '')}${suffix}`;
}

/** The API's times have no fractions. */
function timestamp(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}

/** The longest prefix of whole characters that the API takes. */
function cut(text: string): string {
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(MAX_MESSAGE_BYTES));
  return text.slice(0, read);
}
