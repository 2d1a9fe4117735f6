// Reads Redis (RESP2 and RESP3) passively: one request for each command, ended by its reply. Pipelining, lines instead of
// arrays, transactions, pushes. Once a client subscribes, monitors or replicates, it is read no more (`upgraded`).
import { CommandReader } from './command-reader.ts';
import { PendingRequests } from './pending-requests.ts';
import { RedisReplies, type RedisReplySink } from './redis-replies.ts';
import { RedisRequests, type RedisRequestSink } from './redis-requests.ts';
import { endsRequests, REDIS_COMMANDS } from './redis-words.ts';
import type { L7Listener } from './types.ts';

const MOST_PENDING = 256;
const COMMAND = 0;
const LEAVING = 1;

export class RedisReader extends CommandReader implements RedisRequestSink, RedisReplySink {
  protected override readonly client: RedisRequests;
  protected override readonly server: RedisReplies;

  constructor(listener: L7Listener) {
    super('redis', listener, new PendingRequests(MOST_PENDING));
    this.client = new RedisRequests(this);
    this.server = new RedisReplies(this);
  }

  protected override nameOf(word: number): string {
    return REDIS_COMMANDS.word(word);
  }

  protected override isRequest(kind: number): boolean {
    return kind === COMMAND;
  }

  onCommand(word: number, leaves: boolean, startMs: number, bytes: number): void {
    const isLast = leaves || endsRequests(word);
    if (!this.pending.push(startMs, bytes, word, isLast ? LEAVING : COMMAND)) this.giveUp('limit');
    // What was asked before is still answered.
    else if (isLast) this.client.stop();
    if (isLast && this.pending.length === 1) this.giveUp('upgraded');
  }

  onRequestFault(): void {
    this.giveUp('malformed');
  }

  onReply(error: string, bytes: number, nowMs: number): void {
    if (this.pending.length === 0) {
      // A server that wants no more clients says so without being asked.
      if (error === '') this.giveUp('desynchronized');
      return;
    }
    this.responseBytes = bytes;
    if (error !== '') this.error = error;
    this.finish(nowMs);
    if (this.pending.length > 0 && this.pending.kind(0) === LEAVING) this.giveUp('upgraded');
  }

  onReplyFault(isUnknown: boolean): void {
    this.giveUp(isUnknown ? 'limit' : 'malformed');
  }
}

// Commands that clients without a library begin with. Others look too much like other protocols' words.
const FIRST_LINES = ['PING\r', 'PING\n', 'AUTH ', 'HELLO ', 'INFO\r', 'INFO\n', 'SELECT ', 'MONITOR\r'];

/**
 * Whether a connection whose first bytes from `side` these are speaks Redis: the client's array of strings, or one of a few
 * commands as a line. The client speaks first.
 * @returns 'more' with fewer bytes than the head of the first string has, or than a whole first word
 */
export function probeRedis(
  bytes: Uint8Array,
  start: number,
  end: number,
  side: 'client' | 'server',
): 'yes' | 'no' | 'more' {
  if (side === 'server') return 'no';
  if (start === end) return 'more';
  if (bytes[start] === 0x2a) {
    const mark = afterNumber(bytes, start + 1, end);
    if (mark === 'no' || mark === 'more') return mark;
    if (mark === end) return 'more';
    if (bytes[mark] !== 0x24) return 'no';
    const text = afterNumber(bytes, mark + 1, end);
    return typeof text === 'number' ? 'yes' : text;
  }
  let answer: 'no' | 'more' = 'no';
  for (const line of FIRST_LINES) {
    let same = 0;
    while (same < line.length && start + same < end && upper(bytes[start + same]) === line.charCodeAt(same)) same++;
    if (same === line.length) return 'yes';
    if (start + same === end) answer = 'more';
  }
  return answer;
}

// Behind a number of one to seven digits without a zero in front, and its line's end.
function afterNumber(bytes: Uint8Array, start: number, end: number): number | 'no' | 'more' {
  let at = start;
  while (at < end && at - start < 8 && isDigit(bytes[at])) at++;
  if (at - start === 8 || (at > start && bytes[start] === 0x30)) return 'no';
  if (at === end) return 'more';
  if (at === start || bytes[at] !== 0x0d) return 'no';
  if (at + 1 === end) return 'more';
  return bytes[at + 1] === 0x0a ? at + 2 : 'no';
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

function upper(byte: number | undefined): number {
  return byte !== undefined && byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : (byte ?? 0);
}
