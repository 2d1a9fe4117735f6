// The control plane's process: configuration in, exit status out. A mistake before it serves is status 1 (2 for wrong usage)
// with one explanation; SIGTERM and SIGINT end it with 0, clients being asked to go elsewhere first.
import { once } from 'node:events';
import { type ControlConfig, type Environment, type Flags, readConfig } from './config/config.ts';
import { ControlPlane } from './control-plane.ts';
import { createLog, faultText } from '@ambit/log';
import { KubeError } from '@ambit/kube';
import { ControlError } from './errors.ts';

export interface RunControlOptions {
  readonly flags: Flags;
  readonly env: Environment;
  readonly configFile: string | undefined;
  readonly write?: (line: string) => void;
  readonly complain?: (text: string) => void;
  /** Ends it, besides the signals. */
  readonly signal?: AbortSignal;
}

/** Runs until told to stop. Never rejects. */
export async function runControl(options: RunControlOptions): Promise<number> {
  const complain = options.complain ?? (text => void process.stderr.write(text));
  let config: ControlConfig;
  try {
    config = readConfig(options.flags, options.env, options.configFile);
  } catch (error) {
    complain(explainError(error));
    return 2;
  }
  const write = options.write ?? (line => void process.stdout.write(line));
  const log = createLog({ write, format: config.logFormat, level: config.logLevel }, 'control');
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  process.once('SIGTERM', onSignal);
  process.once('SIGINT', onSignal);
  options.signal?.addEventListener('abort', onSignal, { once: true });
  try {
    await using plane = await ControlPlane.open(config, log);
    const { plainPort, securePort, adminPort } = plane.status;
    log.info('Listening', { grpc: plainPort, secureGrpc: securePort, admin: adminPort, state: config.state });
    await Promise.race([plane.sync(), stopped(stop.signal)]);
    await stopped(stop.signal);
    log.info('Shutting down');
    return 0;
  } catch (error) {
    complain(explainError(error));
    return 1;
  } finally {
    process.removeListener('SIGTERM', onSignal);
    process.removeListener('SIGINT', onSignal);
  }
}

async function stopped(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
}

/** What failed, its code, and what to do: as every command of ours says it. */
export function explainError(error: unknown): string {
  if (!(error instanceof ControlError || error instanceof KubeError)) {
    return `error: ${faultText(error)}\n`;
  }
  const next = error.next === undefined ? '' : `  next    ${error.next}\n`;
  return `error: ${error.message}  [${error.code}]\n${next}`;
}
