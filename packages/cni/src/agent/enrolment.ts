// Makes every pod of the node what it should be: a member is captured by rules and served by ztunnel, an outsider has nothing
// of ours. Driven by what sources say, by the CNI plugin, by ztunnel's answers and by the audit; all of them lead to one question,
// what should this pod be and what is it, and that is asked here. When is pod-turns.ts's, how is pod-steps.ts's.
import type { CniError } from '../errors.ts';
import type { HeldNetns } from '../netns/held-netns.ts';
import { type ClaimRequest, NetnsClaims } from '../netns/netns-claims.ts';
import type { AgentPod } from '../pod/agent-pod.ts';
import type { MembershipAnswer } from '../pod/membership.ts';
import { REDIRECTION_ANNOTATION } from '../sources/pod-source.ts';
import type { EnrolmentCounters, EnrolmentDeps, EnrolmentOptions } from './enrolment-parts.ts';
import { PodEntries } from './pod-entries.ts';
import { isTerminated, type PodEntry } from './pod-state.ts';
import { PodSteps } from './pod-steps.ts';
import { FIRST_RETRY_MS, PodTurns } from './pod-turns.ts';
import { concernsPods, membershipOf, notedStatus, workloadInfoOf } from './pod-wish.ts';

export type { EnrolmentOptions } from './enrolment-parts.ts';

const SWEEP_MS = 60_000;

export class Enrolment {
  readonly #deps: EnrolmentDeps;
  readonly #options: EnrolmentOptions;
  readonly #claims: NetnsClaims;
  readonly #steps: PodSteps;
  readonly #turns: PodTurns;
  readonly #entries: PodEntries;
  readonly #ending = new AbortController();
  #sweep: NodeJS.Timeout | undefined;
  readonly counters: EnrolmentCounters = { add: 0, update: 0, delete: 0, enrolled: 0, removed: 0, failed: 0 };

  constructor(deps: EnrolmentDeps, options: EnrolmentOptions) {
    this.#deps = deps;
    this.#options = options;
    const { finder, status, log, now = () => new Date() } = deps;
    this.#entries = new PodEntries(status, now);
    this.#claims = new NetnsClaims({ finder, hostRoot: options.hostRoot, evict: async uid => this.#evict(uid) });
    const shared = { counters: this.counters, ending: this.#ending.signal };
    this.#steps = new PodSteps(deps, options, { ...shared, claims: this.#claims, now });
    this.#turns = new PodTurns({ ...shared, reconcile: async entry => this.#reconcile(entry), status, log });
  }

  /** As the README's picture has it, for whoever looks on; do not change them. */
  get entries(): Iterable<Readonly<PodEntry>> {
    return this.#entries.all();
  }

  entry(uid: string): Readonly<PodEntry> | undefined {
    return this.#entries.get(uid);
  }

  /** undefined: its namespace is not known (yet), so nothing may be concluded. */
  membershipOf(pod: AgentPod): MembershipAnswer | undefined {
    return membershipOf(pod, this.#deps.registry, this.#options);
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
          if (!concernsPods(namespace, before, this.#options.rules.selectors)) return;
          for (const pod of registry.pods())
            if (pod.namespace === namespace.name) this.#turns.schedule(this.#entries.of(pod), 'update');
        },
      },
      signal,
    );
    const pods = [...registry.pods()].filter(pod => !pod.hostNetwork && !isTerminated(pod));
    // Of one whose namespace is not known nothing is concluded: whoever serves it goes on.
    const members = pods.filter(pod => this.membershipOf(pod)?.member !== false);
    for (const { uid } of members) this.#deps.zds.keep(uid);
    // Known from now on, so that what happens to them while they are looked for is not lost.
    const entries = pods.map(pod => this.#entries.of(pod));
    const unplaced = pods.filter(({ netnsPath }) => netnsPath === undefined);
    const found = unplaced.length === 0 ? new Map<string, HeldNetns>() : await finder.find(unplaced, signal);
    await Promise.all(
      entries.map(async each =>
        this.#turns.serial(each, async entry => this.#steps.restore(entry, found.get(entry.uid))),
      ),
    );
    await probes?.prune(
      new Map(members.map(({ uid, ips }) => [uid, ips])),
      members.every(({ ips }) => ips.length > 0),
    );
    this.#steps.prepare();
    for (const pod of registry.pods()) this.#turns.schedule(this.#entries.of(pod), 'add');
    this.#sweep = setInterval(() => this.collectGarbage(), SWEEP_MS);
    this.#sweep.unref();
  }

  /** Resolves when the pod is captured and served. May be called again at any time. @throws CniError */
  async enrol(pod: AgentPod, request: ClaimRequest, signal: AbortSignal): Promise<void> {
    const entry = this.#entries.of(this.#deps.registry.byUid(pod.uid) ?? pod);
    const until = AbortSignal.any([signal, this.#ending.signal, entry.abort.signal]);
    await this.#turns.serial(entry, async () => {
      try {
        await this.#steps.enrol(entry, request, until, true);
      } catch (error) {
        this.#turns.failed(entry, error);
        throw error;
      }
    });
  }

  /**
   * As the pod's source has it, from the namespace up, whatever we believed before. `restart` also has ztunnel open its
   * listeners anew, which ends the pod's connections. @throws CniError
   */
  async enrolAgain(uid: string, restart: boolean): Promise<void> {
    const entry = this.#entries.known(uid);
    await this.#turns.serial(entry, async () => {
      await this.#steps.distrust(entry, restart);
      await this.#steps.enrol(entry, { ips: [], netnsPath: undefined }, this.#steps.patience(), false);
    });
  }

