// The demo's table as lines of text: aligned, as wide as the terminal, colour only where it is wanted and never as the
// only sign. Pure, so that it can be looked at in tests.
import type { DemoRow, DemoState } from './verdict.ts';
import { FAULT_TEXT } from './fault.ts';
import { findings } from './verdict.ts';
import type { SeenTls } from './record.ts';
import type { WireCounts } from './wire-judge.ts';

export interface TableStyle {
  readonly width: number;
  readonly colour: boolean;
}

type Tone = 'good' | 'warning' | 'bad' | 'dim' | 'plain';

interface Cell {
  readonly text: string;
  readonly tone?: Tone;
}

interface Column {
  readonly title: string;
  readonly align: 'left' | 'right';
  /** Columns with a higher number go first when there is no room. */
  readonly weight: number;
  readonly cell: (row: DemoRow) => Cell;
}

const UNKNOWN = '–';
const NO_CAPTURE = 'No look at the wire here: that needs network namespaces.';
const PROTOCOLS: Readonly<Record<string, string>> = {
  redis: 'Redis',
  postgres: 'PostgreSQL',
  mysql: 'MySQL',
  kafka: 'Kafka',
  tls: 'TLS',
};
const GAP = 2;
const CODES: Record<Tone, string> = { good: '32', warning: '33', bad: '31', dim: '2', plain: '' };

const COLUMNS: readonly Column[] = [
  { title: 'FROM', align: 'left', weight: 0, cell: ({ edge }) => ({ text: edge.source }) },
  { title: 'TO', align: 'left', weight: 0, cell: ({ edge }) => ({ text: edge.destination }) },
  { title: 'SECURITY', align: 'left', weight: 0, cell: security },
  { title: 'RATE', align: 'right', weight: 1, cell: rate },
  { title: 'L7', align: 'left', weight: 2, cell: layer7 },
  { title: 'P50', align: 'right', weight: 4, cell: row => ({ text: latency(row.traffic?.p50Ms) }) },
  { title: 'P99', align: 'right', weight: 3, cell: row => ({ text: latency(row.traffic?.p99Ms) }) },
  { title: 'BYTES', align: 'right', weight: 5, cell: bytes },
  { title: 'NOTE', align: 'left', weight: 6, cell: note },
];

/** Header and rows, shortened from the least important column until they fit. */
export function renderTable(rows: readonly DemoRow[], style: TableStyle): string[] {
  const columns = COLUMNS.map(column => ({ column, cells: rows.map(column.cell) }));
  const widthOf = ({ column, cells }: (typeof columns)[number]): number =>
    Math.max(column.title.length, ...cells.map(({ text }) => text.length));
  const kept = [...columns];
  const total = (): number => kept.reduce((sum, column) => sum + widthOf(column) + GAP, -GAP);
  const widths = new Map<Column, number>();
  // The note may be cut short; others are shown whole or not at all.
  const room = style.width - (total() - widthOf(last(kept)) - GAP) - GAP;
  if (total() > style.width && room >= 12) {
    widths.set(last(kept).column, room);
  } else {
    while (total() > style.width && kept.some(({ column }) => column.weight > 0)) {
      const heaviest = kept.reduce((a, b) => (b.column.weight > a.column.weight ? b : a));
      kept.splice(kept.indexOf(heaviest), 1);
    }
  }
  const line = (cellOf: (column: (typeof columns)[number]) => Cell): string =>
    kept
      .map(column => fit(cellOf(column), widths.get(column.column) ?? widthOf(column), column.column.align, style))
      .join(' '.repeat(GAP))
      .trimEnd();
  return [
    line(({ column }) => ({ text: column.title, tone: 'dim' })),
    ...rows.map((_, i) => line(({ cells }) => cells[i] ?? { text: '' })),
  ];
}

/** Everything below the header: table, identities when there is room, proof, findings. */
export function renderDemo(state: DemoState, style: TableStyle): string[] {
  return [
    ...renderTable(state.rows, style),
    '',
    ...renderIdentities(state.rows, style),
    ...renderProof(state, style),
    ...renderControl(state, style),
    ...renderDetected(state, style),
    ...findings(state).map(({ text, code }) =>
      paint(`${clip(`finding: ${text}`, style.width - code.length - 4)}  [${code}]`, 'bad', style),
    ),
  ];
}

