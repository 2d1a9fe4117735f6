// `ambit up`: the mesh of this machine in the background, or as one unit of systemd. Repeating it shows how it stands.
import { type ChildProcess, spawn, type StdioOptions } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  claimDirectory,
  findWayOut,
  isUp,
  keepWayOut,
  type LocalDirectories,
  LocalError,
  localDirectories,
  localPaths,
  PART_NAMES,
  type PartName,
  readUpStatus,
  removeHostNetwork,
  removeLeftovers,
  runningWorkloads,
  sharedRuntime,
  signalProcess,
  Supervisor,
  type UpStatus,
  type WayOutStatus,
  type WayOutTool,
} from '@ambit/local';
import { createLog, SILENT_LOG } from '@ambit/log';
import { type Output, processOutput } from '../render/output.ts';
import { ambitCommand, type MeshFlags, tell, uid } from './local-mesh.ts';
import { NEW_NAMESPACES, placesFlags } from './rootless.ts';
import { installUnit, startUnit } from './up-systemd.ts';

export interface UpFlags extends MeshFlags {
  readonly systemd?: boolean;
  readonly foreground?: boolean;
  readonly rootless?: boolean;
  /** Who may start workloads; default: who called, through sudo too. */
  readonly owner?: string;
  /** Of the supervisor in the background: what keeps its way out. */
  readonly wayOut?: WayOutTool;
}

const TIMEOUT_MS = 60_000;
const PERIOD_MS = 100;
/** A part that ended this often while coming up has a reason that waiting does not mend. */
const MAX_RESTARTS = 3;
const TITLES: Readonly<Record<PartName, string>> = { control: 'control plane', agent: 'agent', ztunnel: 'ztunnel' };

export async function up(flags: UpFlags): Promise<number> {
  const output = processOutput();
  try {
    const isRootless = flags.rootless === true;
    checkUser(isRootless, flags);
    const { dir, runDir } = flags;
    const directories = localDirectories({ dir, runDir, isRootless, env: process.env, uid });
    if (flags.foreground === true) return await foreground(directories, flags);
    const running = readUpStatus(localPaths(directories).upStatus);
    if (running !== undefined) return await follow(output, directories);
    const ambit = ambitCommand();
    if (isRootless) {
      if (dirname(directories.run) === sharedRuntime(uid)) claimDirectory(sharedRuntime(uid), uid);
      startRootless(directories, ambit);
      return await follow(output, directories);
    }
    const args = ['up', '--foreground', '--owner', String(ownerOf(flags)), ...dirFlag(flags)];
    if (flags.systemd === true) installUnit([...ambit, ...args]);
    else if (!startUnit(dir)) startInBackground(directories, [...ambit, ...args]);
    return await follow(output, directories);
  } catch (error) {
    return tell(output, error);
  }
}

/** @throws local.rights, local.argument */
function checkUser(isRootless: boolean, { systemd, foreground: isForeground }: UpFlags): void {
  if (!isRootless && uid !== 0) {
    throw new LocalError('local.rights', 'ambit up changes networks, which takes root', {
      next: 'sudo ambit up, or ambit up --rootless for a mesh of your own',
    });
  }
  if (isRootless && systemd === true)
    throw new LocalError('local.argument', '--rootless and --systemd exclude each other');
  if (isRootless && uid === 0 && isForeground !== true) {
    throw new LocalError('local.argument', '--rootless is for ordinary users', { next: 'ambit up without it' });
  }
}

function dirFlag({ dir }: MeshFlags): readonly string[] {
  return dir === undefined ? [] : ['--dir', dir];
}

function ownerOf({ owner }: UpFlags): number {
  const text = owner ?? process.env['SUDO_UID'] ?? String(uid);
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw new LocalError('local.argument', `--owner ${text} is no user id`);
}

async function foreground(directories: LocalDirectories, flags: UpFlags): Promise<number> {
  const write = (line: string) => void process.stdout.write(line);
  const log = createLog({ write, format: 'plain', level: 'info' }, 'up');
  const supervisor = new Supervisor({
    directories,
    ambit: ambitCommand(),
    isRootless: flags.rootless === true,
    wayOut: flags.wayOut,
    ownerUid: ownerOf(flags),
    env: process.env,
    log,
  });
  const { promise: stopped, resolve: stop } = Promise.withResolvers<void>();
  process.once('SIGTERM', () => stop());
  process.once('SIGINT', () => stop());
  // A terminal that goes away does not take the mesh with it.
  process.on('SIGHUP', () => undefined);
  const started = supervisor.start();
  await Promise.race([stopped, started]);
  await stopped;
  await supervisor.stop();
  if (flags.rootless !== true) await leaveNothing(directories);
  return 0;
}

