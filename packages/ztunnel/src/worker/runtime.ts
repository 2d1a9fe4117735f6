// A data worker: one engine, its pods, and the conversation with the main thread. Messages arrive on a port and are
// announced by an eventfd, because the worker blocks in epoll_wait and has no event loop that could deliver them.
// Whatever the main thread sends is carried out at once and in order; a worker can be built anew from its messages.
import { receiveMessageOnPort } from 'node:worker_threads';
import { compilePolicies } from '@ambit/mesh';
import { EventFd, type EventHandler, ownedFdCount, releaseMemory } from '@ambit/native';
import {
  type ConnectionRecord,
  Engine,
  type FrozenTunnel,
  MemoryBudget,
  openSniffer,
  pathTemplate,
  thawSniffer,
  type Tunnel,
} from '@ambit/proxy';
import { WorkerDesk } from '../admin/worker-desk.ts';
import type { DnsCell } from '../dns/counters.ts';
import { WorkerDns } from '../dns/worker-dns.ts';
import { CertificateStore } from './certificate-store.ts';
import { recordOf } from './connection-facts.ts';
import { type FrozenOutbound, freezePooled, thawOutbound } from './hand-over.ts';
import { HostNames } from './host-names.ts';
import { IdleTrim } from './idle-trim.ts';
import { InboundTunnel } from './inbound-tunnel.ts';
import { type PodDeps, PodProxy } from './pod-proxy.ts';
import { L7Desk } from './l7-desk.ts';
import { Progress, type Reportable } from './progress.ts';
import { RecordBatch } from './record-batch.ts';
import { RequestBatch } from './request-batch.ts';
import { Revocations } from './revocations.ts';
import { chooseToShed, type Movable } from './shedding.ts';
import type { FromWorker, ToWorker, WorkerStart } from '../worker-protocol.ts';

/** After the start, when everything is loaded. */
const TIDY_MS = 3000;

interface Question {
  readonly pod: PodProxy;
  readonly key: string;
}

/** A live tunnel of either role, as far as handing it over is concerned. */
interface MovableTunnel extends Movable {
  freeze(): FrozenTunnel;
}

export class WorkerRuntime implements EventHandler {
  readonly #start: WorkerStart;
  readonly #wake: EventFd;
  readonly #engine: Engine;
  readonly #certificates: CertificateStore;
  readonly #revocations = new Revocations();
  readonly #records: RecordBatch<ConnectionRecord>;
  readonly #dns: WorkerDns;
  readonly #requests: RequestBatch;
  readonly #l7: L7Desk;
  readonly #pods = new Map<string, PodProxy>();
  /** Pods that were removed and still have connections, or were replaced under the same uid. */
  readonly #leaving = new Set<PodProxy>();
  readonly #outboundQuestions = new Map<number, Question>();
  readonly #inboundQuestions = new Map<number, Question>();
  readonly #podDeps: PodDeps;
  readonly #trim: IdleTrim;
  readonly #progress: Progress;
  readonly #desk = new WorkerDesk(() => this.#allPods());
  readonly #movables = new WeakMap<Tunnel, MovableTunnel>();
  readonly #movedBefore = new WeakMap<MovableTunnel, number>();
  #nextQuestion = 1;
  #nextConnection = 1;
  #noFdsPauses = 0;
  #isDraining = false;
  #tellsOpens: boolean;

