// `ambit explain SOURCE DESTINATION[:PORT]`: whether a connection would be let through, and why. Wiring only.
import { explainConnection } from '@ambit/mesh';
import { AdminError, type AdminFlags, loadMesh } from '../mesh-from-admin.ts';
import { renderExplanation } from '../render/explain.ts';
import { type Output, processOutput } from '../render/output.ts';
import { problemText } from '../render/problem.ts';

/** As commander gives them. */
export interface ExplainFlags extends AdminFlags {
  readonly output: string;
  /** Where addresses are looked up; default the ztunnel's own, or the one most workloads are in. */
  readonly network?: string;
}

/** @returns the exit status: 0 it is let through (in plain text too), 1 denied, 2 the question is unclear, 3 cannot reach */
export async function explain(
  source: string,
  destination: string,
  flags: ExplainFlags,
  output: Output = processOutput(),
): Promise<number> {
  if (flags.output !== 'table' && flags.output !== 'json') {
    output.remark(problemText({ message: `there is no output format "${flags.output}"`, next: 'use table or json' }));
    return 2;
  }
  try {
    const { mesh, network, problems } = await loadMesh(flags);
    for (const problem of problems) output.remark(`warning: ${problem}\n`);
    const answer = explainConnection(mesh, { source, destination, network: flags.network ?? network });
    output.answer(
      flags.output === 'json' ? `${JSON.stringify(answer, null, 2)}\n` : renderExplanation(answer, output.style),
    );
    return { allowed: 0, plaintext: 0, denied: 1, unknown: 2 }[answer.verdict];
  } catch (error) {
    if (!(error instanceof AdminError)) throw error;
    output.remark(problemText(error));
    return 3;
  }
}
