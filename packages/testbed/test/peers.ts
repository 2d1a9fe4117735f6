// Runs peer.ts in namespaces for tests.
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type NamespaceProcesses } from '../src/processes.ts';
import type { Seen } from './peer.ts';

const PEER = join(import.meta.dirname, 'peer.ts');

export type Runner = Pick<NamespaceProcesses, 'exec' | 'run'>;

/** Serves a port in the namespace until its processes end. */
export async function serve(runner: Runner, port: number): Promise<void> {
  const child = runner.exec(process.execPath, [PEER, 'serve', String(port)], { stdio: ['ignore', 'pipe', 'inherit'] });
  if (child.stdout === null) throw new Error('no output');
  await once(createInterface({ input: child.stdout }), 'line');
}

/** Calls from the namespace. @returns what the server saw, or the errno's name */
export async function call(runner: Runner, ip: string, port: number, ...options: string[]): Promise<Seen | string> {
  const result = await runner.run(process.execPath, [PEER, 'call', ip, String(port), ...options], {
    timeoutMs: 15_000,
  });
  const line = result.stdout.trim();
  return line.startsWith('{') ? (JSON.parse(line) as Seen) : line;
}

/** As `call`, for connections that must come about. */
export async function mustCall(...args: Parameters<typeof call>): Promise<Seen> {
  const seen = await call(...args);
  if (typeof seen === 'string') throw new Error(`call to ${args[1]} port ${args[2]} failed: ${seen}`);
  return seen;
}
