// The node agent of this machine: the agent of any node, with workloads of this machine as its source of pods, and a socket
// for whoever starts them. No cluster, no kubelet, no probes.
import { join } from 'node:path';
import { runAgent, type RunAgentOptions } from '@ambit/cni';
import { Containers } from './containers/containers.ts';
import { type LocalDirectories, localPaths } from './directories.ts';
import { LocalServer } from './local-server.ts';
import { LocalWorkloads } from './local-workloads.ts';
import { ensureHostNetwork } from './net/host-network.ts';
import { watchHostNetwork } from './net/host-watch.ts';
import { NODE_NAME } from './objects.ts';
import { ObjectsFile } from './objects-file.ts';

export interface LocalAgentOptions {
  readonly directories: LocalDirectories;
  /** Who may start workloads besides root. */
  readonly ownerUid: number;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Further parts that live in the agent, such as the audit. */
  readonly extensions?: RunAgentOptions['extensions'];
}

/** Metrics of the agent; the usual port is the control plane's on this machine. */
const METRICS_PORT = '15016';
const CLUSTER_DOMAIN = 'cluster.local';

/** Runs until it is told to stop. @returns exit status */
export async function runLocalAgent(options: LocalAgentOptions): Promise<number> {
  const { directories, ownerUid, env, extensions = [] } = options;
  const paths = localPaths(directories);
  const made: { workloads: LocalWorkloads | undefined; containers: Containers | undefined } = {
    workloads: undefined,
    containers: undefined,
  };
  return runAgent({
    env,
    flags: {
      nodeName: NODE_NAME,
      kubernetes: 'off',
      runDirectory: paths.agentRun,
      zdsSocket: paths.ztunnelSocket,
      hostRoot: '/',
      bindAddress: '127.0.0.1',
      healthPort: '0',
      monitoringPort: METRICS_PORT,
    },
    sources: (_config, log) => {
      const deps = {
        paths,
        network: ensureHostNetwork(paths.network),
        objects: new ObjectsFile(join(paths.runObjects, 'local.json')),
        log: log.scope('local'),
      };
      const allowedUids = [...new Set([0, process.getuid?.() ?? 0, ownerUid])];
      made.workloads = new LocalWorkloads(deps, { allowedUids, clusterDomain: CLUSTER_DOMAIN });
      made.containers = new Containers(deps.objects, log.scope('containers'));
      return [made.workloads, made.containers];
    },
    extensions: [
      ...extensions,
      // After enrolment has begun: whoever asks for a workload gets it protected or an answer why not.
      async ({ log }) => {
        const { workloads, containers } = made;
        if (workloads === undefined || containers === undefined) return {};
        const server = await LocalServer.open(
          { workloads, containers: () => containers.list() },
          {
            path: paths.localSocket,
            uid: ownerUid,
            log: log.scope('local'),
          },
        );
        const unwatch = watchHostNetwork(paths.network, log.scope('local'));
        return {
          close: async () => {
            unwatch();
            server.close();
          },
        };
      },
    ],
  });
}
