// Requests of one connection on their way into its next record: those that are alike are added up at once, so that a
// connection costs the same to tell of whether it carried ten requests or ten thousand since. Kinds are bounded.
import { REQUEST_BUCKETS, type RequestTally } from '../connection-record.ts';
import type { L7Messages, L7Request } from './types.ts';

/** Different kinds of requests one record tells of. */
const MAX_KINDS = 32;
const BUCKETS = REQUEST_BUCKETS.length + 1;

type Tally = { -readonly [Key in keyof RequestTally]: RequestTally[Key] } & {
  readonly durations: number[];
  readonly requestSizes: number[];
  readonly responseSizes: number[];
};

type Kind = Pick<L7Request, 'protocol' | 'status' | 'grpcStatus' | 'error' | 'flags'>;

/** How much of a request becomes part of its kind. */
export interface TallyLabels {
  /** '' to leave it out. */
  readonly method: string;
  readonly path: string;
}

export class RequestTallies {
  #kinds: Tally[] = [];
  /** Beyond the kinds that fit, or never followed. */
  #untallied = 0;

  /** Whether there is anything to tell. */
  get hasNews(): boolean {
    return this.#kinds.length > 0 || this.#untallied > 0;
  }

  add(request: L7Request, labels: TallyLabels): void {
    const tally = this.#find(request, labels) ?? this.#open(request, labels);
    if (tally === undefined) {
      this.#untallied++;
      return;
    }
    tally.count++;
    tally.durationSumMs += request.durationMs;
    count(tally.durations, request.durationMs);
    tally.requestBytes += request.requestBytes;
    count(tally.requestSizes, request.requestBytes);
    tally.responseBytes += request.responseBytes;
    count(tally.responseSizes, request.responseBytes);
    tally.requestMessages += request.requestMessages - (request.toldRequestMessages ?? 0);
    tally.responseMessages += request.responseMessages - (request.toldResponseMessages ?? 0);
  }

  /** Messages of a call whose end will be another `add`: a kind without requests, if there are none like it. */
  addMessages({ protocol, status, requestMessages, responseMessages }: L7Messages, labels: TallyLabels): void {
    const call = { protocol, status };
    const tally = this.#find(call, labels) ?? this.#open(call, labels);
    if (tally === undefined) return;
    tally.requestMessages += requestMessages;
    tally.responseMessages += responseMessages;
  }

  /** Counts a request of which nothing else is known. */
  leaveOut(): void {
    this.#untallied++;
  }

  /** What there is, and a clean slate. */
  take(): { readonly requests: readonly RequestTally[] | undefined; readonly untalliedRequests: number } {
    const taken = { requests: this.#kinds.length === 0 ? undefined : this.#kinds, untalliedRequests: this.#untallied };
    this.#kinds = [];
    this.#untallied = 0;
    return taken;
  }

  // A loop, since this runs for each request and a closure would be made for each.
  #find(request: Kind, labels: TallyLabels): Tally | undefined {
    for (const kind of this.#kinds) if (isSameKind(kind, request, labels)) return kind;
    return undefined;
  }

  #open({ protocol, status, grpcStatus, error, flags }: Kind, { method, path }: TallyLabels): Tally | undefined {
    if (this.#kinds.length >= MAX_KINDS) return undefined;
    const tally: Tally = {
      protocol,
      status,
      grpcStatus,
      method,
      path,
      error,
      flags,
      count: 0,
      durationSumMs: 0,
      durations: emptyBuckets(),
      requestBytes: 0,
      requestSizes: emptyBuckets(),
      responseBytes: 0,
      responseSizes: emptyBuckets(),
      requestMessages: 0,
      responseMessages: 0,
    };
    this.#kinds.push(tally);
    return tally;
  }
}

function isSameKind(kind: Tally, request: Kind, labels: TallyLabels): boolean {
  return (
    kind.status === request.status &&
    kind.grpcStatus === request.grpcStatus &&
    kind.method === labels.method &&
    kind.path === labels.path &&
    kind.error === request.error &&
    kind.flags === request.flags &&
    kind.protocol === request.protocol
  );
}

function emptyBuckets(): number[] {
  return Array.from({ length: BUCKETS }, () => 0);
}

function count(buckets: number[], value: number): void {
  let index = 0;
  while (index < REQUEST_BUCKETS.length && value > (REQUEST_BUCKETS[index] ?? 0)) index++;
  buckets[index] = (buckets[index] ?? 0) + 1;
}
