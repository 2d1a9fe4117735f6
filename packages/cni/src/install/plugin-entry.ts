// Our plugin's object in a network configuration: the fields that Istio's plugin has, under its names (plugin-config.ts reads
// them), for a chain or to stand alone.
import type { JsonObject } from '../plugin/cni-result.ts';
import { PLUGIN_TYPE } from './chain-text.ts';

export interface PluginEntryOptions {
  /** Where the plugin looks for the agent's sockets and the kubeconfig. */
  readonly runDir: string;
  /** Namespace of the agent; its own pods pass. */
  readonly agentNamespace: string;
  readonly excludedNamespaces: readonly string[];
  /** As Kubernetes writes label selectors; left out, the default of Istio's chart. */
  readonly selectors?: readonly JsonObject[];
  readonly logLevel?: string;
  readonly isAmbientEnabled?: boolean;
  /** Default true: a pod of which nobody knows whether it is a member does not start. */
  readonly retriesLookup?: boolean;
}

const ALONE_VERSION = '0.3.1';

export function pluginEntry(options: PluginEntryOptions): JsonObject {
  return {
    type: PLUGIN_TYPE,
    name: PLUGIN_TYPE,
    plugin_log_level: options.logLevel ?? 'warn',
    cni_agent_run_dir: options.runDir,
    ambient_enabled: options.isAmbientEnabled ?? true,
    ...(options.selectors && { enablement_selectors: options.selectors }),
    exclude_namespaces: options.excludedNamespaces,
    pod_namespace: options.agentNamespace,
    enable_ambient_detection_retry: options.retriesLookup ?? true,
  };
}

/** Under the network name that Multus's attachment definitions for Istio ask for. */
export function aloneEntry(options: PluginEntryOptions): JsonObject {
  return { cniVersion: ALONE_VERSION, ...pluginEntry(options), name: 'istio-cni' };
}
