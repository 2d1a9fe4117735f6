// Begins a TCP connect on a socket that the caller's function opens. Every way in which that fails at once becomes a
// reason code and the words for the log; nothing is thrown and no descriptor leaks. How a connect that is under way ends
// is for whoever watches the descriptor; a deadline too.
import { Errno, type Fd, NativeError, startConnect, SysError } from '@ambit/native';
import type { ReasonCode, SocketAddress } from '@ambit/mesh';
import { dialReason, errnoText } from './dial-failure.ts';

export type Dial =
  /** The caller owns `fd`, on which the connect is under way, or done already as loopback can. */
  { readonly kind: 'begun'; readonly fd: Fd; readonly isConnected: boolean } | DialFailure;

export interface DialFailure {
  readonly kind: 'failed';
  readonly reason: ReasonCode;
  readonly error: string;
}

/** `open` makes a nonblocking socket and may throw SysError and NativeError. */
export function beginDial(open: () => Fd, to: SocketAddress): Dial {
  let fd: Fd;
  try {
    fd = open();
  } catch (error) {
    return explainOpen(error);
  }
  const started = startConnect(fd, to);
  if (started === 0 || started === -Errno.EINPROGRESS) return { kind: 'begun', fd, isConnected: started === 0 };
  fd.close();
  return { kind: 'failed', reason: dialReason(-started), error: errnoText(-started) };
}

/** Sockets are made inside the pod's namespace: that door may be shut as well as the process out of descriptors. */
function explainOpen(error: unknown): DialFailure {
  const why =
    error instanceof SysError ? errnoText(error.errno) : error instanceof Error ? error.message : String(error);
  const isGone =
    error instanceof SysError ? error.call === 'setns' : error instanceof NativeError && error.code === 'native.closed';
  if (isGone) {
    return { kind: 'failed', reason: 'dial.netns_gone', error: `cannot enter the pod's network namespace: ${why}` };
  }
  return { kind: 'failed', reason: error instanceof SysError ? dialReason(error.errno) : 'dial.failed', error: why };
}
