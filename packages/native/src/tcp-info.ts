// What the kernel knows about a TCP connection (`struct tcp_info`, linux/tcp.h). Fields are only ever appended there,
// so an older kernel gives a shorter struct and the fields it lacks read 0.
import { SysError } from './errors.ts';
import type { Fd } from './fd.ts';
import { SOL_TCP, TCP_INFO } from './layouts.ts';
import { readOption } from './socket-options.ts';

/** RFC 9293 states, in the kernel's order from 1. */
const STATES = [
  'established',
  'syn-sent',
  'syn-received',
  'fin-wait-1',
  'fin-wait-2',
  'time-wait',
  'close',
  'close-wait',
  'last-ack',
  'listen',
  'closing',
  'new-syn-received',
] as const;

export type TcpState = (typeof STATES)[number] | 'unknown';

export interface TcpInfo {
  readonly state: TcpState;
  /** Smoothed round-trip time and its mean deviation, microseconds. */
  readonly rttUs: number;
  readonly rttVarianceUs: number;
  /** Smallest round-trip time seen, microseconds; 4294967295 before the first sample. */
  readonly minRttUs: number;
  /** Timeouts in a row for the oldest unacknowledged data. */
  readonly retransmits: number;
  /** Segments sent again over the life of the connection. */
  readonly totalRetransmits: number;
  /** Segments. */
  readonly unacknowledged: number;
  readonly lost: number;
  readonly congestionWindow: number;
  /** Bytes. */
  readonly sendMss: number;
  readonly pathMtu: number;
  readonly notSentBytes: number;
  readonly bytesAcknowledged: number;
  readonly bytesReceived: number;
  /** Bytes per second the connection was last seen to deliver. */
  readonly deliveryRate: number;
}

const into = { bytes: Buffer.alloc(0) };

/** @throws SysError when it is not a TCP socket, native.closed */
export function tcpInfo(fd: Fd): TcpInfo {
  const length = readOption(fd, SOL_TCP, TCP_INFO, into);
  if (length < 0) throw new SysError('getsockopt', -length, 'TCP_INFO');
  const { bytes } = into;
  return {
    state: STATES[bytes.readUInt8(0) - 1] ?? 'unknown',
    retransmits: bytes.readUInt8(2),
    sendMss: bytes.readUInt32LE(16),
    unacknowledged: bytes.readUInt32LE(24),
    lost: bytes.readUInt32LE(32),
    pathMtu: bytes.readUInt32LE(60),
    rttUs: bytes.readUInt32LE(68),
    rttVarianceUs: bytes.readUInt32LE(72),
    congestionWindow: bytes.readUInt32LE(80),
    totalRetransmits: bytes.readUInt32LE(100),
    bytesAcknowledged: readCount(bytes, 120),
    bytesReceived: readCount(bytes, 128),
    notSentBytes: bytes.readUInt32LE(144),
    minRttUs: bytes.readUInt32LE(148),
    deliveryRate: readCount(bytes, 160),
  };
}

/** What a connection's record says of the network, without the rest of `tcp_info`. */
export interface TcpHealth {
  /** Smoothed round-trip time, microseconds. */
  rttUs: number;
  /** Segments sent again over the life of the connection. */
  totalRetransmits: number;
}

/** Reads into `health`; false, and nothing changed, when the kernel does not say. @throws native.closed */
export function readTcpHealth(fd: Fd, health: TcpHealth): boolean {
  if (readOption(fd, SOL_TCP, TCP_INFO, into) < 104) return false;
  health.rttUs = into.bytes.readUInt32LE(68);
  health.totalRetransmits = into.bytes.readUInt32LE(100);
  return true;
}

/** A 64-bit counter as a number; exact to 2^53, which is 8 PiB. */
function readCount(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
}
