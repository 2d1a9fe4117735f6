// Raw frames of one interface, as tcpdump sees them (packet(7)): proof of what is on the wire. Read with `recv`, one
// frame a call. Needs CAP_NET_RAW. Promiscuous mode is not set, nothing is sent.
import { SysError } from './errors.ts';
import { Fd } from './fd.ts';
import { AF_PACKET, ETH_P_ALL, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW, SOCKADDR_LL_BYTES } from './layouts.ts';
import { bind, lastErrno } from './library.ts';
import { nameBytes, pathAddress } from './path.ts';
import { Slab } from './slab.ts';

const c_socket = bind<(family: number, type: number, protocol: number) => number>('int socket(int, int, int)');
const c_bind = bind<(fd: number, address: number, length: number) => number>(
  'int bind(int fd, uintptr_t address, unsigned int length)',
);
const c_if_nametoindex = bind<(name: number) => number>('unsigned int if_nametoindex(uintptr_t name)');

/** IFNAMSIZ less the terminating zero. */
const MAX_INTERFACE_NAME = 15;
const scratch = Slab.permanent(SOCKADDR_LL_BYTES);

/** Frames in and out of `interfaceName` of the current network namespace, from now on. @throws SysError (ENODEV, EPERM), native.argument */
export function openPacketSocket(interfaceName: string): Fd {
  nameBytes(interfaceName, MAX_INTERFACE_NAME, 'interface name');
  const index = c_if_nametoindex(pathAddress(interfaceName));
  if (index === 0) throw new SysError('if_nametoindex', lastErrno(), interfaceName);
  // Protocol 0 until bound: a socket opened for all protocols would begin with frames of every interface.
  const n = c_socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (n < 0) throw new SysError('socket', lastErrno(), 'AF_PACKET');
  const fd = new Fd(n);
  scratch.bytes.fill(0);
  scratch.bytes.writeUInt16LE(AF_PACKET, 0);
  scratch.bytes.writeUInt16BE(ETH_P_ALL, 2);
  scratch.bytes.writeInt32LE(index, 4);
  if (c_bind(n, scratch.address(0, SOCKADDR_LL_BYTES), SOCKADDR_LL_BYTES) < 0) {
    const errno = lastErrno();
    fd.close();
    throw new SysError('bind', errno, interfaceName);
  }
  return fd;
}
