// Which log lines are wanted: `RUST_LOG` clauses such as `info`, `off` or `access=debug,ztunnel::zds=trace,info`.
// Later clauses win over earlier ones for the same scope; the longest matching scope decides. Pure.
// Span filters (`[span{field}]`) of upstream's library are not known here and count as invalid.

export const LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const;
/** From chattiest to gravest. */
export type Level = (typeof LEVELS)[number];
/** What a scope lets through: this level and graver ones, or nothing. */
export type Threshold = Level | 'off';

const MAX_CLAUSES = 256;

const RANK: Readonly<Record<Threshold, number>> = { trace: 0, debug: 1, info: 2, warn: 3, error: 4, off: 5 };
const SCOPE = /^[A-Za-z0-9_]+(?:(?:::|\.)[A-Za-z0-9_]+)*$/;
/** One line for each request is more than anybody wants who did not ask for exactly that. */
const ONLY_BY_NAME: ReadonlySet<string> = new Set(['access.l7']);

export class LogFilter {
  readonly #fallback: Threshold;
  /** Longest first, so that the first match is the most exact. */
  readonly #scopes: readonly (readonly [scope: string, threshold: Threshold])[];

  private constructor(fallback: Threshold, scopes: ReadonlyMap<string, Threshold>) {
    this.#fallback = fallback;
    this.#scopes = [...scopes].sort(([a], [b]) => b.length - a.length || (a < b ? -1 : 1));
  }

  /** The filter, or undefined when a clause is not `level`, `scope`, `scope=level` or `scope:level`. */
  static parse(text: string): LogFilter | undefined {
    const clauses = text.split(',').filter(clause => clause.trim() !== '');
    if (clauses.length > MAX_CLAUSES) return undefined;
    const scopes = new Map<string, Threshold>();
    // As upstream: a filter that only names scopes shows errors of all others.
    let fallback: Threshold = 'error';
    for (const clause of clauses) {
      const parsed = parseClause(clause.trim());
      if (parsed === undefined) return undefined;
      if (parsed.scope === undefined) fallback = parsed.threshold;
      else scopes.set(parsed.scope, parsed.threshold);
    }
    return new LogFilter(fallback, scopes);
  }

  /** This filter with further clauses, which win over its own; undefined when one is none or there are too many. */
  with(clauses: string): LogFilter | undefined {
    return LogFilter.parse(`${this.toString()},${clauses}`);
  }

  /** The threshold of a scope such as `ztunnel::zds` or `access`. */
  thresholdOf(scope: string): Threshold {
    const byNameOnly = ONLY_BY_NAME.has(scope);
    for (const [name, threshold] of this.#scopes) {
      if (byNameOnly ? scope === name : scope.startsWith(name)) return threshold;
    }
    return byNameOnly ? 'off' : this.#fallback;
  }

  /** The same filter as text. */
  toString(): string {
    return [...this.#scopes.map(([scope, threshold]) => `${scope}=${threshold}`), this.#fallback].join(',');
  }
}

/** Whether a line of `level` passes `threshold`. */
export function passes(level: Level, threshold: Threshold): boolean {
  return RANK[level] >= RANK[threshold];
}

function parseClause(
  clause: string,
): { readonly scope: string | undefined; readonly threshold: Threshold } | undefined {
  const bare = toThreshold(clause);
  if (bare !== undefined) return { scope: undefined, threshold: bare };
  // `=` as upstream parses, or a single colon as its help text promises.
  const match = /^(.+?)(?:=|(?<!:):(?!:))([A-Za-z]+)$/.exec(clause);
  const scope = match?.[1] ?? clause;
  const threshold = match === null ? 'trace' : toThreshold(match[2] ?? '');
  return threshold === undefined || !SCOPE.test(scope) ? undefined : { scope, threshold };
}

function toThreshold(text: string): Threshold | undefined {
  const lower = text.toLowerCase();
  return lower === 'off' ? 'off' : LEVELS.find(level => level === lower);
}
