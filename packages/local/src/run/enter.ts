// A further command in a running workload's namespaces: its network, and its view of names.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { LocalError } from '../errors.ts';
import { isAlive, ownerOf } from '../process-identity.ts';
import { type Workload, workloadKey } from '../workload.ts';
import { dropRights, type RunUser, runEnvironment } from './run-user.ts';

const SCRIPT = 'cd "$1" 2>/dev/null; shift; exec "$@"';

/** Runs it with our own standard streams. @returns exit status as shells have it @throws local.workload_gone, local.rights */
export async function enterWorkload(
  workload: Workload,
  command: readonly string[],
  user: RunUser,
  env: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const { process: first } = workload;
  if (!isAlive(first)) throw new LocalError('local.workload_gone', `${workloadKey(workload)} has ended`);
  if (user.kind === 'user' && ownerOf(first.pid) !== user.uid) {
    throw new LocalError('local.rights', `${workloadKey(workload)} belongs to another user`, { next: 'use sudo' });
  }
  const asUser = user.kind === 'user' ? ['--user', '--preserve-credentials'] : [];
  const target = [`--target=${first.pid}`, ...asUser, '--net', '--mount', '--'];
  const inPlace = ['sh', '-c', SCRIPT, 'ambit-exec', process.cwd()];
  const child = spawn('nsenter', [...target, ...inPlace, ...dropRights(user), ...command], {
    stdio: 'inherit',
    env: runEnvironment(user, env),
  });
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.once('error', cause => reject(new LocalError('local.rights', `cannot enter it: ${cause.message}`, { cause })));
  child.once('close', (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
  return promise;
}
