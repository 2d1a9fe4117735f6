// One HBONE tunnel after its TLS handshake: an HTTP/2 connection of either role that carries only CONNECT streams
// (spec: RFC 9113; hbone.md). It reads records, decrypts in place, dispatches frames, keeps both flow-control windows of
// the connection, answers SETTINGS and PING, drains with GOAWAY, and fails as a whole. What a request means is its owner's
// business (`TunnelEvents`); copying bytes is TunnelStream's, how its own frames look control-frames.ts's.
//
// One file although long: the protocol state of a connection is one state machine. Almost each frame touches windows,
// streams and life together, and behind another object each of them would cost a load for every frame. `freeze` and `thaw`
// are the list of that state, so they stand beside it. Life:
//   open --GOAWAY sent or received--> draining --last stream gone, output sent--> closed
//   open or draining --any fault--> closed; what was said last (GOAWAY, alert) still reaches the peer (lingering-close).
// Memory: at most one partial record and one header block, plus what streams hold under the memory budget.
import {
  Alert,
  AlertLevel,
  alertName,
  alertOf,
  Errno,
  errnoName,
  EventMask,
  type EventHandler,
  Fd,
  faultName,
  importRecordLayer,
  MAX_RECORD_BYTES,
  readTcpHealth,
  RECORD_HEADER_BYTES,
  type RecordFault,
  type RecordLayer,
  recv,
  type Registration,
  type TcpHealth,
} from '@ambit/native';
import type { ReasonCode } from '@ambit/mesh';
import { ControlFrames } from './control-frames.ts';
import type { Delivery } from './delivery.ts';
import { CARRY_BYTES, type Engine, type Flushable, type Pumpable, RECEIVE_BYTES } from './engine.ts';
import {
  type ConnectRequest,
  connectionFault,
  DEFAULT_FRAME_LIMITS,
  DEFAULT_WINDOW_SIZE,
  FLOOD_KIND,
  FloodGuard,
  type FloodKind,
  FrameReader,
  type FrameSink,
  H2_ERROR,
  type H2Fault,
  HpackDecoder,
  HpackEncoder,
  MAX_WINDOW_SIZE,
  type RequestHead,
  RequestRules,
  ResponseRules,
  SETTING,
  type Setting,
} from './h2/index.ts';
import type { FrozenTunnel } from './frozen.ts';
import { KeepAlive, type KeepAliveSettings } from './keep-alive.ts';
import { closeLingering } from './lingering-close.ts';
import { statusText } from './status-text.ts';
import { TunnelOutput } from './tunnel-output.ts';
import { failed, type StreamEnd, type StreamOwner, TunnelStream, UNOWNED } from './tunnel-stream.ts';

/** What both roles agree on; resolved once per process from the configuration. */
export interface TunnelSettings extends KeepAliveSettings {
  /** Receive window of each stream, bytes. */
  readonly streamWindowBytes: number;
  /** Receive window of the connection, bytes. */
  readonly connectionWindowBytes: number;
  /** Largest DATA frame accepted, bytes. */
  readonly maxFrameBytes: number;
  /** Largest header list accepted, bytes as RFC 9113 section 6.5.2 counts them. */
  readonly maxHeaderListBytes: number;
  /** Streams a peer may have open at a time (server role). */
  readonly maxConcurrentStreams: number;
}

/** Whoever owns the tunnel: the pool (client role) or the inbound server. */
export interface TunnelEvents {
  /** Server role: a well-formed CONNECT arrived. The owner answers on the stream, now or later. */
  onRequest(stream: TunnelStream, request: RequestHead): void;
  /** Server role: a request that is not a usable CONNECT; `status` was sent already. */
  onBadRequest(tunnel: Tunnel, status: number, reason: ReasonCode, error: string): void;
  /** The peer's stream limit became known or changed, or a stream ended: there may be room for another. */
  onCapacity(tunnel: Tunnel): void;
  /** No new stream may be opened on it any more (GOAWAY in either direction). */
  onDraining(tunnel: Tunnel): void;
  /** It is gone, and all its streams before it. `reason` is undefined for an orderly end. */
  onClosed(tunnel: Tunnel, reason: ReasonCode | undefined, error: string): void;
}

/** Until the peer's SETTINGS arrive a client assumes this many streams (what upstream assumes). */
export const ASSUMED_PEER_STREAMS = 100;
/** A turn reads a tunnel at most this often before others have their say. */
const READS_PER_PUMP = 2;
const CREDIT_SHARE = 4;
/** How old an answer about the network may be. */
const HEALTH_MS = 100;
const DRAIN_PING = Buffer.from('ambitend', 'latin1');
const NO_BYTES = new Uint8Array(0);

// Tunnels are read one at a time, so one set of header rules serves all of a worker.
const requestRules = new RequestRules();
const responseRules = new ResponseRules();

