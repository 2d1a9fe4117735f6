// Who listens in a network namespace, by sock_diag(7): TCP sockets in LISTEN and UDP sockets that are bound and not
// connected. A UDP client that never connects looks the same as a server. Which process owns a socket is not said here:
// its inode leads there.
import { formatIpv4, formatIpv6 } from './ip-text.ts';
import { AF_INET, AF_INET6 } from './layouts.ts';
import { NetlinkProtocol, type NetlinkSocket, withSocket } from './netlink.ts';
import { readAttributes } from './netlink-message.ts';

const SOCK_DIAG_BY_FAMILY = 20;
/** `struct inet_diag_req_v2`: family, protocol, extensions, padding (1 each), states (4), then a socket's name (48). */
const REQUEST_BYTES = 56;
/** `struct inet_diag_msg`, as far as all kernels have it. */
const MESSAGE = { bytes: 72, family: 0, port: 4, ip: 8, uid: 64, inode: 68 } as const;
const INET_DIAG_SKV6ONLY = 11;

/** Protocol number, and the state in which a socket of it waits for anybody: LISTEN is 10; unconnected, CLOSE, is 7. */
const KINDS = {
  tcp: { protocol: 6, states: 1 << 10 },
  udp: { protocol: 17, states: 1 << 7 },
} as const;

export type ListenerProtocol = keyof typeof KINDS;

export interface ListeningSocket {
  readonly protocol: ListenerProtocol;
  /** `0.0.0.0` or `::` for any address. */
  readonly ip: string;
  readonly port: number;
  /** False for an IPv6 socket that is reached by IPv4 too, when its `ip` is `::`. */
  readonly isOneFamily: boolean;
  /** The N of `socket:[N]` behind the descriptors in /proc. */
  readonly inode: number;
  /** Of the user who made it, as the reader's user namespace numbers it. */
  readonly uid: number;
}

/**
 * Every listener of the current namespace, or of the one that `socket` (NetlinkProtocol.SOCK_DIAG) was opened in.
 * @throws SysError (ENOENT when the kernel has no tcp_diag or udp_diag), native.netlink
 */
export function listListeners(socket?: NetlinkSocket): ListeningSocket[] {
  return withSocket(socket, NetlinkProtocol.SOCK_DIAG, open =>
    (['tcp', 'udp'] as const).flatMap(kind =>
      [AF_INET, AF_INET6].flatMap(family =>
        open.dump(SOCK_DIAG_BY_FAMILY, request(kind, family)).flatMap(entry => readListener(kind, entry) ?? []),
      ),
    ),
  );
}

function request(kind: ListenerProtocol, family: number): Buffer {
  const bytes = Buffer.alloc(REQUEST_BYTES);
  bytes.writeUInt8(family, 0);
  bytes.writeUInt8(KINDS[kind].protocol, 1);
  bytes.writeUInt32LE(KINDS[kind].states, 4);
  return bytes;
}

/** Internal to this package: undefined for other families, unbound sockets and entries that are too short. */
export function readListener(protocol: ListenerProtocol, entry: Buffer): ListeningSocket | undefined {
  if (entry.length < MESSAGE.bytes) return undefined;
  const family = entry.readUInt8(MESSAGE.family);
  const port = entry.readUInt16BE(MESSAGE.port);
  if ((family !== AF_INET && family !== AF_INET6) || port === 0) return undefined;
  return {
    protocol,
    ip: family === AF_INET ? formatIpv4(entry, MESSAGE.ip) : formatIpv6(entry, MESSAGE.ip),
    port,
    isOneFamily: family === AF_INET || readAttributes(entry, MESSAGE.bytes).get(INET_DIAG_SKV6ONLY)?.[0] !== 0,
    inode: entry.readUInt32LE(MESSAGE.inode),
    uid: entry.readUInt32LE(MESSAGE.uid),
  };
}
