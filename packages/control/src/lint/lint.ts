// `ambit control lint`: everything there is to say about objects before a control plane reads them. Three voices: the reader
// (syntax, fields), the translation (what it could not carry over), and checks for what is legal and probably wrong.
import type { Diagnostic } from '../diagnostic.ts';
import { MeshModel } from '../model/mesh-model.ts';
import { type KubeObject, refOf } from '../objects/types.ts';
import type { MeshSettings } from '../settings.ts';
import { checkMembership } from './check-membership.ts';
import { checkPolicies } from './check-policies.ts';
import { checkReferences } from './check-references.ts';
import { checkServices } from './check-services.ts';
import type { Check } from './check.ts';
import { readInput } from './input.ts';
import { Known } from './known.ts';

const CHECKS: readonly Check[] = [checkReferences, checkServices, checkMembership, checkPolicies];

export interface LintResult {
  /** With places; by file, line and column. */
  readonly diagnostics: readonly Diagnostic[];
  /** How many objects were looked at. */
  readonly objects: number;
}

/**
 * @param paths directories, files, or `-` for standard input
 * @throws ControlError config.no_such_path, config.unreadable_path
 */
export async function lint(
  paths: readonly string[],
  settings: MeshSettings,
  stdin: AsyncIterable<Uint8Array> = process.stdin,
): Promise<LintResult> {
  const input = await readInput(paths, stdin);
  const objects = input.objects.map(({ object }) => object);
  const found = findingsOn(objects, settings).map(each => ({
    ...each,
    place: each.place ?? (each.ref === undefined ? undefined : input.placeOf(each.ref, each.path)),
  }));
  return { diagnostics: [...input.diagnostics, ...found].sort(byPlace), objects: objects.length };
}

/** What translation and checks say about objects that can be read; without places. */
export function findingsOn(objects: readonly KubeObject[], settings: MeshSettings): readonly Diagnostic[] {
  const model = new MeshModel(settings);
  model.apply(objects.map(object => ({ ref: refOf(object), object })));
  const known = new Known(objects, settings);
  return [...model.diagnostics(), ...CHECKS.flatMap(check => [...check(known)])];
}

function byPlace(a: Diagnostic, b: Diagnostic): number {
  const [left, right] = [a.place, b.place];
  if (left === undefined || right === undefined) return Number(left === undefined) - Number(right === undefined);
  if (left.file !== right.file) return left.file < right.file ? -1 : 1;
  return (
    left.line - right.line || left.column - right.column || compare(a.code, b.code) || compare(a.message, b.message)
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
