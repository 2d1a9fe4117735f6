// One clock for all threads. `performance.now()` counts from each worker's own start, so two workers' values could not
// be compared; this is CLOCK_MONOTONIC in milliseconds, the same in every thread and process of the machine.

// The first use of each clock loads it, which takes milliseconds: not between the two readings.
performance.now();
process.hrtime.bigint();

/** Taken once per thread; both clocks are CLOCK_MONOTONIC and keep their distance. */
const originMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** Milliseconds since boot, with fractions; never goes back within a thread. */
export function monotonicMs(): number {
  return originMs + performance.now();
}
