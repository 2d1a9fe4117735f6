// Clients that are told in a protocol of their own how their connection went. Known by name, which is plain data: a voice
// moves with a connection that is handed to another worker before its client was told anything.
import type { ReasonCode } from '@ambit/mesh';
import { SOCKS_REPLY, socksRefusal, socksReply } from '../socks/negotiation.ts';
import { canaryFailure } from './canary-answer.ts';

export type VoiceName = 'socks5' | 'canary';

export interface ClientVoice {
  /** Before the first byte from the other side; undefined: nothing. */
  readonly connected: Uint8Array | undefined;
  /** Instead of a reset, where no byte was exchanged. */
  readonly refused: (reason: ReasonCode) => Uint8Array;
}

export const VOICES: Readonly<Record<VoiceName, ClientVoice>> = {
  socks5: { connected: socksReply(SOCKS_REPLY.succeeded), refused: socksRefusal },
  /** Whoever proves a pod is told why it cannot be proven. */
  canary: { connected: undefined, refused: canaryFailure },
};
