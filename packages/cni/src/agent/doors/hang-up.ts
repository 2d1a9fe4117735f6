// Tells when the peer of a half-closed Unix socket goes. Node stops looking at a socket once its readable half has ended, which
// is when a plugin has sent its request; the kernel says EPOLLHUP when the other half goes too (unix(7), epoll_ctl(2)).
import type { Socket } from 'node:net';
import { duplicateNumber, EventMask, type Reactor } from '@ambit/native';

/** Calls back at most once. @returns how to stop, which must be called */
export function watchHangUp(reactor: Reactor, socket: Socket, onHangUp: () => void): () => void {
  const number = numberOf(socket);
  // Closed already: its own event tells.
  if (number === undefined) return () => undefined;
  const fd = duplicateNumber(number);
  const registration = reactor.add(fd, {
    onEvents: mask => {
      if ((mask & EventMask.HUP) !== 0) onHangUp();
    },
  });
  return () => {
    reactor.remove(registration);
    fd.close();
  };
}

/** Node has no public name for it. */
function numberOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as unknown as { readonly _handle?: { readonly fd?: number } | null };
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined;
}
