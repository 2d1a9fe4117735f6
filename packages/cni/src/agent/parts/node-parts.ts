// What the agent of a node needs besides sources: the back end that programs pods, the host's rules for probes, the plugin's
// installation. Chosen by the configuration, and closed with what is to stay and what is to go.
import { NetNs } from '@ambit/native';
import type { Log } from '@ambit/log';
import type { AgentConfig, Environment } from '../../config/config.ts';
import { CniError } from '../../errors.ts';
import type { HostProbes } from '../../host/host-probes.ts';
import type { InstallOptions } from '../../install/install-options.ts';
import type { JsonObject } from '../../plugin/cni-result.ts';
import type { RedirectBackend } from '../../redirect/redirect-plan.ts';
import { selectBackend } from '../../redirect/select-backend.ts';
import { startNodeProbes } from './node-probes.ts';

/** The node's own namespace, as the agent reaches it. @throws CniError cni.unsupported */
export function openNode({ hostRoot }: Pick<AgentConfig, 'hostRoot'>): NetNs {
  if (hostRoot === '') return NetNs.own();
  const path = `${hostRoot}/proc/1/ns/net`;
  try {
    return NetNs.open(path);
  } catch (cause) {
    throw new CniError('cni.unsupported', `the node's own network ${path} cannot be opened`, {
      next: "the agent needs the node's /proc at that place, and CAP_SYS_ADMIN and CAP_SYS_PTRACE",
      cause,
    });
  }
}

/** @throws CniError cni.unsupported, cni.config */
export async function chooseBackend(config: AgentConfig, node: NetNs, log: Log): Promise<RedirectBackend> {
  const { forceIptablesBinary: force, ipv6 } = config;
  if (force !== '' && force !== 'legacy' && force !== 'nft') {
    throw new CniError('cni.config', `FORCE_IPTABLES_BINARY=${force}: expected legacy or nft`);
  }
  const { backend, why } = await selectBackend(node, {
    want: config.backend,
    ipv6,
    force: force === '' ? undefined : force,
  });
  log.info('Back end chosen', { backend: backend.name, why });
  return backend;
}

/** undefined: switched off. @throws CniError enrol.probes */
export async function chooseProbes(
  config: AgentConfig,
  node: NetNs,
  log: Log,
  signal: AbortSignal,
): Promise<HostProbes | undefined> {
  if (!config.probes) return undefined;
  const probeLog = log.scope('probes');
  return startNodeProbes(
    {
      node,
      procRoot: `${config.hostRoot}/proc`,
      snat: { ip: config.probeIp, ip6: config.probeIp6 },
      ipv6: config.ipv6,
      branchInterfaces: config.branchEni,
      onForeign: (ip, owner) => probeLog.warn('Address is another pod’s by now, and stays', { ip, owner }),
    },
    probeLog,
    signal,
  );
}

/** undefined: switched off. @throws CniError cni.config */
export async function chooseInstallation(config: AgentConfig, env: Environment): Promise<InstallOptions | undefined> {
  if (!config.install) return undefined;
  // What installs is loaded only where something is installed.
  const { installOptionsFrom } = await import('../../install/install-environment.ts');
  const { runDirectory, podNamespace, excludeNamespaces, detectionRetry, rawSelectors, hostRoot } = config;
  return installOptionsFrom(env, {
    hostRoot,
    entry: {
      runDir: runDirectory,
      agentNamespace: podNamespace,
      excludedNamespaces: excludeNamespaces,
      logLevel: config.logLevel,
      retriesLookup: detectionRetry,
      ...(rawSelectors === undefined ? {} : { selectors: rawSelectors.map(toJson) }),
    },
  });
}

function toJson(value: object): JsonObject {
  return { ...value };
}
