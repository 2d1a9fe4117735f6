// `ambit run`: any command as a workload of this machine's mesh. Its terminal, streams, signals and exit status are its own;
// with --detach it runs in the background, its output in a bounded file.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { basename, join } from 'node:path';
import {
  checkNames,
  etcOf,
  type LocalDirectories,
  LocalError,
  type Launched,
  launch,
  localDirectories,
  localPaths,
  openHostPorts,
  parsePublish,
  parseService,
  PortForwarder,
  readUpStatus,
  RotatingLog,
  runUser,
} from '@ambit/local';
import { errorText } from '@ambit/log';
import { processOutput } from '../render/output.ts';
import { whileWaiting } from '../render/waiting.ts';
import { rootlessStatus, runInside } from './rootless.ts';
import { ambitCommand, askMesh, directoriesOf, type MeshFlags, tell, uid } from './local-mesh.ts';

export interface RunFlags extends MeshFlags {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly name?: string;
  readonly version?: string;
  readonly publish?: readonly string[];
  readonly service?: readonly string[];
  readonly env?: readonly string[];
  readonly detach?: boolean;
  /** false: --no-mesh. */
  readonly mesh: boolean;
  /** Of the background process that `--detach` starts: where output goes. */
  readonly logTo?: string;
  /** Inside a mesh without root: the first of the descriptors that listen on the published ports. */
  readonly publishedFrom?: string;
}

const FORWARDED = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;
/** A terminal sends these to the command itself. */
const FROM_TERMINAL: ReadonlySet<string> = new Set(['SIGINT', 'SIGQUIT']);

/** What the background process says to whoever started it: once, then it is on its own. */
type Word = { readonly ok: true; readonly ip: string } | { readonly ok: false; readonly problem: object };

export async function run(command: readonly string[], flags: RunFlags): Promise<number> {
  const output = processOutput();
  try {
    const own = rootlessStatus(flags);
    if (own !== undefined) return await runInside(own, flags, openHostPorts((flags.publish ?? []).map(parsePublish)));
    const directories = directoriesOf(flags);
    const name = flags.name ?? defaultName(command[0] ?? '');
    // Files are named after them.
    checkNames({ name, namespace: flags.namespace, serviceAccount: flags.serviceAccount });
    if (flags.detach === true) return await detach(name, command, flags);
    const launched = await start(directories, name, command, flags);
    const forwarders = await serveHostPorts(launched, flags);
    if (flags.logTo !== undefined) say({ ok: true, ip: launched.workload.ip4 });
    const status = await untilEnded(launched);
    for (const forwarder of forwarders) forwarder.close();
    return status;
  } catch (error) {
    if (flags.logTo === undefined) return tell(output, error);
    const { code, message, where, next } = asLocal(error);
    say({ ok: false, problem: { code, message, where, next } });
    return 1;
  }
}

async function start(
  directories: LocalDirectories,
  name: string,
  command: readonly string[],
  flags: RunFlags,
): Promise<Launched> {
  const { namespace, serviceAccount, version, mesh, logTo } = flags;
  const log = logTo === undefined ? undefined : new RotatingLog(logTo);
  return launch({
    request: {
      name,
      namespace,
      serviceAccount,
      version,
      isMember: mesh,
      publish: (flags.publish ?? []).map(parsePublish),
      publisher: flags.publishedFrom === undefined ? 'agent' : 'runner',
      services: (flags.service ?? []).map(parseService),
      command,
      logPath: logTo,
    },
    user: runUser(process.env, uid, process.getgid?.() ?? 0),
    env: { ...process.env, ...Object.fromEntries((flags.env ?? []).map(readVariable)) },
    etc: etcOf(localPaths(directories), { namespace, name }),
    ask: async (method, path, body) =>
      whileWaiting(processOutput(), `${namespace}/${name} joins the mesh`, askMesh(directories, method, path, body)),
    output: log === undefined ? undefined : chunk => log.write(chunk),
  });
}

/** The ports that a mesh without root publishes are served here, and end with us. */
async function serveHostPorts({ workload }: Launched, flags: RunFlags): Promise<readonly PortForwarder[]> {
  return Promise.all(
    publishedFds(flags).map(async (fd, i) => PortForwarder.adopt(fd, workload.publish[i]?.port ?? 0, workload.ip4)),
  );
}

