// What an exchange with one resolver needs and tells, by UDP and by TCP.
import { errnoName, type Fd } from '@ambit/native';
import type { Engine } from '@ambit/proxy';
import type { Resolver } from './dns-messages.ts';

export interface ForwarderDeps {
  readonly engine: Engine;
  /** Sockets that reach the resolver, not connected. @throws SysError */
  readonly openUdp: (resolver: Resolver) => Fd;
  readonly openTcp: (resolver: Resolver) => Fd;
  readonly onUnsolicited: () => void;
}

export interface ExchangeEvents {
  /** Once; the exchange has closed itself. `bytes` begin at 0 and are good during the call only. */
  readonly onAnswer: (bytes: Buffer, length: number) => void;
  /** Once, instead. */
  readonly onFailure: (error: string) => void;
}

export function failureText({ ip, port }: Resolver, errno: number): string {
  return `cannot ask resolver ${ip} port ${port}: ${errnoName(errno)}`;
}
