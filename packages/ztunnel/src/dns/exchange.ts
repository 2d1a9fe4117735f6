// What an exchange with one resolver needs and tells, by UDP and by TCP, and how the socket of either begins.
import { randomFillSync } from 'node:crypto';
import { Errno, errnoName, type Fd, startConnect } from '@ambit/native';
import type { Resolver } from './dns-messages.ts';

/** One question to one resolver, under way. */
export interface Exchange {
  readonly resolver: Resolver;
  /** There is no event afterwards; closing twice, or after an event, does nothing. */
  close(): void;
}

/** Hears of an exchange once: of its answer or of its failure. The exchange is over then. */
export interface ExchangeOwner {
  /** `bytes` begin at 0 and are good during the call only. */
  onAnswer(exchange: Exchange, bytes: Buffer, length: number): void;
  onFailure(exchange: Exchange, error: string): void;
}

/** What is asked. `message` is the query, whose first two bytes every exchange overwrites with its id. */
export interface AskedMessage {
  readonly message: Buffer;
  readonly questionEnd: number;
}

/** A socket that is connected to the resolver, or about to be. @returns what went wrong, as text */
export function connectSocket(open: (resolver: Resolver) => Fd, resolver: Resolver): Fd | string {
  let fd: Fd;
  try {
    fd = open(resolver);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  const connected = startConnect(fd, resolver);
  if (connected >= 0 || connected === -Errno.EINPROGRESS) return fd;
  fd.close();
  return failureText(resolver, -connected);
}

export function failureText({ ip, port }: Resolver, errno: number): string {
  return `cannot ask resolver ${ip} port ${port}: ${errnoName(errno)}`;
}

const randoms = new Uint16Array(1024);
let randomsUsed = randoms.length;

/** 16 bits that nobody can foretell. */
export function randomId(): number {
  if (randomsUsed === randoms.length) {
    randomFillSync(randoms);
    randomsUsed = 0;
  }
  return randoms[randomsUsed++] ?? 0;
}
