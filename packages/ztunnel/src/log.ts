// The process's log: levels by scope, upstream's plain or JSON lines, one writer. A scope is a dotted place in the
// code (`ztunnel::zds`); its threshold is looked up when the filter changes, so a line that nobody wants costs one comparison.
import { type Level, type LogFilter, passes, type Threshold } from './log/log-filter.ts';
import { type Fields, formatJson, formatPlain, type LogLine } from './log/log-format.ts';

export { LogFilter, type Level } from './log/log-filter.ts';
export { Bare, type Fields, type FieldValue } from './log/log-format.ts';

/** What the rest of the package logs through. */
export interface Logger {
  isEnabled(level: Level): boolean;
  /** `timeMs` (Unix epoch) is now unless the fact happened earlier. */
  log(level: Level, message: string, fields?: Fields, timeMs?: number): void;
  error(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  debug(message: string, fields?: Fields): void;
}

export interface LogDeps {
  readonly write: (line: string) => void;
  /** Milliseconds since the Unix epoch, fractional. */
  readonly now: () => number;
}

export interface LogOptions {
  readonly format: 'plain' | 'json';
  readonly filter: LogFilter;
}

export class Log {
  readonly #write: (line: string) => void;
  readonly #now: () => number;
  readonly #format: (line: LogLine) => string;
  readonly #initial: LogFilter;
  readonly #scopes = new Map<string, ScopedLogger>();
  readonly #followers = new Set<() => void>();
  #filter: LogFilter;

  constructor(deps: LogDeps, options: LogOptions) {
    this.#write = deps.write;
    this.#now = deps.now;
    this.#format = options.format === 'json' ? formatJson : formatPlain;
    this.#initial = options.filter;
    this.#filter = options.filter;
  }

  /** What is wanted now. */
  get filter(): LogFilter {
    return this.#filter;
  }

  /** What was wanted at the start. */
  get initialFilter(): LogFilter {
    return this.#initial;
  }

  /** Holds from the next line on, for loggers that were handed out before too. */
  setFilter(filter: LogFilter): void {
    this.#filter = filter;
    for (const [scope, logger] of this.#scopes) logger.threshold = filter.thresholdOf(scope);
    for (const follower of this.#followers) follower();
  }

  /** Calls `onChange` after each change of the filter. */
  follow(onChange: () => void): void {
    this.#followers.add(onChange);
  }

  /** One line as text, whatever the filter says; for whoever writes it himself. */
  format(level: Level, scope: string, message: string, fields: Fields): string {
    return this.#format({ level, timeMs: this.#now(), scope, message, fields });
  }

  /** The logger of one scope, such as `ztunnel::zds`; `access` is the access log. Scopes are names in the code, so few. */
  scope(scope: string): Logger {
    let logger = this.#scopes.get(scope);
    if (logger === undefined) {
      logger = new ScopedLogger(this.#filter.thresholdOf(scope), (level, message, fields, timeMs) => {
        this.#write(this.#format({ level, timeMs: timeMs ?? this.#now(), scope, message, fields }));
      });
      this.#scopes.set(scope, logger);
    }
    return logger;
  }
}

type Emit = (level: Level, message: string, fields: Fields, timeMs: number | undefined) => void;

class ScopedLogger implements Logger {
  threshold: Threshold;
  readonly #emit: Emit;

  constructor(threshold: Threshold, emit: Emit) {
    this.threshold = threshold;
    this.#emit = emit;
  }

  isEnabled(level: Level): boolean {
    return passes(level, this.threshold);
  }

  log(level: Level, message: string, fields: Fields = [], timeMs?: number): void {
    if (passes(level, this.threshold)) this.#emit(level, message, fields, timeMs);
  }

  error(message: string, fields?: Fields): void {
    this.log('error', message, fields);
  }

  warn(message: string, fields?: Fields): void {
    this.log('warn', message, fields);
  }

  info(message: string, fields?: Fields): void {
    this.log('info', message, fields);
  }

  debug(message: string, fields?: Fields): void {
    this.log('debug', message, fields);
  }
}
