// Which connections of a worker are read, and what becomes of what is read: requests are added up for the next record of
// their connection, and told one by one only while somebody wants them. Bounded in connections, kinds of requests and path
// templates; a worker that is late reads no new connections until it is not. A reader moves with its connection to another worker.
import {
  type Engine,
  type L7GiveUp,
  type L7Listener,
  type L7Messages,
  type L7Options,
  type L7Protocol,
  type L7Request,
  type MovableSniffer,
  PlaintextTap,
  RequestTallies,
  StreamBudget,
  type TallyLabels,
  type TcpSide,
} from '@ambit/proxy';
import type { ConnectionFacts } from './connection-facts.ts';
import { isL7Chosen, type L7Choice } from './l7-choice.ts';
import type { L7Settings, RequestReaders } from '../worker-protocol.ts';

/** Connections that a worker reads at a time: with the 16 KiB a reader may keep, 64 MiB at the very worst. */
const MAX_READ = 4096;
/** HTTP/2 streams that a worker follows at a time, of all its connections: about 280 bytes each. */
const MAX_STREAMS = 16_384;
/** Different path templates in the metrics of one worker; all others are one. */
const MAX_TEMPLATES = 500;
const OTHER_PATHS = '{other}';
/** A worker whose clock ticks this late has no time to spare. */
const LATE_MS = 100;
const TICK_MS = 250;

export interface L7DeskDeps {
  readonly engine: Engine;
  readonly settings: L7Settings;
  readonly onRequest: (facts: ConnectionFacts, request: L7Request) => void;
  readonly openSniffer: (listener: L7Listener, options: L7Options) => MovableSniffer;
  /** Undefined when the state is of no use. */
  readonly thawSniffer: (state: unknown, listener: L7Listener, options: L7Options) => MovableSniffer | undefined;
  /** Path -> path with what varies left out. */
  readonly pathTemplate: (path: string) => string;
}

/** A connection's reading on its way to another worker. Plain data. */
export interface FrozenReading {
  readonly protocol: L7Protocol | undefined;
  readonly tcpSide: TcpSide;
  /** Undefined when nothing more is read. */
  readonly sniffer: unknown;
}

type MutableOptions = { -readonly [Key in keyof L7Options]: L7Options[Key] };

export class L7Desk {
  readonly engine: Engine;
  readonly settings: L7Settings;
  readonly onRequest: L7DeskDeps['onRequest'];
  readonly openSniffer: L7DeskDeps['openSniffer'];
  readonly thawSniffer: L7DeskDeps['thawSniffer'];
  /** One object for all readers of the worker: a change reaches those that read already. */
  readonly options: MutableOptions;
  readers: RequestReaders = 'none';
  readonly givenUp: Record<L7GiveUp | 'fault', number> = {
    malformed: 0,
    limit: 0,
    desynchronized: 0,
    upgraded: 0,
    overload: 0,
    moved: 0,
    fault: 0,
  };
  readonly #pathTemplate: L7DeskDeps['pathTemplate'];
  readonly #templates = new Set<string>();
  #reading = 0;
  #isLate = false;
  #expectedMs = 0;
  #isTicking = false;

  constructor(deps: L7DeskDeps) {
    this.engine = deps.engine;
    this.settings = deps.settings;
    this.onRequest = deps.onRequest;
    this.openSniffer = deps.openSniffer;
    this.thawSniffer = deps.thawSniffer;
    this.#pathTemplate = deps.pathTemplate;
    this.options = {
      wantPath: deps.settings.path,
      wantAuthority: false,
      wantTraceparent: false,
      streams: new StreamBudget(MAX_STREAMS),
    };
  }

  get reading(): number {
    return this.#reading;
  }

  setReaders(readers: RequestReaders): void {
    this.readers = readers;
    this.options.wantPath = this.settings.path || readers !== 'none';
    this.options.wantAuthority = readers !== 'none';
    this.options.wantTraceparent = readers !== 'none';
  }

  /** Begins to read a connection whose server is at `port`; undefined when it is not to be read. */
  open(facts: ConnectionFacts, choice: L7Choice, port: number, tcpSide: TcpSide): ReadConnection | undefined {
    if (facts.isCanary || !isL7Chosen(choice, port, this.settings.isOn)) return undefined;
    this.#tick();
    if (this.#isLate || this.engine.budget.isTight) {
      this.givenUp.overload++;
      return undefined;
    }
    if (this.#reading >= MAX_READ) {
      this.givenUp.limit++;
      return undefined;
    }
    this.#reading++;
    return ReadConnection.open(this, facts, tcpSide);
  }

  /** Goes on with a connection that another worker read, even beyond what bounds new ones: all workers together stay within it. */
  thaw(facts: ConnectionFacts, frozen: FrozenReading): ReadConnection {
    this.#tick();
    this.#reading++;
    return ReadConnection.thaw(this, facts, frozen);
  }

