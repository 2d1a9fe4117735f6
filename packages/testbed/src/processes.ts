// The processes somebody runs in one network namespace: each in a process group of its own, all ended together. A process
// that leaves its group (a daemon) escapes this, but not the sandbox.
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { TestbedError } from './errors.ts';
import { type CommandOptions, type CommandResult, collect } from './run-command.ts';
import type { Netns } from './topology.ts';

export interface ExecOptions {
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  readonly cwd?: string;
  /** Default `pipe`: the caller reads, or the program stops when a pipe is full. */
  readonly stdio?: SpawnOptions['stdio'];
}

/** Between the polite signal and the one that cannot be ignored. */
const GRACE_MS = 1_000;

export class NamespaceProcesses {
  readonly #netns: Netns;
  readonly #children = new Set<ChildProcess>();
  #isClosed = false;

  constructor(netns: Netns) {
    this.#netns = netns;
  }

  /** Starts a program in the namespace. A program that cannot be run gives exit status 127 or 126, as in shells. @throws testbed.closed */
  exec(command: string, args: readonly string[] = [], options: ExecOptions = {}): ChildProcess {
    if (this.#isClosed) throw new TestbedError('testbed.closed', `${this.#netns.netns} is gone`);
    const child = spawn('nsenter', [`--net=${this.#netns.netnsPath}`, '--', command, ...args], {
      env: options.env,
      cwd: options.cwd,
      stdio: options.stdio ?? 'pipe',
      detached: true,
    });
    this.#children.add(child);
    const forget = () => this.#children.delete(child);
    child.once('exit', forget);
    child.once('error', forget);
    return child;
  }

  /** Runs a program to its end. @throws testbed.timeout, testbed.command_failed (cannot start), testbed.closed */
  async run(command: string, args: readonly string[] = [], options: CommandOptions = {}): Promise<CommandResult> {
    const child = this.exec(command, args, options);
    return collect(child, `${[command, ...args].join(' ')} in ${this.#netns.netns}`, options);
  }

  /** Ends them all and refuses new ones. Closing twice is fine. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#children].map(child => endGroup(child, GRACE_MS)));
  }
}

/** Ends a process and its group: SIGTERM, and SIGKILL when it is still there after the grace period. */
export async function endGroup(child: ChildProcess, graceMs: number): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  signalGroup(child.pid, 'SIGTERM');
  const timer = setTimeout(signalGroup, graceMs, child.pid, 'SIGKILL');
  await ended;
  clearTimeout(timer);
  // What it started may outlive it.
  signalGroup(child.pid, 'SIGKILL');
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
