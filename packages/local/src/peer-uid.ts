// Which user is at the other end of a connection on a Unix socket.
import type { Socket } from 'node:net';
import { duplicateNumber, peerCredentials } from '@ambit/native';
import { LocalError } from './errors.ts';

/** As the kernel has it. @throws local.rights when it does not say */
export function peerUid(socket: Socket): number {
  // Node has no public name for the descriptor; `_handle.fd` is what its own child processes and debuggers go by.
  const { _handle: handle } = socket as unknown as { readonly _handle?: { readonly fd?: unknown } | null };
  const number = handle?.fd;
  if (typeof number !== 'number' || number < 0) throw new LocalError('local.rights', 'who asks is not known');
  const fd = duplicateNumber(number);
  try {
    return peerCredentials(fd).uid;
  } finally {
    fd.close();
  }
}
