// The node proxy as a process: variables in, exit status out. A mistake before the proxy runs is status 1 with one
// explanation on standard error; a drain, however it ends, is status 0. What runs in between is proxy.ts.
import { availableParallelism } from 'node:os';
import { systemClock } from './clock.ts';
import { readProxyConfig } from './config/proxy-config.ts';
import { type Environment, parseConfig } from './config.ts';
import { errorText, ZtunnelError } from './errors.ts';
import { openAuthority } from './identity/open-authority.ts';
import { LineWriter } from './log/line-writer.ts';
import { openDescriptorSink } from './log/stdout-sink.ts';
import { type Fields, Log, LogFilter } from './log.ts';
import { Proxy, type ProxyOptions } from './proxy.ts';
import { Shutdown, type SignalSource } from './shutdown.ts';

/** What tests replace; the defaults are the real ones. */
export interface RunOptions extends ProxyOptions {
  readonly signals?: SignalSource;
  /** Descriptor for the log. */
  readonly logDescriptor?: number;
  readonly complain?: (text: string) => void;
}

const FLUSH_MS = 1000;

/** Runs the node proxy until it is told to stop; resolves with the exit status. Never rejects. */
export async function runZtunnel(env: Environment, options: RunOptions = {}): Promise<number> {
  const complain = options.complain ?? (text => void process.stderr.write(text));
  const shutdown = new Shutdown(options.signals ?? process);
  const sink = openDescriptorSink(options.logDescriptor ?? 1);
  const writer = new LineWriter({ sink, droppedLine: count => droppedLine(log, count) });
  let log: Log | undefined;
  try {
    const config = parseConfig(env, { cores: availableParallelism(), proxyConfig: await readProxyConfig(env) });
    const filter = LogFilter.parse(config.logFilter);
    if (filter === undefined) {
      throw new ZtunnelError('config.invalid', `invalid env var RUST_LOG=${config.logFilter} (not a log filter)`);
    }
    log = new Log({ write: line => writer.write(line), now: systemClock.now }, { format: config.logFormat, filter });
    const authority = await openAuthority(config, log.scope('ztunnel::identity'));
    const logLinesDropped = (): number => writer.droppedLines;
    await new Proxy(config, log, authority, { env, logLinesDropped, ...options }).run(shutdown);
    return 0;
  } catch (error) {
    complain(explain(error));
    return 1;
  } finally {
    shutdown.close();
    await writer.flush(FLUSH_MS);
    sink.close();
  }
}

function droppedLine(log: Log | undefined, count: number): string {
  const fields: Fields = [['dropped', count]];
  return log?.format('warn', 'ztunnel::log', 'Log lines were dropped, the reader is too slow', fields) ?? '';
}

function explain(error: unknown): string {
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? `  [${error.code}]` : '';
  const hint = error instanceof ZtunnelError && error.hint !== undefined ? `  next    ${error.hint}\n` : '';
  return `error: ${errorText(error)}${code}\n${hint}`;
}