function renderIdentities(rows: readonly DemoRow[], style: TableStyle): string[] {
  const proven = new Map<string, string>();
  for (const { edge } of rows) {
    if (edge.sourceIdentity !== undefined) proven.set(edge.source, edge.sourceIdentity);
    if (edge.destinationIdentity !== undefined) proven.set(edge.destination, edge.destinationIdentity);
  }
  if (proven.size === 0) return [];
  const pad = Math.max(...[...proven.keys()].map(name => name.length));
  return [
    paint('VERIFIED BY THE OTHER END', 'dim', style),
    ...[...proven].map(([name, id]) => clip(`${name.padEnd(pad)}  ${id}`, style.width)),
    '',
  ];
}

function renderProof({ wire }: DemoState, style: TableStyle): string[] {
  if (wire === undefined) return [paint(clip(NO_CAPTURE, style.width), 'warning', style)];
  const { betweenNodes, control } = wire;
  const isClean = betweenNodes.readable === 0 && betweenNodes.packets > 0;
  const lost = betweenNodes.unjudged > 0 ? `, ${group(betweenNodes.unjudged)} not followed` : '';
  return [
    paint(
      `Between the nodes: ${group(betweenNodes.packets)} packets, ${group(betweenNodes.readable)} readable${lost}.`,
      isClean ? 'good' : 'bad',
      style,
    ),
    paint(clip(controlText(control), style.width), 'dim', style),
  ];
}

/** The fault that was made on purpose, whether it was found, and what else the detector finds. */
function renderDetected({ fault, detected }: DemoState, style: TableStyle): string[] {
  const lines: string[] = [];
  if (fault !== undefined) {
    const { foundAfterMs } = fault;
    const found = foundAfterMs === undefined ? 'not found yet' : `found after ${(foundAfterMs / 1000).toFixed(1)} s`;
    const tone = foundAfterMs === undefined ? 'warning' : 'good';
    lines.push(paint(clip(`injected: ${FAULT_TEXT}; ${found}`, style.width), tone, style));
  }
  const made = fault?.finding;
  const others = detected.filter(({ code, subject }) => code !== made?.code || subject !== made.subject);
  for (const { subject, text, code, next } of made === undefined ? others : [made, ...others]) {
    const sentence = clip(`found: ${subject}`, style.width - code.length - 4);
    lines.push(paint(`${sentence}  [${code}]`, 'warning', style), clip(`  ${text}`, style.width));
    lines.push(clip(`  next: ${next}`, style.width));
  }
  return lines;
}

/** What editing the objects did; nothing while nobody has. */
function renderControl({ control }: DemoState, style: TableStyle): string[] {
  const edited = `${control.objects} was edited: who may talk is as it says; encryption still has to hold.`;
  return [
    ...(control.isEdited ? [paint(clip(edited, style.width), 'dim', style)] : []),
    ...control.problems.map(text => paint(clip(`objects: ${text}`, style.width), 'warning', style)),
  ];
}

function controlText(control: WireCounts): string {
  const seen = `${group(control.readable)} of ${group(control.packets)} packets readable`;
  return `The same look at the pod outside the mesh: ${seen}.`;
}

function security({ edge, expected }: DemoRow): Cell {
  // Plaintext that must not be is never overtaken by what came later.
  if (edge.plaintextConnections > 0 && expected !== 'plaintext') return { text: 'PLAINTEXT', tone: 'bad' };
  switch (edge.now) {
    case 'plaintext':
      return { text: 'plaintext, allowed', tone: 'warning' };
    case 'denied':
      return { text: `denied by ${edge.policy ?? 'policy'}`, tone: 'bad' };
    case 'encrypted':
      return { text: edge.tls === undefined ? UNKNOWN : tlsText(edge.tls), tone: 'good' };
    case undefined:
      return { text: edge.failed > 0 ? 'no connection' : UNKNOWN, tone: 'dim' };
  }
}

