// Requests of one connection on their way into its next record: those that are alike are added up at once, so that a
// connection costs the same to tell of whether it carried ten requests or ten thousand since. Kinds are bounded.
import { REQUEST_BUCKETS, type RequestTally } from '../connection-record.ts';
import type { L7Messages, L7Request } from './types.ts';

/** Different kinds of requests one record tells of. */
const MAX_KINDS = 32;
const BUCKETS = REQUEST_BUCKETS.length + 1;

/**
 * A kind of requests. Its figures lie in one place: between two requests of a connection everything else runs, so what a
 * request costs here is how many places in memory it comes to.
 */
interface Tally
  extends Pick<RequestTally, 'protocol' | 'status' | 'grpcStatus' | 'method' | 'path' | 'error' | 'flags'> {
  readonly figures: Float64Array;
}

// Where in a tally's figures.
const COUNT = 0;
const DURATION_MS = 1;
const REQUEST_BYTES = 2;
const RESPONSE_BYTES = 3;
const REQUEST_MESSAGES = 4;
const RESPONSE_MESSAGES = 5;
const DURATIONS = 6;
const REQUEST_SIZES = DURATIONS + BUCKETS;
const RESPONSE_SIZES = REQUEST_SIZES + BUCKETS;
const FIGURES = RESPONSE_SIZES + BUCKETS;

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
    const { figures } = tally;
    const { durationMs, requestBytes, responseBytes } = request;
    raise(figures, COUNT, 1);
    raise(figures, DURATION_MS, durationMs);
    raise(figures, DURATIONS + bucketOf(durationMs), 1);
    raise(figures, REQUEST_BYTES, requestBytes);
    raise(figures, REQUEST_SIZES + bucketOf(requestBytes), 1);
    raise(figures, RESPONSE_BYTES, responseBytes);
    raise(figures, RESPONSE_SIZES + bucketOf(responseBytes), 1);
    raise(figures, REQUEST_MESSAGES, request.requestMessages - (request.toldRequestMessages ?? 0));
    raise(figures, RESPONSE_MESSAGES, request.responseMessages - (request.toldResponseMessages ?? 0));
  }

  /** Messages of a call whose end will be another `add`: a kind without requests, if there are none like it. */
  addMessages({ protocol, status, requestMessages, responseMessages }: L7Messages, labels: TallyLabels): void {
    const call = { protocol, status };
    const tally = this.#find(call, labels) ?? this.#open(call, labels);
    if (tally === undefined) return;
    raise(tally.figures, REQUEST_MESSAGES, requestMessages);
    raise(tally.figures, RESPONSE_MESSAGES, responseMessages);
  }

  /** Counts a request of which nothing else is known. */
  leaveOut(): void {
    this.#untallied++;
  }

  /** What there is, and a clean slate. */
  take(): { readonly requests: readonly RequestTally[] | undefined; readonly untalliedRequests: number } {
    const taken = {
      requests: this.#kinds.length === 0 ? undefined : this.#kinds.map(told),
      untalliedRequests: this.#untallied,
    };
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
    const tally = { protocol, status, grpcStatus, method, path, error, flags, figures: new Float64Array(FIGURES) };
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

function told({ figures, ...kind }: Tally): RequestTally {
  const at = (index: number) => figures[index] ?? 0;
  const buckets = (from: number) => Array.from(figures.subarray(from, from + BUCKETS));
  return {
    ...kind,
    count: at(COUNT),
    durationSumMs: at(DURATION_MS),
    durations: buckets(DURATIONS),
    requestBytes: at(REQUEST_BYTES),
    requestSizes: buckets(REQUEST_SIZES),
    responseBytes: at(RESPONSE_BYTES),
    responseSizes: buckets(RESPONSE_SIZES),
    requestMessages: at(REQUEST_MESSAGES),
    responseMessages: at(RESPONSE_MESSAGES),
  };
}

function raise(figures: Float64Array, index: number, by: number): void {
  figures[index] = (figures[index] ?? 0) + by;
}

function bucketOf(value: number): number {
  let index = 0;
  while (index < REQUEST_BUCKETS.length && value > (REQUEST_BUCKETS[index] ?? 0)) index++;
  return index;
}
