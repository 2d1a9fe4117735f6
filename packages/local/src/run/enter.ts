// A further command in a running workload's namespaces: its network, and its view of names.
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { constants } from 'node:os';
import { LocalError } from '../errors.ts';
import { groupOf, isAlive, ownerOf, userNamespaceOf } from '../process-identity.ts';
import { type Workload, workloadKey } from '../workload.ts';
import { dropRights, type RunUser, runEnvironment } from './run-user.ts';

type Environment = Readonly<Record<string, string | undefined>>;
type OrdinaryUser = RunUser & { readonly kind: 'user' };

/** Descriptors 3 and 4 are the namespaces: not the command's. */
const SCRIPT = 'exec 3<&- 4<&-; cd "$1" 2>/dev/null; shift; exec "$@"';

/** Runs it with our own standard streams. @returns exit status as shells have it @throws local.workload_gone, local.rights */
export async function enterWorkload(
  workload: Workload,
  command: readonly string[],
  user: RunUser,
  env: Environment,
): Promise<number> {
  const { pid } = workload.process;
  const key = workloadKey(workload);
  if (user.kind === 'user' && isAlive(workload.process) && ownerOf(pid) !== user.uid) {
    throw new LocalError('local.rights', `${key} belongs to another user`, { next: 'use sudo' });
  }
  const namespaces = openNamespaces(pid);
  try {
    // Looked at after they were opened: a process can leave our user namespace, and never come back to it.
    const as = user.kind === 'user' ? user : (ownerOfNamespaces(pid) ?? user);
    if (!isAlive(workload.process)) throw new LocalError('local.workload_gone', `${key} has ended`);
    // What is mounted in an ordinary user's namespaces is that user's word, so root goes in with that user's rights.
    const becoming = as === user ? [] : becomeUser(as);
    const asUser = as.kind === 'user' ? [`--user=/proc/${pid}/ns/user`, '--preserve-credentials'] : [];
    const enter = ['nsenter', ...asUser, '--net=/proc/self/fd/3', '--mount=/proc/self/fd/4', '--'];
    const inPlace = ['sh', '-c', SCRIPT, 'ambit-exec', process.cwd()];
    const [program = '', ...words] = [...becoming, ...enter, ...inPlace, ...dropRights(as), ...command];
    const child = spawn(program, words, {
      stdio: ['inherit', 'inherit', 'inherit', ...namespaces],
      env: runEnvironment(user, env),
    });
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    child.once('error', cause =>
      reject(new LocalError('local.rights', `cannot enter it: ${cause.message}`, { cause })),
    );
    child.once('close', (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
    return await promise;
  } finally {
    for (const fd of namespaces) closeSync(fd);
  }
}

/** Network and mounts. @throws local.workload_gone */
function openNamespaces(pid: number): number[] {
  const opened: number[] = [];
  try {
    for (const kind of ['net', 'mnt']) opened.push(openSync(`/proc/${pid}/ns/${kind}`, 'r'));
    return opened;
  } catch (cause) {
    for (const fd of opened) closeSync(fd);
    throw new LocalError('local.workload_gone', `process ${pid} has ended, or is not ours to enter`, { cause });
  }
}

/** undefined: root's, in our own user namespace. @throws local.workload_gone */
function ownerOfNamespaces(pid: number): OrdinaryUser | undefined {
  if (userNamespaceOf(pid) === userNamespaceOf('self')) return undefined;
  const [uid, gid] = [ownerOf(pid), groupOf(pid)];
  if (uid === 0) return undefined;
  if (uid !== undefined && gid !== undefined) return { kind: 'user', uid, gid };
  throw new LocalError('local.workload_gone', `process ${pid} has ended, or changes its user`);
}

function becomeUser(as: RunUser): string[] {
  if (as.kind !== 'user') return [];
  return ['setpriv', `--reuid=${as.uid}`, `--regid=${as.gid}`, '--clear-groups', '--'];
}
