// What a failed connect means: errno to reason code and to the words upstream's log uses.
import { Errno, errnoName, type Fd, socketError } from '@ambit/native';
import type { ReasonCode } from '@ambit/mesh';

const REASONS: ReadonlyMap<number, ReasonCode> = new Map([
  [Errno.ECONNREFUSED, 'dial.refused'],
  [Errno.ETIMEDOUT, 'dial.timeout'],
  [Errno.EHOSTUNREACH, 'dial.unreachable'],
  [Errno.ENETUNREACH, 'dial.unreachable'],
  [Errno.EMFILE, 'dial.no_fds'],
  [Errno.ENFILE, 'dial.no_fds'],
  [Errno.ECONNRESET, 'peer.reset'],
]);

/** Phrases as the C library has them; upstream prints these with the number. */
const PHRASES: ReadonlyMap<number, string> = new Map([
  [Errno.ECONNREFUSED, 'Connection refused'],
  [Errno.ETIMEDOUT, 'Connection timed out'],
  [Errno.EHOSTUNREACH, 'No route to host'],
  [Errno.ENETUNREACH, 'Network is unreachable'],
  [Errno.EMFILE, 'Too many open files'],
  [Errno.ENFILE, 'Too many open files in system'],
  [Errno.ECONNRESET, 'Connection reset by peer'],
  [Errno.EPIPE, 'Broken pipe'],
]);

export function dialReason(errno: number): ReasonCode {
  return REASONS.get(errno) ?? 'dial.failed';
}

/** `Connection refused (os error 111)`. */
export function errnoText(errno: number): string {
  return `${PHRASES.get(errno) ?? errnoName(errno)} (os error ${errno})`;
}

/** Takes the pending error of a socket as a positive errno, 0 for none. */
export function takeErrno(fd: Fd): number {
  return Math.abs(socketError(fd));
}