export class Tunnel implements EventHandler, Pumpable, Flushable, FrameSink {
  readonly engine: Engine;
  readonly role: 'client' | 'server';
  readonly settings: TunnelSettings;
  readonly output: TunnelOutput;
  readonly streams = new Map<number, TunnelStream>();
  events: TunnelEvents;
  queued = false;
  dirty = false;
  readonly isBulk = false;
  state: 'open' | 'draining' | 'closed' = 'open';
  /** What the peer lets us send on the whole connection. */
  sendWindow = DEFAULT_WINDOW_SIZE;
  peerInitialWindow = DEFAULT_WINDOW_SIZE;
  peerMaxStreams = ASSUMED_PEER_STREAMS;
  /** Streams ever opened on it, for statistics and for telling a stale tunnel from a new one. */
  streamsOpened = 0;
  /** Bytes of user data and framing moved in both directions; tells a busy tunnel from a quiet one. */
  movedBytes = 0;
  /** When its last stream ended, or when it was made; monotonic milliseconds. */
  lastUsedMs: number;

  readonly #fd: Fd;
  readonly #records: RecordLayer;
  readonly #reader: FrameReader;
  readonly #decoder: HpackDecoder;
  readonly #frames: ControlFrames;
  readonly #keepAlive: KeepAlive;
  readonly #guard: FloodGuard;
  readonly #delivery: Delivery;
  #registration: Registration | undefined;
  #readable = true;
  #hungUp = false;
  #carry: Uint8Array = NO_BYTES;
  #receiveWindow: number;
  #uncredited = 0;
  /** Received bytes whose connection window is withheld because memory is tight; see MemoryBudget. */
  #withheld = 0;
  #nextStreamId = 1;
  #highestPeerStream = 0;
  #goawaySent: 'no' | 'warned' | 'final' = 'no';
  #goawayReceived = false;
  /** Until the peer acknowledges our SETTINGS it may use the initial window of RFC 9113 on new streams. */
  #settingsAcknowledged = false;
  #peerSettingsSeen: boolean;
  /** The stream whose DATA frame is being read; undefined when it is one we have forgotten. */
  #current: TunnelStream | undefined;
  #currentUnused = 0;
  #waiting: TunnelStream[] = [];

  readonly #health: TcpHealth = { rttUs: 0, totalRetransmits: 0 };
  #healthAtMs = Number.NEGATIVE_INFINITY;

