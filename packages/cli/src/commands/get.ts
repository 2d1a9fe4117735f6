// `ambit get workloads|services|policies|certificates`: what the control plane, or one ztunnel, knows. Wiring only.
import { AdminError, type AdminFlags, loadCertificates, loadMesh } from '../mesh-from-admin.ts';
import { type Output, processOutput } from '../render/output.ts';
import { problemText } from '../render/problem.ts';
import {
  certificateTable,
  type ListOptions,
  listCertificates,
  listPolicies,
  listServices,
  listWorkloads,
  policyTable,
  serviceTable,
  toJsonText,
  workloadTable,
} from '../render/inventory.ts';

/** As commander gives them. */
export interface GetFlags extends AdminFlags {
  readonly namespace?: string;
  readonly output: string;
}

const LISTS = {
  workloads: { list: listWorkloads, table: workloadTable },
  services: { list: listServices, table: serviceTable },
  policies: { list: listPolicies, table: policyTable },
} as const;
const OUTPUTS: readonly string[] = ['table', 'wide', 'json'];

/** @returns the exit status: 0, 2 wrong usage, 3 cannot reach */
export async function get(what: string, flags: GetFlags, output: Output = processOutput()): Promise<number> {
  if (!OUTPUTS.includes(flags.output)) {
    return usage(output, `there is no output format "${flags.output}"`, `use ${OUTPUTS.join(', ')}`);
  }
  const options: ListOptions = { namespace: flags.namespace, isWide: flags.output === 'wide' };
  const isJson = flags.output === 'json';
  try {
    if (what === 'certificates') {
      const all = await loadCertificates(flags, new Date());
      output.answer(isJson ? json(listCertificates(all, options)) : certificateTable(all, options));
      return 0;
    }
    if (!isList(what))
      return usage(output, `there is no list of "${what}"`, 'use workloads, services, policies or certificates');
    const { mesh, problems } = await loadMesh(flags);
    for (const problem of problems) output.remark(`warning: ${problem}\n`);
    const { list, table } = LISTS[what];
    output.answer(isJson ? json(list(mesh, options)) : table(mesh, options));
    return 0;
  } catch (error) {
    if (!(error instanceof AdminError)) throw error;
    output.remark(problemText(error));
    return 3;
  }
}

function json(value: unknown): string {
  return `${toJsonText(value)}\n`;
}

function isList(text: string): text is keyof typeof LISTS {
  return Object.hasOwn(LISTS, text);
}

function usage(output: Output, what: string, next: string): number {
  output.remark(problemText({ message: what, next }));
  return 2;
}
