// Text of the local configuration file -> mesh. A mistake is one `config.invalid` with file, line, column, the place in
// the data, what was expected and the nearest valid word; further mistakes are counted. Pure; nothing is half-applied.
import { nearestName, type Policy, type Service, type Workload } from '@ambit/mesh';
import type { z } from 'zod';
import { ZtunnelError } from '../errors.ts';
import { knownKeysAt, localConfigSchema } from './schema.ts';
import { MAX_FILE_BYTES, type ParsedYaml, parseYaml, type Position } from './yaml-document.ts';

/** The whole mesh as a file tells it. */
export interface LocalMesh {
  readonly workloads: readonly Workload[];
  readonly policies: readonly Policy[];
  readonly services: readonly Service[];
}

/** @param source file name (or `LOCAL_XDS`) for messages. @throws config.invalid */
export function readLocalConfig(text: string, source: string): LocalMesh {
  if (text.length > MAX_FILE_BYTES)
    throw new ZtunnelError('config.invalid', `${source}: larger than ${MAX_FILE_BYTES} bytes`);
  const yaml = parseYaml(text);
  if (yaml.kind === 'error') throw invalid(source, yaml.at, yaml.message);
  // A file caught empty in the middle of being written must not read as "there is no mesh".
  if (yaml.value === null || yaml.value === undefined) {
    throw invalid(source, { line: 1, column: 1 }, 'the file is empty; write {} for a mesh without workloads');
  }
  const result = localConfigSchema.safeParse(yaml.value, { reportInput: true });
  if (!result.success) throw describeIssues(result.error.issues, yaml, source);
  checkUnique(result.data.workloads, yaml, source);
  return result.data;
}

type YamlValue = Extract<ParsedYaml, { kind: 'value' }>;
type Issue = z.core.$ZodIssue;

function describeIssues(issues: readonly Issue[], yaml: YamlValue, source: string): ZtunnelError {
  const [first] = issues;
  if (first === undefined) return invalid(source, { line: 1, column: 1 }, 'not a mesh');
  const unknownKey = first.code === 'unrecognized_keys' ? first.keys[0] : undefined;
  const path = unknownKey === undefined ? first.path : [...first.path, unknownKey];
  const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : '';
  return invalid(source, yaml.locate(path), `${pathText(path)}${issueText(first)}${more}`);
}

function issueText(issue: Issue): string {
  switch (issue.code) {
    case 'unrecognized_keys':
      return `unknown key${suggestion(issue.keys[0] ?? '', knownKeysAt(issue.path))}`;
    case 'invalid_value': {
      const choices = issue.values.map(String);
      const given = typeof issue.input === 'string' ? issue.input : '';
      return `expected ${choices.join(' or ')}${suggestion(given, choices)}`;
    }
    case 'invalid_union':
      return 'expected a string match: !Exact, !Prefix, !Suffix or !Presence []';
    case 'invalid_type':
      return issue.message.includes('received undefined') ? 'missing' : lowerFirst(issue.message);
    default:
      return lowerFirst(issue.message);
  }
}

function suggestion(given: string, choices: readonly string[]): string {
  const nearest = nearestName(given, choices);
  return nearest === undefined || nearest === given ? '' : `; did you mean ${nearest}?`;
}

/** Two workloads with one uid would silently become one; in a file written by hand that is a mistake. */
function checkUnique(workloads: readonly Workload[], yaml: YamlValue, source: string): void {
  const seen = new Map<string, number>();
  for (const [index, { uid }] of workloads.entries()) {
    const earlier = seen.get(uid);
    if (earlier !== undefined) {
      const message = `workloads[${index}].uid: ${JSON.stringify(uid)} is already the uid of workloads[${earlier}]`;
      throw invalid(source, yaml.locate(['workloads', index, 'uid']), message);
    }
    seen.set(uid, index);
  }
}

function invalid(source: string, at: Position, message: string): ZtunnelError {
  return new ZtunnelError('config.invalid', `${source}:${at.line}:${at.column}: ${message}`);
}

function pathText(path: readonly PropertyKey[]): string {
  let text = '';
  for (const step of path) text += typeof step === 'number' ? `[${step}]` : `${text === '' ? '' : '.'}${String(step)}`;
  return text === '' ? '' : `${text}: `;
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
