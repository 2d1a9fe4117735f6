// Running a tool of the system inside a network namespace to its end, bounded in time and output. The child is made while
// the thread visits the namespace and so begins its life there: it needs no nsenter and no path to the namespace.
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import type { NetNs } from '@ambit/native';
import { CniError } from '../errors.ts';
import { visit } from './visit.ts';

export interface ToolResult {
  /** Exit status; -1 when a signal ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ToolOptions {
  readonly input?: string;
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** More than iptables itself waits for its lock. */
const TIMEOUT_MS = 40_000;
const MAX_OUTPUT_BYTES = 8 << 20;

/**
 * How the tool ended, or undefined when it is not installed.
 * @throws CniError enrol.netns_gone, enrol.rules (not done in 40 s, more than 8 MiB of output)
 */
export async function runTool(
  netns: NetNs,
  command: string,
  args: readonly string[],
  options: ToolOptions = {},
): Promise<ToolResult | undefined> {
  const env = {
    ...process.env,
    LC_ALL: 'C',
    PATH: `${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`,
    ...options.env,
  };
  const child = visit(netns, () => spawn(command, args, { env, stdio: 'pipe' }));
  const { promise, resolve, reject } = Promise.withResolvers<ToolResult | undefined>();
  const giveUp = (what: string) => {
    child.kill('SIGKILL');
    reject(new CniError('enrol.rules', `${command} ${what}`, { where: [command, ...args].join(' ') }));
  };
  const timer = setTimeout(giveUp, TIMEOUT_MS, `was not done after ${TIMEOUT_MS / 1000} s`);
  const stdout = keep(child.stdout, giveUp);
  const stderr = keep(child.stderr, giveUp);
  child.once('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') resolve(undefined);
    else reject(new CniError('enrol.rules', `${command} cannot be run: ${error.message}`, { cause: error }));
  });
  child.once('close', code => resolve({ code: code ?? -1, stdout: stdout(), stderr: stderr() }));
  feed(child, options.input ?? '');
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

function feed(child: ChildProcess, input: string): void {
  // A tool that ends without reading is judged by its status.
  child.stdin?.on('error', () => {});
  child.stdin?.end(input);
}

function keep(stream: Readable | null, giveUp: (what: string) => void): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream?.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    size += chunk.length;
    if (size > MAX_OUTPUT_BYTES) giveUp(`wrote more than ${MAX_OUTPUT_BYTES} bytes`);
  });
  return () => Buffer.concat(chunks).toString('utf8');
}
