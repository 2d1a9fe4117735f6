// What `ambit control lint` and `ambit control render` share: the flags that say which mesh it is, and how it is told that
// they could not begin.
import { ControlError, type Flags, type MeshSettings, type OptionName, readConfig } from '@ambit/control';
import type { Output } from '../render/output.ts';
import { problemText } from '../render/problem.ts';

/** Options of `ambit control` that decide what objects mean. */
const SETTINGS = [
  'trustDomain',
  'domain',
  'clusterId',
  'network',
  'rootNamespace',
  'revision',
  'dryRunPolicies',
  'autoAllowWaypoints',
] as const satisfies readonly OptionName[];

/** As commander gives them; those of `ambit control` are texts under their option's name. */
export type OfflineFlags = { readonly [N in (typeof SETTINGS)[number]]?: string } & {
  readonly output?: string;
  readonly config?: string;
};

/** Options that are not about the mesh are left alone. @throws ControlError usage.*, config.* */
export function meshSettings(paths: readonly string[], flags: OfflineFlags, outputs: readonly string[]): MeshSettings {
  if (flags.output !== undefined && !outputs.includes(flags.output)) {
    throw new ControlError('usage.output', `there is no output format "${flags.output}"`, {
      next: `use ${outputs.join(' or ')}`,
    });
  }
  if (paths.length === 0) {
    throw new ControlError('usage.no_paths', 'there is nothing to read', {
      next: 'name directories or files of Kubernetes YAML, or - for standard input',
    });
  }
  const chosen: Flags = Object.fromEntries(SETTINGS.map(name => [name, flags[name]]));
  return readConfig(chosen, process.env, flags.config).settings;
}

/** Codes of what could not be read, as opposed to what was asked wrongly. */
const UNREADABLE: readonly string[] = ['config.no_such_path', 'config.unreadable_path'];

/** @returns the exit status: 2 wrong usage, 3 unreadable path */
export function tellProblem(error: ControlError, output: Output): number {
  output.remark(problemText(error));
  return UNREADABLE.includes(error.code) ? 3 : 2;
}
