// `ambit control lint`: what is wrong with objects, with file and line, before a control plane reads them. Wiring and words
// only; whoever registers the command passes in the control plane's own linter.
import { ControlError, type Diagnostic, type MeshSettings } from '@ambit/control';
import { cell } from '../render/columns.ts';
import { type Output, processOutput } from '../render/output.ts';
import type { Style } from '../render/style.ts';
import { meshSettings, type OfflineFlags, tellProblem } from './control-offline.ts';

export interface LintFlags extends OfflineFlags {
  /** Warnings count as errors. */
  readonly strict?: boolean;
  /** Show what is only worth knowing, too. */
  readonly all?: boolean;
}

export interface LintResult {
  readonly objects: number;
  readonly diagnostics: readonly Diagnostic[];
}

export type Lint = (paths: readonly string[], settings: MeshSettings) => Promise<LintResult>;

/** @returns the exit status: 0 clean, 1 errors (with `strict` also warnings), 2 wrong usage, 3 unreadable path */
export async function controlLint(
  paths: readonly string[],
  flags: LintFlags,
  lint: Lint,
  output: Output = processOutput(),
): Promise<number> {
  try {
    const settings = meshSettings(paths, flags, ['table', 'json']);
    const result = await lint(paths, settings);
    output.answer(
      flags.output === 'json'
        ? `${JSON.stringify(result, undefined, 2)}\n`
        : describeFindings(result, output.style, flags.all === true),
    );
    return lintStatus(result.diagnostics, flags.strict === true);
  } catch (error) {
    if (!(error instanceof ControlError)) throw error;
    return tellProblem(error, output);
  }
}

export function lintStatus(diagnostics: readonly Diagnostic[], isStrict: boolean): number {
  const fails = diagnostics.some(({ severity }) => severity === 'error' || (isStrict && severity === 'warning'));
  return fails ? 1 : 0;
}

/** Finding by finding, as compilers write them, so that editors can jump there; then a line of counts. */
export function describeFindings({ objects, diagnostics }: LintResult, style: Style, withInfo: boolean): string {
  const shown = diagnostics.filter(({ severity }) => withInfo || severity !== 'info');
  const text = shown.map(diagnostic => describe(diagnostic, style)).join('');
  const counts = (['error', 'warning', 'info'] as const).flatMap(severity => {
    const count = diagnostics.filter(each => each.severity === severity).length;
    if (count === 0) return [];
    const hint = severity === 'info' && !withInfo ? ' (shown by --all)' : '';
    return [severity === 'info' ? `${plural(count, 'note')}${hint}` : plural(count, severity)];
  });
  const outcome = counts.length === 0 ? 'nothing to complain about' : counts.join(', ');
  return `${text}${plural(objects, 'object')}: ${outcome}\n`;
}

function describe({ place, severity, code, message, remedy }: Diagnostic, style: Style): string {
  const at = place === undefined ? '–' : `${cell(place.file)}:${place.line}:${place.column}`;
  const paint = { error: style.bad, warning: style.warn, info: style.dim }[severity];
  return `${at}  ${paint(severity)}  ${code}  ${cell(message)}\n  next  ${cell(remedy)}\n`;
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
