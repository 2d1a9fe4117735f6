// The DNS proxy of one pod in one worker: takes queries from its listeners, answers names of the mesh itself and passes on
// everything else byte for byte. Fails open where the mesh is silent. What one pod may have under way is bounded, so a pod
// that floods gets SERVFAIL and no other notices.
//
// Life: open --drain--> draining --all answered, or the time is up--> closed. Closing is reported once.
import { type IpFamily, summarizeWorkload, type Workload, type WorkloadSummary } from '@ambit/mesh';
import { type Fd, setSendBuffer } from '@ambit/native';
import type { Timer } from '@ambit/proxy';
import type { SocketFactory } from '../worker/socket-factory.ts';
import type { Asker, ParkedAsker } from './asker.ts';
import { writeAddresses, writeEmpty } from './codec/answer.ts';
import { nameText } from './codec/names.ts';
import { HEADER_BYTES, Rcode, Type, typeName } from './codec/numbers.ts';
import { isAddressQuery, messageKey, questionKey, QueryView, readQuery } from './codec/query.ts';
import { rcodeOf } from './codec/response.ts';
import type { Counting } from './count-reports.ts';
import { countForwarded, DnsCounters } from './counters.ts';
import type { DnsPodCounts, DnsResult, ResolverSet } from './dns-messages.ts';
import { Forwarder, type ForwardOutcome } from './forwarder.ts';
import { addressQuery, type HostAddresses, hostAddresses } from './host-addresses.ts';
import { KeptAnswers } from './kept-answers.ts';
import type { CompiledDecision } from './name-decisions.ts';
import { NodeShare } from './node-share.ts';
import { PodPorts } from './pod-ports.ts';
import { TcpClient, type Unread } from './tcp-client.ts';
import type { WorkerDns } from './worker-dns.ts';

export interface PodDnsDeps {
  readonly uid: string;
  readonly sockets: SocketFactory;
  /** The pod's own workload; undefined while the mesh does not know it. */
  readonly workload: () => Workload | undefined;
  readonly onNoFds: () => void;
  readonly onClosed: () => void;
}

/** Forwarded questions under way, identical ones counted once. */
const MAX_FORWARDS = 256;
const MAX_CONNECTIONS = 64;
/** Answers that clients have not taken, over all connections of the pod; enough for sixteen of the largest for some. */
const MAX_UNREAD_BYTES = 4 << 20;
/** Of a connection, in the kernel: what it holds there counts nowhere else. */
const SEND_BUFFER_BYTES = 64 * 1024;
/** A draining pod goes on answering for this long while questions are under way: a socket that is not read loses queries. */
const DRAIN_MS = 2000;
const MAX_TCP_ANSWER = 65_535;
/** What fits an IPv4 datagram, whatever the client says it can take. */
const MAX_UDP_ANSWER = 65_507;

/** Somebody who waits for a forwarded answer. */
interface Waiting {
  readonly message: Buffer;
  readonly questionEnd: number;
  readonly asker: ParkedAsker;
}

