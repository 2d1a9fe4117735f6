// A program of the shop as the demo sees it: the reports on its standard output, and its end, which is a failure.
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { TestbedError } from '../errors.ts';
import type { CallReport } from './statistics.ts';

/** From and to as `namespace/name`. */
export type OnReport = (from: string, to: string, report: CallReport) => void;

/** Follows a child with pipes until it ends. */
export function watchProgram(
  child: ChildProcess,
  from: string,
  onReport: OnReport,
  onEnd: (error: TestbedError) => void,
): void {
  let said = '';
  child.stderr?.on('data', (text: Buffer) => (said = (said + text.toString()).slice(-2000)));
  if (child.stdout !== null) {
    createInterface({ input: child.stdout }).on('line', line => {
      const report = readReport(line);
      if (report !== undefined) onReport(from, report.to, report);
    });
  }
  const end = (how: string): void =>
    onEnd(
      new TestbedError('testbed.command_failed', `the program of ${from} ended with ${how}`, {
        next: `it said: ${said.trim() || '–'}`,
      }),
    );
  child.once('error', error => end(error.message));
  child.once('exit', (code, signal) => end(signal ?? `status ${code}`));
}

/** A line of a program of ours; others print other things. */
function readReport(line: string): (CallReport & { readonly to: string }) | undefined {
  if (!line.startsWith('{"to":')) return undefined;
  return JSON.parse(line) as CallReport & { readonly to: string };
}
