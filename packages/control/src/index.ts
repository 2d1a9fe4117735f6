// The public surface of @ambit/control. Light on purpose: whoever only wants the table of options (for --help) or an
// offline check loads neither the X.509 library nor gRPC.
import type { RunControlOptions } from './main.ts';

export { type ControlConfig, type Environment, type Flags, readConfig } from './config/config.ts';
export { flagOf, OPTIONS, type OptionName } from './config/options.ts';
export type { Diagnostic, Severity } from './diagnostic.ts';
export { ControlError } from './errors.ts';
export type { RunControlOptions } from './main.ts';
export { DEFAULT_SETTINGS, type MeshSettings } from './settings.ts';

/** Runs a control plane until it is told to stop; resolves with the exit status. */
export async function runControl(options: RunControlOptions): Promise<number> {
  const { runControl: run } = await import('./main.ts');
  return run(options);
}
