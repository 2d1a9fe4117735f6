// Running a tool to its end: bounded in time and in output, with an error that says what the tool said.
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { TestbedError } from './errors.ts';

export interface CommandResult {
  /** Exit status; -1 when a signal ended it. */
  readonly code: number;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  /** Default 10 000. At the end the process is killed and the call throws testbed.timeout. */
  readonly timeoutMs?: number;
  /** Written to standard input, which is closed then. */
  readonly input?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
}

/** Kept of each output stream; what comes after is read and dropped, so that the tool never blocks. */
const MAX_OUTPUT_BYTES = 4 << 20;
const DEFAULT_TIMEOUT_MS = 10_000;

/** Runs a tool and returns how it ended, whatever its status. @throws testbed.command_failed (cannot start), testbed.timeout */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const child = spawn(command, args, { env: options.env, cwd: options.cwd, stdio: 'pipe' });
  return collect(child, [command, ...args].join(' '), options);
}

/** As `runCommand`, but a status other than 0 throws testbed.command_failed. @returns standard output */
export async function mustRun(command: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const result = await runCommand(command, args, options);
  if (result.code === 0) return result.stdout;
  const said = result.stderr.trim() || result.stdout.trim() || `exit status ${result.code}`;
  throw new TestbedError('testbed.command_failed', `${command} failed: ${said}`, {
    where: [command, ...args].join(' '),
  });
}

/** Waits for a child that was just spawned with pipes. `where` names it in errors. */
export async function collect(
  child: ChildProcess,
  where: string,
  options: CommandOptions = {},
): Promise<CommandResult> {
  const { promise, resolve, reject } = Promise.withResolvers<CommandResult>();
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
    // A grandchild may hold the pipes: the answer must not wait for it.
    child.stdout?.destroy();
    child.stderr?.destroy();
  }, timeoutMs);
  const stdout = keep(child.stdout);
  const stderr = keep(child.stderr);
  child.once('error', cause => {
    reject(new TestbedError('testbed.command_failed', `cannot run ${where}: ${cause.message}`, { where, cause }));
  });
  child.once('close', (code, signal) => {
    if (timedOut) reject(new TestbedError('testbed.timeout', `not done after ${timeoutMs} ms: ${where}`, { where }));
    else resolve({ code: code ?? -1, signal, stdout: stdout(), stderr: stderr() });
  });
  // A tool that ends without reading its input is judged by its status.
  child.stdin?.on('error', () => {});
  child.stdin?.end(options.input ?? '');
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

function keep(stream: Readable | null): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream?.on('data', (chunk: Buffer) => {
    if (size < MAX_OUTPUT_BYTES) chunks.push(chunk);
    size += chunk.length;
  });
  return () => Buffer.concat(chunks).toString('utf8');
}
