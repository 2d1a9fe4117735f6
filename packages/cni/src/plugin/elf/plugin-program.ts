// What the plugin's executable does, step by step: collect the CNI_ variables, connect to the agent, send them with stdin, print
// the answer. No agent: become the fallback, with stdin untouched. Anything else that is unexpected prints a CNI error and
// ends with status 1, so that the pod does not start. DEL needs nobody and always succeeds.
import { END_OF_ANSWER, MAX_ANSWER_BYTES, MAX_ENVIRONMENT_BYTES } from '../frame.ts';
import { MAX_STDIN_BYTES } from '../plugin-config.ts';
import { ROOM } from './elf-file.ts';
import type { Machine } from './machine.ts';

/** Labels of data that plugin-executable.ts provides. */
export const PLUGIN_DATA = {
  address: 'socketAddress',
  timeout: 'timeout',
  fallbackPath: 'fallbackPath',
  fallbackArguments: 'fallbackArguments',
} as const;

/** Ends at which the program says what was wrong. */
export const PLUGIN_FAILURES = [
  'environmentTooLarge',
  'inputTooLarge',
  'inputUnreadable',
  'noAgent',
  'noAnswer',
  'late',
] as const;

export type PluginFailure = (typeof PLUGIN_FAILURES)[number];

export function failureLabel(failure: PluginFailure): string {
  return `${failure}Text`;
}

export interface PluginProgramOptions {
  readonly socketAddressBytes: number;
  /** With the length of each one's text, which lies at `failureLabel`. */
  readonly failures: readonly { readonly name: PluginFailure; readonly bytes: number }[];
  readonly hasFallback: boolean;
}

/** One byte more than the limits, to notice that there is more. */
export const PLUGIN_ROOM_BYTES = Math.max(MAX_ENVIRONMENT_BYTES + MAX_STDIN_BYTES, MAX_ANSWER_BYTES) + 1;

const STDIN = 0;
const STDOUT = 1;
const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 0x80001;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const TIMEVAL_BYTES = 16;
const MSG_NOSIGNAL = 0x4000;
const SHUT_WR = 1;
const EINTR = 4;
const EAGAIN = 11;
const EPIPE = 32;
const ECONNRESET = 104;

export function writePluginProgram(m: Machine, options: PluginProgramOptions): void {
  collectEnvironment(m);
  connect(m, options);
  readInput(m);
  send(m);
  receive(m);
  print(m);
  for (const { name, bytes } of options.failures) {
    m.label(name);
    m.set('a', { label: failureLabel(name) });
    m.set('e', { label: failureLabel(name), plus: bytes });
    m.set('c', 1);
    m.jump('print');
  }
}

/** Leaves the environment in f and the end of what it has collected in e. */
function collectEnvironment(m: Machine): void {
  m.stackPointer('f');
  m.load('b', 'f');
  for (let doubled = 0; doubled < 3; doubled++) m.add('b', 'b');
  m.add('f', 'b');
  m.add('f', 16); // argc and the end of the arguments
  m.set('a', 'f');
  m.set('e', { label: ROOM });
  m.set('d', { label: ROOM, plus: MAX_ENVIRONMENT_BYTES - 1 });
  m.label('nextEntry');
  m.load('b', 'a');
  m.jumpIf('b', 'equal', 0, 'environmentDone');
  m.add('a', 8);
  expectText(m, 'CNI_', 'nextEntry');
  expectText(m, 'CNI_COMMAND=DEL\0', 'copy');
  m.jump('drain');
  m.label('copy');
  m.jumpIf('e', 'equal', 'd', 'environmentTooLarge');
  m.loadByte('result', 'b');
  m.storeByte('result', 'e');
  m.add('e', 1);
  m.add('b', 1);
  m.jumpIf('result', 'notEqual', 0, 'copy');
  m.jump('nextEntry');

  // A runtime that writes to us may not like it when nobody reads.
  m.label('drain');
  m.call('read', STDIN, { label: ROOM }, MAX_STDIN_BYTES);
  m.jumpIfNegative('result', 'deleted');
  m.jumpIf('result', 'notEqual', 0, 'drain');
  m.label('deleted');
  m.call('exit_group', 0);

  m.label('environmentDone');
  m.set('a', 0);
  m.storeByte('a', 'e');
  m.add('e', 1);
}

/** Compares what b points to, never beyond the first byte that differs. */
function expectText(m: Machine, text: string, otherwise: string): void {
  for (const [i, byte] of Buffer.from(text).entries()) {
    m.loadByte('result', 'b', i);
    m.jumpIf('result', 'notEqual', byte, otherwise);
  }
}