  /** `l7GaveUpMalformed` and so on: connections whose reading ended early, by why. */
  stats(): Record<string, number> {
    return Object.fromEntries(
      Object.entries(this.givenUp).map(([why, count]) => [
        `l7GaveUp${why.charAt(0).toUpperCase()}${why.slice(1)}`,
        count,
      ]),
    );
  }

  closed(): void {
    this.#reading--;
  }

  labelsOf({ protocol, method, path }: Pick<L7Request, 'protocol' | 'method' | 'path'>): TallyLabels {
    const { settings } = this;
    const isHttp = protocol === 'http' || protocol === 'grpc';
    if (isHttp && !settings.method && !settings.path) return NO_LABELS;
    return {
      method: !isHttp || settings.method ? method : '',
      path: isHttp && settings.path ? this.#templateOf(path) : '',
    };
  }

  /** The label that metrics get for a path: one of a bounded number. */
  #templateOf(path: string): string {
    const template = this.#pathTemplate(path);
    if (this.#templates.has(template)) return template;
    if (this.#templates.size >= MAX_TEMPLATES) return OTHER_PATHS;
    this.#templates.add(template);
    return template;
  }

  #tick(): void {
    if (this.#isTicking) return;
    this.#isTicking = true;
    this.#expectedMs = this.engine.nowMs + TICK_MS;
    this.engine.timers.at(this.#expectedMs, () => {
      this.#isLate = this.engine.nowMs - this.#expectedMs > LATE_MS;
      this.#isTicking = false;
      if (this.#reading > 0 || this.#isLate) this.#tick();
    });
  }
}

/** What most requests are counted by. */
const NO_LABELS: TallyLabels = { method: '', path: '' };

/** One connection that is read. */
export class ReadConnection implements L7Listener {
  /** Absent when nothing is read any more. */
  tap: PlaintextTap | undefined;
  readonly tallies = new RequestTallies();
  protocol: L7Protocol | undefined;
  readonly #desk: L7Desk;
  readonly #facts: ConnectionFacts;
  readonly #tcpSide: TcpSide;
  #sniffer: MovableSniffer | undefined;
  #isOver = false;

  private constructor(desk: L7Desk, facts: ConnectionFacts, tcpSide: TcpSide) {
    this.#desk = desk;
    this.#facts = facts;
    this.#tcpSide = tcpSide;
  }

  static open(desk: L7Desk, facts: ConnectionFacts, tcpSide: TcpSide): ReadConnection {
    const read = new ReadConnection(desk, facts, tcpSide);
    read.#use(desk.openSniffer(read, desk.options));
    return read;
  }

  static thaw(desk: L7Desk, facts: ConnectionFacts, { protocol, tcpSide, sniffer }: FrozenReading): ReadConnection {
    const read = new ReadConnection(desk, facts, tcpSide);
    read.protocol = protocol;
    if (sniffer === undefined) return read;
    const thawed = desk.thawSniffer(sniffer, read, desk.options);
    if (thawed === undefined) read.onGiveUp('moved');
    else read.#use(thawed);
    return read;
  }

  #use(sniffer: MovableSniffer): void {
    this.#sniffer = sniffer;
    this.tap = new PlaintextTap(sniffer, this.#tcpSide, () => this.#onFault());
  }

  onProtocol(protocol: L7Protocol): void {
    this.protocol = protocol;
  }

  onRequest(request: L7Request): void {
    const desk = this.#desk;
    this.tallies.add(request, desk.labelsOf(request));
    if (desk.readers === 'all' || (desk.readers === 'traced' && request.traceparent !== undefined)) {
      desk.onRequest(this.#facts, request);
    }
  }

  onMessages(messages: L7Messages): void {
    this.tallies.addMessages(messages, this.#desk.labelsOf(messages));
  }

  onGiveUp(why: L7GiveUp): void {
    this.#desk.givenUp[why]++;
  }

  onUntracked(): void {
    this.tallies.leaveOut();
  }

  /** What records may tell of by now, calls that go on included. */
  refresh(): this {
    try {
      if (this.tap?.isDone === false) this.#sniffer?.tellMessages();
    } catch {
      this.#onFault();
    }
    return this;
  }

  /**
   * Takes the reading out of this worker; this object is over. Its tallies stay behind: the owner tells them before the
   * connection is told of elsewhere.
   */
  freeze(): FrozenReading {
    const { protocol } = this;
    const tcpSide = this.#tcpSide;
    let sniffer: unknown;
    try {
      if (this.tap?.isDone === false) sniffer = this.#sniffer?.freeze();
    } catch {
      this.#onFault();
    }
    this.tap?.letGo();
    this.#isOver = true;
    this.#desk.closed();
    return { protocol, tcpSide, sniffer };
  }

  /** The connection is over. */
  end(byClient: boolean): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.tap?.end(byClient, this.#desk.engine.nowMs);
    this.#desk.closed();
  }

  #onFault(): void {
    this.#desk.givenUp.fault++;
  }
}
