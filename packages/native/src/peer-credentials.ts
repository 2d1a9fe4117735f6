// Who is at the other end of a Unix socket (unix(7), SO_PEERCRED): the kernel's word, taken when the peer connected.
import { SysError } from './errors.ts';
import type { Fd } from './fd.ts';
import { SO_PEERCRED, SOL_SOCKET, UCRED_BYTES } from './layouts.ts';
import { readOption } from './socket-options.ts';

export interface PeerCredentials {
  /** 0 when the peer is in a PID namespace that is not ours. */
  readonly pid: number;
  /** As this process's user namespace sees it; 65534 for a user that it does not know. */
  readonly uid: number;
  readonly gid: number;
}

/** @throws SysError (ENOPROTOOPT for a socket of another kind), native.closed */
export function peerCredentials(fd: Fd): PeerCredentials {
  const into = { bytes: Buffer.alloc(0) };
  const length = readOption(fd, SOL_SOCKET, SO_PEERCRED, into);
  if (length < UCRED_BYTES) throw new SysError('getsockopt', length < 0 ? -length : 0, 'SO_PEERCRED');
  return { pid: into.bytes.readInt32LE(0), uid: into.bytes.readUInt32LE(4), gid: into.bytes.readUInt32LE(8) };
}