  constructor(start: WorkerStart) {
    this.#start = start;
    this.#tellsOpens = start.settings.recordOpens;
    this.#wake = EventFd.adopt(start.wakeFd);
    const budget = new MemoryBudget(start.settings.memoryBudgetBytes, start.budget, start.index);
    this.#engine = new Engine(budget);
    const { tlsGroups, tlsRecords } = start.settings;
    this.#certificates = new CertificateStore(
      { records: tlsRecords, ...(tlsGroups === undefined ? {} : { groups: tlsGroups }) },
      identity => this.#tell({ type: 'missCertificate', identity }),
    );
    this.#records = new RecordBatch(this.#engine, records => this.#tell({ type: 'records', records }));
    this.#trim = new IdleTrim(this.#engine, () => this.#sum(pod => pod.connectionCount), releaseMemory);
    this.#progress = new Progress({
      engine: this.#engine,
      live: () => this.#connections(),
      emit: (facts, outcome) => this.#podDeps.emit(facts, outcome),
    });
    this.#requests = new RequestBatch(this.#engine, requests => this.#tell({ type: 'requests', requests }));
    this.#l7 = new L7Desk({
      engine: this.#engine,
      settings: start.settings.l7,
      onRequest: (facts, request) => this.#requests.add(facts, request),
      openSniffer,
      thawSniffer,
      pathTemplate,
    });
    this.#dns = new WorkerDns({
      engine: this.#engine,
      settings: start.settings.dns,
      tell: message => this.#tell(message),
    });
    this.#podDeps = {
      engine: this.#engine,
      settings: start.settings,
      certificates: this.#certificates,
      revocations: this.#revocations,
      askOutbound: (pod, key, source, destination) => {
        const id = this.#nextQuestion++;
        this.#outboundQuestions.set(id, { pod, key });
        this.#tell({ type: 'needOutboundRoute', id, uid: pod.info.uid, input: { source, destination } });
      },
      askInbound: (pod, key, connected, authority) => {
        const id = this.#nextQuestion++;
        this.#inboundQuestions.set(id, { pod, key });
        this.#tell({
          type: 'needInboundRoute',
          id,
          uid: pod.info.uid,
          connectedIp: connected.ip,
          connectedPort: connected.port,
          authority,
        });
      },
      dns: this.#dns,
      l7: this.#l7,
      hosts: new HostNames(
        {
          resolve: (hostname, family, then) => this.#dns.resolveHost(hostname, family, then),
          nowMs: () => this.#engine.nowMs,
        },
        { ipv6: start.settings.ipv6 },
      ),
      emit: (facts, outcome) => {
        // Making a record and sending it is the dearest part of a short connection: only what somebody reads is made.
        if (facts.isCanary && outcome.reason === undefined) return;
        if (outcome.event === 'open' && !this.#tellsOpens) return;
        this.#records.add(recordOf(facts, outcome));
      },
      nextId: () => {
        this.#trim.watch();
        this.#progress.watch();
        return `${start.index}-${this.#nextConnection++}`;
      },
      onNoFds: () => {
        this.#noFdsPauses++;
      },
      onClosed: pod => this.#onPodClosed(pod),
    };
  }

  /** Runs until told to stop. */
  run(): void {
    this.#engine.reactor.add(this.#wake.fd, this);
    this.#tell({ type: 'ready' });
    // What loading left behind; later there may be no quiet moment for it.
    this.#engine.timers.at(this.#engine.nowMs + TIDY_MS, releaseMemory);
    this.#engine.run();
    this.#certificates.close();
    this.#dns.close();
    this.#engine.close();
    this.#start.port.close();
  }

  onEvents(): void {
    this.#wake.drain();
    for (let next = receiveMessageOnPort(this.#start.port); next !== undefined; ) {
      this.#obey(next.message as ToWorker);
      next = receiveMessageOnPort(this.#start.port);
    }
  }

  #tell(message: FromWorker): void {
    this.#start.port.postMessage(message);
  }

  #obey(message: ToWorker): void {
    switch (message.type) {
      case 'podAdd':
        this.#addPod(message);
        return;
      case 'podInfo':
        this.#pods.get(message.pod.uid)?.describe(message.pod);
        return;
      case 'podRemove':
        this.#removePod(message);
        return;
      case 'podState':
        this.#pods.get(message.uid)?.update(message.workload, compilePolicies(message.policies));
        return;
      case 'certificate':
        this.#certificates.set(message.identity, message.material, message.error);
        return;
      case 'revocations':
        this.#revoke(message.keys);
        return;
      case 'forgetRoutes':
        for (const pod of this.#pods.values()) pod.forgetRoutes();
        return;
      case 'outboundRoute': {
        const question = this.#outboundQuestions.get(message.id);
        this.#outboundQuestions.delete(message.id);
        question?.pod.outboundRoutes.answer(question.key, message.route);
        return;
      }
      case 'inboundRoute': {
        const question = this.#inboundQuestions.get(message.id);
        this.#inboundQuestions.delete(message.id);
        question?.pod.inboundRoutes.answer(question.key, message.route);
        return;
      }
      case 'dnsDecision':
        this.#dns.onDecision(message.id, message.decision);
        return;
      case 'meshLabels':
        this.#dns.setLabels(message.bits);
        return;
      case 'forgetNames':
        this.#dns.forget(message.stale);
        return;
      case 'resolvers':
        this.#dns.setResolvers(message.set);
        return;
      case 'dnsRecordsTaken':
        this.#dns.recordsTaken();
        return;
      case 'dnsCountsTaken':
        this.#dns.counts.acknowledge();
        return;
      case 'drain':
        this.#drain(message.deadlineMs);
        return;
      case 'freezeAll':
        this.#freezeAll();
        return;
      case 'adopt':
        this.#adopt(message.tunnel);
        return;
      case 'shed':
        this.#shed(message.share);
        return;
      case 'stats':
        this.#tell({ type: 'stats', id: message.id, stats: this.#stats() });
        return;
      case 'tell':
        this.#progress.tellAll();
        this.#records.flush();
        this.#requests.flush();
        this.#dns.counts.tell();
        this.#tell({ type: 'told', id: message.id });
        return;
      case 'readers':
        this.#tellsOpens = message.opens;
        this.#dns.setRecordQueries(message.queries);
        return;
      case 'ask':
        this.#tell({ type: 'answer', id: message.id, answer: this.#desk.answer(message.question) });
        return;
      case 'requestReaders':
        this.#l7.setReaders(message.readers);
        return;
      case 'requestsTaken':
        this.#requests.acknowledge();
        return;
      case 'recordsTaken':
        this.#records.acknowledge();
        return;
      case 'stop':
        this.#stop();
    }
  }

  #addPod(message: Extract<ToWorker, { type: 'podAdd' }>): void {
    const { pod: info, netnsFd } = message;
    let pod: PodProxy;
    try {
      pod = new PodProxy(info, netnsFd, this.#podDeps);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      this.#tell({
        type: 'podOpened',
        uid: info.uid,
        error: { code: 'enrol.netns_gone', message: text },
        transparent: false,
      });
      return;
    }
    const failure = pod.open();
    if (failure === undefined) {
      this.#pods.set(info.uid, pod);
      if (this.#isDraining) pod.drain();
    }
    this.#tell({ type: 'podOpened', uid: info.uid, error: failure, transparent: pod.isTransparent });
  }

  #removePod(message: Extract<ToWorker, { type: 'podRemove' }>): void {
    const pod = this.#pods.get(message.uid);
    if (pod === undefined) {
      // Never opened, or closed already: the main thread must not wait for it.
      this.#tell({ type: 'podClosed', uid: message.uid });
      return;
    }
    this.#pods.delete(message.uid);
    this.#leaving.add(pod);
    const force = (): void => pod.force('drain.pod_removed', 'connection closed due to connection drain');
    if (message.mode === 'immediate') force();
    else {
      pod.drain();
      if (!pod.isClosed) this.#engine.timers.at(this.#engine.nowMs + message.deadlineMs, force);
    }
  }

  #onPodClosed(pod: PodProxy): void {
    this.#leaving.delete(pod);
    if (this.#pods.get(pod.info.uid) === pod) this.#pods.delete(pod.info.uid);
    this.#records.flush();
    this.#dns.counts.tell();
    this.#tell({ type: 'podClosed', uid: pod.info.uid });
    this.#finishDrain();
  }

  #revoke(keys: readonly string[]): void {
    if (!this.#revocations.replace(keys)) return;
    for (const pod of [...this.#pods.values(), ...this.#leaving]) pod.recheckRevocations();
  }

  #drain(deadlineMs: number): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    const pods = [...this.#pods.values(), ...this.#leaving];
    for (const pod of pods) pod.drain();
    this.#engine.timers.at(this.#engine.nowMs + deadlineMs, () => {
      for (const pod of pods) {
        if (!pod.isClosed) pod.force('drain.deadline', 'connection closed due to connection drain');
      }
    });
    this.#finishDrain();
  }

  #finishDrain(): void {
    if (!this.#isDraining || this.#pods.size > 0 || this.#leaving.size > 0) return;
    this.#records.flush();
    this.#tell({ type: 'drained' });
  }

  #freezeAll(): void {
    this.#giveAway(this.#movable());
    this.#tell({ type: 'frozenAll' });
  }

  #shed(share: number): void {
    this.#giveAway(chooseToShed(this.#movable(), this.#movedBefore, share));
  }

  /** What was read of their connections here is told before another worker can tell of them. */
  #giveAway(tunnels: readonly MovableTunnel[]): void {
    const frozen: FrozenTunnel[] = [];
    try {
      for (const tunnel of tunnels) frozen.push(tunnel.freeze());
    } finally {
      this.#records.flush();
      this.#requests.flush();
      for (const tunnel of frozen) this.#tell({ type: 'frozen', tunnel });
    }
  }

  /** Every tunnel that can be handed over now. The same tunnel gives the same object each time. */
  #movable(): MovableTunnel[] {
    return [...this.#pods.values()].flatMap(pod => [
      ...pod.pool.tunnels().map(pooled => this.#movableOf(pooled.tunnel, () => freezePooled(pod, pooled))),
      ...[...pod.inboundTunnels].flatMap(inbound => {
        const { tunnel } = inbound;
        return tunnel === undefined ? [] : [this.#movableOf(tunnel, () => inbound.freeze())];
      }),
    ]);
  }

  #movableOf(tunnel: Tunnel, freeze: () => FrozenTunnel): MovableTunnel {
    let movable = this.#movables.get(tunnel);
    if (movable === undefined) {
      movable = {
        get movedBytes() {
          return tunnel.movedBytes;
        },
        freeze,
      };
      this.#movables.set(tunnel, movable);
    }
    return movable;
  }

  #adopt(tunnel: FrozenTunnel): void {
    const { pod: uid } = tunnel.context as { pod: string };
    const pod = this.#pods.get(uid);
    if (pod === undefined)
      throw new Error(`invariant: a tunnel of pod ${uid} was handed to a worker that has no such pod`);
    if (tunnel.role === 'server') InboundTunnel.thaw(pod, tunnel);
    else thawOutbound(pod, tunnel, tunnel.context as FrozenOutbound);
  }

  #stats(): Record<string, number> {
    const { user, system } = process.threadCpuUsage();
    return {
      cpuMicros: user + system,
      pods: this.#pods.size,
      leavingPods: this.#leaving.size,
      connections: this.#sum(pod => pod.connectionCount),
      tunnels: this.#sum(pod => pod.tunnelCount),
      poolEntries: this.#sum(pod => pod.pool.entryCount),
      cachedRoutes: this.#sum(pod => pod.outboundRoutes.size + pod.inboundRoutes.size),
      timers: this.#engine.timers.size,
      ownedFds: ownedFdCount(),
      droppedRecords: this.#records.dropped,
      droppedRequests: this.#requests.dropped,
      l7Reading: this.#l7.reading,
      ...this.#l7.stats(),
      acceptPausesNoFds: this.#noFdsPauses,
      bufferedBytes: this.#engine.budget.usedBytes,
      acceptedSource: this.#sum(pod => pod.acceptedSockets('source')),
      acceptedDestination: this.#sum(pod => pod.acceptedSockets('destination')),
      revokedSource: this.#revocations.rejected.source,
      revokedDestination: this.#revocations.rejected.destination,
      ...this.#dns.stats(),
      ...this.#dnsStats(),
    };
  }

  #dnsStats(): Record<string, number> {
    const cells = (read: (cell: DnsCell) => number) => (pod: PodProxy) =>
      [...pod.dns.counters.cells.values()].reduce((sum, cell) => sum + read(cell), 0);
    return {
      dnsRequests: this.#sum(cells(cell => cell.requests)),
      dnsUpstreamRequests: this.#sum(cells(cell => cell.upstreamRequests)),
      dnsUpstreamFailures: this.#sum(cells(cell => cell.upstreamFailures)),
      dnsUnderWay: this.#sum(pod => pod.dns.underWay),
      dnsConnections: this.#sum(pod => pod.dns.connectionCount),
      dnsKeptAnswers: this.#sum(pod => pod.dns.keptCount),
      dnsAnsweredFromKept: this.#sum(pod => pod.dns.counters.keptAnswers),
      dnsGarbage: this.#sum(pod => pod.dns.counters.garbage),
      dnsRefused: this.#sum(pod => pod.dns.counters.refused + pod.dns.counters.refusedConnections),
      dnsUnsolicited: this.#sum(pod => pod.dns.counters.unsolicited),
    };
  }

  *#connections(): Iterable<Reportable> {
    for (const pod of this.#allPods()) yield* pod.connections;
  }

  *#allPods(): Iterable<PodProxy> {
    yield* this.#pods.values();
    yield* this.#leaving;
  }

  #sum(read: (pod: PodProxy) => number): number {
    let total = 0;
    for (const pod of this.#pods.values()) total += read(pod);
    for (const pod of this.#leaving) total += read(pod);
    return total;
  }

  #stop(): void {
    for (const pod of [...this.#pods.values(), ...this.#leaving]) {
      pod.force('drain.deadline', 'connection closed due to connection drain');
    }
    this.#records.flush();
    this.#engine.stop();
  }
}
