// Memory layouts and numbers of the Linux kernel interface on x64 and arm64, in one place. Everything here was taken
// from the uapi headers; both processors are little-endian LP64 and differ, for what we use, only in epoll_event,
// which x64 alone packs (eventpoll.h, EPOLL_PACKED). Any other machine is refused rather than guessed.
import { endianness } from 'node:os';
import { NativeError } from './errors.ts';

/** Where one `struct epoll_event` keeps its parts, in 32-bit words. */
export interface EpollEventLayout {
  readonly wordsPerEvent: number;
  /** Index of the low word of `data` (ours: the descriptor); the generation is the word after it. */
  readonly dataWord: number;
}

/** The layout of this machine. @throws native.unsupported for anything but Linux on x64 or arm64 */
export function epollEventLayout(platform: string, arch: string, order: string): EpollEventLayout {
  if (platform === 'linux' && order === 'LE') {
    if (arch === 'x64') return { wordsPerEvent: 3, dataWord: 1 };
    if (arch === 'arm64') return { wordsPerEvent: 4, dataWord: 2 };
  }
  throw new NativeError('native.unsupported', `needs Linux on x64 or arm64, this is ${platform} ${arch} ${order}`);
}

/** Evaluated when the package loads, so that an unsupported machine fails at start and not at its first connection. */
export const EPOLL_EVENT: EpollEventLayout = epollEventLayout(process.platform, process.arch, endianness());

/** `struct iovec`: base pointer, then length; 8 bytes each. */
export const IOVEC_BYTES = 16;

/** `struct msghdr` as the 64-bit C libraries lay it out; byte offsets. */
export const MSGHDR = {
  bytes: 56,
  name: 0,
  nameLength: 8,
  iov: 16,
  iovLength: 24,
  control: 32,
  controlLength: 40,
  flags: 48,
} as const;

/** `struct mmsghdr`: a msghdr, then the length of its datagram; 64 bytes with the padding. */
export const MMSGHDR = { bytes: 64, length: MSGHDR.bytes } as const;

/** `struct cmsghdr`: length (8), level (4), type (4); the data follows and the next header is aligned to 8. */
export const CMSGHDR_BYTES = 16;

export const SOCKADDR_IN_BYTES = 16;
export const SOCKADDR_IN6_BYTES = 28;
export const SOCKADDR_UN_BYTES = 110;
export const SOCKADDR_LL_BYTES = 20;
export const SOCKADDR_NL_BYTES = 12;
/** `struct ucred`: pid, uid, gid. */
export const UCRED_BYTES = 12;
/** `sun_path`, of which the last byte is our terminating zero. */
export const MAX_UNIX_PATH_BYTES = 107;

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const AF_PACKET = 17;

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_SEQPACKET = 5;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;

export const O_RDONLY = 0;
export const O_CLOEXEC = 0o2000000;
export const F_GETFL = 3;
export const F_DUPFD_CLOEXEC = 1030;

export const MSG_CTRUNC = 0x8;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x40000000;

export const SHUT_WR = 1;
export const ETH_P_ALL = 3;
export const CLONE_NEWNET = 0x40000000;
/** ioctl of nsfs: the CLONE_* flag of the namespace behind a descriptor. */
export const NS_GET_NSTYPE = 0xb703;
export const RLIMIT_NOFILE = 7;

export const SOL_SOCKET = 1;
export const SOL_IP = 0;
export const SOL_TCP = 6;
export const SOL_IPV6 = 41;
export const SOL_NETLINK = 270;

export const SO_REUSEADDR = 2;
export const SO_ERROR = 4;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_KEEPALIVE = 9;
export const SO_LINGER = 13;
export const SO_REUSEPORT = 15;
export const SO_PEERCRED = 17;
export const SO_MARK = 36;
export const SCM_RIGHTS = 1;

export const IP_FREEBIND = 15;
export const IP_TRANSPARENT = 19;
export const SO_ORIGINAL_DST = 80;
export const IPV6_V6ONLY = 26;
export const IPV6_TRANSPARENT = 75;
export const IPV6_FREEBIND = 78;
export const IP6T_SO_ORIGINAL_DST = 80;

export const TCP_NODELAY = 1;
export const TCP_KEEPIDLE = 4;
export const TCP_KEEPINTVL = 5;
export const TCP_KEEPCNT = 6;
export const TCP_INFO = 11;
export const TCP_USER_TIMEOUT = 18;

export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLLET = 0x80000000;

export const EFD_NONBLOCK = 0o4000;
export const EFD_CLOEXEC = 0o2000000;

/** Options of a netlink socket: short acknowledgements, their text, and filters in dumps (kernel 4.3, 4.12, 4.20). */
export const NETLINK_CAP_ACK = 10;
export const NETLINK_EXT_ACK = 11;
export const NETLINK_GET_STRICT_CHK = 12;

/** `struct nlmsghdr`: length (4), type (2), flags (2), sequence (4), port (4); messages are aligned to 4. */
export const NLMSGHDR_BYTES = 16;
