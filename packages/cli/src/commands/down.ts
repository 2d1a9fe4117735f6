// `ambit down`: ends the mesh of this machine, its workloads too, and takes back what was changed for it.
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { setTimeout as delay } from 'node:timers/promises';
import {
  type LocalDirectories,
  LocalError,
  localDirectories,
  localPaths,
  readUpStatus,
  removeHostNetwork,
  removeLeftovers,
  runningWorkloads,
  signalProcess,
  type UpStatus,
  workloadKey,
} from '@ambit/local';
import { SILENT_LOG } from '@ambit/log';
import { type Output, processOutput } from '../render/output.ts';
import { whileWaiting } from '../render/waiting.ts';
import { askMesh, directoriesOf, type MeshFlags, tell, uid } from './local-mesh.ts';
import { rootlessStatus } from './rootless.ts';
import { removeUnit } from './up-systemd.ts';

export interface DownFlags extends MeshFlags {
  readonly force?: boolean;
  /** Keys, logs and the user's objects too. */
  readonly purge?: boolean;
}

const STOP_TIMEOUT_MS = 40_000;
const PERIOD_MS = 100;

export async function down(flags: DownFlags): Promise<number> {
  const output = processOutput();
  try {
    const own = rootlessStatus(flags);
    if (own !== undefined) return await downRootless(output, flags, own);
    if (uid !== 0) {
      throw new LocalError('local.rights', 'ambit down changes networks, which takes root', {
        next: 'sudo ambit down',
      });
    }
    const directories = localDirectories({ dir: flags.dir, isRootless: false, env: process.env, uid });
    const paths = localPaths(directories);
    const status = readUpStatus(paths.upStatus);
    const wasThere = status !== undefined || existsSync(paths.network);
    const count = await endWorkloads(output, directories, flags.force === true);
    // systemd would start it again.
    removeUnit(flags.dir);
    if (status !== undefined)
      await whileWaiting(output, 'the parts end', endSupervisor(status.supervisor.pid, paths.upStatus));
    await removeLeftovers(paths, SILENT_LOG);
    removeHostNetwork(paths.network);
    rmSync(directories.run, { recursive: true, force: true });
    if (flags.purge === true) rmSync(directories.state, { recursive: true, force: true });
    output.answer(wasThere ? `down${endedText(count)}\n` : 'was not up\n');
    return 0;
  } catch (error) {
    return tell(output, error);
  }
}

/** Everything was in the namespaces that the supervisor holds, and goes with it: nothing of the host was changed. */
async function downRootless(output: Output, flags: DownFlags, status: UpStatus): Promise<number> {
  const directories = directoriesOf(flags);
  const paths = localPaths(directories);
  const count = await endWorkloads(output, directories, flags.force === true);
  for (const { process: first } of runningWorkloads(paths, SILENT_LOG)) signalProcess(first.pid, 'SIGKILL');
  await whileWaiting(output, 'the parts end', endSupervisor(status.supervisor.pid, paths.upStatus));
  rmSync(directories.run, { recursive: true, force: true });
  if (flags.purge === true) rmSync(directories.state, { recursive: true, force: true });
  output.answer(`down${endedText(count)}\n`);
  return 0;
}

/** @returns how many @throws local.running when the user does not want to */
async function endWorkloads(output: Output, directories: LocalDirectories, isForced: boolean): Promise<number> {
  const running = runningWorkloads(localPaths(directories), SILENT_LOG);
  if (running.length === 0) return 0;
  const names = running.map(workloadKey).join(', ');
  if (!isForced && !(await agreed(output, names))) {
    throw new LocalError('local.running', `workloads run here: ${names}`, { next: 'ambit down --force ends them too' });
  }
  // Politely, by the agent; without one they are ended with what else is left.
  const asked = askMesh(directories, 'DELETE', '/v1/workloads').catch(() => undefined);
  await whileWaiting(output, 'workloads end', asked);
  return running.length;
}

async function agreed(output: Output, names: string): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  output.remark(`These workloads run and would be ended: ${names}\n`);
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  // Ctrl-C refuses to answer, and Ctrl-D closes it without an answer.
  const asked = reader.question('End them? [y/N] ').catch(() => undefined);
  const answer = await Promise.race([asked, once(reader, 'close').then(() => undefined)]);
  if (answer === undefined) output.remark('\n');
  reader.close();
  return answer !== undefined && /^y(es)?$/i.test(answer.trim());
}

async function endSupervisor(pid: number, statusPath: string): Promise<void> {
  signalProcess(pid, 'SIGTERM');
  const end = performance.now() + STOP_TIMEOUT_MS;
  while (readUpStatus(statusPath) !== undefined) {
    if (performance.now() > end) throw new LocalError('local.timeout', `process ${pid} does not end`);
    await delay(PERIOD_MS);
  }
}

function endedText(count: number): string {
  return count === 0 ? '' : `, ${count} ${count === 1 ? 'workload' : 'workloads'} ended`;
}