async function untilEnded({ ended, signal }: Launched): Promise<number> {
  const handlers = FORWARDED.map(name => {
    const pass = () => {
      if (!(FROM_TERMINAL.has(name) && process.stdin.isTTY)) signal(name);
    };
    process.on(name, pass);
    return { name, pass };
  });
  const status = await ended;
  for (const { name, pass } of handlers) process.off(name, pass);
  return status;
}

/** Starts us again in the background, and waits until the workload runs or cannot. */
async function detach(name: string, command: readonly string[], flags: RunFlags): Promise<number> {
  const output = processOutput();
  const mesh = localPaths(directoriesOf(flags));
  // In the machine's mesh, a user's logs are his own, wherever the machine's are.
  const isGuest = uid !== 0 && readUpStatus(mesh.upStatus)?.isRootless !== true;
  const { workloadLogs } = isGuest ? localPaths(localDirectories({ isRootless: true, env: process.env, uid })) : mesh;
  const logTo = join(workloadLogs, `${flags.namespace}.${name}.log`);
  const [program = '', ...ours] = ambitCommand();
  const child = spawn(program, [...ours, ...runArguments(name, logTo, flags), '--', ...command], {
    detached: true,
    // Nothing of the caller's stays open, but its ports: it may wait for the end of its own output.
    stdio: ['ignore', 'ignore', 'ignore', 'ipc', ...publishedFds(flags)],
  });
  const { promise, resolve } = Promise.withResolvers<Word | undefined>();
  child.once('message', word => resolve(word as Word));
  child.once('exit', () => resolve(undefined));
  const word = await whileWaiting(output, `${flags.namespace}/${name} joins the mesh`, promise);
  if (child.connected) child.disconnect();
  child.unref();
  if (word === undefined) throw new LocalError('local.part_failed', 'the background process ended without a word');
  if (!word.ok) {
    const { code, message, where, next } = word.problem as LocalError;
    return tell(output, new LocalError(code, message, { where, next }));
  }
  output.answer(`${flags.namespace}/${name}  ${word.ip}\n`);
  return 0;
}

function publishedFds({ publish, publishedFrom }: RunFlags): readonly number[] {
  return publishedFrom === undefined ? [] : (publish ?? []).map((_, i) => Number(publishedFrom) + i);
}

function runArguments(name: string, logTo: string, flags: RunFlags): string[] {
  const pairs = (flag: string, values: readonly string[] | undefined) => (values ?? []).flatMap(each => [flag, each]);
  return [
    'run',
    ...pairs('--name', [name]),
    ...pairs('--namespace', [flags.namespace]),
    ...pairs('--service-account', [flags.serviceAccount]),
    ...pairs('--log-to', [logTo]),
    ...(flags.version === undefined ? [] : ['--version-label', flags.version]),
    ...(flags.mesh ? [] : ['--no-mesh']),
    ...(flags.dir === undefined ? [] : ['--dir', flags.dir]),
    ...(flags.runDir === undefined ? [] : ['--run-dir', flags.runDir]),
    ...pairs('--publish', flags.publish),
    // After the channel to us.
    ...(flags.publishedFrom === undefined ? [] : ['--published-from', '4']),
    ...pairs('--service', flags.service),
    ...pairs('--env', flags.env),
  ];
}

function asLocal(error: unknown): LocalError {
  return error instanceof LocalError ? error : new LocalError('local.part_failed', errorText(error), { cause: error });
}

function say(word: Word): void {
  process.send?.(word, () => process.disconnect?.());
}

/** The program's name and four letters nobody else has. */
function defaultName(program: string): string {
  const base = basename(program)
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, '-')
    .replaceAll(/^-+|-+$/g, '')
    .slice(0, 50);
  return `${base === '' ? 'run' : base}-${randomBytes(2).toString('hex')}`;
}

function readVariable(text: string): readonly [string, string | undefined] {
  const at = text.indexOf('=');
  if (at === 0 || text === '') throw new LocalError('local.argument', `--env ${text} is not NAME=VALUE`);
  // Without a value: the caller's own, as with docker.
  return at < 0 ? [text, process.env[text]] : [text.slice(0, at), text.slice(at + 1)];
}
