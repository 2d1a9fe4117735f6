// The answer of `ambit explain` for people: verdict first, evidence second, next step third, within 80 columns where names
// allow it. Decides nothing; the structure comes from explainConnection.
import type { ConnectionExplanation, HopExplanation } from '@ambit/mesh';
import { cell, wrap } from './columns.ts';
import type { Style } from './style.ts';

const WIDTH = 80;
const LABEL_WIDTH = 15;

export interface Headline {
  readonly verdict: ConnectionExplanation['verdict'] | 'fails';
  readonly reason: ConnectionExplanation['reason'];
  readonly summary: string;
}

type PolicyExplanation = HopExplanation['policies'][number];

export function renderExplanation(answer: ConnectionExplanation, style: Style): string {
  const lines = [...headline(answer, style), ...evidence(answer)];
  return `${[...lines, '', ...indented('next: ', answer.next, 0)].join('\n')}\n`;
}

/** The verdict, and its code at the right edge. */
export function headline(answer: Headline, style: Style): readonly string[] {
  const { verdict, reason } = answer;
  const words = {
    allowed: 'Allowed',
    denied: 'Denied',
    fails: 'Fails',
    plaintext: 'Plain text',
    unknown: 'Cannot say',
  } as const;
  const paint = {
    allowed: style.good,
    denied: style.bad,
    fails: style.bad,
    plaintext: style.warn,
    unknown: style.warn,
  }[verdict];
  const [first = '', ...more] = wrap(`${words[verdict]}: ${cell(answer.summary)}`, WIDTH);
  const code = reason === undefined ? '' : `[${reason}]`;
  // The code stands at the right edge where there is room, else on a line of its own.
  const last = more.at(-1) ?? first;
  const room = WIDTH - last.length - code.length;
  if (code === '') return [first, ...more].map(line => paint(line));
  if (room < 2) return [...[first, ...more].map(line => paint(line)), style.dim(code.padStart(WIDTH))];
  const all = [first, ...more].map(line => paint(line));
  return [...all.slice(0, -1), `${all.at(-1) ?? ''}${' '.repeat(room)}${style.dim(code)}`];
}

/** Source, destination, waypoint, and each hop with its policies. */
export function evidence(answer: ConnectionExplanation): readonly string[] {
  const { source, destination, hops } = answer;
  if (source === undefined || destination === undefined) return [];
  const where = source.node === '' ? '' : ` on ${source.node}`;
  const identity = source.identity ?? 'not in the mesh, no identity';
  const lines = ['', ...row('source', `${source.name}${where} · ${identity}`)];
  lines.push(...row('destination', describeDestination(answer)));
  lines.push(...row('waypoint', answer.waypoints.length === 0 ? 'none assigned' : answer.waypoints.join(', ')));
  for (const hop of hops) lines.push(...row('transport', describeTransport(hop)), ...policyRows(hop));
  return lines;
}

function describeDestination({ destination, hops }: ConnectionExplanation): string {
  if (destination === undefined) return '';
  const { address, name, kind, endpoints, healthy } = destination;
  if (kind === 'address') return `${address}, which belongs to nothing in the mesh`;
  if (kind === 'workload') return `${address} is workload ${name}${healthy === 0 ? ', which is not ready' : ''}`;
  const count = `${endpoints} ${endpoints === 1 ? 'endpoint' : 'endpoints'}`;
  const unready = healthy === endpoints ? '' : `, ${endpoints - healthy} not ready`;
  const [hop] = hops;
  const would = hop === undefined || hop.isWaypoint ? '' : ` · would take ${hop.target}`;
  return `${address} is service ${name} · ${count}${unready}${would}`;
}

function describeTransport(hop: HopExplanation): string {
  const more = hop.alike === 0 ? '' : ` · and ${hop.alike} more alike`;
  const { kind, dial, mustBe } = hop.transport;
  const what = hop.isWaypoint ? `waypoint ${hop.workload ?? ''}` : (hop.workload ?? 'outside the mesh');
  if (kind === 'plaintext') return `plain TCP to ${dial} (${what})${more}`;
  const through = kind === 'tunnel' ? 'HBONE to' : 'HBONE through the gateway';
  const who = mustBe.length === 0 ? 'with no identity that could be accepted' : `which must be ${mustBe.join(' or ')}`;
  return `${through} ${dial} (${what}), ${who}${more}`;
}

/** What decided in full; policies that merely did not match are counted. */
function policyRows({ policies, workload }: HopExplanation): readonly string[] {
  if (workload === undefined) return [];
  if (policies.length === 0) return row('policies', 'none applies');
  const texts = ['Deny', 'Allow'].flatMap(action => {
    const ours = policies.filter(policy => policy.action === action);
    if (ours.length === 0) return [];
    const told = ours.filter(policy => action === 'Allow' || policy.matched || policy.isPlaceholder);
    const silent = ours.length - told.length;
    const label = action.toUpperCase().padEnd(6);
    const lines = told.map(policy => `${label} ${describePolicy(policy)}`);
    return silent === 0 ? lines : [...lines, `${label} ${silent} ${told.length > 0 ? 'more ' : ''}looked at, no match`];
  });
  return texts.flatMap((text, index) => row(index === 0 ? 'policies' : '', text));
}

function describePolicy(policy: PolicyExplanation): string {
  const dry = policy.dryRun ? ' (dry run, no effect)' : '';
  if (policy.isPlaceholder) return `${policy.policy} applies and has not been received`;
  const rule = policy.rules.findIndex(({ matched }) => matched);
  if (rule >= 0) return `${policy.policy} rule ${rule + 1} matches${dry}`;
  if (policy.rules.length === 0) return `${policy.policy} has no rules, so it allows nobody${dry}`;
  const wants = policy.rules.map(({ wants: what }, index) => `rule ${index + 1} wants ${what}`);
  return `${policy.policy}${dry}: ${wants.join('; ')}`;
}

/** A labelled line, broken where it is too long. */
export function row(label: string, text: string): readonly string[] {
  return indented(`  ${label}`.padEnd(LABEL_WIDTH), text, LABEL_WIDTH);
}

/** Lines of which all but the first stand under the end of the label. */
export function indented(label: string, text: string, indent: number): readonly string[] {
  const lines = wrap(cell(text), WIDTH - Math.max(indent, label.length));
  return lines.map((line, index) => (index === 0 ? label : ' '.repeat(label.length)) + line);
}
