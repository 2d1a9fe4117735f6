// Keeps what a reader tells of one connection.
import type { L7GiveUp, L7Listener, L7Protocol, L7Request } from '../src/l7/types.ts';

export class L7Recorder implements L7Listener {
  readonly requests: L7Request[] = [];
  readonly givenUp: L7GiveUp[] = [];

  onProtocol(protocol: L7Protocol): void {
    throw new Error(`a reader named the protocol, ${protocol}, which is the detector's`);
  }

  onRequest(request: L7Request): void {
    this.requests.push(request);
  }

  onGiveUp(why: L7GiveUp): void {
    this.givenUp.push(why);
  }
}

/** How often each method was told; with `error` behind a colon where there was one. */
export function countsOf(recorders: Iterable<L7Recorder>): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { requests } of recorders) {
    for (const { method, error } of requests) {
      const name = error === undefined ? method : `${method}:${error}`;
      counts[name] = (counts[name] ?? 0) + 1;
    }
  }
  return counts;
}
