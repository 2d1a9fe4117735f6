// The command line of the benchmark, parsed once. Pure but for the list of candidates that this machine can run.
import { parseArgs } from 'node:util';

export const CANDIDATES = ['direct', 'ambit', 'ambit-off', 'ambit-1', 'rust', 'haproxy', 'nginx'] as const;
export type CandidateName = (typeof CANDIDATES)[number];

export const ROWS = [
  'keepalive64',
  'keepalive1',
  'connect',
  'handshakes',
  'bulk1',
  'bulk1r',
  'bulk8',
  'bulk8r',
  'beside',
  'reading',
  'memory',
] as const;
export type RowName = (typeof ROWS)[number];

export interface BenchOptions {
  readonly isQuick: boolean;
  readonly candidates: readonly CandidateName[];
  readonly rows: readonly RowName[];
  readonly rounds: number;
  /** Data workers of `ambit` and threads of `rust`. */
  readonly workers: number;
  /** Length of the measured part of a load row. */
  readonly seconds: number;
  readonly idleConnections: number;
  /** How long to wait between closing the idle connections and looking at memory. */
  readonly settleSeconds: number;
  /** Where results go, without extension; undefined: bench/results/ and today's date. */
  readonly output: string | undefined;
}

const USAGE = `usage: npm run bench -- [--quick] [--candidates a,b] [--only row,row] [--rounds N] [--workers N] [--output PATH]
candidates: ${CANDIDATES.join(' ')}
rows:       ${ROWS.join(' ')}`;

/** @throws Error with the usage, for a person */
export function parseOptions(argv: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: 'boolean', default: false },
      candidates: { type: 'string' },
      only: { type: 'string' },
      rounds: { type: 'string' },
      workers: { type: 'string' },
      output: { type: 'string' },
    },
  });
  const isQuick = values.quick;
  return {
    isQuick,
    candidates: pick(values.candidates, CANDIDATES, isQuick ? ['direct', 'ambit', 'rust'] : CANDIDATES),
    rows: pick(values.only, ROWS, isQuick ? ROWS.filter(row => row !== 'memory' && row !== 'reading') : ROWS),
    rounds: count(values.rounds, isQuick ? 1 : 3),
    workers: count(values.workers, 2),
    seconds: isQuick ? 2 : 3,
    idleConnections: isQuick ? 1_000 : 5_000,
    settleSeconds: isQuick ? 5 : 30,
    output: values.output,
  };
}

function pick<T extends string>(text: string | undefined, all: readonly T[], otherwise: readonly T[]): readonly T[] {
  if (text === undefined) return otherwise;
  const asked = text.split(',');
  const known = all.filter(name => asked.includes(name));
  if (known.length !== asked.length) throw new Error(`no such name in ${JSON.stringify(text)}\n${USAGE}`);
  return known;
}

function count(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 64) throw new Error(`not a count: ${text}\n${USAGE}`);
  return value;
}
