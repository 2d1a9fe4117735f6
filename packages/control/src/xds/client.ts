// One connected client: its session, and the one response on its way to it. What else is due waits in the session as
// names, so a slow client holds one response's bytes and no more.
import type { DeltaCall, DeltaRequest, DeltaResponseInit, GrpcError } from '@ambit/wire/grpc-server';
import { formatSpiffeId } from '@ambit/mesh';
import type { Caller } from '../auth/caller.ts';
import type { ClientNode } from './client-node.ts';
import type { DeltaSession, RequestOutcome } from './session.ts';
import type { SharedEncodings } from './shared-encodings.ts';
import type { XdsClientStatus, XdsNack } from './status.ts';
import type { StoreChanges } from './store.ts';

export interface ClientParts {
  readonly call: DeltaCall;
  readonly session: DeltaSession;
  readonly node: ClientNode;
  readonly caller: Caller | undefined;
  readonly encodings: SharedEncodings;
  readonly now: () => number;
  readonly stuckMs: number;
  /** Sent with every response; for people. */
  readonly version: () => string;
}

export class XdsClient {
  readonly node: ClientNode;
  readonly #parts: ClientParts;
  readonly #since: number;
  readonly #nacks = new Map<string, XdsNack>();
  readonly #bytes = new Map<string, number>();
  readonly #retry = () => this.#pump();
  readonly #failure = Promise.withResolvers<never>();
  #isSending = false;
  #isOver = false;

  constructor(parts: ClientParts) {
    this.node = parts.node;
    this.#parts = parts;
    this.#since = parts.now();
    this.#failure.promise.catch(() => undefined); // who serves the client awaits it; if nobody does any more, all is over
  }

  /** Rejects when the client has to go; never resolves. */
  get failure(): Promise<never> {
    return this.#failure.promise;
  }

  /** @throws GrpcError when the request breaks a rule */
  request(request: DeltaRequest): RequestOutcome {
    const outcome = this.#parts.session.request(request);
    if (outcome.kind === 'nack') {
      const { nonce, message } = outcome.nack;
      const time = new Date(this.#parts.now()).toISOString();
      this.#nacks.set(outcome.typeUrl, { time, version: nonce, message });
    }
    this.#pump();
    return outcome;
  }

  storeChanged(changes: StoreChanges): void {
    this.#parts.session.storeChanged(changes);
    this.#pump();
  }

  fail(error: GrpcError): void {
    this.#isOver = true;
    this.#failure.reject(error);
  }

  /** Nothing is sent any more. */
  end(): void {
    this.#isOver = true;
  }

  status(dropped: number): XdsClientStatus {
    const { call, caller, session, node } = this.#parts;
    return {
      node: node.id,
      nodeName: node.nodeName,
      address: call.context.credentials.peer,
      since: new Date(this.#since).toISOString(),
      identity: caller === undefined ? undefined : formatSpiffeId(caller.identity),
      types: session.status().map(type => ({
        ...type,
        lastNack: this.#nacks.get(type.typeUrl),
        bytesSent: this.#bytes.get(type.typeUrl) ?? 0,
      })),
      dropped,
    };
  }

  #pump(): void {
    if (this.#isSending || this.#isOver) return;
    const { session, encodings, version } = this.#parts;
    if (session.wantsEverything && !encodings.hasRoom(this.#retry)) return;
    let due;
    let encoded;
    try {
      due = session.next();
      if (due === undefined) return;
      encoded = encodings.encode(due);
    } catch (error) {
      this.#failure.reject(error);
      return;
    }
    const { typeUrl, nonce, removed } = due;
    const { entries, release } = encoded;
    this.#isSending = true;
    const response = { systemVersionInfo: version(), typeUrl, nonce, removed, entries };
    void this.#send(response, release);
  }

  async #send(response: DeltaResponseInit, release: () => void): Promise<void> {
    const { typeUrl } = response;
    try {
      const bytes = await this.#parts.call.send(response, this.#parts.stuckMs);
      this.#bytes.set(typeUrl, (this.#bytes.get(typeUrl) ?? 0) + bytes);
      this.#isSending = false;
    } catch (error) {
      this.#isOver = true;
      this.#failure.reject(error);
    } finally {
      release();
    }
    this.#pump();
  }
}
