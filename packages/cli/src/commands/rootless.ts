// The mesh of an ordinary user: user, network and mount namespaces that its supervisor holds. Inside, the user is root over
// nothing but these; commands that need them are run again in there.
import { spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { type LocalDirectories, LocalError, localPaths, readUpStatus, type UpStatus } from '@ambit/local';
import { ambitCommand, directoriesOf, type MeshFlags, uid } from './local-mesh.ts';

/** What stands before the supervisor's own command. */
export const NEW_NAMESPACES: readonly string[] = ['unshare', '--user', '--map-root-user', '--net', '--mount', '--'];

/** Names the directories to a command that is run again inside, where the user's own are not the default. */
export function placesFlags({ state, run }: LocalDirectories): readonly string[] {
  return ['--dir', state, '--run-dir', run];
}

/** The user's own mesh, seen from outside of it; undefined when that is not what is meant, or we are inside. */
export function rootlessStatus(flags: MeshFlags): UpStatus | undefined {
  if (uid === 0) return undefined;
  const status = readUpStatus(localPaths(directoriesOf(flags)).upStatus);
  return status?.isRootless === true ? status : undefined;
}

/** Descriptors beyond the standard streams: where a command that is run again finds the first. */
const FIRST_FD = 3;

/**
 * Runs this very command again in the namespaces. @param listening published ports, open out here; in there they are
 * descriptors from 3 @returns its exit status @throws local.rights
 */
export async function runInside(
  status: UpStatus,
  flags: MeshFlags,
  listening: readonly number[] = [],
): Promise<number> {
  const [command = '', ...typed] = process.argv.slice(2);
  const words = listening.length === 0 ? typed : ['--published-from', String(FIRST_FD), ...typed];
  const places = flags.dir === undefined ? placesFlags(directoriesOf(flags)) : [];
  const target = [`--target=${status.supervisor.pid}`, '--user', '--net', '--mount', '--preserve-credentials'];
  // Into the same working directory: entering a mount namespace leaves it for the root.
  const child = spawn(
    'nsenter',
    [...target, `--wd=${process.cwd()}`, '--', ...ambitCommand(), command, ...places, ...words],
    {
      stdio: ['inherit', 'inherit', 'inherit', ...listening],
    },
  );
  // Only whoever serves them holds them: a port is free again when its workload is gone.
  for (const fd of listening) closeSync(fd);
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const names = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const;
  const pass = names.map(name => [name, () => void child.kill(name)] as const);
  for (const [name, handler] of pass) process.on(name, handler);
  // The terminal sends these to the command itself.
  for (const name of ['SIGINT', 'SIGQUIT'] as const) process.on(name, () => undefined);
  child.once('error', cause =>
    reject(new LocalError('local.rights', `cannot enter your mesh: ${cause.message}`, { cause })),
  );
  child.once('close', (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
  return promise;
}
