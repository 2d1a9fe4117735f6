// Gives memory that nobody uses back to the system: V8's heap of this thread, and the C heap of the process.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { bind } from './library.ts';

let mallocTrim: ((pad: number) => number) | undefined;
let collect: (() => void) | undefined;

/**
 * Collects this thread's garbage and returns free pages of the C heap. Takes some 10 ms for a heap of 50 MB: for a quiet
 * moment, never for a path that traffic takes. Best effort: does what this runtime and C library offer.
 */
export function releaseMemory(): void {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
    try {
      mallocTrim = bind<(pad: number) => number>('int malloc_trim(size_t pad)');
    } catch {
      mallocTrim = () => 0; // only glibc has it
    }
  }
  collect();
  mallocTrim?.(0);
}
