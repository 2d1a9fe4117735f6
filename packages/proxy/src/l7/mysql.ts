// Reads MySQL and MariaDB (protocol 4.1) passively: one request for each command, ended by the last packet of its answer;
// several result sets, cursors, prepared statements, LOCAL INFILE. Rows are not looked at beyond their first byte.
// It gives up as `upgraded` when encryption or compression is agreed on, or replication begins. Logging in is no request.
import { CommandReader } from './command-reader.ts';
import { MessageCutter, type MessageSide, type MessageSink } from './message-cutter.ts';
import type { Move } from './moving.ts';
import {
  ANSWER,
  answerOf,
  CAPABILITY,
  type Capabilities,
  clientCapabilities,
  COMMAND,
  commandName,
  endsCommands,
  EVERYTHING,
  HEADER_BYTES,
  MARIADB,
  numberBytes,
  okStatus,
  serverCapabilities,
  STATUS,
  WHOLE_PACKET_BYTES,
  word16,
  word24,
  word32,
} from './mysql-packets.ts';
import { PendingRequests } from './pending-requests.ts';
import { PreparedStatements } from './prepared-statements.ts';
import { SQL_VERBS, sqlVerb } from './sql-verb.ts';
import type { L7Listener } from './types.ts';

export { probeMysql } from './mysql-packets.ts';

const MOST_PENDING = 256;
const SHOWN_BYTES = 128;
// The kind of a pending request is how it is answered, and whether its word is a command's code instead of a verb.
const BY_CODE = 0x80;
// MariaDB's number of the statement that was prepared last.
const LAST_STATEMENT = 0xffff_ffff;
const OK = 0x00;
const EOF = 0xfe;
const ERROR = 0xff;
const LOCAL_FILE = 0xfb;
// An error of MariaDB that is none: it tells how far a long command has come.
const PROGRESS = 0xffff;

/** What the next packet of the answer under way is. */
type Expected = 'first' | 'definition' | 'definitions-end' | 'row';

export class MysqlReader extends CommandReader implements MessageSink {
  protected override readonly client: MessageCutter;
  protected override readonly server: MessageCutter;
  #phase: 'greeting' | 'login' | 'authentication' | 'commands' = 'greeting';
  #able: Capabilities = EVERYTHING;
  #isWithoutEof = false;
  #hasAttributes = false;
  #hasMetadataMark = false;
  // The packet under way is followed by more of its payload, or follows one.
  #clientGoesOn = false;
  #serverGoesOn = false;
  // The server waits for a file, which ends with an empty packet.
  #isLoading = false;
  // Parts of a statement's values are sent ahead of its execution and belong to it.
  #isAhead = false;
  #aheadBytes = 0;
  #aheadMs = 0;
  #expected: Expected = 'first';
  #sequence = 0;
  #definitions = 0;
  // A prepared statement has definitions of its values and then of its columns.
  #laterDefinitions = 0;
  // The packet under way is the answer's last.
  #isLast = false;
  readonly #statements = new PreparedStatements();

  constructor(listener: L7Listener) {
    super('mysql', listener, new PendingRequests(MOST_PENDING));
    this.client = new MessageCutter('client', this, HEADER_BYTES, SHOWN_BYTES);
    this.server = new MessageCutter('server', this, HEADER_BYTES, SHOWN_BYTES);
  }

  protected override nameOf(word: number, kind: number): string {
    if (kind === ANSWER.PREPARED) return commandName(COMMAND.PREPARE);
    return (kind & BY_CODE) === 0 ? SQL_VERBS.word(word) : commandName(word);
  }

  protected override isRequest(): boolean {
    return true;
  }

  messageBytes(_side: MessageSide, bytes: Uint8Array, at: number): number {
    return HEADER_BYTES + word24(bytes, at);
  }

  onMessage(side: MessageSide, bytes: Uint8Array, at: number, end: number, length: number, startMs: number): void {
    if (side === 'client') this.#onClientPacket(bytes, at, end, length, startMs);
    else this.#onServerPacket(bytes, at, end, length);
  }

