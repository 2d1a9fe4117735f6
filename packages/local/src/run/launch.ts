// Starts a command as a workload: its first process is made in fresh network and mount namespaces and waits there until
// the agent says that it is in the mesh. It is this process's child, so its terminal, standard streams and exit status are
// what they would be without us, and it ends when this process does, in whatever way.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { LocalError } from '../errors.ts';
import type { Workload, WorkloadRequest } from '../workload.ts';
import { dropRights, type RunUser, runEnvironment } from './run-user.ts';

/** Asks the agent of this machine. @throws LocalError */
export type AskAgent = (method: string, path: string, body?: object) => Promise<unknown>;

export interface LaunchOptions {
  readonly request: Omit<WorkloadRequest, 'pid' | 'runnerPid'>;
  readonly user: RunUser;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** `resolv.conf` and `hosts` will be there. */
  readonly etc: string;
  readonly ask: AskAgent;
  /** Gets what the command prints; absent: it has our own standard streams. */
  readonly output?: ((chunk: Uint8Array) => void) | undefined;
}

export interface Launched {
  readonly workload: Workload;
  readonly pid: number;
  /** Exit status as shells have it: 128 and the signal's number for a signal. */
  readonly ended: Promise<number>;
  readonly signal: (signal: NodeJS.Signals) => void;
}

/**
 * Descriptor 3 leads to us: it says that the namespaces are there, and waits for the word. Its end is ours: then nothing
 * is started. The two files are mounted over the host's in this mount namespace only; a host without them needs none.
 */
const SCRIPT = `
etc=$1; shift
echo up >&3
read -r word <&3 && [ "$word" = go ] || exit 125
exec 3<&-
for file in resolv.conf hosts; do
  [ ! -e "/etc/$file" ] || mount --bind "$etc/$file" "/etc/$file" || exit 125
done
exec "$@"`;
const START_TIMEOUT_MS = 15_000;
const DRAIN_MS = 2_000;

/** @throws LocalError when it cannot be started, or the agent refuses; nothing runs then */
export async function launch(options: LaunchOptions): Promise<Launched> {
  const { request, user, output } = options;
  const stdio = output === undefined ? 'inherit' : 'pipe';
  const child = spawn('setpriv', startArguments(options), {
    env: runEnvironment(user, options.env),
    stdio: [output === undefined ? 'inherit' : 'ignore', stdio, stdio, 'pipe'],
  });
  if (output !== undefined) for (const stream of [child.stdout, child.stderr]) stream?.on('data', output);
  const ended = ending(child);
  const leash = child.stdio[3] as Duplex | null | undefined;
  try {
    if (leash === null || leash === undefined) throw cannotStart('no pipe to it');
    leash.on('error', () => undefined); // it ended: `ended` tells
    await Promise.race([once(leash, 'data', { signal: AbortSignal.timeout(START_TIMEOUT_MS) }), early(ended)]);
    const pid = child.pid ?? 0;
    const workload = (await options.ask('POST', '/v1/workloads', {
      ...request,
      pid,
      runnerPid: process.pid,
    })) as Workload;
    leash.end('go\n');
    return { workload, pid, ended, signal: signal => void child.kill(signal) };
  } catch (error) {
    leash?.destroy();
    child.kill('SIGKILL');
    throw error instanceof LocalError
      ? error
      : cannotStart(error instanceof Error ? error.message : String(error), error);
  }
}

function startArguments({ user, etc, request }: LaunchOptions): string[] {
  // An ordinary user may make networks inside a user namespace only, and stays the same user in it.
  const userNamespace = user.kind === 'user' ? ['--user', '--map-current-user', '--keep-caps'] : [];
  const unshare = ['unshare', ...userNamespace, '--net', '--mount', '--'];
  const wait = ['sh', '-c', SCRIPT, 'ambit-run', etc];
  return ['--pdeathsig', 'KILL', '--', ...unshare, ...wait, ...dropRights(user), ...request.command];
}

async function ending(child: ChildProcess): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const { promise: drained, resolve: drain } = Promise.withResolvers<void>();
  child.once('error', () => resolve(127));
  child.once('exit', (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
  child.once('close', () => drain());
  const status = await promise;
  // What it started may hold its output open until the agent has ended that too.
  await Promise.race([drained, delay(DRAIN_MS, undefined, { ref: false })]);
  return status;
}

async function early(ended: Promise<number>): Promise<never> {
  const status = await ended;
  throw cannotStart(`it ended with status ${status} before it had its network`);
}

function cannotStart(reason: string, cause?: unknown): LocalError {
  return new LocalError('local.rights', `cannot start a workload: ${reason}`, {
    next: 'run it as root (sudo), or allow user namespaces (kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu)',
    cause,
  });
}
