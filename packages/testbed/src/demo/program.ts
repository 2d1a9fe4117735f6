// A program of the shop as the demo sees it: its end is a failure. What it prints is nobody's business.
import type { ChildProcess } from 'node:child_process';
import { TestbedError } from '../errors.ts';

/** Follows a child with pipes until it ends. */
export function watchProgram(child: ChildProcess, from: string, onEnd: (error: TestbedError) => void): void {
  let said = '';
  child.stderr?.on('data', (text: Buffer) => (said = (said + text.toString()).slice(-2000)));
  child.stdout?.resume();
  const end = (how: string): void =>
    onEnd(
      new TestbedError('testbed.command_failed', `the program of ${from} ended with ${how}`, {
        next: `it said: ${said.trim() || '–'}`,
      }),
    );
  child.once('error', error => end(error.message));
  child.once('exit', (code, signal) => end(signal ?? `status ${code}`));
}
