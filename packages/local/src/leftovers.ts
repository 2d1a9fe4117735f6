// Clearing up after workloads whose first process has ended, by whoever is there to do it: the agent while it runs, `ambit
// down` when it does not.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '@ambit/log';
import type { LocalPaths } from './directories.ts';
import { hasLink, removeLink, strayLinks } from './net/workload-network.ts';
import { isAlive, processesIn, signalProcess } from './process-identity.ts';
import { Registry } from './registry.ts';
import type { Workload } from './workload.ts';

const KILL_TIMEOUT_MS = 5_000;
const POLL_MS = 50;

export function etcOf(paths: Pick<LocalPaths, 'etc'>, workload: Pick<Workload, 'namespace' | 'name'>): string {
  return join(paths.etc, `${workload.namespace}.${workload.name}`);
}

/** What is left of a workload: processes in its network, its link, its files. Its registry entry goes last. */
export async function clearWorkload(paths: LocalPaths, registry: Registry, workload: Workload): Promise<void> {
  // The link goes with the namespace: while it is there, the namespace's name means what it meant.
  if (hasLink(workload.hostInterface)) {
    const isEmpty = () => {
      const left = processesIn(workload.netnsName);
      for (const pid of left) signalProcess(pid, 'SIGKILL');
      return left.length === 0;
    };
    await until(isEmpty, KILL_TIMEOUT_MS);
  }
  removeLink(workload.hostInterface);
  rmSync(etcOf(paths, workload), { recursive: true, force: true });
  registry.forget(workload);
}

/** Workloads of the registry that run, whether or not there is an agent. */
export function runningWorkloads(paths: LocalPaths, log: Log): Workload[] {
  return new Registry(paths.workloads, log).load().filter(({ process }) => isAlive(process));
}

/** Ends and clears everything that the registry knows. Only when no agent runs. */
export async function removeLeftovers(paths: LocalPaths, log: Log): Promise<void> {
  const registry = new Registry(paths.workloads, log);
  await Promise.all(registry.load().map(async workload => clearWorkload(paths, registry, workload)));
  for (const name of strayLinks(new Set())) removeLink(name);
}

/** Looks until it is so, or the time is over. */
export async function until(isDone: () => boolean, timeoutMs: number): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!isDone() && performance.now() < end) await delay(POLL_MS);
}
