// Makes every pod of the node what it should be: a member is captured by rules and served by ztunnel, an outsider has nothing
// of ours. Driven by what sources say, by the CNI plugin, by ztunnel's answers and by the audit; whatever the order, one
// thing at a time happens to a pod, each step may be repeated, and different pods do not wait for each other.
// Fails closed: rules come first and go last, so at no moment does a member speak past ztunnel (unless `open` was chosen).
// One file because the state machine of a pod must be seen whole; what a step does is elsewhere.
import { type Log, errorText } from '@ambit/log';
import type { WorkloadInfo } from '@ambit/wire';
import { CniError } from '../errors.ts';
import type { HeldNetns } from '../netns/held-netns.ts';
import { type ClaimRequest, NetnsClaims } from '../netns/netns-claims.ts';
import { type NetnsFinder, ownsAddress } from '../netns/netns-finder.ts';
import { type AgentPod, podName } from '../pod/agent-pod.ts';
import { L7_ANNOTATION, l7WishOf } from '../pod/l7-annotation.ts';
import {
  isZtunnelPod,
  membership,
  type MembershipAnswer,
  type MembershipRules,
  namespaceEnables,
} from '../pod/membership.ts';
import { type PlanDefaults, redirectPlanOf } from '../pod/overrides.ts';
import type { RedirectBackend, RedirectPlan } from '../redirect/redirect-plan.ts';
import { REDIRECTION_ANNOTATION, type RedirectionStatus } from '../sources/pod-source.ts';
import type { ZdsServer } from '../zds/zds-server.ts';
import type { PodRegistry } from './pod-registry.ts';
import { isRetryable, isTerminated, newEntry, type PodEntry, type PodState } from './pod-state.ts';
import type { ProbeSet } from './probe-set.ts';
import type { StatusWriter } from './status-writer.ts';

export interface EnrolmentDeps {
  readonly registry: PodRegistry;
  readonly zds: ZdsServer;
  readonly backend: RedirectBackend;
  /** undefined: nobody probes pods here. */
  readonly probes: ProbeSet | undefined;
  readonly finder: NetnsFinder;
  readonly status: StatusWriter;
  readonly log: Log;
  readonly now?: () => Date;
}

export interface EnrolmentOptions {
  readonly rules: MembershipRules;
  readonly plan: PlanDefaults;
  /** Where ztunnel's own pods are. */
  readonly systemNamespace: string;
  readonly hostRoot: string;
  /** Whether rules of pods that were enrolled before the agent's start are compared and mended. */
  readonly reconcileAtStart: boolean;
  /** How long a ztunnel may take to serve a pod, or to come, before it is tried again. */
  readonly answerTimeoutMs: number;
}

export interface EnrolmentCounters {
  add: number;
  update: number;
  delete: number;
  enrolled: number;
  removed: number;
  failed: number;
}

const FIRST_RETRY_MS = 5;
const MAX_RETRY_MS = 5_000;
const SWEEP_MS = 60_000;

export class Enrolment {
  readonly #deps: EnrolmentDeps;
  readonly #options: EnrolmentOptions;
  readonly #claims: NetnsClaims;
  readonly #entries = new Map<string, PodEntry>();
  readonly #ending = new AbortController();
  #sweep: NodeJS.Timeout | undefined;
  #isLifted = false;
  readonly counters: EnrolmentCounters = { add: 0, update: 0, delete: 0, enrolled: 0, removed: 0, failed: 0 };

