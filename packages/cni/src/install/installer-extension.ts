// The installer as a part of the agent: the node is not ready before the plugin is installed, and an agent that goes for good
// takes it out.
import type { AgentExtension, AgentParts } from '../agent/agent.ts';
import type { Metric } from '../agent/metrics.ts';
import { Installer, type InstallerOptions } from './installer.ts';

/**
 * @param goesForGood asked when the agent ends; while it is only replaced (an upgrade, a restart) the plugin stays, so that pods
 *   that start meanwhile wait for the next agent instead of starting outside the mesh
 */
export function installerExtension(
  options: InstallerOptions,
  goesForGood: () => Promise<boolean>,
): (parts: Pick<AgentParts, 'log'>) => AgentExtension {
  return ({ log }) => {
    const installer = new Installer({ log: log.scope('install') }, options);
    installer.start();
    return {
      notReady: () => {
        const { state } = installer;
        if (state.kind === 'installed') return undefined;
        return `the CNI plugin is not installed: ${state.kind === 'stopped' ? 'the agent ends' : state.why}`;
      },
      metrics: () => metricsOf(installer),
      close: async () => installer.stop({ uninstalls: await goesForGood() }),
    };
  };
}

/** Istio's names and labels. */
function metricsOf({ state, counts: { installs, failures } }: Installer): readonly Metric[] {
  return [
    {
      name: 'istio_cni_installs_total',
      help: 'Total number of CNI plugins installed by the node agent',
      type: 'counter',
      samples: [
        { labels: { result: 'SUCCESS' }, value: installs },
        { labels: { result: 'COPY_BINARIES_FAILURE' }, value: failures.executables },
        { labels: { result: 'CREATE_KUBECONFIG_FAILURE' }, value: failures.kubeconfig },
        { labels: { result: 'CREATE_CNI_CONFIG_FAILURE' }, value: failures.configuration },
      ],
    },
    {
      name: 'istio_cni_install_ready',
      help: 'Whether the CNI plugin is installed and valid',
      type: 'gauge',
      samples: [{ value: state.kind === 'installed' ? 1 : 0 }],
    },
  ];
}
