// What is done to a pod, one step at a time: captured, served, released, let through. Steps keep their order and may be repeated;
// that only one is under way for a pod, and which one it should be, is enrolment's. Every change of a pod's state is here.
// Fails closed: rules come first and go last.
import { errorText } from '@ambit/log';
import { CniError } from '../errors.ts';
import type { HeldNetns } from '../netns/held-netns.ts';
import type { ClaimRequest, NetnsClaims } from '../netns/netns-claims.ts';
import { ownsAddress } from '../netns/netns-finder.ts';
import { type AgentPod, podName } from '../pod/agent-pod.ts';
import { l7WishOf } from '../pod/l7-annotation.ts';
import { redirectPlanOf } from '../pod/overrides.ts';
import type { RedirectPlan } from '../redirect/redirect-plan.ts';
import { REDIRECTION_ANNOTATION } from '../sources/pod-source.ts';
import type { EnrolmentCounters, EnrolmentDeps, EnrolmentOptions } from './enrolment-parts.ts';
import type { PodEntry, PodState } from './pod-state.ts';
import { membershipOf, workloadInfoOf } from './pod-wish.ts';

/** What steps share with enrolment. */
export interface PodStepsParts {
  readonly claims: NetnsClaims;
  readonly counters: EnrolmentCounters;
  readonly now: () => Date;
  /** Ends what is being waited for when the agent ends. */
  readonly ending: AbortSignal;
}

export class PodSteps {
  readonly #deps: EnrolmentDeps;
  readonly #options: EnrolmentOptions;
  readonly #parts: PodStepsParts;
  /** Fail-open: whether members are to be without rules. Set by enrolment. */
  isLifted = false;

  constructor(deps: EnrolmentDeps, options: EnrolmentOptions, parts: PodStepsParts) {
    this.#deps = deps;
    this.#options = options;
    this.#parts = parts;
  }

