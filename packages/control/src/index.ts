// The public surface of @ambit/control. Light on purpose: whoever only wants the table of options (for --help) or an
// offline check loads neither the X.509 library nor gRPC.
import type { LintResult } from './lint/lint.ts';
import type { RenderResult } from './lint/render.ts';
import type { RunControlOptions } from './main.ts';
import type { MeshSettings } from './settings.ts';

export { type ControlConfig, type Environment, type Flags, readConfig } from './config/config.ts';
export { flagOf, OPTIONS, type OptionName } from './config/options.ts';
export type { Diagnostic, Severity } from './diagnostic.ts';
export { ControlError } from './errors.ts';
export type { LintResult } from './lint/lint.ts';
export type { Rendered, RenderedResource, RenderResult } from './lint/render.ts';
export type { RunControlOptions } from './main.ts';
export { DEFAULT_SETTINGS, type MeshSettings } from './settings.ts';

/** Runs a control plane until it is told to stop; resolves with the exit status. */
export async function runControl(options: RunControlOptions): Promise<number> {
  const { runControl: run } = await import('./main.ts');
  return run(options);
}

/** What is wrong with objects in files. @throws ControlError config.no_such_path, config.unreadable_path */
export async function lint(paths: readonly string[], settings: MeshSettings): Promise<LintResult> {
  const { lint: check } = await import('./lint/lint.ts');
  return check(paths, settings);
}

/** What a node proxy subscribed to everything would hold. @throws ControlError config.no_such_path, config.unreadable_path */
export async function render(paths: readonly string[], settings: MeshSettings): Promise<RenderResult> {
  const { render: translate } = await import('./lint/render.ts');
  return translate(paths, settings);
}
