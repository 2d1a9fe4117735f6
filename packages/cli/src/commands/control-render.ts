// `ambit control render`: what a node proxy subscribed to everything would be told, from files alone. Wiring and words only;
// whoever registers the command passes in the control plane's own rendering.
import { ControlError, type Diagnostic, type MeshSettings } from '@ambit/control';
import { columns } from '../render/columns.ts';
import { type Output, processOutput } from '../render/output.ts';
import { describeFindings } from './control-lint.ts';
import { meshSettings, type OfflineFlags, tellProblem } from './control-offline.ts';

export type RenderFlags = OfflineFlags;

export interface Resource {
  readonly name: string;
  /** Proto JSON. */
  readonly resource: unknown;
}

export interface Rendering {
  readonly rendered: { readonly addresses: readonly Resource[]; readonly authorizations: readonly Resource[] };
  readonly diagnostics: readonly Diagnostic[];
}

export type Render = (paths: readonly string[], settings: MeshSettings) => Promise<Rendering>;

/** @returns the exit status: 0, 1 something could not be read and is missing, 2 wrong usage, 3 unreadable path */
export async function controlRender(
  paths: readonly string[],
  flags: RenderFlags,
  render: Render,
  output: Output = processOutput(),
): Promise<number> {
  try {
    const settings = meshSettings(paths, flags, ['table', 'json']);
    const { rendered, diagnostics } = await render(paths, settings);
    if (flags.output === 'json') for (const piece of jsonPieces(rendered)) output.answer(piece);
    else output.answer(describeResources(rendered));
    const errors = diagnostics.filter(({ severity }) => severity === 'error');
    if (errors.length === 0) return 0;
    const objects = rendered.addresses.length + rendered.authorizations.length;
    output.remark(describeFindings({ objects, diagnostics: errors }, output.style, false));
    return 1;
  } catch (error) {
    if (!(error instanceof ControlError)) throw error;
    return tellProblem(error, output);
  }
}

/** One JSON document, a resource a line: it can be compared with `diff`, and is never one string of the whole mesh. */
export function* jsonPieces({ addresses, authorizations }: Rendering['rendered']): Generator<string> {
  yield '{"addresses": [';
  yield* lines(addresses);
  yield '], "authorizations": [';
  yield* lines(authorizations);
  yield ']}\n';
}

function* lines(resources: readonly Resource[]): Generator<string> {
  for (const [index, { name, resource }] of resources.entries()) {
    yield `${index === 0 ? '\n' : ',\n'}${JSON.stringify({ name, resource })}`;
  }
  if (resources.length > 0) yield '\n';
}

export function describeResources({ addresses, authorizations }: Rendering['rendered']): string {
  const rows = [
    ...addresses.map(({ name, resource }) => [kindOf(resource), name]),
    ...authorizations.map(({ name }) => ['authorization', name]),
  ];
  return columns(['KIND', 'NAME'], rows);
}

/** An Address is one of the two, by the name of its only field. */
function kindOf(resource: unknown): string {
  return typeof resource === 'object' && resource !== null && 'workload' in resource ? 'workload' : 'service';
}
