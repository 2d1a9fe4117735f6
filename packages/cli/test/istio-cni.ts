// Istio's own CNI agent and plugin, as the chart runs them on a node: the agent in a file system of its own with the host's under
// /host, its API server a test's, its node the sandbox itself. Needs builds of both (ISTIO_CNI_BIN, ISTIO_CNI_PLUGIN_BIN).
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Pod, SANDBOX_DIR, WatchedProcess } from '@ambit/testbed';
import type { ApiServer } from '../../kube/test/api-server.ts';

export const ISTIO_CNI_BIN = process.env['ISTIO_CNI_BIN'] ?? '';
export const ISTIO_CNI_PLUGIN_BIN = process.env['ISTIO_CNI_PLUGIN_BIN'] ?? '';

/** The chart's, as JSON is YAML. */
export const SELECTORS = [
  { podSelector: { matchLabels: { 'istio.io/dataplane-mode': 'ambient' } } },
  {
    podSelector: { matchExpressions: [{ key: 'istio.io/dataplane-mode', operator: 'NotIn', values: ['none'] }] },
    namespaceSelector: { matchLabels: { 'istio.io/dataplane-mode': 'ambient' } },
  },
];

/** Where pods' credentials are mounted; here for the sandbox as a whole. */
const SERVICE_ACCOUNT = '/run/secrets/kubernetes.io/serviceaccount';
const READY = 'http://127.0.0.1:8000/readyz';

/**
 * Begins the agent's container: $1 its root, $2 the agent, $3 the plugin, then pairs of a process and the file that says its
 * cgroup, which in a sandbox is not that of a pod. Mounts are seen by it alone, and are gone with it.
 */
const CONTAINER = `set -eu
root=$1 agent=$2 plugin=$3
shift 3
while [ $# -ge 2 ]; do mount --bind "$2" "/proc/$1/cgroup"; shift 2; done
for name in bin sbin lib lib64 usr etc dev sys proc run; do
  if [ -L "/$name" ]; then ln -sfn "$(readlink "/$name")" "$root/$name"
  elif [ -e "/$name" ]; then mkdir -p "$root/$name"; mount --rbind "/$name" "$root/$name"; fi
done
mkdir -p "$root/host/proc" "$root/host/opt/cni/bin" "$root/host/var/run/netns" "$root/opt/cni/bin" "$root/var" "$root/tmp"
ln -sfn /run "$root/var/run"
mount --rbind /proc "$root/host/proc"
mount --rbind /run/netns "$root/host/var/run/netns"
touch "$root/opt/cni/bin/istio-cni" "$root/opt/install-cni"
mount --bind "$plugin" "$root/opt/cni/bin/istio-cni"
mount --bind "$agent" "$root/opt/install-cni"
exec chroot "$root" /opt/install-cni --log_output_level=default:info,cni-agent:debug`;

export interface IstioNodeOptions {
  readonly server: ApiServer;
  readonly nodeName: string;
  /** Where ztunnel finds the agent. */
  readonly zdsSocket: string;
  /** With which it programs; the chart's default is iptables. */
  readonly rules: 'nftables' | 'iptables';
  /** Pods with a process that the agent may find; others are told of by the plugin. */
  readonly running: readonly Pod[];
}

/** A node on which the agent can be started, again and again. */
export class IstioNode implements AsyncDisposable {
  readonly #options: IstioNodeOptions;
  readonly #directory: string;
  #kubelet: ChildProcess | undefined;
  readonly #cgroups: string[] = [];

  private constructor(options: IstioNodeOptions, directory: string) {
    this.#options = options;
    this.#directory = directory;
  }

  /** @param chain what the runtime has before */
  static async create(options: IstioNodeOptions, chain: object): Promise<IstioNode> {
    const directory = join(SANDBOX_DIR, `istio-${options.nodeName}`);
    const node = new IstioNode(options, directory);
    await mkdir(node.netDirectory, { recursive: true });
    await mkdir(node.runDirectory);
    await mkdir(SERVICE_ACCOUNT, { recursive: true });
    await writeFile(join(SERVICE_ACCOUNT, 'token'), 'secret');
    await writeFile(join(node.netDirectory, '10-test.conflist'), JSON.stringify(chain));
    await node.#startKubelet();
    for (const pod of options.running) await node.#startIn(pod);
    return node;
  }

