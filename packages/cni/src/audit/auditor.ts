// The continuous proof: looks at every pod every few seconds, asks canaries, keeps the ledger and mends. Takes its turns in slices,
// so that an ADD never waits for it. Fails open: whatever goes wrong in here changes nothing for pods, and is logged.
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises';
import { errorText, type Log } from '@ambit/log';
import { podName } from '../pod/agent-pod.ts';
import type { RedirectBackend } from '../redirect/redirect-plan.ts';
import type { AuditSubject } from './audit-types.ts';
import { type CanaryQuestion, CanaryRounds, excuse, firstCanaryMs, isUnconfirmed } from './canary-rounds.ts';
import { checkPod, type Condition, isCause } from './check-pod.ts';
import { checkHost, checkZtunnel } from './check-node.ts';
import { Ledger, type LedgerEvent, type ListedFinding, NODE, type Place } from './ledger.ts';
import {
  addressAt,
  type AddressPlaces,
  addressPlaces,
  ageMs,
  FIRST_LOOK_MS,
  isUnseen,
  lookAt,
  newWatch,
  placeOf,
  type PodWatch,
  wayKey,
} from './pod-watch.ts';
import { Repairs } from './repairs.ts';

export interface AuditorDeps {
  readonly subject: AuditSubject;
  readonly backend: RedirectBackend;
  readonly log: Log;
  /** Where the node's file system is seen; empty: as it is. */
  readonly hostRoot: string;
  /** Told of every finding, and of its end; must neither throw nor take time. */
  readonly onEvent?: ((event: LedgerEvent) => void) | undefined;
}

export interface AuditorOptions {
  /** Whether findings are mended. */
  readonly repair: boolean;
  /**
   * From one look at a pod to the next. Default 4500: what drifts is a finding within ten seconds, with a canary that is
   * waited for twice.
   */
  readonly periodMs?: number;
}

export interface RunOptions {
  /** False: this look mends nothing, and nothing else does while it lasts. */
  readonly repair: boolean;
  readonly signal: AbortSignal;
}

export interface AuditCounters {
  runs: number;
  /** Of the last look at all pods. */
  lastRunMs: number;
  lastRunAt: Date | undefined;
}

const PERIOD_MS = 4_500;
/** Of looks at all pods. */
const WHOLE_EVERY = 2;
/** Longest time the event loop is kept. */
const SLICE_MS = 4;
/** Between two turns, so that many small reasons are one. */
const MIN_PAUSE_MS = 25;
/** A ztunnel that comes or goes concerns every pod, and asking costs nothing. */
const ZTUNNEL_WATCH_MS = 500;
/** First looks that become due within this time are one turn. */
const FIRST_LOOKS_MS = 250;
/** How long a run that was asked for waits for second looks and for repairs. */
const SETTLE_MS = 3_000;
const REPAIRS_MS = 15_000;

export class Auditor {
  readonly #deps: AuditorDeps;
  readonly #options: Required<AuditorOptions>;
  readonly #ledger: Ledger;
  readonly #repairs: Repairs;
  readonly #rounds: CanaryRounds;
  readonly #watches = new Map<string, PodWatch>();
  readonly #urgent = new Set<string>();
  readonly #ending = new AbortController();
  readonly #startedMs = now();
  #ztunnelGoneMs: number | undefined;
  #hostConditions: readonly Condition[] = [];
  /** What is known of them is from before a repair. */
  #isHostDue = false;
  #sweepDueMs = 0;
  #sweeps = 0;
  #hasWaitingCanaries = false;
  #timer: NodeJS.Timeout | undefined;
  #ztunnelWatch: NodeJS.Timeout | undefined;
  /** One turn at a time. */
  #tail: Promise<void> = Promise.resolve();
  /** Runs that want nothing mended. */
  #holds = 0;
  readonly counters: AuditCounters = { runs: 0, lastRunMs: 0, lastRunAt: undefined };

