// What the readers of a connection are asked to make texts of. Everything else they tell is numbers and interned names.

/**
 * Read at every request, so an owner may keep one object a worker and change it while connections live (somebody starts to
 * watch). With all of them off, a request costs no text at all.
 */
export interface L7Options {
  /** Fill `path`; '' otherwise. */
  readonly wantPath: boolean;
  /** Fill `authority`; '' otherwise. */
  readonly wantAuthority: boolean;
  /** Fill `traceparent`; absent otherwise. */
  readonly wantTraceparent: boolean;
}

/** Nothing but counts: what metrics need. */
export const COUNTS_ONLY: L7Options = { wantPath: false, wantAuthority: false, wantTraceparent: false };
