// How a process that lives as long as its node spends less memory: a small young generation, code for size, one malloc arena
// that gives back what is free.
// Measured with 250 pods: 133 MB without, 89 MB with (packages/cli/test/agent-memory.e2e.test.ts).

export const FRUGAL_FLAGS: readonly string[] = ['--max-semi-space-size=1', '--optimize-for-size'];
export const FRUGAL_ENV = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: '65536',
  MALLOC_TRIM_THRESHOLD_: '65536',
} as const;

/**
 * Begins this program anew, in the same process, with what makes it frugal; returns if it is so already, or if Node cannot
 * do it. To be called before anything is opened.
 */
export function becomeFrugal(): void {
  if (FRUGAL_FLAGS.every(flag => process.execArgv.includes(flag)) || typeof process.execve !== 'function') return;
  const [, ...args] = process.argv;
  process.execve(process.execPath, [process.execPath, ...FRUGAL_FLAGS, ...process.execArgv, ...args], {
    ...process.env,
    ...FRUGAL_ENV,
  });
}
