// What an XdsServer needs from outside, and its bounds with their defaults.
import type { Authenticator } from '../auth/caller.ts';
import type { Log } from '@ambit/log';

export interface XdsClock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Calls `run` once after `ms`; returns what cancels that. Never keeps the process alive. */
  after(ms: number, run: () => void): () => void;
}

export const SYSTEM_CLOCK: XdsClock = {
  now: () => Date.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms).unref();
    return () => clearTimeout(timer);
  },
};

export interface Debounce {
  /** A push waits until nothing has changed for so long. Default 20. */
  readonly quietMs: number;
  /** But no longer than this. Default 200. */
  readonly maxMs: number;
}

export interface XdsLimits {
  /** Streams at a time. Default 5 000. */
  readonly maxClients: number;
  /** Of these for one proof that is bound to a pod or node. Default 16; for one that is not, a quarter of all. */
  readonly maxOfCaller: number;
  /** New streams a second, and how many at once. Default 100 and 100; a stream waits up to a second for its turn. */
  readonly connectsPerSecond: number;
  readonly connectBurst: number;
  /** The same for one node id. Default 1 every two seconds and 10: a node that reconnects in a loop costs no more. */
  readonly nodeConnectsPerSecond: number;
  readonly nodeConnectBurst: number;
  /** Requests of one stream; above, its requests wait. Default 500 and 1 000. */
  readonly requestsPerSecond: number;
  readonly requestBurst: number;
  /** A stream that says nothing first is ended. Default 10 s. */
  readonly firstRequestMs: number;
  /** A client that takes no bytes of a response for so long is dropped. Default 30 s. */
  readonly stuckMs: number;
  /** Names that an on-demand client may follow, each type. Default 200 000. */
  readonly maxNames: number;
  /** Whole states in memory at a time, each shared by all that are sent it; more clients wait. Default 4. */
  readonly maxSnapshots: number;
}

export const DEFAULT_LIMITS: XdsLimits = {
  maxClients: 5_000,
  maxOfCaller: 16,
  connectsPerSecond: 100,
  connectBurst: 100,
  nodeConnectsPerSecond: 0.5,
  nodeConnectBurst: 10,
  requestsPerSecond: 500,
  requestBurst: 1_000,
  firstRequestMs: 10_000,
  stuckMs: 30_000,
  maxNames: 200_000,
  maxSnapshots: 4,
};

export interface XdsServerOptions {
  readonly log: Log;
  readonly clock?: XdsClock;
  /** Proves callers of `handler`. Undefined: they come from loopback, and nobody is proven nor checked. */
  readonly authenticate: Authenticator | undefined;
  readonly debounce?: Partial<Debounce>;
  readonly limits?: Partial<XdsLimits>;
}