  /** Removes what is ours from a pod that should not be a member. @throws CniError */
  async removeLeftovers(uid: string): Promise<void> {
    const entry = this.#entries.known(uid);
    await this.#turns.serial(entry, async () => {
      // Whoever asked may have looked before it became one.
      if (this.membershipOf(entry.pod)?.member === false) await this.#steps.remove(entry, false);
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
      this.#steps.setState(entry, { ...entry.state, kind: 'captured' });
      this.#deps.status.set(uid, 'pending');
    }
    // Whoever waits for this refusal makes the pause longer each time; asking at once would never end.
    if (entry.state.kind === 'captured')
      this.#turns.schedule(entry, undefined, error === undefined ? 0 : FIRST_RETRY_MS);
  }

  /** Fail-open: takes the rules off all members, or puts them back. */
  setLifted(isLifted: boolean): void {
    if (this.#steps.isLifted === isLifted) return;
    this.#steps.isLifted = isLifted;
    for (const entry of this.#entries.all()) if (entry.state.kind !== 'outside') this.#turns.schedule(entry, undefined);
  }

  /**
   * Looks after what no event speaks of: pods that the plugin enrolled and no source ever saw, and members that could not
   * be enrolled for a reason that time alone does not mend, once more.
   */
  collectGarbage(): void {
    for (const entry of this.#entries.all()) {
      const isGone = this.#deps.registry.byUid(entry.uid) === undefined;
      if (isGone || (entry.state.kind === 'outside' && entry.problem !== undefined))
        this.#turns.schedule(entry, undefined);
    }
  }

  /** Forgets without undoing: rules stay where they are, so members stay protected while no agent is there. */
  async close(): Promise<void> {
    clearInterval(this.#sweep);
    this.#ending.abort();
    for (const entry of this.#entries.all()) {
      clearTimeout(entry.timer);
      entry.abort.abort();
    }
    await Promise.all([...this.#entries.all()].map(async entry => entry.tail));
    for (const { state } of this.#entries.all()) if (state.held !== undefined) this.#claims.release(state.held);
    this.#entries.clear();
  }

  #onPod(pod: AgentPod, before: AgentPod | undefined): void {
    const entry = this.#entries.of(pod);
    this.#deps.status.seen(pod.uid, notedStatus(pod));
    // New pods come through the plugin; those that do not are found unenrolled and taken in the same way.
    this.#turns.schedule(entry, before === undefined ? 'add' : 'update');
  }

  #onGone(pod: AgentPod): void {
    this.counters.delete++;
    const entry = this.#entries.get(pod.uid);
    if (entry === undefined) return;
    entry.abort.abort();
    entry.abort = new AbortController();
    this.#turns.schedule(entry, undefined);
  }

  async #reconcile(entry: PodEntry): Promise<void> {
    const pod = this.#deps.registry.byUid(entry.uid);
    if (pod === undefined) {
      await this.#steps.remove(entry, true);
      // Sources change over, and lists go back in time: it may have come back meanwhile, and its turn is next.
      if (this.#deps.registry.byUid(entry.uid) !== undefined) return;
      this.#entries.forget(entry.uid);
      return;
    }
    entry.pod = pod;
    if (pod.hostNetwork) return;
    const { state } = entry;
    const answer = this.membershipOf(pod);
    if (isTerminated(pod)) {
      if (state.kind !== 'outside' || state.held !== undefined) await this.#steps.remove(entry, true);
    } else if (answer === undefined) {
      return;
    } else if (!answer.member) {
      // The annotation may be older than this agent, and rules with it.
      const isNoted = pod.annotations[REDIRECTION_ANNOTATION] !== undefined;
      if (state.kind !== 'outside' || (isNoted && entry.failures === 0)) await this.#steps.remove(entry, false);
    } else if (this.#steps.isLifted) {
      if (state.kind === 'captured' || state.kind === 'served') await this.#steps.lift(entry, state);
    } else if (state.kind === 'served') {
      // Nothing new unless its description changed, which a ztunnel that serves it takes over or ignores.
      this.#deps.zds.add(pod.uid, workloadInfoOf(pod, this.#deps.registry), state.held);
      await this.#steps.probe(entry, pod.ips);
    } else if (pod.ips.length > 0 || pod.netnsPath !== undefined || state.kind !== 'outside') {
      const until = AbortSignal.any([this.#steps.patience(), entry.abort.signal]);
      await this.#steps.enrol(entry, { ips: [], netnsPath: undefined }, until, false);
    }
  }

  async #evict(uid: string): Promise<boolean> {
    const entry = this.#entries.get(uid);
    const pod = this.#deps.registry.byUid(uid);
    if (pod !== undefined && !isTerminated(pod)) return false;
    if (entry !== undefined) await this.#turns.serial(entry, async () => this.#steps.remove(entry, true));
    return true;
  }
}
