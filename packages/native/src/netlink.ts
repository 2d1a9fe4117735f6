// One netlink socket (netlink(7)): requests with their acknowledgement, and dumps. It belongs for good to the network
// namespace the thread was in when it was opened, so it may be kept and used from outside. Calls never wait: the kernel
// answers within the send. Only messages of the kernel itself count, since whoever is root in a pod can write to the socket.
import { Errno } from './errno.ts';
import { errnoName, NativeError, type NativeErrorCode, SysError } from './errors.ts';
import { Fd } from './fd.ts';
import {
  AF_NETLINK,
  MSG_DONTWAIT,
  MSG_TRUNC,
  NETLINK_CAP_ACK,
  NETLINK_EXT_ACK,
  NETLINK_GET_STRICT_CHK,
  NLMSGHDR_BYTES,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOCKADDR_NL_BYTES,
  SOL_NETLINK,
} from './layouts.ts';
import { bind, lastErrno } from './library.ts';
import {
  align4,
  MAX_REQUEST_BYTES,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_NOOP,
  NLMSG_OVERRUN,
  type NetlinkMessage,
  readMessages,
  readVerdict,
} from './netlink-message.ts';
import { Slab } from './slab.ts';
import { checkInteger, setOption } from './socket-options.ts';

type Transfer = (fd: number, data: number, length: number, flags: number, address: number, size: number) => number;
const c_socket = bind<(family: number, type: number, protocol: number) => number>('int socket(int, int, int)');
const c_sendto = bind<Transfer>(
  'int sendto(int fd, uintptr_t data, size_t length, int flags, uintptr_t address, unsigned int size)',
);
const c_recvfrom = bind<Transfer>(
  'int recvfrom(int fd, uintptr_t data, size_t length, int flags, uintptr_t address, uintptr_t size)',
);

/** Families of netlink(7) that Ambit speaks. */
export const NetlinkProtocol = { ROUTE: 0, SOCK_DIAG: 4, NETFILTER: 12 } as const;
export type NetlinkProtocol = (typeof NetlinkProtocol)[keyof typeof NetlinkProtocol];

/** Twice the largest datagram of a dump (the kernel makes at most 32 KiB). */
const RECEIVE_BYTES = 64 * 1024;
/** Times a dump is begun again because the table changed under it. */
const MAX_DUMP_ATTEMPTS = 8;
/** All payloads of one dump: some 250 000 routes. */
const MAX_DUMP_BYTES = 32 * 1024 * 1024;
/** Datagrams of others, or answers to earlier requests, that one call steps over. */
const MAX_STRAY_DATAGRAMS = 1024;
const MAX_REPLIES = 64;
/** Of sequence numbers, which have 32 bits; a transaction has some hundred messages. */
const LAST_START = 0xffff_0000;
/** nl_pid of `struct sockaddr_nl`; the kernel's own is 0. */
const NL_PID_AT = 4;

/** Brackets of a transaction of nfnetlink (linux/netfilter/nfnetlink.h). */
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;
/** `struct nfgenmsg`, whose last two bytes name the subsystem. */
const NFGENMSG_BYTES = 4;
const RES_ID_AT = 2;

/** One message of a transaction. */
export interface NetlinkRequest {
  readonly type: number;
  /** Beside NLM_F_REQUEST. */
  readonly flags: number;
  readonly payload: Uint8Array;
}

interface Scratch {
  readonly out: Slab;
  readonly in: Slab;
  /** Sender's address, then the length of it. */
  readonly sender: Slab;
}

/** Allocated at the first use: most threads never speak netlink. */
let scratchOfThread: Scratch | undefined;

function scratch(): Scratch {
  scratchOfThread ??= {
    out: Slab.permanent(MAX_REQUEST_BYTES),
    in: Slab.permanent(RECEIVE_BYTES),
    sender: Slab.permanent(SOCKADDR_NL_BYTES + 4),
  };
  return scratchOfThread;
}

export class NetlinkSocket {
  readonly protocol: NetlinkProtocol;
  readonly #fd: Fd;
  #sequence = 0;

  private constructor(fd: Fd, protocol: NetlinkProtocol) {
    this.#fd = fd;
    this.protocol = protocol;
  }

