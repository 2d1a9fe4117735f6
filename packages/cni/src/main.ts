// The node agent's process: configuration in, exit status out. A mistake before it serves is status 1 (2 for wrong usage) with
// one explanation; SIGTERM and SIGINT end it with 0. Whoever else runs an agent (the mesh of this machine) brings sources
// and parts of its own.
import { once } from 'node:events';
import { createLog, errorText, type Log } from '@ambit/log';
import { Agent, type AgentDeps } from './agent/agent.ts';
import { chooseBackend, chooseInstallation, chooseProbes, openNode } from './agent/parts/node-parts.ts';
import { auditExtension } from './audit/audit-extension.ts';
import { type AgentConfig, type Environment, type Flags, readConfig } from './config/config.ts';
import { CniError } from './errors.ts';
import { leavesForGood } from './agent/parts/succession.ts';
import type { KubernetesPodSource } from './sources/kubernetes-source.ts';
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
    return await serve(config, options, log, stop.signal);
  } catch (error) {
    if (stop.signal.aborted) return 0;
    complain(explain(error));
    return 1;
  } finally {
    process.removeListener('SIGTERM', onSignal);
    process.removeListener('SIGINT', onSignal);
  }
}

async function serve(config: AgentConfig, options: RunAgentOptions, log: Log, signal: AbortSignal): Promise<number> {
  await using closers = new AsyncDisposableStack();
  const node = closers.use(openNode(config));
  const cluster = await openCluster(config, log);
  const sources = await openSources(cluster, config, options, log);
  const backend = await chooseBackend(config, node, log);
  const probes = await chooseProbes(config, node, log, signal);
  const installation = await chooseInstallation(config, options.env);
  // Known once the agent is told to end; an agent that fails leaves everything.
  const end = { isForGood: false };
  // Last of all: while the agent closes, pods may still be told apart from probes.
  closers.defer(() => {
    if (end.isForGood) probes?.close();
  });
  const { nodeName, zdsSocket, runDirectory, hostRoot, auditRepair } = config;
  const audit = { node: nodeName, repair: auditRepair, hostRoot, events: cluster?.podEvents };
  const extensions = [auditExtension(audit), ...(options.extensions ?? [])];
  if (installation !== undefined) {
    const { installerExtension } = await import('./install/installer-extension.ts');
    extensions.push(installerExtension(installation, async () => Promise.resolve(end.isForGood)));
  }
  const agent = closers.use(await Agent.start(config, { sources, backend, probes, log, extensions }, signal));
  log.info('Serving', { node: nodeName, backend: backend.name, zds: zdsSocket, run: runDirectory });
  options.onServing?.(agent);
  if (!signal.aborted) await once(signal, 'abort');
  end.isForGood = await leavesForGood(
    cluster,
    {
      alwaysLeaves: config.disableSafeUpgrade,
      daemonSet: { namespace: config.podNamespace, name: config.daemonSet },
    },
    log,
  );
  log.info('Ending; members stay captured', { forGood: end.isForGood });
  return 0;
}

/** Loaded only where there is a cluster, for the memory of agents elsewhere. */
async function openCluster(config: AgentConfig, log: Log): Promise<KubernetesPodSource | undefined> {
  const { kubernetes, kubeconfig, nodeName } = config;
  if (kubernetes === 'off') return undefined;
  const { createKubernetesPodSource } = await import('./sources/kubernetes-source.ts');
  const access =
    kubernetes === 'in-cluster' ? { inCluster: true } : { kubeconfig: kubeconfig === '' ? undefined : kubeconfig };
  return createKubernetesPodSource({ ...access, nodeName, log });
}

async function openSources(
  cluster: PodSource | undefined,
  config: AgentConfig,
  options: RunAgentOptions,
  log: Log,
): Promise<readonly PodSource[]> {
  const others = (await options.sources?.(config, log)) ?? [];
  const sources = [...(cluster === undefined ? [] : [cluster]), ...others];
  if (sources.length > 0) return sources;
  throw new CniError('cni.config', 'nothing tells this agent of pods', {
    next: 'run it in a cluster, or with --kubernetes kubeconfig; for one machine there is ambit up',
  });
}

function explain(error: unknown): string {
  if (!(error instanceof CniError)) return `error: ${errorText(error)}\n`;
  const lines = [`error: ${error.message}  [${error.code}]`];
  if (error.where !== undefined) lines.push(`  where   ${error.where}`);
  if (error.next !== undefined) lines.push(`  next    ${error.next}`);
  return `${lines.join('\n')}\n`;
}