  constructor(deps: EnrolmentDeps, options: EnrolmentOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#claims = new NetnsClaims({
      finder: deps.finder,
      hostRoot: options.hostRoot,
      evict: async uid => this.#evict(uid),
    });
  }

  /** As the README's picture has it, for whoever looks on; do not change them. */
  get entries(): Iterable<Readonly<PodEntry>> {
    return this.#entries.values();
  }

  entry(uid: string): Readonly<PodEntry> | undefined {
    return this.#entries.get(uid);
  }

  /** undefined: its namespace is not known (yet), so nothing may be concluded. */
  membershipOf(pod: AgentPod): MembershipAnswer | undefined {
    const namespace = this.#deps.registry.namespaceOf(pod);
    if (namespace === undefined) return undefined;
    if (isZtunnelPod(pod, this.#options.systemNamespace)) return { member: false, why: 'it is a ztunnel' };
    return membership(pod, namespace, this.#options.rules);
  }

  /**
   * Learns what there is, from the sources and from the kernel, and announces it: the caller lets ztunnels in after that, so
   * that none ends a pod it serves. Pods that changed while the agent was away are brought into order behind.
   * @throws CniError what the sources or the host's rules throw
   */
  async start(signal: AbortSignal): Promise<void> {
    const { registry, finder, probes } = this.#deps;
    await registry.start(
      {
        onPod: (pod, before) => this.#onPod(pod, before),
        onPodGone: pod => this.#onGone(pod),
        onNamespace: (namespace, before) => {
          const { selectors } = this.#options.rules;
          if (
            before !== undefined &&
            namespaceEnables(selectors, namespace.labels) === namespaceEnables(selectors, before.labels) &&
            namespace.annotations?.[L7_ANNOTATION] === before.annotations?.[L7_ANNOTATION]
          )
            return;
          for (const pod of registry.pods())
            if (pod.namespace === namespace.name) this.#schedule(this.#entryOf(pod), 'update');
        },
      },
      signal,
    );
    const pods = [...registry.pods()].filter(pod => !pod.hostNetwork && !isTerminated(pod));
    // Of one whose namespace is not known nothing is concluded: whoever serves it goes on.
    const members = pods.filter(pod => this.membershipOf(pod)?.member !== false);
    for (const { uid } of members) this.#deps.zds.keep(uid);
    // Known from now on, so that what happens to them while they are looked for is not lost.
    const entries = pods.map(pod => this.#entryOf(pod));
    const unplaced = pods.filter(({ netnsPath }) => netnsPath === undefined);
    const found = unplaced.length === 0 ? new Map<string, HeldNetns>() : await finder.find(unplaced, signal);
    await Promise.all(
      entries.map(async each => this.#serial(each, async entry => this.#restore(entry, found.get(entry.uid)))),
    );
    await probes?.prune(
      new Map(members.map(({ uid, ips }) => [uid, ips])),
      members.every(({ ips }) => ips.length > 0),
    );
    this.#prepare();
    for (const pod of registry.pods()) this.#schedule(this.#entryOf(pod), 'add');
    this.#sweep = setInterval(() => this.collectGarbage(), SWEEP_MS);
    this.#sweep.unref();
  }

  /** The first pod that starts should not wait for a trial of the rules that most pods get. */
  #prepare(): void {
    const { backend, log } = this.#deps;
    try {
      backend.prepare?.(redirectPlanOf({ annotations: {} }, this.#options.plan).plan);
    } catch (error) {
      // Each pod's own attempt says so again, to whoever waits for it.
      log.warn('Rules cannot be prepared', { error: errorText(error) });
    }
  }

  /** Resolves when the pod is captured and served. May be called again at any time. @throws CniError */
  async enrol(pod: AgentPod, request: ClaimRequest, signal: AbortSignal): Promise<void> {
    const entry = this.#entryOf(this.#deps.registry.byUid(pod.uid) ?? pod);
    const until = AbortSignal.any([signal, this.#ending.signal, entry.abort.signal]);
    await this.#serial(entry, async () => {
      try {
        await this.#enrol(entry, request, until, true);
      } catch (error) {
        this.#onFailure(entry, error);
        throw error;
      }
    });
  }

  /**
   * As the pod's source has it, from the namespace up, whatever we believed before. `restart` also has ztunnel open its
   * listeners anew, which ends the pod's connections. @throws CniError
   */
  async enrolAgain(uid: string, restart: boolean): Promise<void> {
    const entry = this.#known(uid);
    await this.#serial(entry, async () => {
      await this.#distrust(entry, restart);
      await this.#enrol(entry, { ips: [], netnsPath: undefined }, this.#patience(), false);
    });
  }

  /** Removes what is ours from a pod that should not be a member. @throws CniError */
  async removeLeftovers(uid: string): Promise<void> {
    const entry = this.#known(uid);
    await this.#serial(entry, async () => {
      // Whoever asked may have looked before it became one.
      if (this.membershipOf(entry.pod)?.member === false) await this.#remove(entry, false);
    });
  }

  /** Whether a path leads to the namespace that the pod is enrolled with. */
  isNetnsOf(uid: string, netnsPath: string): boolean {
    const held = this.#entries.get(uid)?.state.held;
    return held !== undefined && this.#claims.isSame(held, netnsPath);
  }

  /** ztunnel's answer for a pod, asked for or with a snapshot. */
  onAnswer(uid: string, error: CniError | undefined): void {
    const entry = this.#entries.get(uid);
    if (entry === undefined) return;
    if (error !== undefined && entry.state.kind === 'served') {
      entry.problem = error;
      this.#setState(entry, { ...entry.state, kind: 'captured' });
      this.#deps.status.set(uid, 'pending');
    }
    // Whoever waits for this refusal makes the pause longer each time; asking at once would never end.
    if (entry.state.kind === 'captured') this.#schedule(entry, undefined, error === undefined ? 0 : FIRST_RETRY_MS);
  }

  /** Fail-open: takes the rules off all members, or puts them back. */
  setLifted(isLifted: boolean): void {
    if (this.#isLifted === isLifted) return;
    this.#isLifted = isLifted;
    for (const entry of this.#entries.values()) if (entry.state.kind !== 'outside') this.#schedule(entry, undefined);
  }

  /** Forgets without undoing: rules stay where they are, so members stay protected while no agent is there. */
  async close(): Promise<void> {
    clearInterval(this.#sweep);
    this.#ending.abort();
    for (const entry of this.#entries.values()) {
      clearTimeout(entry.timer);
      entry.abort.abort();
    }
    await Promise.all([...this.#entries.values()].map(async entry => entry.tail));
    for (const { state } of this.#entries.values()) if (state.held !== undefined) this.#claims.release(state.held);
    this.#entries.clear();
  }

  #onPod(pod: AgentPod, before: AgentPod | undefined): void {
    const entry = this.#entryOf(pod);
    this.#deps.status.seen(pod.uid, notedStatus(pod));
    // New pods come through the plugin; those that do not are found unenrolled and taken in the same way.
    this.#schedule(entry, before === undefined ? 'add' : 'update');
  }

  #onGone(pod: AgentPod): void {
    this.counters.delete++;
    const entry = this.#entries.get(pod.uid);
    if (entry === undefined) return;
    entry.abort.abort();
    entry.abort = new AbortController();
    this.#schedule(entry, undefined);
  }

  #entryOf(pod: AgentPod): PodEntry {
    const known = this.#entries.get(pod.uid);
    if (known !== undefined) {
      known.pod = pod;
      return known;
    }
    const entry = newEntry(pod, this.#now());
    this.#entries.set(pod.uid, entry);
    this.#deps.status.found(pod.uid, notedStatus(pod));
    return entry;
  }

  #known(uid: string): PodEntry {
    const entry = this.#entries.get(uid);
    if (entry === undefined) throw new CniError('enrol.unknown_pod', `pod ${uid} is not on this node`);
    return entry;
  }

  /** One after another for a pod. The outcome is the caller's; the next begins whatever it was. */
  async #serial<T>(entry: PodEntry, step: (entry: PodEntry) => Promise<T>): Promise<T> {
    const run = entry.tail.then(async () => step(entry));
    entry.tail = run.then(
      () => undefined,
      () => undefined,
    );
    return run;
  }

  /** Brings the pod into order soon; several reasons at once are one. */
  #schedule(entry: PodEntry, event: 'add' | 'update' | undefined, delayMs = 0): void {
    if (event !== undefined) {
      this.counters[event]++;
      entry.failures = 0;
    }
    if (this.#ending.signal.aborted) return;
    clearTimeout(entry.timer);
    if (delayMs > 0) {
      entry.timer = setTimeout(() => this.#schedule(entry, undefined), delayMs);
      entry.timer.unref();
      return;
    }
    if (entry.isQueued) return;
    entry.isQueued = true;
    void this.#serial(entry, async () => {
      entry.isQueued = false;
      try {
        await this.#reconcile(entry);
        entry.failures = 0;
      } catch (error) {
        this.#onFailure(entry, error);
      }
    });
  }

  #onFailure(entry: PodEntry, error: unknown): void {
    if (this.#ending.signal.aborted) return;
    this.counters.failed++;
    const failure = error instanceof CniError ? error : new CniError('enrol.rules', errorText(error), { cause: error });
    entry.problem = failure;
    // Not found is not gone: after our own restart rules and ztunnel may be in place, unseen.
    if (entry.state.kind === 'outside' && failure.code !== 'enrol.no_netns') {
      this.#deps.status.set(entry.uid, undefined);
    }
    const retryMs = isRetryable(failure)
      ? Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(entry.failures++, 20))
      : undefined;
    // ztunnel's arrival asks again by itself; each try would only say the same.
    const waits = failure.code === 'enrol.no_ztunnel';
    this.#deps.log[waits ? 'debug' : 'warn']('Pod is not as it should be', {
      pod: podName(entry.pod),
      code: failure.code,
      error: failure.message,
      retryMs: waits ? undefined : retryMs,
    });
    if (retryMs !== undefined && !waits) this.#schedule(entry, undefined, retryMs);
  }

  async #reconcile(entry: PodEntry): Promise<void> {
    const pod = this.#deps.registry.byUid(entry.uid);
    if (pod === undefined) {
      await this.#remove(entry, true);
      // Sources change over, and lists go back in time: it may have come back meanwhile, and its turn is next.
      if (this.#deps.registry.byUid(entry.uid) !== undefined) return;
      this.#entries.delete(entry.uid);
      this.#deps.status.forget(entry.uid);
      return;
    }
    entry.pod = pod;
    if (pod.hostNetwork) return;
    const { state } = entry;
    const answer = this.membershipOf(pod);
    if (isTerminated(pod)) {
      if (state.kind !== 'outside' || state.held !== undefined) await this.#remove(entry, true);
    } else if (answer === undefined) {
      return;
    } else if (!answer.member) {
      // The annotation may be older than this agent, and rules with it.
      const isNoted = pod.annotations[REDIRECTION_ANNOTATION] !== undefined;
      if (state.kind !== 'outside' || (isNoted && entry.failures === 0)) await this.#remove(entry, false);
    } else if (this.#isLifted) {
      if (state.kind === 'captured' || state.kind === 'served') await this.#lift(entry, state);
    } else if (state.kind === 'served') {
      // Nothing new unless its description changed, which a ztunnel that serves it takes over or ignores.
      this.#deps.zds.add(pod.uid, this.#infoOf(pod), state.held);
      await this.#probe(entry, pod.ips);
    } else if (pod.ips.length > 0 || pod.netnsPath !== undefined || state.kind !== 'outside') {
      const until = AbortSignal.any([this.#patience(), entry.abort.signal]);
      await this.#enrol(entry, { ips: [], netnsPath: undefined }, until, false);
    }
  }

  /** Order matters: rules, ztunnel, probes, status. `waits`: for a ztunnel, if there is none now. */
  async #enrol(entry: PodEntry, request: ClaimRequest, signal: AbortSignal, waits: boolean): Promise<void> {
    const { pod } = entry;
    const ips = request.ips.length > 0 ? request.ips : pod.ips;
    const { held, plan } = await this.#place(entry, { ...request, ips }, signal);
    const { backend, zds, status, log } = this.#deps;
    if (this.#isLifted) {
      zds.add(pod.uid, this.#infoOf(pod), held);
      this.#setState(entry, { kind: 'lifted', held, plan });
      status.set(pod.uid, 'pending');
      log.warn('Pod starts unprotected: no ztunnel is there, and the fail mode is open', { pod: podName(pod) });
      return;
    }
    try {
      await backend.apply(held.netns, plan);
    } catch (error) {
      // Whoever had nothing of ours before has nothing now that we would have to look after.
      if (entry.state.kind === 'outside') {
        await zds.remove(entry.uid);
        this.#claims.release(held);
        this.#setState(entry, { kind: 'outside', held: undefined });
      }
      throw error;
    }
    const wasServed = entry.state.kind === 'served';
    if (!wasServed) this.#setState(entry, { kind: 'captured', held, plan });
    zds.add(pod.uid, this.#infoOf(pod), held);
    // Of one that is noted as enabled, as after our own restart, that stays true until a ztunnel says no.
    if (status.wanted(pod.uid) === undefined) status.set(pod.uid, 'pending');
    try {
      await zds.enrolled(pod.uid, waits || zds.connections > 0 ? signal : AbortSignal.abort());
      await this.#probe(entry, ips);
    } catch (error) {
      this.#setState(entry, { kind: 'captured', held, plan });
      if (error instanceof CniError && error.code === 'enrol.refused') status.set(pod.uid, 'pending');
      throw error;
    }
    this.#setState(entry, { kind: 'served', held, plan });
    status.set(pod.uid, 'enabled');
    entry.problem = undefined;
    if (wasServed) return;
    this.counters.enrolled++;
    log.info('Pod enrolled', { pod: podName(pod), uid: pod.uid });
  }

  async #place(
    entry: PodEntry,
    request: ClaimRequest,
    signal: AbortSignal,
  ): Promise<{ held: HeldNetns; plan: RedirectPlan }> {
    const { pod } = entry;
    const { plan, warnings } = redirectPlanOf(pod, this.#options.plan);
    const l7 = l7WishOf(pod, this.#deps.registry.namespaceOf(pod));
    for (const warning of l7.warning === undefined ? warnings : [...warnings, l7.warning])
      this.#deps.log.warn('Annotation ignored', { pod: podName(pod), warning });
    const held = await this.#claims.claim(pod, entry.state.held, request, signal);
    this.#hold(entry, held);
    return { held, plan };
  }

  /** Replaces the namespace of a pod by another, whose rules and sockets are none yet. */
  #hold(entry: PodEntry, held: HeldNetns): void {
    const before = entry.state.held;
    if (before === held) return;
    this.#setState(entry, { kind: 'outside', held });
    if (before !== undefined) this.#claims.release(before);
  }

  async #probe(entry: PodEntry, ips: readonly string[]): Promise<void> {
    const { probes } = this.#deps;
    const isSame = ips.length === entry.probed.length && ips.every(ip => entry.probed.includes(ip));
    if (probes === undefined || isSame || ips.length === 0) return;
    await probes.set(entry.uid, ips);
    const stale = entry.probed.filter(ip => !ips.includes(ip));
    if (stale.length > 0) await probes.clear(entry.uid, stale);
    entry.probed = ips;
  }

  /** Order matters: probes, rules, ztunnel, status. Of a pod that is gone only our own traces are removed. */
  async #remove(entry: PodEntry, isGone: boolean): Promise<void> {
    const { probes, backend, zds, status, log } = this.#deps;
    const { pod, state } = entry;
    const probed = entry.probed.length > 0 ? entry.probed : pod.ips;
    if (probes !== undefined && probed.length > 0) await probes.clear(entry.uid, probed);
    entry.probed = [];
    const held = isGone ? state.held : (state.held ?? (await this.#lookFor(pod)));
    if (!isGone && held !== undefined) {
      // Ours from now on, also if what follows fails.
      this.#hold(entry, held);
      await backend.remove(held.netns);
    }
    await zds.remove(entry.uid);
    if (isGone && held !== undefined) this.#claims.release(held);
    this.#setState(entry, { kind: 'outside', held: isGone ? undefined : held });
    if (!isGone) status.set(entry.uid, undefined);
    entry.problem = undefined;
    if (state.kind === 'outside') return;
    this.counters.removed++;
    log.info('Pod removed from the mesh', { pod: podName(pod), uid: pod.uid });
  }

  async #lift(entry: PodEntry, { held, plan }: { held: HeldNetns; plan: RedirectPlan }): Promise<void> {
    await this.#deps.backend.remove(held.netns);
    this.#setState(entry, { kind: 'lifted', held, plan });
    this.#deps.status.set(entry.uid, 'pending');
    this.#deps.log.warn('Pod speaks past the mesh until a ztunnel is there', { pod: podName(entry.pod) });
  }

  /** At start: what is in the kernel is compared and mended, and the pod is announced if it is a member. */
  async #restore(entry: PodEntry, found: HeldNetns | undefined): Promise<void> {
    const { pod } = entry;
    if (this.#deps.registry.byUid(entry.uid) === undefined || entry.state.held !== undefined) {
      // Gone, or taken in by an event, while it was looked for.
      found?.close();
      return;
    }
    if (found === undefined && pod.netnsPath === undefined) return;
    try {
      const held =
        found === undefined
          ? await this.#claims.claim(pod, undefined, { ips: pod.ips, netnsPath: undefined }, this.#patience())
          : await this.#claims.accept(pod, undefined, found, pod.ips);
      this.#hold(entry, held);
      if (this.membershipOf(pod)?.member !== true) return;
      const { plan } = redirectPlanOf(pod, this.#options.plan);
      if (this.#options.reconcileAtStart || pod.annotations[REDIRECTION_ANNOTATION] !== 'enabled') {
        const { drift } = await this.#deps.backend.verify(held.netns, plan, undefined);
        if (drift.length > 0) await this.#deps.backend.apply(held.netns, plan);
      }
      this.#deps.zds.add(pod.uid, this.#infoOf(pod), held);
      this.#setState(entry, { kind: 'captured', held, plan });
    } catch (error) {
      // It stays kept, and is taken in like any other pod as soon as it can be.
      this.#deps.log.debug('Pod not found at start', { pod: podName(pod), error: errorText(error) });
    }
  }

  /** Gives up a namespace that is no longer the pod's, and with it, or when asked to, what ztunnel made in it. */
  async #distrust(entry: PodEntry, restart: boolean): Promise<void> {
    const { pod, state } = entry;
    const { held } = state;
    const isForeign = held !== undefined && pod.ips.length > 0 && !ownsAddress(held.netns, pod.ips);
    if (restart || isForeign) await this.#deps.zds.remove(entry.uid);
    if (restart && !isForeign && state.kind === 'served') this.#setState(entry, { ...state, kind: 'captured' });
    if (!isForeign) return;
    this.#deps.log.warn('Pod is in another network than it was', { pod: podName(pod), netns: held.path });
    this.#claims.release(held);
    this.#setState(entry, { kind: 'outside', held: undefined });
  }

  async #lookFor(pod: AgentPod): Promise<HeldNetns | undefined> {
    try {
      return await this.#claims.claim(pod, undefined, { ips: pod.ips, netnsPath: undefined }, this.#patience());
    } catch (error) {
      this.#deps.log.warn('No network to clean up', { pod: podName(pod), error: errorText(error) });
      return undefined;
    }
  }

  async #evict(uid: string): Promise<boolean> {
    const entry = this.#entries.get(uid);
    const pod = this.#deps.registry.byUid(uid);
    if (pod !== undefined && !isTerminated(pod)) return false;
    if (entry !== undefined) await this.#serial(entry, async () => this.#remove(entry, true));
    return true;
  }

  #setState(entry: PodEntry, state: PodState): void {
    if (entry.state.kind !== state.kind) entry.since = this.#now();
    entry.state = state;
  }

  /**
   * Looks after what no event speaks of: pods that the plugin enrolled and no source ever saw, and members that could not
   * be enrolled for a reason that time alone does not mend, once more.
   */
  collectGarbage(): void {
    for (const entry of this.#entries.values()) {
      const isGone = this.#deps.registry.byUid(entry.uid) === undefined;
      if (isGone || (entry.state.kind === 'outside' && entry.problem !== undefined)) this.#schedule(entry, undefined);
    }
  }

  #patience(): AbortSignal {
    return AbortSignal.any([this.#ending.signal, AbortSignal.timeout(this.#options.answerTimeoutMs)]);
  }

  #infoOf(pod: AgentPod): WorkloadInfo {
    const { name, namespace, serviceAccount } = pod;
    const { text } = l7WishOf(pod, this.#deps.registry.namespaceOf(pod));
    return { name, namespace, serviceAccount, ...(text === undefined ? {} : { l7: text }) };
  }

  #now(): Date {
    return (this.#deps.now ?? (() => new Date()))();
  }
}

function notedStatus({ annotations }: AgentPod): RedirectionStatus {
  const noted = annotations[REDIRECTION_ANNOTATION];
  return noted === 'enabled' || noted === 'pending' ? noted : undefined;
}
