// `POST /logging`: shows or changes what is logged, without a restart, in upstream's words. Both `scope=level` and
// `scope:level` are understood (upstream's help promises the second and takes only the first). Holds for the whole process:
// data workers write no lines, what they tell is logged by the main thread.
import { type Level, LEVELS, type LogFilter } from '../log/log-filter.ts';
import type { Reply } from './reply.ts';
import { text } from './reply.ts';

/** The part of the log that can be changed. */
export interface LogLevels {
  readonly filter: LogFilter;
  readonly initialFilter: LogFilter;
  setFilter(filter: LogFilter): void;
}

const MAX_LEVEL_CHARS = 2048;
const WORDS: readonly (Level | 'off')[] = [...LEVELS, 'off'];

export const LOGGING_HELP = `
usage: POST /logging                                  (what is logged now)
usage: POST /logging?level=LEVEL                      (everything at this level)
usage: POST /logging?level=SCOPE:LEVEL,SCOPE:LEVEL    (one part of the proxy; SCOPE=LEVEL means the same)
usage: POST /logging?reset                            (back to what it was at the start)

hint: LEVEL  error, warn, info, debug, trace or off
hint: SCOPE  such as access, access.l7, dns, ztunnel::xds, ztunnel::identity
`;

/** @param query the part of the address behind the question mark */
export function logging(levels: LogLevels, query: URLSearchParams): Reply {
  const wanted = query.get('level') ?? '';
  const isReset = query.has('reset');
  if (wanted !== '') {
    const filter = wanted.length > MAX_LEVEL_CHARS || !wanted.split(',').every(isClause) ? undefined : withClauses();
    if (filter === undefined) return text(400, `Invalid level provided: ${wanted.slice(0, 200)}\n${LOGGING_HELP}`);
    levels.setFilter(filter);
  } else if (isReset) levels.setFilter(levels.initialFilter);
  return text(200, `current log level is ${levels.filter.toString()}\n`);

  function withClauses(): LogFilter | undefined {
    return (isReset ? levels.initialFilter : levels.filter).with(wanted);
  }
}

/** A level or a scope with its level. A scope alone means a level in RUST_LOG, but here it is more likely a slip. */
function isClause(clause: string): boolean {
  const word = clause.split(/=|(?<!:):(?!:)/).at(-1) ?? '';
  return WORDS.some(level => level === word.trim().toLowerCase());
}