  get netDirectory(): string {
    return join(this.#directory, 'root/host/etc/cni/net.d');
  }

  /** Where the agent puts its plugin. */
  get pluginPath(): string {
    return join(this.#directory, 'root/host/opt/cni/bin/istio-cni');
  }

  get runDirectory(): string {
    return join(this.#directory, 'run');
  }

  /** Starts the agent and waits until it serves and has installed its plugin. */
  async startAgent(): Promise<WatchedProcess> {
    const { server, nodeName, zdsSocket, rules } = this.#options;
    const words = [join(this.#directory, 'root'), ISTIO_CNI_BIN, ISTIO_CNI_PLUGIN_BIN, ...this.#cgroups];
    const args = ['--mount', '--propagation', 'slave', 'sh', '-c', CONTAINER, 'sh', ...words];
    const env = {
      PATH: process.env['PATH'],
      KUBECONFIG: server.writeKubeconfig(this.#directory),
      KUBERNETES_SERVICE_PROTOCOL: 'http',
      KUBERNETES_SERVICE_HOST: '127.0.0.1',
      KUBERNETES_SERVICE_PORT: String(server.port),
      SKIP_TLS_VERIFY: 'true',
      NODE_NAME: nodeName,
      POD_NAME: 'istio-cni-node-abcde',
      POD_NAMESPACE: 'istio-system',
      ALLOW_SWITCH_TO_HOST_NS: 'true',
      AMBIENT_ENABLED: 'true',
      AMBIENT_ENABLEMENT_SELECTOR: JSON.stringify(SELECTORS),
      AMBIENT_DNS_CAPTURE: 'true',
      AMBIENT_IPV6: 'true',
      AMBIENT_RECONCILE_POD_RULES_ON_STARTUP: 'true',
      ENABLE_AMBIENT_DETECTION_RETRY: 'false',
      CHAINED_CNI_PLUGIN: 'true',
      EXCLUDE_NAMESPACES: 'kube-system',
      NATIVE_NFTABLES: String(rules === 'nftables'),
      // Where both variants are installed, its own look at legacy's leaves empty tables there, which after a restart it takes for
      // rules: it then changes the variant, and no longer finds what it programmed.
      FORCE_IPTABLES_BINARY: 'nft',
      REPAIR_ENABLED: 'true',
      REPAIR_REPAIR_PODS: 'true',
      REPAIR_NODE_NAME: nodeName,
      REPAIR_SIDECAR_ANNOTATION: 'sidecar.istio.io/status',
      CNI_AGENT_RUN_DIR: this.runDirectory,
      ZTUNNEL_UDS_ADDRESS: zdsSocket,
    };
    const child = spawn('unshare', args, { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const agent = new WatchedProcess('Istio’s CNI agent', child);
    try {
      await agent.becomeReady(READY, 60_000);
      return agent;
    } catch (error) {
      await agent.stop(0);
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#kubelet?.kill('SIGKILL');
    await rm(this.#directory, { recursive: true, force: true });
    await rm('/run/secrets', { recursive: true, force: true });
  }

  /** Its rules for probes go by the user of a process of that name. */
  async #startKubelet(): Promise<void> {
    const kubelet = join(this.#directory, 'kubelet');
    await symlink('/bin/sleep', kubelet);
    this.#kubelet = spawn(kubelet, ['infinity'], { stdio: 'ignore' });
  }

  async #startIn(pod: Pod): Promise<void> {
    const child = pod.exec('sleep', ['infinity'], { env: { PATH: process.env['PATH'] }, stdio: 'ignore' });
    const slice = `kubepods-besteffort-pod${pod.uid.replaceAll('-', '_')}.slice`;
    const file = join(this.#directory, `${pod.name}.cgroup`);
    await writeFile(
      file,
      `0::/kubepods.slice/kubepods-besteffort.slice/${slice}/cri-containerd-${'ab'.repeat(32)}.scope\n`,
    );
    this.#cgroups.push(String(child.pid), file);
  }
}

export interface PluginRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The plugin as a runtime runs it at the end of a chain. @param entry ours of the chain's plugins */
export async function runPlugin(path: string, command: string, entry: object, pod: Pod): Promise<PluginRun> {
  const prevResult = {
    cniVersion: '1.0.0',
    interfaces: [{ name: 'eth0', sandbox: `/var${pod.netnsPath}` }],
    ips: [
      { address: `${pod.ip4}/32`, interface: 0 },
      { address: `${pod.ip6}/128`, interface: 0 },
    ],
  };
  const child = spawn(path, [], {
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: `c-${pod.uid}`,
      CNI_NETNS: `/var${pod.netnsPath}`,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/opt/cni/bin',
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${pod.namespace};K8S_POD_NAME=${pod.name};K8S_POD_UID=${pod.uid}`,
    },
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(JSON.stringify({ ...entry, cniVersion: '1.0.0', name: 'test', prevResult }));
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', chunk => (stdout += String(chunk)));
  child.stderr.on('data', chunk => (stderr += String(chunk)));
  const { promise, resolve } = Promise.withResolvers<number | null>();
  child.on('close', resolve);
  return { code: await promise, stdout, stderr };
}
