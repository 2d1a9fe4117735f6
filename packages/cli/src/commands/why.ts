// `ambit why SOURCE DESTINATION[:PORT]`: what the configuration says of a connection, what the last real ones did, and what to do.
import { mergeReports } from '@ambit/insight';
import { explainConnection, type MeshView } from '@ambit/mesh';
import { askEdges, type ZtunnelFlags, ztunnelsOf } from '../admin-endpoints.ts';
import { fullName } from '../full-name.ts';
import { AdminError, loadMesh } from '../mesh-from-admin.ts';
import { cell } from '../render/columns.ts';
import { renderWhy } from '../render/why.ts';
import { processScreen, type Screen } from '../screen.ts';
import { whyAnswer } from '../why-answer.ts';
import { oneOf, UsageError, withProblems } from './with-ztunnels.ts';

export interface WhyFlags extends ZtunnelFlags {
  readonly output: string;
  /** Where addresses are looked up; default the ztunnel's own. */
  readonly network?: string;
}

/** @returns the exit status: 0 allowed, 1 denied or failing, 2 the question is unclear, 3 no ztunnel answers */
export async function why(
  source: string,
  destination: string,
  flags: WhyFlags,
  screen: Screen = processScreen(),
): Promise<number> {
  const { output } = screen;
  return withProblems(output, async () => {
    const format = oneOf(['table', 'json'], flags.output, '--output');
    const answers = await askEdges(ztunnelsOf(flags), output);
    const first = answers[0];
    if (first === undefined) return 3;
    const planOf = async (base: string) => {
      const loaded = await loadMesh({ ztunnel: base });
      const network = flags.network ?? loaded.network;
      const from = oneName(loaded.mesh, source, 'source');
      const to = oneName(loaded.mesh, destination, 'destination');
      const plan = explainConnection(loaded.mesh, { source: from, destination: to, network });
      return { ...loaded, network, plan };
    };
    let told = await planOf(first.base);
    // The source's own ztunnel decides, and may know more or less than another.
    const node = told.plan.source?.node;
    const own = answers.find(({ value }) => value.node !== undefined && value.node === node);
    if (own !== undefined && own !== first) {
      try {
        told = await planOf(own.base);
      } catch (error) {
        if (!(error instanceof AdminError)) throw error;
        output.remark(`warning: ${error.message}\n`);
      }
    }
    for (const problem of told.problems) output.remark(`warning: ${problem}\n`);
    const reports = answers.map(({ value }) => value);
    const nowMs = Math.max(...reports.map(report => report.nowMs));
    const answer = whyAnswer(told.plan, told.mesh, told.network, mergeReports(reports), nowMs);
    output.answer(
      format === 'json' ? `${JSON.stringify(answer, undefined, 2)}\n` : renderWhy(answer, nowMs, output.style),
    );
    return { allowed: 0, plaintext: 0, denied: 1, fails: 1, unknown: 2 }[answer.verdict];
  });
}

/** @throws UsageError when a bare name is none or several */
function oneName(view: MeshView, text: string, end: 'source' | 'destination'): string {
  const read = fullName(view, text, end);
  if (read.kind === 'name') return read.name;
  const name = cell(text.slice(0, 80));
  if (read.kind === 'ambiguous')
    throw new UsageError(`${name} is not unique`, `it is one of ${read.choices.join(', ')}`);
  const what = end === 'source' ? 'workload' : 'service or workload';
  throw new UsageError(
    `there is no ${what} ${name}`,
    read.nearest.length === 0
      ? 'list what there is with ambit get workloads'
      : `did you mean ${read.nearest.join(' or ')}?`,
  );
}