/** `mTLS  ML-KEM · AES-128`: what a person wants to know of group and suite. */
export function tlsText({ group: exchange, suite }: SeenTls): string {
  const hybrid = exchange === 'X25519MLKEM768' ? 'ML-KEM' : exchange;
  const cipher = /^TLS_(AES|CHACHA20)_(128|256|POLY1305)/.exec(suite);
  const short = cipher === null ? suite : cipher[1] === 'AES' ? `AES-${cipher[2]}` : 'ChaCha20';
  return `mTLS  ${hybrid} · ${short}`;
}

/** Status classes of the last seconds where they are HTTP, else the name of the protocol. */
function layer7({ traffic }: DemoRow): Cell {
  if (traffic === undefined) return { text: UNKNOWN };
  const { statuses, protocols } = traffic;
  const all = statuses.reduce((sum, count) => sum + count, 0);
  if (all === 0) {
    const [name] = protocols.flatMap(protocol => PROTOCOLS[protocol] ?? []);
    return { text: name ?? UNKNOWN };
  }
  const failed = statuses[4] ?? 0;
  if (failed === all) return { text: '5xx', tone: 'bad' };
  if (failed > 0) return { text: `${Math.max(1, Math.min(99, Math.round((100 * failed) / all)))}% 5xx`, tone: 'bad' };
  return { text: statuses.flatMap((count, i) => (count > 0 ? [`${i + 1}xx`] : [])).join(' ') };
}

function bytes({ traffic }: DemoRow): Cell {
  if (traffic === undefined) return { text: UNKNOWN };
  const { bytesPerSecond: each } = traffic;
  return { text: each >= 1e6 ? `${number(each / 1e6)} MB/s` : `${number(each / 1e3)} kB/s` };
}

function rate({ traffic, edge }: DemoRow): Cell {
  if (traffic === undefined) return { text: UNKNOWN };
  const perSecond = edge.now === 'denied' ? traffic.deniedPerSecond : traffic.requestsPerSecond;
  return { text: `${number(perSecond)} /s` };
}

function note({ edge, expected, configured }: DemoRow): Cell {
  const edited = configured === expected ? '' : 'as edited: ';
  if (edge.plaintextConnections > 0 && expected !== 'plaintext') return { text: 'must be encrypted', tone: 'dim' };
  switch (edge.now) {
    case 'denied':
      return { text: `${edited}${group(edge.denied)} times, ${edge.reason ?? 'denied'}`, tone: 'dim' };
    case 'plaintext':
      return { text: 'caller is not in the mesh', tone: 'dim' };
    case 'encrypted': {
      const { encryptedConnections: n } = edge;
      return { text: `${edited}${edge.tunnel ?? ''}, ${n} connection${n === 1 ? '' : 's'}`, tone: 'dim' };
    }
    case undefined:
      return { text: edge.reason ?? '', tone: 'dim' };
  }
}

function latency(ms: number | undefined): string {
  if (ms === undefined) return UNKNOWN;
  return ms >= 1000 ? `${number(ms / 1000)} s` : `${number(ms)} ms`;
}

/** Three significant digits; from a thousand on in groups. */
export function number(value: number): string {
  if (value >= 100) return group(Math.round(value));
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** 18204 as `18 204`. */
function group(value: number): string {
  return String(value).replaceAll(/\B(?=(\d{3})+$)/g, ' ');
}

function fit({ text, tone = 'plain' }: Cell, width: number, align: Column['align'], style: TableStyle): string {
  const clipped = clip(text, width);
  const space = ' '.repeat(width - clipped.length);
  const painted = paint(clipped, tone, style);
  return align === 'right' ? space + painted : painted + space;
}

function clip(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;
}

/** Colours text when the style wants it. */
export function paint(text: string, tone: Tone, { colour }: TableStyle): string {
  return colour && tone !== 'plain' && text !== '' ? `\u001B[${CODES[tone]}m${text}\u001B[0m` : text;
}

function last<T>(items: readonly T[]): T {
  const item = items.at(-1);
  if (item === undefined) throw new RangeError('an empty list has no last item');
  return item;
}