  /** Opens a socket in the network namespace the thread is in; it stays there. @throws SysError */
  static open(protocol: NetlinkProtocol): NetlinkSocket {
    const n = c_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (n < 0) throw new SysError('socket', lastErrno(), `netlink protocol ${protocol}`);
    const fd = new Fd(n);
    // Older kernels refuse them; then errors come without a sentence, and dumps unfiltered, which readers filter again.
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK]) {
      setOption(fd, SOL_NETLINK, option, 1);
    }
    return new NetlinkSocket(fd, protocol);
  }

  get isOpen(): boolean {
    return this.#fd.isOpen;
  }

  /**
   * Sends one request and takes its acknowledgement. @param flags beside NLM_F_REQUEST and NLM_F_ACK
   * @returns the payloads of the messages that came before the acknowledgement, copied; at most 64
   * @throws SysError with the kernel's errno and sentence; native.netlink for an answer that breaks the protocol (the
   *   socket is closed then), native.closed, native.argument
   */
  request(type: number, flags: number, payload: Uint8Array): Buffer[] {
    const sequence = this.#send(type, flags | NLM_F_REQUEST | NLM_F_ACK, payload);
    const replies: Buffer[] = [];
    for (;;) {
      for (const message of this.#receive(sequence)) {
        if (message.type === NLMSG_ERROR) {
          this.#throwIfRefused(message);
          return replies;
        }
        if (message.type === NLMSG_NOOP) continue;
        if (replies.length >= MAX_REPLIES) this.#break(`more than ${MAX_REPLIES} replies to one request`);
        replies.push(message.payload);
      }
    }
  }

  /**
   * Asks for a whole table. @param maxBytes of all payloads together; others' tables may be of any size
   * @returns one copied payload an entry @throws as `request`; native.bounds when there is more, and the socket is closed then;
   *   SysError EINTR when the table changed during each of 8 attempts
   */
  dump(type: number, payload: Uint8Array, maxBytes: number = MAX_DUMP_BYTES): Buffer[] {
    for (let attempt = 1; ; attempt++) {
      const { entries, interrupted } = this.#dumpOnce(type, payload, maxBytes);
      if (!interrupted) return entries;
      if (attempt >= MAX_DUMP_ATTEMPTS) {
        throw new SysError('netlink dump', Errno.EINTR, `the table changed during each of ${attempt} attempts`);
      }
    }
  }

  /**
   * Has a subsystem of nfnetlink carry out all messages or none. @throws SysError with the kernel's first refusal;
   * native.bounds when they are more than 16 KiB; else as `request`
   */
  transaction(subsystem: number, messages: readonly NetlinkRequest[]): void {
    const bracket = Buffer.alloc(NFGENMSG_BYTES);
    bracket.writeUInt16BE(subsystem, RES_ID_AT);
    let end = this.#write(0, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, bracket);
    const first = this.#sequence;
    for (const [index, { type, flags, payload }] of messages.entries()) {
      // One acknowledgement for all: refusals come unasked, and before it.
      const asks = index === messages.length - 1 ? NLM_F_REQUEST | NLM_F_ACK : NLM_F_REQUEST;
      end = this.#write(end, type, flags | asks, payload);
    }
    const last = this.#sequence;
    if (last === first) return;
    this.#flush(this.#write(end, NFNL_MSG_BATCH_END, NLM_F_REQUEST, bracket));
    for (;;) {
      for (const message of this.#receive(first, last)) {
        if (message.type !== NLMSG_ERROR) continue;
        this.#throwIfRefused(message);
        if (message.sequence === last) return;
      }
    }
  }

  close(): void {
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #dumpOnce(type: number, payload: Uint8Array, maxBytes: number): { entries: Buffer[]; interrupted: boolean } {
    const sequence = this.#send(type, NLM_F_REQUEST | NLM_F_DUMP, payload);
    const entries: Buffer[] = [];
    let interrupted = false;
    let total = 0;
    for (;;) {
      for (const message of this.#receive(sequence)) {
        interrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0;
        if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) {
          this.#throwIfRefused(message);
          return { entries, interrupted };
        }
        if (message.type === NLMSG_NOOP) continue;
        total += message.payload.length;
        if (total > maxBytes) this.#break(`a dump of more than ${maxBytes} bytes`, 'native.bounds');
        entries.push(message.payload);
      }
    }
  }

  /** @returns the sequence number that the answers carry */
  #send(type: number, flags: number, payload: Uint8Array): number {
    checkInteger(payload.length, 0, MAX_REQUEST_BYTES - NLMSGHDR_BYTES, 'netlink payload bytes');
    this.#flush(this.#write(0, type, flags, payload));
    return this.#sequence;
  }

  /** Writes a message to the scratch area. @returns where the next one begins */
  #write(at: number, type: number, flags: number, payload: Uint8Array): number {
    const length = NLMSGHDR_BYTES + payload.length;
    const end = at + align4(length);
    if (end > MAX_REQUEST_BYTES) throw new NativeError('native.bounds', `netlink requests of ${end} bytes`);
    const { bytes } = scratch().out;
    // Not across the end of the numbers, so that those of a transaction are in order.
    this.#sequence = at === 0 && this.#sequence > LAST_START ? 1 : this.#sequence + 1;
    bytes.writeUInt32LE(length, at);
    bytes.writeUInt16LE(type, at + 4);
    bytes.writeUInt16LE(flags, at + 6);
    bytes.writeUInt32LE(this.#sequence, at + 8);
    bytes.writeUInt32LE(0, at + 12);
    bytes.set(payload, at + NLMSGHDR_BYTES);
    bytes.fill(0, at + length, end);
    return end;
  }

  #flush(length: number): void {
    this.#drain();
    if (c_sendto(this.#fd.number, scratch().out.address(0, length), length, 0, 0, 0) < 0) {
      throw new SysError('sendto', lastErrno(), 'netlink');
    }
  }

  /** Throws away what others sent since the last call: a full socket would make the kernel drop its answer. */
  #drain(): void {
    for (let stray = 0; stray < MAX_STRAY_DATAGRAMS; stray++) {
      if (this.#take() === -Errno.EAGAIN) return;
    }
    this.#break('drowned in messages that are no answers');
  }

  /** The next datagram's messages that answer those of these numbers, copied out of the scratch area. */
  #receive(first: number, last = first): NetlinkMessage[] {
    const { in: into, sender } = scratch();
    for (let stray = 0; stray < MAX_STRAY_DATAGRAMS; stray++) {
      const n = this.#take();
      if (n < 0) {
        if (n === -Errno.EINTR) continue;
        this.#break(`no answer from the kernel (${errnoName(-n)})`);
      }
      if (sender.bytes.readUInt32LE(NL_PID_AT) !== 0) continue;
      if (n > RECEIVE_BYTES) this.#break(`a datagram of ${n} bytes`);
      const messages = readMessages(Buffer.from(into.bytes.subarray(0, n)));
      const ours = messages.filter(({ sequence }) => sequence >= first && sequence <= last);
      if (ours.some(message => message.type === NLMSG_OVERRUN)) this.#break('answers were lost');
      if (ours.length > 0) return ours;
    }
    return this.#break('drowned in messages that are no answers');
  }

  /** Takes one datagram and its sender into the scratch areas; its length, or -errno. */
  #take(): number {
    const { in: into, sender } = scratch();
    sender.bytes.writeUInt32LE(SOCKADDR_NL_BYTES, SOCKADDR_NL_BYTES);
    const n = c_recvfrom(
      this.#fd.number,
      into.address(0, RECEIVE_BYTES),
      RECEIVE_BYTES,
      MSG_DONTWAIT | MSG_TRUNC,
      sender.address(0, SOCKADDR_NL_BYTES),
      sender.address(SOCKADDR_NL_BYTES, 4),
    );
    return n < 0 ? -lastErrno() : n;
  }

  #throwIfRefused(message: NetlinkMessage): void {
    const { errno, text } = readVerdict(message);
    if (errno < 0) this.#break('an acknowledgement without a verdict');
    if (errno > 0) throw new SysError('netlink', errno, text);
  }

  /** The rest of an unfinished answer would be in the way of the next request. */
  #break(what: string, code: NativeErrorCode = 'native.netlink'): never {
    this.close();
    throw new NativeError(code, `netlink protocol ${this.protocol}: ${what}`);
  }
}

/** Runs `f` with the caller's socket, or with one opened here and closed again. Internal to this package. */
export function withSocket<T>(
  socket: NetlinkSocket | undefined,
  protocol: NetlinkProtocol,
  f: (socket: NetlinkSocket) => T,
): T {
  if (socket !== undefined) return f(socket);
  using own = NetlinkSocket.open(protocol);
  return f(own);
}
