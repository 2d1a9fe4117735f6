// What the processes of the control plane's benchmark say to each other. Times are of the machine's monotonic clock, in
// nanoseconds, so they compare between processes.

export type ToServer = { readonly kind: 'change'; readonly index: number } | { readonly kind: 'status' };

export type FromServer =
  | { readonly kind: 'ready'; readonly port: number; readonly addresses: number; readonly modelMs: number }
  /** `at`: just before the model was given the changed object. */
  | { readonly kind: 'changed'; readonly index: number; readonly at: number; readonly name: string }
  | { readonly kind: 'status'; readonly clients: number; readonly dropped: number };

export type ToClients = { readonly kind: 'expect'; readonly name: string };

export type FromClients =
  | { readonly kind: 'synced'; readonly tookMs: number; readonly firstMs: number; readonly bytesPerClient: number }
  /** When each client had the changed resource. */
  | { readonly kind: 'received'; readonly at: readonly number[] };

export function monotonicNs(): number {
  return Number(process.hrtime.bigint());
}
