// A connected stream socket whose other end has said something and hung up: lets a proxy answer with bytes of its own where
// otherwise an application's connection would be.
import { NativeError, SysError } from './errors.ts';
import { Fd } from './fd.ts';
import { AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM } from './layouts.ts';
import { bind, lastErrno } from './library.ts';
import { Slab } from './slab.ts';
import { send } from './socket-io.ts';

const c_socketpair = bind<(family: number, type: number, protocol: number, pair: number) => number>(
  'int socketpair(int family, int type, int protocol, uintptr_t pair)',
);

/** Far below what a fresh socket takes at once. */
const MAX_BYTES = 16 * 1024;
const PAIR_AT = MAX_BYTES;
let scratch: Slab | undefined;

/** The end to read from; the caller's. @throws SysError (EMFILE), native.argument for more than 16 KiB or nothing */
export function filledSocket(bytes: Uint8Array): Fd {
  const { length } = bytes;
  if (length === 0 || length > MAX_BYTES)
    throw new NativeError('native.argument', `a socket filled with ${length} bytes`);
  scratch ??= Slab.permanent(MAX_BYTES + 8);
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  if (c_socketpair(AF_UNIX, type, 0, scratch.address(PAIR_AT, 8)) < 0) throw new SysError('socketpair', lastErrno());
  const near = new Fd(scratch.bytes.readInt32LE(PAIR_AT));
  const far = new Fd(scratch.bytes.readInt32LE(PAIR_AT + 4));
  scratch.bytes.set(bytes, 0);
  const sent = send(far, scratch, 0, length);
  far.close();
  if (sent === length) return near;
  near.close();
  throw new SysError('send', sent < 0 ? -sent : 0, 'a fresh socket pair');
}