/** Leaves the socket in d. */
function connect(m: Machine, { socketAddressBytes, hasFallback }: PluginProgramOptions): void {
  m.call('socket', AF_UNIX, SOCK_STREAM_CLOEXEC, 0);
  m.jumpIfNegative('result', 'fallback');
  m.set('d', 'result');
  for (const option of [SO_RCVTIMEO, SO_SNDTIMEO]) {
    m.call('setsockopt', 'd', SOL_SOCKET, option, { label: PLUGIN_DATA.timeout }, TIMEVAL_BYTES);
    m.jumpIfNegative('result', 'fallback');
  }
  m.label('connect');
  m.call('connect', 'd', { label: PLUGIN_DATA.address }, socketAddressBytes);
  m.jumpIf('result', 'equal', 0, 'connected');
  m.jumpIf('result', 'equal', -EINTR, 'connect');
  // Somebody listens and does not accept: the fallback would wait for the same agent.
  m.jumpIf('result', 'equal', -EAGAIN, 'late');
  m.label('fallback');
  if (hasFallback) {
    m.call('execve', { label: PLUGIN_DATA.fallbackPath }, { label: PLUGIN_DATA.fallbackArguments }, 'f');
  }
  m.jump('noAgent');
  m.label('connected');
}

function readInput(m: Machine): void {
  m.set('a', 'e');
  m.add('a', MAX_STDIN_BYTES + 1);
  m.label('readInput');
  remaining(m, 'inputTooLarge');
  m.call('read', STDIN, 'e', 'b');
  m.jumpIf('result', 'equal', 0, 'inputDone');
  m.jumpIf('result', 'equal', -EINTR, 'readInput');
  m.jumpIfNegative('result', 'inputUnreadable');
  m.add('e', 'result');
  m.jump('readInput');
  m.label('inputDone');
}

function send(m: Machine): void {
  m.set('a', { label: ROOM });
  m.label('send');
  m.set('b', 'e');
  m.subtract('b', 'a');
  m.jumpIf('b', 'equal', 0, 'sent');
  m.call('sendto', 'd', 'a', 'b', MSG_NOSIGNAL, 0, 0);
  m.jumpIf('result', 'equal', -EINTR, 'send');
  m.jumpIf('result', 'equal', -EAGAIN, 'late');
  // An agent that wants no more may have answered already.
  m.jumpIf('result', 'equal', -EPIPE, 'sent');
  m.jumpIf('result', 'equal', -ECONNRESET, 'sent');
  m.jumpIfNegative('result', 'noAnswer');
  m.add('a', 'result');
  m.jump('send');
  m.label('sent');
  m.call('shutdown', 'd', SHUT_WR);
}

/** Nothing is printed before all of the answer is here, so that half of one never reaches the runtime. */
function receive(m: Machine): void {
  m.set('e', { label: ROOM });
  m.set('a', { label: ROOM, plus: MAX_ANSWER_BYTES + 1 });
  m.label('receive');
  remaining(m, 'noAnswer');
  m.call('read', 'd', 'e', 'b');
  m.jumpIf('result', 'equal', 0, 'received');
  // The agent did not read all of the request: the end all the same, if the answer has its own.
  m.jumpIf('result', 'equal', -ECONNRESET, 'received');
  m.jumpIf('result', 'equal', -EINTR, 'receive');
  m.jumpIf('result', 'equal', -EAGAIN, 'late');
  m.jumpIfNegative('result', 'noAnswer');
  m.add('e', 'result');
  m.jump('receive');

  m.label('received');
  m.set('a', { label: ROOM, plus: 2 });
  m.jumpIf('e', 'below', 'a', 'noAnswer');
  m.add('e', -1);
  m.loadByte('result', 'e');
  m.jumpIf('result', 'notEqual', END_OF_ANSWER, 'noAnswer');
  m.set('a', { label: ROOM });
  m.loadByte('c', 'a');
  m.add('a', 1);
}

/** Bytes from e to a into b. */
function remaining(m: Machine, none: string): void {
  m.set('b', 'a');
  m.subtract('b', 'e');
  m.jumpIf('b', 'equal', 0, none);
}

/** Prints from a to e and ends with the status in c; with 1 when it cannot be printed. */
function print(m: Machine): void {
  m.label('print');
  m.set('b', 'e');
  m.subtract('b', 'a');
  m.jumpIf('b', 'equal', 0, 'end');
  m.call('write', STDOUT, 'a', 'b');
  m.jumpIf('result', 'equal', -EINTR, 'print');
  m.jumpIfNegative('result', 'unprintable');
  m.add('a', 'result');
  m.jump('print');
  m.label('unprintable');
  m.set('c', 1);
  m.label('end');
  m.call('exit_group', 'c');
}
