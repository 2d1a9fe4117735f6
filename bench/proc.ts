// CPU time and memory of whole process trees, from /proc. CPU counts all threads, and children that ended meanwhile if
// their parent waited for them. The kernel counts in ticks of 10 ms, so a measured part should last seconds.
import { readdirSync, readFileSync } from 'node:fs';

/** USER_HZ; the same on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** User + system seconds used so far by the processes and their descendants. */
export function cpuSeconds(roots: readonly number[]): number {
  let ticks = 0;
  for (const pid of tree(roots)) {
    // The name in parentheses may contain spaces: fields are counted behind it.
    const fields = read(`/proc/${pid}/stat`).split(') ')[1]?.split(' ') ?? [];
    for (const index of [11, 12, 13, 14]) ticks += Number(fields[index] ?? 0);
  }
  return ticks / TICKS_PER_SECOND;
}

/** Sum of the resident memory in KiB; pages that two processes share count twice. */
export function residentKib(roots: readonly number[]): number {
  let sum = 0;
  for (const pid of tree(roots)) sum += Number(/VmRSS:\s+(\d+)/.exec(read(`/proc/${pid}/status`))?.[1] ?? 0);
  return sum;
}

function tree(roots: readonly number[]): number[] {
  return roots.flatMap(pid => [pid, ...tree(childrenOf(pid))]);
}

function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap(task =>
      read(`/proc/${pid}/task/${task}/children`).split(' ').filter(Boolean).map(Number),
    );
  } catch {
    return []; // it has ended
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // it has ended: it counts nothing
  }
}