  onMessageEnd(side: MessageSide, nowMs: number): void {
    if (side === 'client' || !this.#isLast || this.#serverGoesOn) return;
    this.#isLast = false;
    this.#expected = 'first';
    this.finish(nowMs);
  }

  override carry(move: Move): void {
    super.carry(move);
    this.#phase = move.text(this.#phase);
    this.#able = { flags: move.number(this.#able.flags), more: move.number(this.#able.more) };
    this.#isWithoutEof = move.flag(this.#isWithoutEof);
    this.#hasAttributes = move.flag(this.#hasAttributes);
    this.#hasMetadataMark = move.flag(this.#hasMetadataMark);
    this.#clientGoesOn = move.flag(this.#clientGoesOn);
    this.#serverGoesOn = move.flag(this.#serverGoesOn);
    this.#isLoading = move.flag(this.#isLoading);
    this.#isAhead = move.flag(this.#isAhead);
    this.#aheadBytes = move.number(this.#aheadBytes);
    this.#aheadMs = move.time(this.#aheadMs);
    this.#expected = move.text(this.#expected);
    this.#sequence = move.number(this.#sequence);
    this.#definitions = move.number(this.#definitions);
    this.#laterDefinitions = move.number(this.#laterDefinitions);
    this.#isLast = move.flag(this.#isLast);
    this.#statements.carry(move);
  }

  #onClientPacket(bytes: Uint8Array, at: number, end: number, length: number, startMs: number): void {
    const isMore = this.#clientGoesOn;
    this.#clientGoesOn = length === HEADER_BYTES + WHOLE_PACKET_BYTES;
    if (this.#phase === 'authentication') return;
    if (this.#phase !== 'commands') return this.#onLogin(bytes, at + HEADER_BYTES, end);
    if (this.#isLoading) {
      this.addedBytes += length;
      // A file of a multiple of 16 MiB has an empty packet more, and that is its end all the same.
      if (length === HEADER_BYTES) this.#isLoading = false;
    } else if (isMore) {
      if (this.#isAhead) this.#aheadBytes += length;
      else if (this.pending.length > 0) this.pending.addBytes(this.pending.length - 1, length);
    } else if (bytes[at + 3] !== 0) {
      // Talk of authentication goes on; anything else would have to begin with number 0.
      if (this.pending.length === 0 || this.#answer() !== ANSWER.AUTHENTICATION) return this.giveUp('desynchronized');
      this.addedBytes += length;
    } else if (length === HEADER_BYTES) {
      this.giveUp('malformed');
    } else {
      this.#onCommand(bytes, at + HEADER_BYTES, end, length, startMs);
    }
  }

  #onLogin(bytes: Uint8Array, start: number, end: number): void {
    if (this.#phase === 'greeting') return this.giveUp('desynchronized');
    if (end - start < 32) return this.giveUp('malformed');
    const wanted = clientCapabilities(bytes, start);
    const flags = wanted.flags & this.#able.flags;
    // Clients from before 2004, and answers that leave out what the answers' shapes depend on.
    if ((flags & CAPABILITY.PROTOCOL_41) === 0 || (flags & CAPABILITY.OPTIONAL_METADATA) !== 0)
      return this.giveUp('limit');
    const isEncrypted = end - start === 32 && (flags & CAPABILITY.TLS) !== 0;
    const isCompressed = (flags & (CAPABILITY.COMPRESS | CAPABILITY.COMPRESS_ZSTD)) !== 0;
    if (isEncrypted || isCompressed) return this.giveUp('upgraded');
    this.#isWithoutEof = (flags & CAPABILITY.DEPRECATE_EOF) !== 0;
    this.#hasAttributes = (flags & CAPABILITY.QUERY_ATTRIBUTES) !== 0;
    this.#hasMetadataMark = (wanted.more & this.#able.more & MARIADB.CACHE_METADATA) !== 0;
    this.#phase = 'authentication';
  }

  #onCommand(bytes: Uint8Array, start: number, end: number, length: number, startMs: number): void {
    const code = bytes[start] ?? 0;
    if (endsCommands(code)) return this.giveUp('upgraded');
    const answer = answerOf(code);
    if (answer === undefined) return this.giveUp('malformed');
    this.#isAhead = code === COMMAND.SEND_LONG_DATA;
    if (this.#isAhead) {
      if (this.#aheadBytes === 0) this.#aheadMs = startMs;
      this.#aheadBytes += length;
    } else if (answer !== ANSWER.NONE) {
      this.#push(bytes, start, end, length, startMs, code, answer);
    } else if (code !== COMMAND.QUIT) {
      this.tell(commandName(code), startMs, startMs, length, 0, undefined, undefined);
    }
  }

  #push(
    bytes: Uint8Array,
    start: number,
    end: number,
    length: number,
    startMs: number,
    code: number,
    answer: number,
  ): void {
    const isWhole = end - start + HEADER_BYTES === length;
    let firstMs = startMs;
    let size = length;
    let word = code;
    let kind = answer | BY_CODE;
    if (code === COMMAND.QUERY) {
      word = this.#verbOfQuery(bytes, start + 1, end, isWhole);
      kind = answer;
    } else if (code === COMMAND.PREPARE) {
      word = sqlVerb(bytes, start + 1, end, isWhole);
      kind = answer;
      this.#statements.set(LAST_STATEMENT, word);
    } else if (code === COMMAND.EXECUTE || code === COMMAND.BULK_EXECUTE) {
      const verb = this.#statements.get(word32(bytes, start + 1));
      if (verb !== 0) {
        word = verb;
        kind = answer;
      }
      if (this.#aheadBytes > 0) firstMs = this.#aheadMs;
      size += this.#aheadBytes;
      this.#aheadBytes = 0;
    }
    if (!this.pending.push(firstMs, size, word, kind)) this.giveUp('limit');
  }

  // Attributes of a query stand before its text; only that there are none can be said in a few bytes.
  #verbOfQuery(bytes: Uint8Array, start: number, end: number, isWhole: boolean): number {
    if (!this.#hasAttributes) return sqlVerb(bytes, start, end, isWhole);
    return bytes[start] === 0 ? sqlVerb(bytes, start + 2, end, isWhole) : 0;
  }

  // How the oldest pending request is answered.
  #answer(): number {
    return this.pending.kind(0) & ~BY_CODE;
  }

  #onServerPacket(bytes: Uint8Array, at: number, end: number, length: number): void {
    const isMore = this.#serverGoesOn;
    this.#serverGoesOn = length === HEADER_BYTES + WHOLE_PACKET_BYTES;
    const sequence = bytes[at + 3] ?? 0;
    const isInStep = sequence === this.#sequence;
    this.#sequence = (sequence + 1) & 0xff;
    const start = at + HEADER_BYTES;
    if (this.#phase === 'greeting') return this.#onGreeting(bytes, start, end);
    const first = length === HEADER_BYTES ? -1 : (bytes[start] ?? 0);
    if (this.#phase !== 'commands') return this.#onAuthentication(first);
    if (this.pending.length === 0) {
      // A server that hangs up by itself says why.
      if (first !== ERROR) this.giveUp('desynchronized');
      return;
    }
    this.responseBytes += length;
    if (!isInStep && (isMore || this.#expected !== 'first')) return this.giveUp('desynchronized');
    if (isMore) return;
    if (first === ERROR) return this.#onError(word16(bytes, start + 1));
    switch (this.#expected) {
      case 'first':
        return this.#onFirst(bytes, start, length, first);
      case 'definition':
        return this.#onDefinition();
      case 'definitions-end':
        if (first !== EOF) return this.giveUp('malformed');
        return this.#onDefinitionsEnd(word16(bytes, start + 3));
      case 'row':
        return this.#onRow(bytes, start, length, first);
    }
  }

  #onGreeting(bytes: Uint8Array, start: number, end: number): void {
    if (bytes[start] === ERROR) return;
    if (bytes[start] !== 0x0a) return this.giveUp('malformed');
    this.#able = serverCapabilities(bytes, start, end);
    this.#phase = 'login';
  }

  // What plugins say in between may begin with any byte.
  #onAuthentication(first: number): void {
    if (first !== OK) return;
    if (this.#phase === 'login') this.giveUp('desynchronized');
    else this.#phase = 'commands';
  }

  #onError(code: number): void {
    if (code === PROGRESS) return;
    this.error = String(code);
    this.#isLoading = false;
    this.#isLast = true;
  }

  #onFirst(bytes: Uint8Array, start: number, length: number, first: number): void {
    switch (this.#answer()) {
      case ANSWER.SINGLE:
        this.#isLast = true;
        return;
      case ANSWER.AUTHENTICATION:
        this.#isLast = first === OK;
        return;
      case ANSWER.ROWS:
        this.#expected = 'row';
        return this.#onRow(bytes, start, length, first);
      case ANSWER.PREPARED:
        if (first !== OK) return this.giveUp('malformed');
        return this.#onPrepared(bytes, start);
      default:
        return this.#onResult(bytes, start, first);
    }
  }

  #onPrepared(bytes: Uint8Array, start: number): void {
    this.#statements.set(word32(bytes, start + 1), this.pending.word(0));
    const columns = word16(bytes, start + 5);
    const values = word16(bytes, start + 7);
    this.#definitions = values > 0 ? values : columns;
    this.#laterDefinitions = values > 0 ? columns : 0;
    if (this.#definitions > 0) this.#expected = 'definition';
    else this.#isLast = true;
  }

  #onResult(bytes: Uint8Array, start: number, first: number): void {
    if (first === OK) {
      this.#isLast = (okStatus(bytes, start) & STATUS.MORE_RESULTS) === 0;
    } else if (first === LOCAL_FILE) {
      this.#isLoading = true;
    } else if (first < 0 || first > 0xfc) {
      // No table has more columns than two bytes can say.
      this.giveUp('malformed');
    } else {
      const isMarkedAbsent = this.#hasMetadataMark && bytes[start + numberBytes(bytes, start)] === 0;
      this.#definitions = isMarkedAbsent ? 0 : first < 0xfb ? first : word16(bytes, start + 1);
      this.#laterDefinitions = 0;
      if (this.#definitions > 0) this.#expected = 'definition';
      else this.#expected = this.#isWithoutEof ? 'row' : 'definitions-end';
    }
  }

  #onDefinition(): void {
    if (--this.#definitions > 0) return;
    if (this.#isWithoutEof) this.#onDefinitionsEnd(0);
    else this.#expected = 'definitions-end';
  }

  #onDefinitionsEnd(status: number): void {
    if (this.#answer() !== ANSWER.PREPARED) {
      // Rows of a cursor are fetched by commands of their own.
      if ((status & STATUS.CURSOR) === 0) this.#expected = 'row';
      else this.#isLast = true;
    } else if (this.#laterDefinitions > 0) {
      this.#definitions = this.#laterDefinitions;
      this.#laterDefinitions = 0;
      this.#expected = 'definition';
    } else {
      this.#isLast = true;
    }
  }

  // The end of the rows looks like the length of a huge first column, which would not fit so short a packet.
  #onRow(bytes: Uint8Array, start: number, length: number, first: number): void {
    if (first !== EOF || length >= HEADER_BYTES + (this.#isWithoutEof ? WHOLE_PACKET_BYTES : 9)) return;
    // The shortest OK has seven bytes; some answers end with EOF whatever was agreed on.
    const isOk = this.#isWithoutEof && length >= HEADER_BYTES + 7;
    const status = isOk ? okStatus(bytes, start) : word16(bytes, start + 3);
    this.#expected = 'first';
    this.#isLast = (status & STATUS.MORE_RESULTS) === 0;
  }
}
