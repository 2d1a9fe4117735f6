// Where the mesh of this machine keeps its things. What must outlive a reboot is under `state`, everything else under `run`,
// which a reboot empties. Pure: makes nothing.
import { join } from 'node:path';

export interface LocalDirectories {
  readonly state: string;
  readonly run: string;
}

export interface DirectoryInputs {
  /** `--dir`: both below one directory of the user's choice. */
  readonly dir?: string | undefined;
  /** Then `dir` is the state, and this the rest. */
  readonly runDir?: string | undefined;
  readonly isRootless: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
}

export function localDirectories(inputs: DirectoryInputs): LocalDirectories {
  const { dir, runDir, isRootless, env, uid } = inputs;
  if (dir !== undefined && runDir !== undefined) return { state: dir, run: runDir };
  if (dir !== undefined) return { state: join(dir, 'state'), run: join(dir, 'run') };
  if (!isRootless) return { state: '/var/lib/ambit', run: '/run/ambit' };
  const home = env['HOME'] || '/';
  return {
    state: join(env['XDG_STATE_HOME'] || join(home, '.local/state'), 'ambit'),
    run: join(env['XDG_RUNTIME_DIR'] || sharedRuntime(uid), 'ambit'),
  };
}

/** Where a user without a runtime directory has his: others can make it before him, see `claimDirectory`. */
export function sharedRuntime(uid: number): string {
  return `/tmp/ambit-${uid}`;
}

/** Names below the two directories, in one place: several processes meet at them. */
export function localPaths({ state, run }: LocalDirectories) {
  return {
    /** Keys and audit log of the control plane. */
    controlState: join(state, 'control'),
    /** The user's own objects: policies, ServiceEntries. */
    userObjects: join(state, 'objects'),
    logs: join(state, 'log'),
    workloadLogs: join(state, 'log', 'workloads'),
    /** What the agent writes of workloads and containers, for the control plane. */
    runObjects: join(run, 'objects'),
    /** One file a workload: the registry. */
    workloads: join(run, 'workloads'),
    /** `resolv.conf` and `hosts`, a directory a workload. */
    etc: join(run, 'etc'),
    /** What was changed on the host's network. */
    network: join(run, 'network.json'),
    localSocket: join(run, 'local.sock'),
    agentSocket: join(run, 'agent', 'agent.sock'),
    agentRun: join(run, 'agent'),
    ztunnelSocket: join(run, 'ztunnel.sock'),
    token: join(run, 'token'),
    upStatus: join(run, 'up.json'),
    /** What the way out of a mesh without root said last, and the resolvers that it leads to. */
    wayOutLog: join(state, 'log', 'way-out.log'),
    resolvers: join(run, 'resolv.conf'),
  } as const;
}

export type LocalPaths = ReturnType<typeof localPaths>;