  /** Order matters: rules, ztunnel, probes, status. `waits`: for a ztunnel, if there is none now. */
  async enrol(entry: PodEntry, request: ClaimRequest, signal: AbortSignal, waits: boolean): Promise<void> {
    const { pod } = entry;
    const ips = request.ips.length > 0 ? request.ips : pod.ips;
    const { held, plan } = await this.#place(entry, { ...request, ips }, signal);
    const { backend, zds, status, log } = this.#deps;
    if (this.isLifted) {
      zds.add(pod.uid, workloadInfoOf(pod, this.#deps.registry), held);
      this.setState(entry, { kind: 'lifted', held, plan });
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
        this.#parts.claims.release(held);
        this.setState(entry, { kind: 'outside', held: undefined });
      }
      throw error;
    }
    const wasServed = entry.state.kind === 'served';
    if (!wasServed) this.setState(entry, { kind: 'captured', held, plan });
    zds.add(pod.uid, workloadInfoOf(pod, this.#deps.registry), held);
    // Of one that is noted as enabled, as after our own restart, that stays true until a ztunnel says no.
    if (status.wanted(pod.uid) === undefined) status.set(pod.uid, 'pending');
    try {
      await zds.enrolled(pod.uid, waits || zds.connections > 0 ? signal : AbortSignal.abort());
      await this.probe(entry, ips);
    } catch (error) {
      this.setState(entry, { kind: 'captured', held, plan });
      if (error instanceof CniError && error.code === 'enrol.refused') status.set(pod.uid, 'pending');
      throw error;
    }
    this.setState(entry, { kind: 'served', held, plan });
    status.set(pod.uid, 'enabled');
    entry.problem = undefined;
    if (wasServed) return;
    this.#parts.counters.enrolled++;
    log.info('Pod enrolled', { pod: podName(pod), uid: pod.uid });
  }

  /** Order matters: probes, rules, ztunnel, status. Of a pod that is gone only our own traces are removed. */
  async remove(entry: PodEntry, isGone: boolean): Promise<void> {
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
    if (isGone && held !== undefined) this.#parts.claims.release(held);
    this.setState(entry, { kind: 'outside', held: isGone ? undefined : held });
    if (!isGone) status.set(entry.uid, undefined);
    entry.problem = undefined;
    if (state.kind === 'outside') return;
    this.#parts.counters.removed++;
    log.info('Pod removed from the mesh', { pod: podName(pod), uid: pod.uid });
  }

  /** Fail-open: takes the rules off a member. */
  async lift(entry: PodEntry, { held, plan }: { held: HeldNetns; plan: RedirectPlan }): Promise<void> {
    await this.#deps.backend.remove(held.netns);
    this.setState(entry, { kind: 'lifted', held, plan });
    this.#deps.status.set(entry.uid, 'pending');
    this.#deps.log.warn('Pod speaks past the mesh until a ztunnel is there', { pod: podName(entry.pod) });
  }

  /** At start: what is in the kernel is compared and mended, and the pod is announced if it is a member. */
  async restore(entry: PodEntry, found: HeldNetns | undefined): Promise<void> {
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
          ? await this.#parts.claims.claim(pod, undefined, { ips: pod.ips, netnsPath: undefined }, this.patience())
          : await this.#parts.claims.accept(pod, undefined, found, pod.ips);
      this.#hold(entry, held);
      if (membershipOf(pod, this.#deps.registry, this.#options)?.member !== true) return;
      const { plan } = redirectPlanOf(pod, this.#options.plan);
      if (this.#options.reconcileAtStart || pod.annotations[REDIRECTION_ANNOTATION] !== 'enabled') {
        const { drift } = await this.#deps.backend.verify(held.netns, plan, undefined);
        if (drift.length > 0) await this.#deps.backend.apply(held.netns, plan);
      }
      this.#deps.zds.add(pod.uid, workloadInfoOf(pod, this.#deps.registry), held);
      this.setState(entry, { kind: 'captured', held, plan });
    } catch (error) {
      // It stays kept, and is taken in like any other pod as soon as it can be.
      this.#deps.log.debug('Pod not found at start', { pod: podName(pod), error: errorText(error) });
    }
  }

  /** Gives up a namespace that is no longer the pod's, and with it, or when asked to, what ztunnel made in it. */
  async distrust(entry: PodEntry, restart: boolean): Promise<void> {
    const { pod, state } = entry;
    const { held } = state;
    const isForeign = held !== undefined && pod.ips.length > 0 && !ownsAddress(held.netns, pod.ips);
    if (restart || isForeign) await this.#deps.zds.remove(entry.uid);
    if (restart && !isForeign && state.kind === 'served') this.setState(entry, { ...state, kind: 'captured' });
    if (!isForeign) return;
    this.#deps.log.warn('Pod is in another network than it was', { pod: podName(pod), netns: held.path });
    this.#parts.claims.release(held);
    this.setState(entry, { kind: 'outside', held: undefined });
  }

  /** Lets the kubelet's probes in from the host at these addresses, and no longer at earlier ones. */
  async probe(entry: PodEntry, ips: readonly string[]): Promise<void> {
    const { probes } = this.#deps;
    const isSame = ips.length === entry.probed.length && ips.every(ip => entry.probed.includes(ip));
    if (probes === undefined || isSame || ips.length === 0) return;
    await probes.set(entry.uid, ips);
    const stale = entry.probed.filter(ip => !ips.includes(ip));
    if (stale.length > 0) await probes.clear(entry.uid, stale);
    entry.probed = ips;
  }

  /** The first pod that starts should not wait for a trial of the rules that most pods get. */
  prepare(): void {
    const { backend, log } = this.#deps;
    try {
      backend.prepare?.(redirectPlanOf({ annotations: {} }, this.#options.plan).plan);
    } catch (error) {
      // Each pod's own attempt says so again, to whoever waits for it.
      log.warn('Rules cannot be prepared', { error: errorText(error) });
    }
  }

  /** The only way a state changes. */
  setState(entry: PodEntry, state: PodState): void {
    if (entry.state.kind !== state.kind) entry.since = this.#parts.now();
    entry.state = state;
  }

  /** How long a step without a caller of its own waits. */
  patience(): AbortSignal {
    return AbortSignal.any([this.#parts.ending, AbortSignal.timeout(this.#options.answerTimeoutMs)]);
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
    const held = await this.#parts.claims.claim(pod, entry.state.held, request, signal);
    this.#hold(entry, held);
    return { held, plan };
  }

  /** Replaces the namespace of a pod by another, whose rules and sockets are none yet. */
  #hold(entry: PodEntry, held: HeldNetns): void {
    const before = entry.state.held;
    if (before === held) return;
    this.setState(entry, { kind: 'outside', held });
    if (before !== undefined) this.#parts.claims.release(before);
  }

  async #lookFor(pod: AgentPod): Promise<HeldNetns | undefined> {
    try {
      return await this.#parts.claims.claim(pod, undefined, { ips: pod.ips, netnsPath: undefined }, this.patience());
    } catch (error) {
      this.#deps.log.warn('No network to clean up', { pod: podName(pod), error: errorText(error) });
      return undefined;
    }
  }
}
