// Log lines of whatever runs outside the node proxy: JSON objects or plain text on one stream, one line an event, never blocking. What is
// logged: state changes and refusals; never tokens, keys or whole requests.

export type Level = 'debug' | 'info' | 'warn' | 'error';
export type Fields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Log {
  debug(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
  /** The same log under a narrower name (`xds`, `ca`). */
  scope(name: string): Log;
}

const ORDER: Readonly<Record<Level, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

export interface LogOptions {
  readonly write: (line: string) => void;
  readonly format: 'plain' | 'json';
  readonly level: Level;
  readonly now?: () => Date;
}

/** `scope` names the part that writes, such as `control` or `agent`. */
export function createLog(options: LogOptions, scope: string): Log {
  const now = options.now ?? (() => new Date());
  const put = (level: Level, message: string, fields: Fields = {}): void => {
    if (ORDER[level] < ORDER[options.level]) return;
    const time = now().toISOString();
    options.write(
      options.format === 'json'
        ? `${JSON.stringify({ time, level, scope, message, ...fields })}\n`
        : `${time}\t${level}\t${scope}\t${printable(message)}${printable(plainFields(fields))}\n`,
    );
  };
  return {
    debug: (message, fields) => put('debug', message, fields),
    info: (message, fields) => put('info', message, fields),
    warn: (message, fields) => put('warn', message, fields),
    error: (message, fields) => put('error', message, fields),
    scope: name => createLog(options, name),
  };
}

/** For tests and for tools that print what they find another way. */
export const SILENT_LOG: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  scope: () => SILENT_LOG,
};

/** A message may quote a name or a file of somebody else's: it stays one line, and says nothing to a terminal. */
function printable(text: string): string {
  // The first character of the fields is our own tab.
  return text.replaceAll(/(?!^\t)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, each => {
    return `\\u${(each.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`;
  });
}

function plainFields(fields: Fields): string {
  const parts = Object.entries(fields).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key}=${typeof value === 'string' ? JSON.stringify(value) : String(value)}`],
  );
  return parts.length === 0 ? '' : `\t${parts.join(' ')}`;
}
