// The results as Markdown: facts of the machine, a table of figures, a table of ratios with the figures to reach, and what
// failed. Pure; contains no paths.
import { METRICS, type Metric, type MetricName } from './metrics.ts';
import type { BenchOptions, CandidateName } from './options.ts';
import { figureOf, ratioOf, type Sample, type Spread } from './statistics.ts';

export interface Machine {
  readonly cores: number;
  readonly processor: string;
  readonly kernel: string;
  readonly node: string;
  readonly openssl: string;
  /** One-minute load average before the run: above 0.5 the machine was not quiet. */
  readonly loadBefore: number;
  readonly versions: Readonly<Record<string, string>>;
}

export interface Failure {
  readonly round: number;
  readonly candidate: CandidateName;
  readonly what: string;
  readonly error: string;
}

export interface Results {
  readonly startedAt: string;
  readonly seconds: number;
  readonly machine: Machine;
  readonly options: BenchOptions;
  readonly samples: readonly Sample[];
  readonly failures: readonly Failure[];
}

const NONE = '–';
export function renderReport(results: Results): string {
  const { machine, options, samples, failures } = results;
  const candidates = options.candidates.filter(name => samples.some(sample => sample.candidate === name));
  const metrics = Object.entries(METRICS) as [MetricName, Metric][];
  const shown = metrics.filter(([name]) => samples.some(sample => sample.figures[name] !== undefined));
  const versions = Object.entries(machine.versions).map(([name, version]) => `${name} ${version}`);
  const lines = [
    `# Benchmark of ${results.startedAt.slice(0, 10)}`,
    '',
    `${machine.cores} cores of ${machine.processor}, Linux ${machine.kernel}, Node ${machine.node}, OpenSSL ${machine.openssl}; load average ${machine.loadBefore.toFixed(2)} before. ${versions.join(', ')}.`,
    `${options.rounds} rounds of ${options.seconds} s, ${options.workers} workers a proxy (ambit-1: one), ${options.idleConnections} idle connections, ${options.settleSeconds} s after closing; ${Math.round(results.seconds)} s in all${options.isQuick ? '; quick run, for orientation only' : ''}.`,
    '',
    '## Figures (medians)',
    '',
    tableRow(['work', 'unit', ...candidates]),
    tableRow(['---', '---', ...candidates.map(() => '--:')]),
    ...shown.map(([name, metric]) =>
      tableRow([
        metric.title,
        metric.unit,
        ...candidates.map(candidate => {
          const figure = figureOf(samples, candidate, name);
          return figure === undefined ? NONE : digits(figure.median);
        }),
      ]),
    ),
  ];
  const compared = candidates.filter(name => name !== 'rust');
  lines.push(
    '',
    '## Ratios to the Rust ztunnel in the same round: median (min – max)',
    '',
    tableRow(['work', 'better', ...compared, 'to reach', 'reached']),
    tableRow(['---', '---', ...compared.map(() => '--:'), '---', '---']),
    ...shown.map(([name, metric]) =>
      tableRow([
        metric.title,
        metric.better,
        ...compared.map(candidate => spreadText(ratioOf(samples, candidate, 'rust', name))),
        ...verdict(samples, name, metric),
      ]),
    ),
  );
  if (failures.length > 0) {
    lines.push('', '## Failed', '');
    lines.push(...failures.map(f => `- round ${f.round + 1}, ${f.candidate}, ${f.what}: ${f.error}`));
  }
  return `${lines.join('\n')}\n`;
}

function verdict(samples: readonly Sample[], name: MetricName, { target, better }: Metric): [string, string] {
  if (target === undefined) return [NONE, NONE];
  const candidate = target.candidate ?? 'ambit';
  const sign = better === 'lower' ? '≤' : '≥';
  const text = `${target.of === 'value' ? `${candidate} ` : ''}${sign} ${target.limit}`;
  const reached =
    target.of === 'ratio' ? ratioOf(samples, candidate, 'rust', name) : figureOf(samples, candidate, name);
  if (reached === undefined) return [text, NONE];
  const isReached = better === 'lower' ? reached.median <= target.limit : reached.median >= target.limit;
  return [text, `${isReached ? 'yes' : '**no**'} (${digits(reached.median)})`];
}

function spreadText(value: Spread | undefined): string {
  if (value === undefined) return NONE;
  if (value.count === 1) return digits(value.median);
  return `${digits(value.median)} (${digits(value.min)} – ${digits(value.max)})`;
}

function digits(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function tableRow(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}
