// Recognises Kafka. Reading it is not built yet: the probe says no, so nobody makes a reader.
import { UnreadSniffer } from './unread-sniffer.ts';

/**
 * Whether a connection whose first bytes from `side` these are speaks Kafka.
 * @returns 'more' while that cannot be said yet; never asks for more than 64 bytes
 */
export function probeKafka(
  _bytes: Uint8Array,
  _start: number,
  _end: number,
  _side: 'client' | 'server',
): 'yes' | 'no' | 'more' {
  return 'no';
}

/** Reads Kafka from the first byte of a connection. `onProtocol` is the detector's to call, not the reader's. */
export class KafkaReader extends UnreadSniffer {}
