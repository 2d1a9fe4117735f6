// Reads PostgreSQL (protocol 3.0 and 3.2) passively: one request for each Query, Execute and FunctionCall message, ended by
// what answers it. Pipelining, COPY, errors that skip the rest of a batch, notices. Rows and copied data are not looked at.
// It gives up as `upgraded` when encryption is agreed on or replication begins. Authentication is not a request.
import { CommandReader } from './command-reader.ts';
import { MessageCutter, type MessageSide, type MessageSink } from './message-cutter.ts';
import type { Move } from './moving.ts';
import { PendingRequests } from './pending-requests.ts';
import { MESSAGE, messageBytes, sqlState, startupBytes, startupKind } from './postgresql-messages.ts';
import { keyOfName, PreparedStatements } from './prepared-statements.ts';
import { SQL_VERBS, sqlVerb } from './sql-verb.ts';
import type { L7Listener } from './types.ts';

export { probePostgresql } from './postgresql-messages.ts';

const MOST_PENDING = 256;
// Enough for a comment before the statement, or for a name and the first word.
const CLIENT_SHOWN_BYTES = 128;
// Severity, its untranslated twin and the SQLSTATE come first in an error.
const SERVER_SHOWN_BYTES = 64;

// Kinds of pending entries. A Sync belongs to the Execute before it when there is one, since ReadyForQuery ends both.
const QUERY = 1;
const FUNCTION_CALL = 2;
const EXECUTE = 3;
const EXECUTE_SYNC = 4;
const SYNC = 5;

export class PostgresqlReader extends CommandReader implements MessageSink {
  protected override readonly client: MessageCutter;
  protected override readonly server: MessageCutter;
  // `asked`: the client wants encryption, the answer is one bare byte. `cancel`: it wants another connection's work undone.
  #phase: 'startup' | 'asked' | 'cancel' | 'session' = 'startup';
  // Whether the server has said ReadyForQuery once: authentication is over.
  #isReady = false;
  #clientType = 0;
  #serverType = 0;
  // The oldest pending Execute is answered; with a Sync behind it, it lasts until ReadyForQuery.
  #isAnswered = false;
  // An error was seen in a batch: what is pending until the next Sync is not carried out.
  #hasFailed = false;
  // The server waits for data to copy and ignores Sync until they end.
  #isCopyingIn = false;
  // Messages before an Execute belong to it.
  #batchStartMs = 0;
  #batchBytes = 0;
  readonly #statements = new PreparedStatements();
  #portal = 0;
  #portalWord = 0;
  #parsedWord = 0;

  constructor(listener: L7Listener) {
    super('postgresql', listener, new PendingRequests(MOST_PENDING));
    this.client = new MessageCutter('client', this, 5, CLIENT_SHOWN_BYTES);
    this.server = new MessageCutter('server', this, 5, SERVER_SHOWN_BYTES);
  }

