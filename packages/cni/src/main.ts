// The node agent's process: configuration in, exit status out. A mistake before it serves is status 1 (2 for wrong usage) with
// one explanation; SIGTERM and SIGINT end it with 0. Whoever else runs an agent (the mesh of this machine) brings sources
// and parts of its own.
import { once } from 'node:events';
import { createLog, errorText, type Log } from '@ambit/log';
import { Agent, type AgentDeps } from './agent/agent.ts';
import { type AgentConfig, type Environment, type Flags, readConfig } from './config/config.ts';
import { CniError } from './errors.ts';
import { NftablesBackend } from './redirect/nft-backend.ts';
import type { PodSource } from './sources/pod-source.ts';

export interface RunAgentOptions {
  readonly flags: Flags;
  readonly env: Environment;
  readonly write?: (line: string) => void;
  readonly complain?: (text: string) => void;
  /** Ends it, besides the signals. */
  readonly signal?: AbortSignal;
  /** Besides Kubernetes. */
  readonly sources?: (config: AgentConfig, log: Log) => Promise<readonly PodSource[]> | readonly PodSource[];
  readonly extensions?: AgentDeps['extensions'];
  /** Called once it serves. */
  readonly onServing?: (agent: Agent) => void;
}

/** Runs until told to stop. Never rejects. */
export async function runAgent(options: RunAgentOptions): Promise<number> {
  const complain = options.complain ?? (text => void process.stderr.write(text));
  let config: AgentConfig;
  try {
    config = await readConfig(options.flags, options.env);
  } catch (error) {
    complain(explain(error));
    return 2;
  }
  const write = options.write ?? (line => void process.stdout.write(line));
  const log = createLog({ write, format: config.logFormat, level: config.logLevel }, 'agent');
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  process.once('SIGTERM', onSignal);
  process.once('SIGINT', onSignal);
  options.signal?.addEventListener('abort', onSignal, { once: true });
  try {
    const deps = await makeDeps(config, options, log);
    await using agent = await Agent.start(config, deps, stop.signal);
    log.info('Serving', {
      node: config.nodeName,
      backend: deps.backend.name,
      zds: config.zdsSocket,
      run: config.runDirectory,
    });
    options.onServing?.(agent);
    if (!stop.signal.aborted) await once(stop.signal, 'abort');
    log.info('Ending; members stay captured');
    return 0;
  } catch (error) {
    if (stop.signal.aborted) return 0;
    complain(explain(error));
    return 1;
  } finally {
    process.removeListener('SIGTERM', onSignal);
    process.removeListener('SIGINT', onSignal);
  }
}

async function makeDeps(config: AgentConfig, options: RunAgentOptions, log: Log): Promise<AgentDeps> {
  const sources = [...((await options.sources?.(config, log)) ?? [])];
  if (sources.length === 0) {
    throw new CniError('cni.config', 'nothing tells this agent of pods', {
      next: 'run it in a cluster, or with --kubernetes kubeconfig; for one machine there is ambit up',
    });
  }
  return { sources, backend: new NftablesBackend(), probes: undefined, log, extensions: options.extensions ?? [] };
}

function explain(error: unknown): string {
  if (!(error instanceof CniError)) return `error: ${errorText(error)}\n`;
  const lines = [`error: ${error.message}  [${error.code}]`];
  if (error.where !== undefined) lines.push(`  where   ${error.where}`);
  if (error.next !== undefined) lines.push(`  next    ${error.next}`);
  return `${lines.join('\n')}\n`;
}
