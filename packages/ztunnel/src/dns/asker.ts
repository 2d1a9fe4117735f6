// Who asked, as the pod's DNS proxy sees it: a datagram's sender or a TCP connection.

/** One query's sender. Good until the query's handling returns; who answers later parks it first. */
export interface Asker {
  readonly isTcp: boolean;
  /** Answers now. The bytes are copied. */
  reply(bytes: Buffer, length: number): void;
  /** Keeps the sender for an answer later; undefined when the pod has too many waiting. */
  park(): ParkedAsker | undefined;
}

/** Gets exactly one call, of either kind. */
export interface ParkedAsker {
  readonly isTcp: boolean;
  reply(bytes: Buffer, length: number): void;
  /** There will be no answer. */
  drop(): void;
}

/** Where queries go. The message is good during the call only; `at` is where it begins. */
export type OnQuery = (message: Buffer, at: number, length: number, asker: Asker) => void;
