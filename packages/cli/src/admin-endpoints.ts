// The admin ports of one or several ztunnels, asked together. One that cannot be reached is a warning as long as another answers;
// when none does, the error says how to get there.
import type { EdgeReport, Finding } from '@ambit/insight';
import { AdminError, getJson } from './mesh-from-admin.ts';
import type { Output } from './render/output.ts';

/** Where a node proxy has its admin port, that of `ambit up` too. */
export const DEFAULT_ZTUNNEL = 'http://127.0.0.1:15000';

export interface ZtunnelFlags {
  /** Admin addresses; default the one of this machine. */
  readonly ztunnel?: readonly string[] | undefined;
}

export interface Answered<T> {
  readonly base: string;
  readonly value: T;
}

/** What `/findings` answers. */
export interface FindingReport {
  readonly node: string | undefined;
  readonly findings: readonly Finding[];
}

export function ztunnelsOf({ ztunnel }: ZtunnelFlags): readonly string[] {
  return ztunnel === undefined || ztunnel.length === 0 ? [DEFAULT_ZTUNNEL] : [...new Set(ztunnel)];
}

/** @throws AdminError when nobody answers */
export async function askEdges(bases: readonly string[], output: Output): Promise<readonly Answered<EdgeReport>[]> {
  return askAll(bases, '/edges', isEdgeReport, output);
}

/** @throws AdminError when nobody answers */
export async function askFindings(
  bases: readonly string[],
  output: Output,
): Promise<readonly Answered<FindingReport>[]> {
  return askAll(bases, '/findings', isFindingReport, output);
}

async function askAll<T>(
  bases: readonly string[],
  path: string,
  isAnswer: (value: unknown) => value is T,
  output: Output,
): Promise<readonly Answered<T>[]> {
  const failures: AdminError[] = [];
  const asked = bases.map(async (base): Promise<readonly Answered<T>[]> => {
    try {
      const value = await getJson(base, path);
      if (isAnswer(value)) return [{ base, value }];
      failures.push(new AdminError('cli.bad_answer', `${base}${path} is not what was expected`, OTHER_PROGRAM));
    } catch (error) {
      if (!(error instanceof AdminError)) throw error;
      failures.push(error);
    }
    return [];
  });
  const answers = (await Promise.all(asked)).flat();
  const [failure] = failures;
  if (answers.length === 0)
    throw new AdminError(failure?.code ?? 'cli.unreachable', failure?.message ?? '', HOW_TO_GET_THERE);
  for (const { message } of failures) output.remark(`warning: ${message}\n`);
  return answers;
}

const OTHER_PROGRAM = 'check which program listens there: --ztunnel wants the admin port (15000) of an Ambit ztunnel';
const HOW_TO_GET_THERE =
  'is ztunnel running? in a cluster: kubectl -n istio-system port-forward POD-OF-ZTUNNEL 15000, ' +
  'elsewhere name it with --ztunnel URL';

function isEdgeReport(value: unknown): value is EdgeReport {
  return isObject(value) && value['version'] === 1 && Array.isArray(value['edges']);
}

function isFindingReport(value: unknown): value is FindingReport {
  return isObject(value) && Array.isArray(value['findings']);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