  /** Takes over `fd` and `records` right after the handshake. Call `start` to send the preface. */
  constructor(
    engine: Engine,
    role: 'client' | 'server',
    fd: Fd,
    records: RecordLayer,
    settings: TunnelSettings,
    events: TunnelEvents,
    resume?: FrozenTunnel,
  ) {
    this.engine = engine;
    this.role = role;
    this.settings = settings;
    this.events = events;
    this.#fd = fd;
    this.#records = records;
    this.output = new TunnelOutput(engine, records, fd);
    this.#delivery = engine.delivery;
    const limits = { ...DEFAULT_FRAME_LIMITS, maxFrameSize: settings.maxFrameBytes };
    const hpack = { maxHeaderListBytes: settings.maxHeaderListBytes };
    let encoder: HpackEncoder;
    if (resume === undefined) {
      this.#reader = new FrameReader(role, limits, this);
      this.#decoder = new HpackDecoder(hpack);
      encoder = new HpackEncoder();
    } else {
      this.#reader = FrameReader.fromState(role, limits, this, resume.reader);
      this.#decoder = HpackDecoder.fromState(resume.decoder, hpack);
      encoder = HpackEncoder.fromState(resume.encoder);
    }
    this.#frames = new ControlFrames(engine, this, this.output, encoder);
    this.#keepAlive = new KeepAlive(engine, this.#frames, settings, () =>
      this.destroy('hbone.ping_timeout', `no answer to a PING within ${settings.pingTimeoutMs} ms`),
    );
    this.#peerSettingsSeen = resume?.reader.settingsSeen ?? false;
    this.#guard = new FloodGuard(engine.nowMs);
    // The window of a connection starts at this and can only be raised.
    this.#receiveWindow = Math.max(DEFAULT_WINDOW_SIZE, settings.connectionWindowBytes);
    this.lastUsedMs = engine.nowMs;
  }

  /** How the network treats the connection; up to `HEALTH_MS` old, since all its streams ask. 0 before the first sample. */
  get health(): Readonly<TcpHealth> {
    if (this.state !== 'closed' && this.engine.nowMs - this.#healthAtMs >= HEALTH_MS) {
      this.#healthAtMs = this.engine.nowMs;
      readTcpHealth(this.#fd, this.#health);
    }
    return this.#health;
  }

  /** Sends preface, SETTINGS and the connection's window, and starts reading. */
  start(): void {
    const { settings, role } = this;
    const list: Setting[] = [
      { id: SETTING.INITIAL_WINDOW_SIZE, value: settings.streamWindowBytes },
      { id: SETTING.MAX_FRAME_SIZE, value: settings.maxFrameBytes },
      { id: SETTING.MAX_HEADER_LIST_SIZE, value: settings.maxHeaderListBytes },
      role === 'client'
        ? { id: SETTING.ENABLE_PUSH, value: 0 }
        : { id: SETTING.MAX_CONCURRENT_STREAMS, value: settings.maxConcurrentStreams },
    ];
    if (role === 'client') this.#frames.preface();
    this.#frames.settings(list);
    const extra = settings.connectionWindowBytes - DEFAULT_WINDOW_SIZE;
    if (extra > 0) this.#frames.windowUpdate(0, extra);
    this.#listen();
  }

  #listen(): void {
    this.#registration = this.engine.reactor.add(this.#fd, this);
    this.#keepAlive.start();
  }

  // ---- for owners -------------------------------------------------------------------------------------------------

  /** Whether another stream may be opened now (client role). */
  get hasCapacity(): boolean {
    return this.state === 'open' && this.streams.size < this.peerMaxStreams && this.#nextStreamId <= MAX_WINDOW_SIZE;
  }

  /**
   * Client role: sends CONNECT. The answer comes through the owner. Check `hasCapacity` first. A request that cannot be
   * encoded (`hbone.header_limit`) has failed, and `onClosed` been called, when this returns.
   */
  openStream(owner: StreamOwner, request: ConnectRequest): TunnelStream {
    const id = this.#nextStreamId;
    this.#nextStreamId += 2;
    const stream = new TunnelStream(this, id, owner);
    this.streams.set(id, stream);
    this.streamsOpened++;
    if (!this.#frames.request(id, request)) {
      // Nothing was sent: for the peer the id is skipped, so there is nothing to reset.
      stream.closeRefused(failed('hbone.header_limit', 'request headers too large or not sendable'));
    }
    return stream;
  }

  /** Server role: answers 200; the stream copies from now on. */
  accept(stream: TunnelStream, baggage: string | undefined): void {
    if (stream.phase === 'closed') return;
    if (this.#frames.accepted(stream.id, baggage)) stream.open();
    else stream.abort(H2_ERROR.INTERNAL_ERROR, failed('hbone.header_limit', 'response headers too large'));
  }

  /** Server role: answers with a final status and ends the stream. */
  refuse(stream: TunnelStream, status: number, end: StreamEnd): void {
    if (stream.phase === 'closed') return;
    this.#frames.finalStatus(stream.id, status, stream.isRemoteEnded);
    stream.closeRefused(end);
  }

  /** Graceful end: no new streams, the peer is told, running streams continue; closes after the last. */
  drain(): void {
    if (this.state !== 'open') return;
    this.state = 'draining';
    if (this.role === 'server' && this.#goawaySent === 'no') {
      // First a warning that refuses nothing, then, one round trip later, the number of the last stream accepted:
      // requests that are under way meanwhile are not lost (RFC 9113 section 6.8).
      this.#goawaySent = 'warned';
      this.#frames.goaway(MAX_WINDOW_SIZE, H2_ERROR.NO_ERROR);
      this.#frames.ping(DRAIN_PING, 0, false);
    }
    this.engine.markDirty(this); // `flush` closes it once nothing is left
    this.events.onDraining(this);
  }

  /** Ends at once: every stream fails with this reason, and the peer learns it by GOAWAY and alert. */
  destroy(
    reason: ReasonCode | undefined,
    error: string,
    code: number = H2_ERROR.NO_ERROR,
    alert: number = Alert.close_notify,
  ): void {
    if (this.state === 'closed') return;
    this.#frames.goaway(this.#highestPeerStream, code);
    this.output.queueAlert(alert === Alert.close_notify ? AlertLevel.warning : AlertLevel.fatal, alert);
    const isSent = this.output.flush() === 0 && this.output.queuedBytes === 0;
    this.#close(reason, error, isSent ? 'linger' : 'close');
  }

  /**
   * Takes the live tunnel out of this worker as plain data. Nothing is sent or received in between, so the peer cannot
   * tell. This object is closed afterwards; `events` hears nothing. Call it between turns, not from a callback.
   * @throws tls.not_exportable when records are OpenSSL's
   */
  freeze(context: unknown): FrozenTunnel {
    if (this.state === 'closed') throw new Error('invariant: a closed tunnel cannot be frozen');
    if (this.#records.kind !== 'own') this.#records.exportState(); // throws before anything is taken apart
    const unsent = this.output.takeUnsent();
    const frozen: FrozenTunnel = {
      role: this.role,
      records: this.#records.exportState(),
      unopened: this.#carry,
      unsent,
      reader: this.#reader.exportState(),
      decoder: this.#decoder.exportState(),
      encoder: this.#frames.encoder.exportState(),
      peerInitialWindow: this.peerInitialWindow,
      peerMaxStreams: this.peerMaxStreams,
      state: this.state,
      sendWindow: this.sendWindow,
      receiveWindow: this.#receiveWindow,
      uncreditedBytes: this.#uncredited,
      withheldBytes: this.#withheld,
      currentStreamId: this.#current?.id ?? 0,
      currentUnusedBytes: this.#currentUnused,
      settingsAcknowledged: this.#settingsAcknowledged,
      nextStreamId: this.#nextStreamId,
      highestPeerStreamId: this.#highestPeerStream,
      goawaySent: this.#goawaySent,
      goawayReceived: this.#goawayReceived,
      streamsOpened: this.streamsOpened,
      streams: [...this.streams.values()].map(stream => stream.freeze()),
      context,
      fd: this.#release(),
    };
    this.streams.clear();
    return frozen;
  }

  /**
   * Continues a frozen tunnel in this worker, once: the secrets in `frozen` are wiped. `ownerOf` makes the owner of each
   * stream from its context.
   */
  static thaw(
    engine: Engine,
    frozen: FrozenTunnel,
    settings: TunnelSettings,
    events: TunnelEvents,
    ownerOf: (stream: TunnelStream, context: unknown) => StreamOwner,
  ): Tunnel {
    const records = importRecordLayer(frozen.records);
    frozen.records.readSecret.fill(0);
    frozen.records.writeSecret.fill(0);
    const tunnel = new Tunnel(engine, frozen.role, new Fd(frozen.fd), records, settings, events, frozen);
    tunnel.#carry = frozen.unopened;
    tunnel.peerInitialWindow = frozen.peerInitialWindow;
    tunnel.peerMaxStreams = frozen.peerMaxStreams;
    tunnel.state = frozen.state;
    tunnel.sendWindow = frozen.sendWindow;
    tunnel.#receiveWindow = frozen.receiveWindow;
    tunnel.#uncredited = frozen.uncreditedBytes;
    tunnel.#withheld = frozen.withheldBytes;
    tunnel.#nextStreamId = frozen.nextStreamId;
    tunnel.#highestPeerStream = frozen.highestPeerStreamId;
    tunnel.#goawaySent = frozen.goawaySent;
    tunnel.#goawayReceived = frozen.goawayReceived;
    tunnel.streamsOpened = frozen.streamsOpened;
    tunnel.output.restoreUnsent(frozen.unsent);
    tunnel.#settingsAcknowledged = frozen.settingsAcknowledged;
    // Unsent bytes, a key update that waits, or a drain that has nothing left to wait for.
    engine.markDirty(tunnel);
    for (const each of frozen.streams) {
      const stream = new TunnelStream(tunnel, each.id, UNOWNED);
      tunnel.streams.set(each.id, stream);
      stream.thaw(each);
      stream.owner = ownerOf(stream, each.context);
    }
    tunnel.#current = tunnel.streams.get(frozen.currentStreamId);
    tunnel.#currentUnused = frozen.currentUnusedBytes;
    tunnel.#listen();
    return tunnel;
  }

  // ---- for streams ------------------------------------------------------------------------------------------------

  sendEndStream(id: number): void {
    if (this.state !== 'closed') this.#frames.endStream(id);
  }

  sendReset(id: number, code: number): void {
    if (this.state !== 'closed') this.#frames.reset(id, code);
  }

  sendWindowUpdate(id: number, increment: number): void {
    if (this.state !== 'closed') this.#frames.windowUpdate(id, increment);
  }

  /** A stream sent `bytes` of DATA. */
  noteSent(bytes: number): void {
    this.sendWindow -= bytes;
    this.movedBytes += bytes;
    this.#guard.creditSent(bytes);
    this.engine.markDirty(this);
  }

  /** The stream wants to send but the output is full or the connection's window is used up. */
  awaitRoom(stream: TunnelStream): void {
    if (stream.isWaiting) return;
    stream.isWaiting = true;
    this.#waiting.push(stream);
  }

  /** The kernel of a TCP side took bytes, or they were dropped with their stream. */
  onBytesTaken(bytes: number): void {
    if (this.#withheld === 0 || bytes === 0 || this.state === 'closed') return;
    const credit = Math.min(bytes, this.#withheld);
    this.#withheld -= credit;
    this.#creditConnection(credit);
  }

  forget(stream: TunnelStream): void {
    if (!this.streams.delete(stream.id)) return;
    this.lastUsedMs = this.engine.nowMs;
    if (this.state === 'closed') return;
    if (this.state === 'draining') this.engine.markDirty(this);
    this.events.onCapacity(this);
  }

  // ---- reactor ----------------------------------------------------------------------------------------------------

  onEvents(mask: number): void {
    if (this.state === 'closed') return;
    if ((mask & (EventMask.RDHUP | EventMask.HUP | EventMask.ERR)) !== 0) this.#hungUp = true;
    if ((mask & (EventMask.IN | EventMask.RDHUP | EventMask.HUP | EventMask.ERR)) !== 0) {
      this.#readable = true;
      this.engine.enqueue(this);
    }
    if ((mask & EventMask.OUT) !== 0 && !this.output.isWritable) {
      this.output.isWritable = true;
      this.engine.markDirty(this);
    }
  }

  flush(): void {
    if (this.state === 'closed') return;
    const errno = this.output.flush();
    if (errno !== 0) {
      this.#close('peer.reset', `io error: ${errnoName(errno)}`);
      return;
    }
    if (this.output.broken !== undefined) {
      const overflow = this.output.broken === 'overflow';
      this.#close(
        overflow ? 'hbone.flood' : 'tls.bad_record',
        overflow ? 'the peer does not read what it makes us answer' : 'TLS keys are used up and could not be updated',
      );
      return;
    }
    if (this.#isDrained) this.destroy(undefined, 'drained');
    else this.#wakeWaiting();
  }

  pump(): void {
    if (this.state === 'closed') return;
    for (let reads = 0; reads < READS_PER_PUMP && this.#readable; reads++) {
      if (!this.#readOnce()) return;
    }
    if (this.#readable) this.engine.enqueue(this);
  }

  // ---- receiving --------------------------------------------------------------------------------------------------

  /** False when the tunnel ended. */
  #readOnce(): boolean {
    const slab = this.engine.receive;
    const received = recv(this.#fd, slab, CARRY_BYTES, RECEIVE_BYTES);
    if (received < 0) {
      if (received === -Errno.EAGAIN) {
        this.#readable = false;
        return true;
      }
      this.#close('peer.reset', `io error: ${errnoName(-received)}`);
      return false;
    }
    if (received === 0) {
      // Without close_notify a cut cannot be told from an end (RFC 8446 section 6.1), so unfinished streams fail.
      this.#close(this.#earlyEnd(), 'connection closed by the peer without notice');
      return false;
    }
    this.#keepAlive.lastReceivedMs = this.engine.nowMs;
    this.movedBytes += received;
    const start = CARRY_BYTES - this.#carry.length;
    if (this.#carry.length > 0) {
      slab.bytes.set(this.#carry, start);
      this.#carry = NO_BYTES;
    }
    const end = CARRY_BYTES + received;
    const stopped = this.#readRecords(start, end);
    if (stopped < 0) return false;
    this.#delivery.flush();
    if (this.#isClosed()) return false;
    if (stopped < end) this.#carry = Uint8Array.prototype.slice.call(slab.bytes, stopped, end);
    if (this.#records.wantsOutput) this.engine.markDirty(this);
    if (received < RECEIVE_BYTES && !this.#hungUp) this.#readable = false;
    return true;
  }

  /** Opens whole records from `start`; returns where the first incomplete one begins, or -1 when the tunnel ended. */
  #readRecords(start: number, end: number): number {
    const slab = this.engine.receive;
    const bytes = slab.bytes;
    let at = start;
    while (end - at >= RECORD_HEADER_BYTES) {
      const length = RECORD_HEADER_BYTES + (((bytes[at + 3] ?? 0) << 8) | (bytes[at + 4] ?? 0));
      if (length <= MAX_RECORD_BYTES && end - at < length) break;
      // An overlong record is given to the layer as far as it has come: it refuses it by its header.
      const content = this.#records.open(slab, at, Math.min(length, end - at));
      if (content < 0) {
        this.#refuseRecord(content);
        return -1;
      }
      switch (this.#records.opened) {
        case 'data': {
          const fault = this.#reader.push(bytes, at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + content);
          if (fault !== undefined) {
            this.#fail(fault);
            return -1;
          }
          break;
        }
        case 'close_notify':
          this.#delivery.flush();
          if (!this.#isClosed()) {
            this.#close(this.#earlyEnd(), 'connection closed by the peer');
          }
          return -1;
        case 'alert':
          this.#delivery.flush();
          this.#close('tls.alert', `received TLS alert: ${alertName(this.#records.alertDescription)}`);
          return -1;
        case 'control':
          break;
      }
      if (this.#isClosed()) return -1;
      at += length;
    }
    return at;
  }

  #refuseRecord(result: number): void {
    this.#delivery.flush();
    if (this.#isClosed()) return;
    const fault = -result as RecordFault;
    this.destroy('tls.bad_record', `bad TLS record: ${faultName(fault)}`, H2_ERROR.NO_ERROR, alertOf(fault));
  }

  #fail(fault: H2Fault): void {
    this.#delivery.flush();
    if (!this.#isClosed()) this.destroy(fault.reason, `h2 failed: ${fault.message}`, fault.code);
  }

  // A method, because the compiler would otherwise conclude from an earlier check that the state cannot have changed.
  #isClosed(): boolean {
    return this.state === 'closed';
  }

  #note(kind: FloodKind): void {
    if (this.#guard.note(kind, this.engine.nowMs)) return;
    this.#reader.fail(
      connectionFault(H2_ERROR.ENHANCE_YOUR_CALM, 'the peer sends too many control frames', 'hbone.flood'),
    );
  }

  // ---- frames (FrameSink) -----------------------------------------------------------------------------------------

  onDataFrame(streamId: number, flowLength: number, endStream: boolean): void {
    const stream = this.streams.get(streamId);
    this.#current = stream;
    this.#currentUnused = 0;
    if (flowLength === 0 && !endStream) this.#note(FLOOD_KIND.EMPTY_DATA);
    this.#receiveWindow -= flowLength;
    if (this.#receiveWindow < 0) {
      this.#reader.fail(
        connectionFault(H2_ERROR.FLOW_CONTROL_ERROR, 'connection window exceeded', 'hbone.flow_control'),
      );
      return;
    }
    if (stream === undefined) {
      if (this.#isIdleStream(streamId)) {
        this.#reader.fail(connectionFault(H2_ERROR.PROTOCOL_ERROR, 'DATA on an idle stream'));
        return;
      }
      this.#creditConnection(flowLength);
      return;
    }
    stream.receiveWindow -= flowLength;
    if (stream.receiveWindow < 0) {
      this.#refuseData(stream, flowLength, H2_ERROR.FLOW_CONTROL_ERROR, 'hbone.flow_control', 'stream window exceeded');
      return;
    }
    if (stream.isRemoteEnded) {
      this.#refuseData(stream, flowLength, H2_ERROR.STREAM_CLOSED, 'hbone.protocol', 'DATA after END_STREAM');
      return;
    }
    if (this.role === 'client' && stream.phase !== 'open') {
      this.#refuseData(stream, flowLength, H2_ERROR.PROTOCOL_ERROR, 'hbone.protocol', 'DATA before a response');
      return;
    }
    this.#currentUnused = flowLength;
    // Window of the connection is given back on receipt, so that a stuck stream blocks nobody, unless memory is tight.
    if (this.engine.budget.isTight) this.#withheld += flowLength;
    else this.#creditConnection(flowLength);
  }

  #refuseData(stream: TunnelStream, flowLength: number, code: number, reason: ReasonCode, error: string): void {
    this.#note(FLOOD_KIND.STREAM_FAULT);
    this.#current = undefined;
    this.#creditConnection(flowLength);
    stream.abort(code, failed(reason, `h2 failed: ${error}`));
  }

  onData(_id: number, _buffer: Buffer, start: number, end: number, frameRemaining: number, endStream: boolean): void {
    const stream = this.#current;
    if (stream === undefined) return;
    if (end > start) {
      this.#currentUnused -= end - start;
      this.#delivery.add(stream, start, end);
    }
    if (frameRemaining > 0) return;
    if (this.#currentUnused > 0) {
      // Padding: nobody will take it, so its window is given back now.
      stream.creditUnused(this.#currentUnused);
      this.onBytesTaken(this.#currentUnused);
      this.#currentUnused = 0;
    }
    if (endStream) {
      this.#delivery.flush();
      stream.onRemoteEnd();
    }
  }

  onHeaders(streamId: number, buffer: Buffer, start: number, end: number, endStream: boolean): void {
    const rules = this.role === 'server' ? requestRules : responseRules;
    rules.reset();
    const fault = this.#decoder.decode(buffer, start, end, rules);
    if (fault !== 0 && fault.kind === 'compression') {
      this.#reader.fail(connectionFault(H2_ERROR.COMPRESSION_ERROR, fault.message));
      return;
    }
    const tooLarge = fault !== 0;
    if (this.role === 'server') this.#onRequestHeaders(streamId, tooLarge, endStream);
    else this.#onResponseHeaders(streamId, tooLarge, endStream);
  }

  onPriority(_streamId: number): void {
    this.#note(FLOOD_KIND.PRIORITY);
  }

  onRstStream(streamId: number, code: number): void {
    this.#note(FLOOD_KIND.RST_STREAM);
    const stream = this.streams.get(streamId);
    if (stream !== undefined) {
      if (stream.phase !== 'open' && this.role === 'server') this.#note(FLOOD_KIND.RAPID_RESET);
      this.#delivery.flush();
      stream.onReset(code);
    } else if (this.#isIdleStream(streamId)) {
      this.#reader.fail(connectionFault(H2_ERROR.PROTOCOL_ERROR, 'RST_STREAM on an idle stream'));
    }
  }

  onSettings(settings: readonly Setting[]): void {
    this.#note(FLOOD_KIND.SETTINGS);
    // What the pool assumed of the peer ends with its first word; not to mention a limit is to have none of note.
    if (!this.#peerSettingsSeen) this.peerMaxStreams = ASSUMED_PEER_STREAMS;
    this.#peerSettingsSeen = true;
    for (const { id, value } of settings) {
      if (id === SETTING.INITIAL_WINDOW_SIZE) this.#changeInitialWindow(value);
      else if (id === SETTING.MAX_CONCURRENT_STREAMS) this.peerMaxStreams = value;
      else if (id === SETTING.HEADER_TABLE_SIZE) this.#frames.encoder.setPeerTableSize(value);
      // MAX_FRAME_SIZE: our frames never exceed the 16 KiB that every peer must take. The rest does not concern us.
    }
    this.#frames.settingsAck();
    this.events.onCapacity(this);
  }

  onSettingsAck(): void {
    this.#note(FLOOD_KIND.SETTINGS);
    this.#settingsAcknowledged = true;
    this.#decoder.settingsAcknowledged();
  }

  onPing(buffer: Buffer, start: number, ack: boolean): void {
    this.#note(FLOOD_KIND.PING);
    if (!ack) {
      this.#frames.ping(buffer, start, true);
      return;
    }
    this.#keepAlive.onPong(buffer, start);
    if (this.#goawaySent === 'warned' && DRAIN_PING.compare(buffer, start, start + 8) === 0) {
      this.#goawaySent = 'final';
      this.#frames.goaway(this.#highestPeerStream, H2_ERROR.NO_ERROR);
    }
  }

  onGoaway(lastStreamId: number, code: number): void {
    this.#goawayReceived = true;
    const wasOpen = this.state === 'open';
    this.state = 'draining';
    this.engine.markDirty(this);
    this.#delivery.flush();
    if (this.#isClosed()) return;
    // Told first, so that streams which are tried again do not end up here.
    if (wasOpen) this.events.onDraining(this);
    if (this.role === 'client') {
      for (const stream of Array.from(this.streams.values())) {
        if (stream.id > lastStreamId) {
          stream.onTunnelClosed(failed('hbone.goaway', `peer is going away (HTTP/2 error ${code})`, true));
        }
      }
    }
  }

  onWindowUpdate(streamId: number, increment: number): void {
    this.#note(FLOOD_KIND.WINDOW_UPDATE);
    if (streamId === 0) {
      this.sendWindow += increment;
      if (this.sendWindow > MAX_WINDOW_SIZE) {
        this.#reader.fail(
          connectionFault(H2_ERROR.FLOW_CONTROL_ERROR, 'connection window overflow', 'hbone.flow_control'),
        );
        return;
      }
      this.#wakeWaiting();
      return;
    }
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      if (this.#isIdleStream(streamId)) {
        this.#reader.fail(connectionFault(H2_ERROR.PROTOCOL_ERROR, 'WINDOW_UPDATE on an idle stream'));
      }
      return;
    }
    if (stream.sendWindow + increment > MAX_WINDOW_SIZE) {
      stream.abort(H2_ERROR.FLOW_CONTROL_ERROR, failed('hbone.flow_control', 'stream window overflow'));
      return;
    }
    stream.addSendWindow(increment);
  }

  onIgnoredFrame(_type: number, _length: number): void {
    this.#note(FLOOD_KIND.IGNORED_FRAME);
  }

  onStreamFault(fault: H2Fault): void {
    this.#note(FLOOD_KIND.STREAM_FAULT);
    const stream = this.streams.get(fault.streamId);
    if (stream === undefined) {
      // A reset of a stream that does not exist would be a fault of ours.
      if (this.#isIdleStream(fault.streamId))
        this.#reader.fail(connectionFault(fault.code, fault.message, fault.reason));
      else this.sendReset(fault.streamId, fault.code);
    } else stream.abort(fault.code, failed(fault.reason, `h2 failed: ${fault.message}`));
  }

  #onRequestHeaders(streamId: number, tooLarge: boolean, endStream: boolean): void {
    const known = this.streams.get(streamId);
    if (known !== undefined) {
      this.#onTrailers(known, endStream);
      return;
    }
    if ((streamId & 1) === 0 || streamId <= this.#highestPeerStream) {
      // An id that was used before is a stream we have closed: late trailers of it mean nothing. An even one is a fault.
      if ((streamId & 1) === 0)
        this.#reader.fail(connectionFault(H2_ERROR.PROTOCOL_ERROR, 'client stream with an even id'));
      return;
    }
    if (this.#goawaySent === 'final') return; // the peer was told that it will not be served
    this.#highestPeerStream = streamId;
    if (this.#peerStreams() >= this.settings.maxConcurrentStreams) {
      this.sendReset(streamId, H2_ERROR.REFUSED_STREAM);
      return;
    }
    if (tooLarge) {
      this.#answerBad(streamId, 431, endStream, 'hbone.header_limit', 'request header list too large');
      return;
    }
    const ruling = requestRules.finish(streamId);
    if (ruling.kind === 'malformed') {
      this.#note(FLOOD_KIND.STREAM_FAULT);
      this.sendReset(streamId, ruling.fault.code);
      this.events.onBadRequest(this, 0, ruling.fault.reason, `h2 failed: ${ruling.fault.message}`);
    } else if (ruling.head.method !== 'CONNECT') {
      this.#answerBad(
        streamId,
        400,
        endStream,
        'hbone.not_connect',
        `expected method CONNECT, got ${ruling.head.method}`,
      );
    } else {
      const stream = new TunnelStream(this, streamId, UNOWNED);
      if (!this.#settingsAcknowledged) stream.receiveWindow = Math.max(DEFAULT_WINDOW_SIZE, stream.receiveWindow);
      this.streams.set(streamId, stream);
      this.streamsOpened++;
      this.events.onRequest(stream, ruling.head);
      if (endStream) stream.onRemoteEnd();
    }
  }

  // Trailers end the peer's direction, and a CONNECT has no use for what they say.
  #onTrailers(stream: TunnelStream, endStream: boolean): void {
    this.#delivery.flush();
    if (stream.isRemoteEnded) {
      stream.abort(H2_ERROR.STREAM_CLOSED, failed('hbone.protocol', 'h2 failed: HEADERS after END_STREAM'));
    } else if (endStream) stream.onRemoteEnd();
    else
      stream.abort(H2_ERROR.PROTOCOL_ERROR, failed('hbone.protocol', 'h2 failed: HEADERS in the middle of a tunnel'));
  }

  #onResponseHeaders(streamId: number, tooLarge: boolean, endStream: boolean): void {
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      if (this.#isIdleStream(streamId)) {
        this.#reader.fail(connectionFault(H2_ERROR.PROTOCOL_ERROR, 'response on an idle stream'));
      }
      return;
    }
    if (stream.phase === 'open') {
      this.#onTrailers(stream, endStream);
      return;
    }
    if (tooLarge) {
      stream.abort(H2_ERROR.CANCEL, failed('hbone.header_limit', 'response header list too large'));
      return;
    }
    const ruling = responseRules.finish(streamId);
    if (ruling.kind === 'malformed') {
      stream.abort(ruling.fault.code, failed(ruling.fault.reason, `h2 failed: ${ruling.fault.message}`));
      return;
    }
    const { status, baggage } = ruling.head;
    if (status < 200 && !endStream) return; // an interim answer; the final one follows
    if (status === 200) {
      stream.owner.onResponse(stream, status, baggage);
      stream.open();
      if (endStream) stream.onRemoteEnd();
      return;
    }
    stream.owner.onResponse(stream, status, baggage);
    // Either way the stream must end for the peer too, or it would count against its limit.
    if (endStream) this.sendEndStream(streamId);
    else this.sendReset(streamId, H2_ERROR.CANCEL);
    stream.closeRefused(failed('hbone.status', `http status: ${statusText(status)}`));
  }

  #answerBad(streamId: number, status: number, endStream: boolean, reason: ReasonCode, error: string): void {
    this.#frames.finalStatus(streamId, status, endStream);
    this.events.onBadRequest(this, status, reason, error);
  }

  #isIdleStream(id: number): boolean {
    if ((id & 1) === 0) return true; // a server opens none
    if (this.role === 'client') return id >= this.#nextStreamId;
    // After the final GOAWAY, streams that were under way are ignored, not faulted (RFC 9113 section 6.8).
    return id > this.#highestPeerStream && this.#goawaySent !== 'final';
  }

  /** Streams that the peer counts as open. Settled ones are only ours, and are few enough to be looked at one by one. */
  #peerStreams(): number {
    const { size } = this.streams;
    if (size < this.settings.maxConcurrentStreams) return size;
    let settled = 0;
    for (const stream of this.streams.values()) if (stream.isSettled) settled++;
    return size - settled;
  }

  #changeInitialWindow(value: number): void {
    const delta = value - this.peerInitialWindow;
    this.peerInitialWindow = value;
    for (const stream of this.streams.values()) {
      if (stream.sendWindow + delta > MAX_WINDOW_SIZE) {
        this.#reader.fail(connectionFault(H2_ERROR.FLOW_CONTROL_ERROR, 'stream window overflow', 'hbone.flow_control'));
        return;
      }
      stream.addSendWindow(delta);
    }
  }

  // ---- windows ----------------------------------------------------------------------------------------------------

  #creditConnection(bytes: number): void {
    this.#uncredited += bytes;
    if (this.#uncredited * CREDIT_SHARE < this.settings.connectionWindowBytes) return;
    this.#receiveWindow += this.#uncredited;
    this.sendWindowUpdate(0, this.#uncredited);
    this.#uncredited = 0;
  }

  #wakeWaiting(): void {
    if (this.#waiting.length === 0 || this.sendWindow <= 0 || !this.output.acceptsData) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const stream of waiting) {
      stream.isWaiting = false;
      if (stream.phase === 'open') this.engine.enqueue(stream);
    }
  }

  // ---- life -------------------------------------------------------------------------------------------------------

  get #isDrained(): boolean {
    if (this.state !== 'draining' || this.streams.size > 0 || this.output.queuedBytes > 0) return false;
    // A server that has only warned waits for the echo: a request may be on its way.
    return this.role === 'client' || this.#goawaySent !== 'warned' || this.#goawayReceived;
  }

  /** The reason when the peer closes now: none if no stream needs it any more. */
  #earlyEnd(): ReasonCode | undefined {
    for (const stream of this.streams.values()) if (!stream.isSettled) return 'peer.eof_early';
    return undefined;
  }

  #close(reason: ReasonCode | undefined, error: string, how: 'close' | 'linger' = 'close'): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.#detach();
    if (how === 'linger') closeLingering(this.engine, this.#fd);
    else this.#fd.close();
    this.#records.close();
    // If a frame is being read right now, the rest of what was received is not looked at.
    this.#reader.fail(connectionFault(H2_ERROR.NO_ERROR, error));
    for (const stream of Array.from(this.streams.values())) {
      const untouched = stream.phase === 'requested' && this.streamsOpened > 1;
      stream.onTunnelClosed(failed(reason ?? 'peer.eof_early', error, untouched));
    }
    this.streams.clear();
    this.events.onClosed(this, reason, error);
  }

  #release(): number {
    this.state = 'closed';
    this.#detach();
    return this.#fd.release();
  }

  #detach(): void {
    this.#keepAlive.stop();
    if (this.#registration !== undefined) this.engine.reactor.remove(this.#registration);
    this.#registration = undefined;
    this.output.close();
    this.#waiting = [];
    this.#current = undefined;
  }
}