function startRootless(directories: LocalDirectories, ambit: readonly string[]): void {
  const tool = findWayOut(process.env);
  const keeps = tool === undefined ? [] : ['--way-out', tool];
  // Inside, whoever called is user 0.
  const args = ['up', '--foreground', '--rootless', '--owner', '0', ...keeps, ...placesFlags(directories)];
  const supervisor = startInBackground(directories, [...NEW_NAMESPACES, ...ambit, ...args], tool !== undefined);
  if (tool !== undefined) keepWayOut(tool, supervisor, localPaths(directories).wayOutLog);
}

/** A mesh that is stopped while nothing runs in it leaves the machine as `ambit down` does; otherwise it stays as it is. */
async function leaveNothing(directories: LocalDirectories): Promise<void> {
  const paths = localPaths(directories);
  if (runningWorkloads(paths, SILENT_LOG).length > 0) return;
  await removeLeftovers(paths, SILENT_LOG);
  removeHostNetwork(paths.network);
  rmSync(directories.run, { recursive: true, force: true });
}

/** @param hasLeash whether its descriptor 3 is a pipe to us */
function startInBackground(directories: LocalDirectories, command: readonly string[], hasLeash = false): ChildProcess {
  const [program = '', ...args] = command;
  const { logs } = localPaths(directories);
  mkdirSync(logs, { recursive: true, mode: 0o700 });
  const log = openSync(join(logs, 'up.log'), 'w', 0o600);
  const stdio: StdioOptions = ['ignore', log, log, ...(hasLeash ? (['pipe'] as const) : [])];
  const child = spawn(program, args, { cwd: '/', detached: true, stdio });
  child.unref();
  closeSync(log);
  return child;
}

/** Shows how the parts get ready, and what keeps them from it. */
async function follow(output: Output, directories: LocalDirectories): Promise<number> {
  const paths = localPaths(directories);
  const startedAt = performance.now();
  const seconds = () => `${((performance.now() - startedAt) / 1000).toFixed(1)} s`;
  const told = new Set<PartName>();
  output.answer(`Ambit on this machine\n`);
  let status: UpStatus | undefined;
  const progress = new Progress(output);
  while (performance.now() - startedAt < TIMEOUT_MS) {
    status = readUpStatus(paths.upStatus) ?? status;
    for (const name of PART_NAMES) {
      const state = status?.parts[name];
      if (state?.kind !== 'ready' || told.has(name)) continue;
      told.add(name);
      progress.clear();
      output.answer(`  ${output.style.good('ready')}  ${TITLES[name].padEnd(32)}${seconds().padStart(8)}\n`);
    }
    if (status !== undefined && isUp(status)) {
      if (status.isRootless) tellWayOut(output, status.wayOut, paths.wayOutLog);
      output.answer(`\nlogs in ${paths.logs}; your policies go into ${paths.userObjects}\n`);
      output.answer('next: ambit run --name web -- COMMAND\n');
      return 0;
    }
    const stuck = PART_NAMES.find(name => (status?.restarts[name] ?? 0) >= MAX_RESTARTS);
    if (stuck !== undefined) break;
    progress.show(`  wait   ${waitingFor(status)}`, seconds());
    await delay(PERIOD_MS);
  }
  progress.clear();
  if (status !== undefined) signalProcess(status.supervisor.pid, 'SIGTERM');
  throw new LocalError('local.part_failed', `the mesh of this machine did not come up: ${waitingFor(status)}`, {
    where: `logs in ${paths.logs}`,
    next: 'mend that and run ambit up again; ambit down clears up',
  });
}

/** A mesh without root has one by the help of others. */
function tellWayOut(output: Output, wayOut: WayOutStatus | undefined, log: string): void {
  if (wayOut?.isThere === true) {
    output.answer(`  ${output.style.good('ready')}  way out by ${wayOut.tool}\n`);
  } else if (wayOut === undefined) {
    output.remark(
      'This mesh has no way out to other networks: install passt (apt install passt), then ambit down and up.\n',
    );
  } else {
    const said = existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n').at(-1) : '';
    output.remark(
      `This mesh has no way out to other networks yet: ${wayOut.tool} said: ${said || 'nothing'} (${log})\n`,
    );
  }
}

function waitingFor(status: UpStatus | undefined): string {
  if (status === undefined) return 'its supervisor';
  const name = PART_NAMES.find(each => status.parts[each].kind !== 'ready') ?? 'control';
  const state = status.parts[name];
  const failure = status.failures[name];
  if (failure !== undefined) return failure;
  return 'why' in state ? `${TITLES[name]}: ${state.why}` : TITLES[name];
}

/** One line that is replaced, on terminals only. */
class Progress {
  readonly #output: Output;

  constructor(output: Output) {
    this.#output = output;
  }

  show(text: string, time: string): void {
    if (process.stdout.isTTY) this.#output.answer(`\r\u001B[K${text.slice(0, 66)}  ${this.#output.style.dim(time)}`);
  }

  clear(): void {
    if (process.stdout.isTTY) this.#output.answer('\r\u001B[K');
  }
}
