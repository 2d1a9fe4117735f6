// Test support: writes down what a sniffer tells, and feeds it a conversation cut in any way, shown or skipped.
import type { L7GiveUp, L7Listener, L7Messages, L7Protocol, L7Request, L7Sniffer } from './types.ts';

/** Bytes of one side, in the order of the conversation. */
export interface Turn {
  readonly side: 'client' | 'server';
  readonly bytes: Uint8Array;
}

export class SnifferRecorder implements L7Listener {
  readonly protocols: L7Protocol[] = [];
  readonly requests: L7Request[] = [];
  readonly giveUps: L7GiveUp[] = [];
  readonly messages: L7Messages[] = [];
  untracked = 0;

  onProtocol(protocol: L7Protocol): void {
    this.protocols.push(protocol);
  }

  onRequest(request: L7Request): void {
    this.requests.push(request);
  }

  onGiveUp(why: L7GiveUp): void {
    this.giveUps.push(why);
  }

  onMessages(messages: L7Messages): void {
    this.messages.push(messages);
  }

  onUntracked(): void {
    this.untracked++;
  }

  /** `METHOD path status`, one a request, for short expectations. */
  get lines(): string[] {
    return this.requests.map(({ method, path, status, flags }) =>
      [method, path, status, flags].filter(part => part !== undefined && part !== '').join(' '),
    );
  }
}

export function client(text: string): Turn {
  return { side: 'client', bytes: new TextEncoder().encode(text) };
}

export function server(text: string): Turn {
  return { side: 'server', bytes: new TextEncoder().encode(text) };
}

/** Shows bytes as a copy engine does: what is skippable is skipped. */
export function show(sniffer: L7Sniffer, turn: Turn, start: number, end: number, nowMs: number): void {
  const isClient = turn.side === 'client';
  let at = start;
  while (at < end) {
    const skipped = Math.min(end - at, isClient ? sniffer.skippableFromClient : sniffer.skippableFromServer);
    if (skipped > 0) {
      if (isClient) sniffer.skipFromClient(skipped, nowMs);
      else sniffer.skipFromServer(skipped, nowMs);
      at += skipped;
    } else {
      // In a copy that is overwritten afterwards: a reader must not look at bytes of earlier calls.
      const copy = new Uint8Array(end - at + 7).fill(0xa5);
      copy.set(turn.bytes.subarray(at, end), 3);
      if (isClient) sniffer.fromClient(copy, 3, 3 + end - at, nowMs);
      else sniffer.fromServer(copy, 3, 3 + end - at, nowMs);
      copy.fill(0xa5);
      at = end;
    }
  }
}

/** Feeds turns one after the other, each cut before the offsets in `cuts`; the clock is the number of the turn. */
export function converse(sniffer: L7Sniffer, turns: readonly Turn[], cuts: readonly (readonly number[])[] = []): void {
  for (const [index, turn] of turns.entries()) {
    let at = 0;
    for (const cut of [...(cuts[index] ?? []), turn.bytes.length].sort((a, b) => a - b)) {
      const end = Math.min(cut, turn.bytes.length);
      if (end > at) show(sniffer, turn, at, end, index);
      at = Math.max(at, end);
    }
  }
}

/** All offsets: one byte at a time. */
export function everywhere(turns: readonly Turn[]): number[][] {
  return turns.map(turn => Array.from(turn.bytes.keys()));
}
