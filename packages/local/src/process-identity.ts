// Processes by id and start time, since ids are used again; and who is in a network namespace. Reads procfs only
// (proc_pid_stat(5)). Linux.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot. */
  readonly startTicks: number;
}

/** undefined when there is no such process, or only its exit status is left. */
export function identifyProcess(pid: number): ProcessIdentity | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold anything, parentheses too.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const startTicks = Number(fields[19]);
    if (fields[0] === 'Z' || fields[0] === 'X' || !Number.isSafeInteger(startTicks)) return undefined;
    return { pid, startTicks };
  } catch {
    return undefined;
  }
}

export function isAlive({ pid, startTicks }: ProcessIdentity): boolean {
  return identifyProcess(pid)?.startTicks === startTicks;
}

/**
 * The one user whose rights it has; undefined when it is gone, or has those of several (a setuid program on its way). What
 * the owner of its files in procfs says is root for any process that may not be traced.
 */
export function ownerOf(pid: number): number | undefined {
  return onlyIdOf(pid, /^Uid:(.*)$/m);
}

/** Its one group, as `ownerOf`. */
export function groupOf(pid: number): number | undefined {
  return onlyIdOf(pid, /^Gid:(.*)$/m);
}

function onlyIdOf(pid: number, line: RegExp): number | undefined {
  try {
    const ids = line.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';
    const [first, ...others] = new Set(ids.trim().split(/\s+/).map(Number));
    return others.length === 0 && Number.isSafeInteger(first) ? first : undefined;
  } catch {
    return undefined;
  }
}

/** `net:[4026531840]`, which names a namespace as long as it lives; undefined when unreadable or gone. */
export function netnsNameOf(pid: number | 'self'): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return undefined;
  }
}

/** `user:[4026531837]`; undefined when unreadable or gone. */
export function userNamespaceOf(pid: number | 'self'): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/user`);
  } catch {
    return undefined;
  }
}

export function processesIn(netnsName: string): number[] {
  return readdirSync('/proc').flatMap(entry => {
    if (!/^\d+$/.test(entry)) return [];
    const pid = Number(entry);
    return netnsNameOf(pid) === netnsName ? [pid] : [];
  });
}

/** Signals a process that may have ended meanwhile. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