  override fromServer(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    if (this.#phase === 'asked' && start < end) return this.#onEncryptionAnswer(bytes, start, end, nowMs);
    super.fromServer(bytes, start, end, nowMs);
  }

  protected override nameOf(word: number, kind: number): string {
    return kind === FUNCTION_CALL ? 'FUNCTION' : SQL_VERBS.word(word);
  }

  protected override isRequest(kind: number): boolean {
    return kind !== SYNC;
  }

  messageBytes(side: MessageSide, bytes: Uint8Array, at: number): number {
    const isStartup = side === 'client' && this.#phase === 'startup';
    const length = isStartup ? startupBytes(bytes, at) : messageBytes(side, bytes, at);
    if (length === 0) this.giveUp('malformed');
    return length;
  }

  onMessage(side: MessageSide, bytes: Uint8Array, at: number, end: number, length: number, startMs: number): void {
    if (side === 'server') this.#onServerMessage(bytes, at, end, length);
    else if (this.#phase === 'session') this.#onClientMessage(bytes, at, end, length, startMs);
    else this.#onStartup(bytes, at);
  }

  onMessageEnd(side: MessageSide, nowMs: number): void {
    if (side === 'server') this.#onServerMessageEnd(nowMs);
    // The data of a COPY end here; what the client sends next is not part of them.
    else if (this.#clientType === MESSAGE.COPY_DONE || this.#clientType === MESSAGE.COPY_FAIL)
      this.#isCopyingIn = false;
  }

  override carry(move: Move): void {
    super.carry(move);
    this.#phase = move.text(this.#phase);
    this.#isReady = move.flag(this.#isReady);
    this.#clientType = move.number(this.#clientType);
    this.#serverType = move.number(this.#serverType);
    this.#isAnswered = move.flag(this.#isAnswered);
    this.#hasFailed = move.flag(this.#hasFailed);
    this.#isCopyingIn = move.flag(this.#isCopyingIn);
    this.#batchStartMs = move.time(this.#batchStartMs);
    this.#batchBytes = move.number(this.#batchBytes);
    this.#statements.carry(move);
    this.#portal = move.number(this.#portal);
    this.#portalWord = move.number(this.#portalWord);
    this.#parsedWord = move.number(this.#parsedWord);
  }

  #onStartup(bytes: Uint8Array, at: number): void {
    // A client that does not wait for the answer, or goes on after it has asked for a cancellation, breaks the rules.
    if (this.#phase !== 'startup') return this.giveUp('desynchronized');
    const kind = startupKind(bytes, at);
    if (kind === 'unknown') return this.giveUp('malformed');
    this.#phase = kind === 'startup' ? 'session' : kind === 'cancel' ? 'cancel' : 'asked';
  }

  #onEncryptionAnswer(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    const answer = bytes[start];
    if (answer === 0x53 || answer === 0x47) return this.giveUp('upgraded');
    // Servers older than the question answer with an error, and so does one that is too busy to start.
    this.#phase = answer === MESSAGE.ERROR ? 'session' : 'startup';
    if (answer === MESSAGE.ERROR) super.fromServer(bytes, start, end, nowMs);
    else if (answer !== 0x4e) this.giveUp('malformed');
    else super.fromServer(bytes, start + 1, end, nowMs);
  }

  #onClientMessage(bytes: Uint8Array, at: number, end: number, length: number, startMs: number): void {
    const type = bytes[at] ?? 0;
    const body = at + 5;
    const isWhole = end - at === length;
    this.#clientType = type;
    switch (type) {
      case MESSAGE.QUERY:
        // The text ends with a NUL.
        return this.#push(startMs, length, sqlVerb(bytes, body, end, isWhole), QUERY);
      case MESSAGE.FUNCTION_CALL:
        return this.#push(startMs, length, 0, FUNCTION_CALL);
      case MESSAGE.EXECUTE: {
        const word = keyOfName(bytes, body, nameEnd(bytes, body, end)) === this.#portal ? this.#portalWord : 0;
        return this.#push(startMs, length, word, EXECUTE);
      }
      case MESSAGE.SYNC:
        return this.#onSync(startMs, length);
      case MESSAGE.COPY_DATA:
      case MESSAGE.COPY_DONE:
      case MESSAGE.COPY_FAIL:
        if (this.#isCopyingIn) this.addedBytes += length;
        return;
      case MESSAGE.PARSE: {
        const stop = nameEnd(bytes, body, end);
        this.#parsedWord = sqlVerb(bytes, stop + 1, end, isWhole);
        if (stop < end) this.#statements.set(keyOfName(bytes, body, stop), this.#parsedWord);
        break;
      }
      case MESSAGE.BIND: {
        const stop = nameEnd(bytes, body, end);
        const last = nameEnd(bytes, stop + 1, end);
        this.#portal = keyOfName(bytes, body, stop);
        this.#portalWord = last < end ? this.#statements.get(keyOfName(bytes, stop + 1, last)) : 0;
        break;
      }
      case MESSAGE.CLOSE:
        // Behind an Execute and before its Sync.
        if (this.#lastIsExecute() && this.#batchBytes === 0) {
          return this.pending.addBytes(this.pending.length - 1, length);
        }
        break;
      case MESSAGE.DESCRIBE:
      case MESSAGE.FLUSH:
        break;
      default:
        // Passwords, and the farewell.
        return;
    }
    if (this.#batchBytes === 0) this.#batchStartMs = startMs;
    this.#batchBytes += length;
  }

  #push(startMs: number, length: number, word: number, kind: number): void {
    const firstMs = this.#batchBytes > 0 ? this.#batchStartMs : startMs;
    if (!this.pending.push(firstMs, this.#batchBytes + length, word, kind)) return this.giveUp('limit');
    this.#batchBytes = 0;
  }

  #lastIsExecute(): boolean {
    return this.pending.length > 0 && this.pending.kind(this.pending.length - 1) === EXECUTE;
  }

  #onSync(startMs: number, length: number): void {
    if (this.#isCopyingIn) return;
    if (this.#lastIsExecute() && this.#batchBytes === 0) {
      const last = this.pending.length - 1;
      this.pending.addBytes(last, length);
      this.pending.setKind(last, EXECUTE_SYNC);
    } else {
      this.#push(startMs, length, this.#parsedWord, SYNC);
    }
    this.#parsedWord = 0;
  }

  #onServerMessage(bytes: Uint8Array, at: number, end: number, length: number): void {
    const type = bytes[at] ?? 0;
    this.#serverType = type;
    if (this.#phase !== 'session' && type !== MESSAGE.ERROR) return this.giveUp('desynchronized');
    if (this.#isReady && (type === MESSAGE.AUTHENTICATION || type === MESSAGE.NEGOTIATE_VERSION)) {
      return this.giveUp('malformed');
    }
    if (!this.#isReady || this.pending.length === 0) return;
    this.responseBytes += length;
    if (type === MESSAGE.ERROR) {
      this.error ??= sqlState(bytes, at + 5, end);
    } else if (type === MESSAGE.COMMAND_COMPLETE && this.pending.word(0) === 0) {
      this.pending.setWord(0, sqlVerb(bytes, at + 5, end, end - at === length));
    }
  }

  #onServerMessageEnd(nowMs: number): void {
    switch (this.#serverType) {
      case MESSAGE.READY:
        if (this.#isReady) this.#onReady(nowMs);
        this.#isReady = true;
        return;
      case MESSAGE.ERROR:
        this.#isCopyingIn = false;
        // Without a question it is the server's farewell: it shuts down, or refused the login.
        if (this.#isReady && this.pending.length > 0 && this.#isExtended()) this.#hasFailed = true;
        return;
      case MESSAGE.COMMAND_COMPLETE:
      case MESSAGE.EMPTY_QUERY:
      case MESSAGE.PORTAL_SUSPENDED:
        return this.#onAnswer(nowMs);
      case MESSAGE.COPY_IN:
        return this.#onCopyIn();
      case MESSAGE.COPY_BOTH:
        return this.giveUp('upgraded');
      default:
    }
  }

  #isExtended(): boolean {
    return this.pending.kind(0) >= EXECUTE;
  }

  #onAnswer(nowMs: number): void {
    this.#isCopyingIn = false;
    const kind = this.pending.length === 0 ? SYNC : this.pending.kind(0);
    if (kind === EXECUTE) this.#finishOldest(nowMs);
    else if (kind === EXECUTE_SYNC && !this.#isAnswered) this.#isAnswered = true;
    else if (kind !== QUERY) this.giveUp('desynchronized');
  }

  #onCopyIn(): void {
    if (this.pending.length === 0) return this.giveUp('desynchronized');
    if (this.#isExtended()) {
      // A Sync that was sent before the client could know that it had to copy is ignored by the server.
      while (this.pending.length > 1 && this.pending.kind(this.pending.length - 1) === SYNC) this.pending.pop();
      // What else was sent ahead ends the copying with an error in places that cannot be told from here.
      if (this.pending.length > 1 || this.#isAnswered) return this.giveUp('desynchronized');
      this.pending.setKind(0, EXECUTE);
    }
    this.#isCopyingIn = true;
  }

  // Ends a simple query, or everything up to the oldest Sync.
  #onReady(nowMs: number): void {
    if (this.pending.length === 0) return this.giveUp('desynchronized');
    if (!this.#isExtended()) return this.#finishOldest(nowMs);
    const error = this.error;
    const hasFailed = this.#hasFailed;
    let told = 0;
    while (this.pending.length > 0) {
      const kind = this.pending.kind(0);
      const isCarriedOut = kind === SYNC || (kind === EXECUTE_SYNC && this.#isAnswered);
      if (!isCarriedOut && !hasFailed) break;
      this.error = error;
      // A batch that failed before any Execute was sent is still worth telling: somebody could not prepare a statement.
      if (kind === SYNC && (!hasFailed || told > 0)) this.drop();
      else this.#finishOldest(nowMs);
      told++;
      if (kind === SYNC || kind === EXECUTE_SYNC) {
        this.#hasFailed = false;
        return;
      }
    }
    this.giveUp('desynchronized');
  }

  #finishOldest(nowMs: number): void {
    this.#isAnswered = false;
    this.finish(nowMs);
  }
}

// Where the NUL is that ends a name; `end` when it is not there.
function nameEnd(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && bytes[at] !== 0) at++;
  return at;
}