  constructor(deps: AuditorDeps, options: AuditorOptions) {
    this.#deps = deps;
    this.#options = { periodMs: PERIOD_MS, ...options };
    this.#ledger = new Ledger(now, event => this.#tell(event));
    const { subject, log } = deps;
    this.#repairs = new Repairs({ subject, log, nowMs: now, onDone: place => this.#lookSoon(place.uid) });
    this.#rounds = new CanaryRounds({
      log,
      nowMs: now,
      signal: this.#ending.signal,
      onResult: uid => this.#heard(uid),
    });
  }

  get repairs(): Readonly<{ done: number; failed: number }> {
    return this.#repairs.counters;
  }

  /** Whether it mends what it finds. */
  get isRepairing(): boolean {
    return this.#options.repair;
  }

  get watches(): Iterable<PodWatch> {
    return this.#watches.values();
  }

  findings(): readonly ListedFinding[] {
    return this.#ledger.findings();
  }

  /** Begins to look, on its own, until `close`. */
  start(): void {
    this.#schedule(0);
    let hadZtunnel = this.#deps.subject.ztunnels() > 0;
    this.#ztunnelWatch = setInterval(() => {
      const hasZtunnel = this.#deps.subject.ztunnels() > 0;
      if (hasZtunnel !== hadZtunnel) this.#lookSoon(undefined);
      hadZtunnel = hasZtunnel;
    }, ZTUNNEL_WATCH_MS).unref();
  }

  /** Ends looking; repairs under way go on. Closing twice is fine. */
  async close(): Promise<void> {
    this.#ending.abort();
    clearTimeout(this.#timer);
    clearInterval(this.#ztunnelWatch);
    await this.#tail;
    await this.#rounds.idle();
  }

  /** Looks at everything now, canaries included, and resolves when what was found is settled: seen twice, and mended. */
  async run({ repair, signal }: RunOptions): Promise<void> {
    const until = AbortSignal.any([signal, this.#ending.signal]);
    if (!repair) this.#holds++;
    try {
      await this.#pass(true);
      await this.#askEveryCanary(until);
      await this.#settle(until);
      if (!repair || !this.#options.repair) return;
      await Promise.race([this.#repairs.idle(), pause(REPAIRS_MS, until)]);
      await this.#pass(true);
      await this.#rounds.idle();
      await this.#pass(false);
      await this.#settle(until);
    } finally {
      if (!repair) this.#holds--;
    }
  }

  #schedule(inMs: number): void {
    clearTimeout(this.#timer);
    if (this.#ending.signal.aborted) return;
    this.#timer = setTimeout(() => void this.#pass(false), Math.max(0, inMs));
    this.#timer.unref();
  }

  /** A turn at whatever is due, or at everything, after those that were begun before. Never rejects. */
  async #pass(isAll: boolean): Promise<void> {
    const turned = this.#after(this.#tail, isAll);
    this.#tail = turned;
    await turned;
  }

  async #after(before: Promise<void>, isAll: boolean): Promise<void> {
    await before;
    try {
      if (!this.#ending.signal.aborted) await this.#turn(isAll);
    } catch (error) {
      this.#deps.log.error('Audit failed', { error: errorText(error) });
    }
    this.#schedule(this.#nextInMs());
  }

  async #turn(isAll: boolean): Promise<void> {
    const begun = now();
    const isSweep = isAll || begun >= this.#sweepDueMs;
    // Who listens, and which addresses there are, costs as much as all the rest, and may be half as fresh.
    const isWhole = isAll || !isSweep || this.#sweeps % WHOLE_EVERY === 0;
    if (isSweep) this.#sweeps++;
    this.#refresh();
    const due = [...this.#watches.values()].filter(
      watch => isAll || (isSweep && this.#firstLookInMs(watch) <= 0) || this.#isDue(watch, begun),
    );
    if (isSweep) this.#sweepDueMs = begun + this.#options.periodMs;
    let sliceMs = now();
    for (const watch of due) {
      // Nothing becomes a finding by what was seen before.
      const isSuspect = this.#urgent.delete(watch.uid) || this.#ledger.secondLookAt(placeOf(watch)) !== undefined;
      await lookAt(watch, this.#deps, isWhole || isSuspect);
      if (now() - sliceMs < SLICE_MS) continue;
      await turn();
      if (this.#ending.signal.aborted) return;
      sliceMs = now();
    }
    // Only now: whose address is where is known when all have been seen.
    const places = addressPlaces(this.#watches.values());
    for (const watch of due) this.#judge(watch, places);
    await this.#lookAtNode(isSweep && isWhole);
    this.#hasWaitingCanaries = false;
    for (const watch of this.#watches.values()) {
      if (this.#offerCanary(watch, false) === 'later') this.#hasWaitingCanaries = true;
    }
    if (!isSweep) return;
    this.counters.runs++;
    this.counters.lastRunMs = now() - begun;
    this.counters.lastRunAt = new Date();
  }

  #refresh(): void {
    const audited = this.#deps.subject.pods();
    const present = new Set(audited.map(({ pod }) => pod.uid));
    for (const uid of this.#watches.keys()) if (!present.has(uid)) this.#watches.delete(uid);
    for (const each of audited) {
      const { uid } = each.pod;
      const known = this.#watches.get(uid);
      const watch = known ?? newWatch(each, now());
      watch.audited = each;
      if (known === undefined) this.#watches.set(uid, watch);
      // Never asked: it may have been known for long before it was enrolled.
      if (watch.canary.key === '')
        watch.canary.dueMs = now() + Math.max(0, firstCanaryMs(uid) - (ageMs(each) ?? Infinity));
    }
    this.#ledger.prune(present);
    this.#repairs.prune(present);
  }

  #isDue(watch: PodWatch, at: number): boolean {
    if (this.#urgent.has(watch.uid) || this.#secondLookAt(placeOf(watch)) <= at) return true;
    return isUnseen(watch) && this.#firstLookInMs(watch) <= 0;
  }

  /** 0: it is not new, or there is something to find out about it. */
  #firstLookInMs(watch: PodWatch): number {
    if (!isUnseen(watch) || this.#ledger.hasFindings(watch.uid)) return 0;
    return Math.max(0, FIRST_LOOK_MS - (ageMs(watch.audited) ?? Infinity));
  }

  /** Infinity: there is no reason for one. */
  #secondLookAt(place: Place): number {
    if (this.#repairs.isRunning(place)) return Infinity;
    return Math.min(this.#ledger.secondLookAt(place) ?? Infinity, this.#repairs.waitingUntil(place));
  }

  #nextInMs(): number {
    if (this.#urgent.size > 0 || this.#isHostDue) return MIN_PAUSE_MS;
    const due = [this.#sweepDueMs, this.#secondLookAt(NODE)];
    for (const watch of this.#watches.values()) {
      due.push(this.#secondLookAt(placeOf(watch)));
      if (isUnseen(watch)) due.push(now() + this.#firstLookInMs(watch) + FIRST_LOOKS_MS);
      if (this.#waitsForCanary(watch)) due.push(watch.canary.dueMs);
    }
    return Math.max(MIN_PAUSE_MS, Math.min(...due) - now());
  }

  /** Others are asked when all pods are looked at. */
  #waitsForCanary(watch: PodWatch): boolean {
    const { canary } = watch;
    const isFirst = canary.last === undefined && canary.dueMs > now() && this.#mayAsk(watch);
    return !canary.isRunning && (isFirst || isUnconfirmed(canary));
  }

  #lookSoon(uid: string | undefined): void {
    if (uid === undefined) this.#isHostDue = true;
    else this.#urgent.add(uid);
    this.#schedule(MIN_PAUSE_MS);
  }

  #heard(uid: string): void {
    const watch = this.#watches.get(uid);
    const isNews = watch !== undefined && (watch.canary.last?.kind !== 'answered' || this.#ledger.hasFindings(uid));
    if (isNews) this.#lookSoon(uid);
    else if (this.#hasWaitingCanaries) this.#schedule(MIN_PAUSE_MS);
  }

  #judge(watch: PodWatch, places: AddressPlaces): void {
    const { pod, shouldBeMember, status, since, plan } = watch.audited;
    const { canary } = watch;
    const place = placeOf(watch);
    // Being mended, it is in between; the look after that counts.
    if (this.#repairs.isRunning(place)) return;
    // A failure from before the last change says nothing of now.
    const isFresh = canary.result?.kind === 'answered' || canary.key === wayKey(watch);
    const conditions = checkPod({
      pod,
      shouldBeMember,
      status,
      statusAgeMs: Date.now() - since.getTime(),
      plan,
      netns: watch.netns,
      drift: watch.drift,
      showsStatus: watch.showsStatus,
      hasZtunnel: this.#deps.subject.ztunnels() > 0,
      canary: isFresh && this.#mayAsk(watch) ? canary.result : undefined,
      addressAt: addressAt(watch, places),
      nowMs: Date.now(),
    });
    if (conditions.some(isCause)) excuse(canary);
    this.#mend(place, conditions);
  }

  #mend(place: Place, conditions: readonly Condition[]): void {
    const open = this.#ledger.observe(
      place,
      conditions.map(condition => this.#inWords(place, condition)),
    );
    if (open.length === 0) this.#repairs.settle(place);
    if (!this.#options.repair || this.#holds > 0) return;
    const wanted = open.find(({ repair }) => repair !== 'none')?.repair;
    if (wanted === undefined || wanted === 'none' || !this.#repairs.begin(place, wanted)) return;
    const treated = open.filter(({ repair }) => repair === wanted).map(({ code }) => code);
    this.#ledger.treated(place, treated);
  }

  #inWords(place: Place, condition: Condition): Condition {
    if (condition.repair === 'none') return condition;
    if (!this.#options.repair) {
      return {
        ...condition,
        remedy: `nothing is repaired here (AMBIT_AUDIT_REPAIR=false); otherwise ${condition.remedy}`,
      };
    }
    const remark = this.#repairs.remark(place);
    return remark === undefined ? condition : { ...condition, what: `${condition.what}; ${remark}` };
  }

  async #lookAtNode(isWhole: boolean): Promise<void> {
    const { subject } = this.#deps;
    const at = now();
    this.#ztunnelGoneMs = subject.ztunnels() > 0 ? undefined : (this.#ztunnelGoneMs ?? at);
    const hasMembers = [...this.#watches.values()].some(({ audited }) => audited.shouldBeMember === true);
    if (isWhole || this.#isHostDue || this.#secondLookAt(NODE) <= at) this.#hostConditions = await checkHost(subject);
    this.#isHostDue = false;
    if (this.#repairs.isRunning(NODE)) return;
    const ofZtunnel = checkZtunnel(this.#ztunnelGoneMs !== undefined && hasMembers, at - this.#startedMs);
    this.#mend(NODE, [...ofZtunnel, ...this.#hostConditions]);
  }

  #mayAsk({ audited, netns }: PodWatch): boolean {
    const { subject } = this.#deps;
    return (
      audited.shouldBeMember === true &&
      audited.status === 'enabled' &&
      netns.kind === 'seen' &&
      subject.ztunnels() > 0 &&
      subject.hasCanary()
    );
  }

  /** `later`: too many are being asked. `none`: there is nothing to ask, or not now. */
  #offerCanary(watch: PodWatch, force: boolean): 'asked' | 'later' | 'none' {
    const { pod, netns, plan } = watch.audited;
    if (netns === undefined || !this.#mayAsk(watch) || this.#repairs.isRunning(placeOf(watch))) return 'none';
    const hasIpv6 = plan?.ipv6 === true && pod.ips.some(ip => ip.includes(':'));
    const hasIpv4 = pod.ips.some(ip => !ip.includes(':'));
    const families: CanaryQuestion['families'] = hasIpv6 ? (hasIpv4 ? ['ipv4', 'ipv6'] : ['ipv6']) : ['ipv4'];
    const question = { uid: pod.uid, name: podName(pod), netns, families, key: wayKey(watch), state: watch.canary };
    return this.#rounds.offer(question, force);
  }

  /** Each once, and once more where it failed. */
  async #askEveryCanary(until: AbortSignal): Promise<void> {
    let waiting = [...this.#watches.values()];
    while (waiting.length > 0 && !until.aborted) {
      waiting = waiting.filter(watch => this.#offerCanary(watch, true) === 'later');
      if (waiting.length > 0) await this.#rounds.next();
    }
    await this.#rounds.idle();
    const unsure = [...this.#watches.values()].filter(({ canary }) => isUnconfirmed(canary));
    if (unsure.length > 0) {
      await pause(Math.max(...unsure.map(({ canary }) => canary.dueMs)) - now(), until);
      await this.#pass(false);
      await this.#rounds.idle();
    }
    await this.#pass(false);
  }

  /** Waits for the second looks that come soon. */
  async #settle(until: AbortSignal): Promise<void> {
    const deadline = now() + SETTLE_MS;
    while (!until.aborted) {
      const places = [NODE, ...Array.from(this.#watches.values(), placeOf)];
      const due = places.map(place => this.#secondLookAt(place));
      const next = Math.min(...due);
      if (next > deadline || now() > deadline) return;
      await pause(next - now(), until);
      await this.#pass(false);
    }
  }

  #tell(event: LedgerEvent): void {
    const { kind, finding, afterMs } = event;
    this.#deps.onEvent?.(event);
    const { code, pod, what, remedy } = finding;
    const { log } = this.#deps;
    if (kind === 'found') log.warn('Finding', { pod, code, what, remedy });
    else
      log.info(kind === 'repaired' ? 'Finding repaired' : 'Finding gone', {
        pod,
        code,
        what,
        afterMs: Math.round(afterMs),
      });
  }
}

/** Of no clock that anybody sets, and yet a time of day. */
function now(): number {
  return performance.timeOrigin + performance.now();
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(Math.max(MIN_PAUSE_MS, ms), undefined, { signal, ref: false }).catch(() => undefined);
}