export class PodDns implements Counting {
  readonly counters = new DnsCounters();
  readonly #shared: WorkerDns;
  readonly #deps: PodDnsDeps;
  readonly #ports: PodPorts;
  readonly #forwarder: Forwarder;
  readonly #kept = new KeptAnswers();
  readonly #view = new QueryView();
  readonly #forwards = new Map<string, Waiting[]>();
  readonly #clients = new Set<TcpClient>();
  readonly #unread: Unread = { bytes: 0, maxBytes: MAX_UNREAD_BYTES };
  /** The pod as the mesh last described it. */
  #source: WorkloadSummary | undefined;
  /** Questions whose answer is under way. */
  #underWay = 0;
  /** Where the addresses of the next answer begin. */
  #turn = 0;
  #client: { readonly workload: Workload | undefined; readonly key: string | undefined } = {
    workload: undefined,
    key: undefined,
  };
  #state: 'open' | 'draining' | 'closed' = 'open';
  #deadline: Timer | undefined;

  constructor(shared: WorkerDns, deps: PodDnsDeps) {
    const { sockets } = deps;
    this.#shared = shared;
    this.#deps = deps;
    const { engine, input, output } = shared;
    const onQuery = this.#onQuery.bind(this);
    const onAccepted = (fd: Fd): void => this.#accept(fd);
    this.#ports = new PodPorts({ engine, input, output, sockets, onQuery, onAccepted, onNoFds: deps.onNoFds });
    this.#forwarder = new Forwarder(
      {
        engine,
        openUdp: resolver => sockets.openUdpTo(resolver.ip),
        openTcp: resolver => sockets.openTcpTo(resolver.ip),
        onUnsolicited: () => {
          this.counters.unsolicited++;
          shared.counts.hasNews(this);
        },
        node: { sockets: shared.nodeSockets, share: new NodeShare(shared.nodePlaces) },
      },
      shared.resolvers,
    );
    shared.follow(this);
  }

  /** Opens all its ports. @throws SysError; `close` then undoes what was opened */
  open(): void {
    const { settings } = this.#shared;
    if (settings !== undefined) this.#ports.open(settings);
  }

  get isClosed(): boolean {
    return this.#state === 'closed';
  }

  get underWay(): number {
    return this.#underWay;
  }

  get connectionCount(): number {
    return this.#clients.size;
  }

  get unreadBytes(): number {
    return this.#unread.bytes;
  }

  get keptCount(): number {
    return this.#kept.size;
  }

  setResolvers(set: ResolverSet): void {
    this.#forwarder.setResolvers(set);
    this.#kept.clear();
  }

  /** A connection of the pod needs the addresses of a host, which are looked up elsewhere. */
  countHost(hostname: string): void {
    this.counters.countHost(hostname);
    this.#shared.counts.hasNews(this);
  }

  takeCounts(): DnsPodCounts | undefined {
    // Kept, since the mesh may forget a pod before the last of its counts is told.
    const workload = this.#deps.workload();
    if (workload !== undefined) this.#source = summarizeWorkload(workload);
    const news = this.counters.takeNews();
    return news === undefined ? undefined : { uid: this.#deps.uid, source: this.#source, ...news };
  }

  /** Addresses of a name as the pod's applications hear them. `then` is called once, perhaps before this returns. */
  lookup(host: string, family: IpFamily, then: (found: HostAddresses) => void): void {
    const message = this.#shared.settings === undefined ? undefined : addressQuery(host, family);
    if (message === undefined || this.#state !== 'open') {
      then({ kind: 'failed', error: `${host} cannot be looked up` });
      return;
    }
    const reply = (bytes: Buffer, length: number): void =>
      then(hostAddresses(host, family, { kind: 'answer', bytes, length }));
    const drop = (): void => then({ kind: 'failed', error: 'the pod is gone' });
    // As a client over TCP: an answer is never cut.
    this.#onQuery(message, 0, message.length, { isTcp: true, reply, park: () => ({ isTcp: true, reply, drop }) });
  }

  /** Takes no more connections; answers what is under way, and meanwhile also what still comes by UDP. */
  drain(): void {
    if (this.#state !== 'open') return;
    this.#state = 'draining';
    this.#ports.closeTcp();
    for (const client of Array.from(this.#clients)) client.drain();
    const { engine } = this.#shared;
    this.#deadline = engine.timers.at(engine.nowMs + DRAIN_MS, () => this.close());
    this.#closeIfDone();
  }

  /** Closes at once; what is under way gets no answer. */
  close(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#shared.engine.timers.cancel(this.#deadline);
    this.#shared.unfollow(this);
    this.#ports.close();
    this.#forwarder.close('the pod is gone');
    for (const client of Array.from(this.#clients)) client.close();
    this.#deps.onClosed();
  }

  #accept(fd: Fd): void {
    if (this.#clients.size >= MAX_CONNECTIONS) {
      this.counters.refusedConnections++;
      this.#shared.counts.hasNews(this);
      fd.close();
      return;
    }
    const onClosed = (client: TcpClient): void => {
      this.#clients.delete(client);
      this.#closeIfDone();
    };
    const { engine } = this.#shared;
    setSendBuffer(fd, SEND_BUFFER_BYTES);
    const onQuery = this.#onQuery.bind(this);
    this.#clients.add(new TcpClient({ engine, unread: this.#unread, onQuery, onClosed }, fd));
  }

  #onQuery(message: Buffer, at: number, length: number, asker: Asker): void {
    this.#shared.counts.hasNews(this);
    const view = this.#view;
    const fault = readQuery(view, message, at, length);
    if (fault !== undefined) {
      this.counters.garbage++;
      // To an answer there is no answer, whatever upstream does: two servers could go on for ever.
      if (fault === 'short' || (fault === 'response' && !asker.isTcp)) return;
      this.#empty(message, at, asker, fault === 'opcode' ? Rcode.NOTIMP : Rcode.FORMERR);
      return;
    }
    this.counters.cell(view.type, asker.isTcp).requests++;
    if (!isAddressQuery(view)) {
      this.#forward(message, at, length, asker);
      return;
    }
    const client = this.#clientKey();
    // Who is not known yet is told so by the main thread, whatever it asks for.
    if (client !== undefined && this.#shared.labels?.isForeign(message, at) === true) {
      this.#forward(message, at, length, asker);
      return;
    }
    const key = questionKey(message, at, view.questionEnd);
    const decision = client === undefined ? undefined : this.#shared.decisions.get(client, key);
    if (decision !== undefined) this.#decided(decision, message, at, length, asker);
    else this.#ask(client, key, message, at, length, asker);
  }

  /** Made once for each word of the mesh on the pod: this runs for every query. */
  #clientKey(): string | undefined {
    const workload = this.#deps.workload();
    if (workload !== this.#client.workload) {
      const key = workload === undefined ? undefined : `${workload.namespace}/${workload.network}`;
      this.#client = { workload, key };
    }
    return this.#client.key;
  }

  #ask(client: string | undefined, key: string, message: Buffer, at: number, length: number, asker: Asker): void {
    const name = nameText(message, at + HEADER_BYTES);
    // What no host is called: the mesh need not be asked.
    if (name === undefined || name === '') {
      this.#forward(message, at, length, asker);
      return;
    }
    const parked = asker.park();
    if (parked === undefined) {
      this.#refuse(message, at, asker);
      return;
    }
    const copy = Buffer.from(message.subarray(at, at + length));
    const type = this.#view.type === Type.A ? 'A' : 'AAAA';
    this.#underWay++;
    this.#shared.decisions.ask(this.#deps.uid, client, key, { name, type }, decision => {
      this.#underWay--;
      if (this.#state === 'closed') parked.drop();
      else {
        readQuery(this.#view, copy, 0, copy.length);
        this.#decided(decision, copy, 0, copy.length, { ...parked, park: () => parked });
      }
      this.#closeIfDone();
    });
  }

  #decided(decision: CompiledDecision, message: Buffer, at: number, length: number, asker: Asker): void {
    const { answer, settings } = this.#shared;
    if (decision.kind === 'forward') {
      this.#forward(message, at, length, asker);
      return;
    }
    if (decision.kind === 'unknown_client') {
      this.#empty(message, at, asker, Rcode.SERVFAIL);
      this.#record('unknown client', message, at, 0);
      return;
    }
    if (this.#view.ednsVersion > 0) {
      this.#empty(message, at, asker, Rcode.BADVERS);
      return;
    }
    const limit = asker.isTcp ? MAX_TCP_ANSWER : Math.min(this.#view.udpBytes, MAX_UDP_ANSWER);
    const { addresses } = decision.answer;
    const size = writeAddresses(answer, 0, limit, this.#view, message, at, decision.answer, this.#turn++ & 0xffff);
    asker.reply(answer, size);
    if (settings?.recordQueries === true) {
      this.#record(addresses.length === 0 ? 'no records' : 'success', message, at, addresses.length);
    }
  }

  #forward(message: Buffer, at: number, length: number, asker: Asker): void {
    const view = this.#view;
    const { engine, answer } = this.#shared;
    // A transfer is many messages, for which this proxy is no place (dns.md has none either).
    if (view.type === Type.AXFR || view.type === Type.IXFR) {
      this.#empty(message, at, asker, Rcode.NOTIMP);
      return;
    }
    // What UDP had to cut off is another answer than TCP's.
    const key = (asker.isTcp ? 't' : 'u') + messageKey(message, at, length, view.questionEnd);
    const size = this.#kept.write(key, answer, message, at, view.questionEnd, engine.nowMs);
    if (size > 0) {
      this.counters.keptAnswers++;
      asker.reply(answer, size);
      this.#record('forwarded', message, at, 0);
      return;
    }
    const waiting = this.#forwards.get(key);
    const parked = waiting !== undefined || this.#forwards.size < MAX_FORWARDS ? asker.park() : undefined;
    if (parked === undefined) {
      this.#refuse(message, at, asker);
      return;
    }
    const copy = Buffer.from(message.subarray(at, at + length));
    const one: Waiting = { message: copy, questionEnd: view.questionEnd, asker: parked };
    this.#underWay++;
    if (waiting !== undefined) waiting.push(one);
    else this.#startForward(key, one, view.type);
  }

  #startForward(key: string, first: Waiting, type: number): void {
    const { engine } = this.#shared;
    const cell = this.counters.cell(type, first.asker.isTcp);
    const startedMs = engine.nowMs;
    let isRefused = false;
    this.#forwards.set(key, [first]);
    const message = Buffer.from(first.message);
    const question = { message, questionEnd: first.questionEnd, wantsWhole: first.asker.isTcp };
    this.#forwarder.ask(question, outcome => {
      const waiting = this.#forwards.get(key) ?? [];
      this.#forwards.delete(key);
      this.#underWay -= waiting.length;
      isRefused = outcome.kind === 'failed' && outcome.isRefused;
      const hasFailed = outcome.kind === 'failed' || !SAYS_SOMETHING.has(rcodeOf(outcome.bytes, 0));
      if (!isRefused) countForwarded(cell, engine.nowMs - startedMs, hasFailed);
      this.#shared.counts.hasNews(this);
      if (outcome.kind === 'answer') this.#kept.keep(key, outcome.bytes, outcome.length, engine.nowMs);
      // An answer's bytes are the worker's scratch, and a client that hears it may ask something else at once.
      const lasting = waiting.length > 1 ? copyOf(outcome) : outcome;
      for (const one of waiting) this.#finish(one, lasting);
      this.#closeIfDone();
    });
    // What is refused is so before this.
    if (!isRefused) cell.upstreamRequests++;
  }

  /** The resolver's message as it is, save for what is the client's own: the id, and the letter case it asked in. */
  #finish(waiting: Waiting, outcome: ForwardOutcome): void {
    const { message, questionEnd, asker } = waiting;
    if (this.#state === 'closed') {
      asker.drop();
      return;
    }
    readQuery(this.#view, message, 0, message.length);
    if (outcome.kind === 'failed') {
      if (outcome.isRefused) this.counters.refused++;
      this.#empty(message, 0, asker, Rcode.SERVFAIL);
      this.#record(outcome.isRefused ? 'too many questions' : 'forwarding failed', message, 0, 0, outcome.error);
      return;
    }
    const { bytes, length } = outcome;
    message.copy(bytes, 0, 0, 2);
    if (bytes.readUInt16BE(4) === 1) message.copy(bytes, HEADER_BYTES, HEADER_BYTES, questionEnd);
    asker.reply(bytes, length);
    this.#record('forwarded', message, 0, 0);
  }

  #refuse(message: Buffer, at: number, asker: Asker): void {
    this.counters.refused++;
    this.#empty(message, at, asker, Rcode.SERVFAIL);
    this.#record('too many questions', message, at, 0);
  }

  /** `view` still is that of the message. */
  #empty(message: Buffer, at: number, asker: { reply: Asker['reply'] }, rcode: number): void {
    const { answer } = this.#shared;
    asker.reply(answer, writeEmpty(answer, 0, this.#view, message, at, rcode));
  }

  /** As `#empty`. */
  #record(result: DnsResult, message: Buffer, at: number, endpoints: number, error?: string): void {
    if (this.#shared.settings?.recordQueries !== true) return;
    const domain = nameText(message, at + HEADER_BYTES) ?? '(unprintable)';
    const query = typeName(this.#view.type);
    this.#shared.record({ uid: this.#deps.uid, query, domain, result, error, endpoints });
  }

  #closeIfDone(): void {
    if (this.#state === 'draining' && this.#underWay === 0 && this.#clients.size === 0) this.close();
  }
}

function copyOf(outcome: ForwardOutcome): ForwardOutcome {
  if (outcome.kind === 'failed') return outcome;
  return { ...outcome, bytes: Buffer.from(outcome.bytes.subarray(0, outcome.length)) };
}

const SAYS_SOMETHING: ReadonlySet<number> = new Set([Rcode.NOERROR, Rcode.NXDOMAIN]);
