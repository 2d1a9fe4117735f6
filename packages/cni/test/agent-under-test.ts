// A node agent on a node of a bed, as its own process, with what tests do to it: tell it of pods, ask it, speak to it like a
// CNI plugin, kill it.
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { type BedNode, NamespaceProcesses, type Pod, SANDBOX_DIR, WatchedProcess } from '@ambit/testbed';
import { FRUGAL_ENV, FRUGAL_FLAGS } from '../src/frugal.ts';
import type { AgentPod } from '../src/pod/agent-pod.ts';
import { encodeFrame } from '../src/plugin/frame.ts';
import type { Word } from './agent-process.ts';
import { askHttp, type CniOutcome, sendFrame } from './agent-socket.ts';

export { askHttp } from './agent-socket.ts';

const PROGRAM = join(import.meta.dirname, 'agent-process.ts');

export interface PodAnswer {
  readonly uid: string;
  readonly name: string;
  readonly member: boolean;
  readonly status: string;
  readonly state: string;
  readonly problem: { readonly code: string } | null;
}

export class AgentUnderTest extends WatchedProcess {
  readonly runDirectory: string;

  private constructor(node: BedNode, child: ChildProcess, runDirectory: string) {
    super(`agent on ${node.name}`, child);
    this.runDirectory = runDirectory;
  }

  /** Starts it with what it is told first, and waits until it serves. */
  static async start(
    node: BedNode,
    first: readonly Word[],
    flags: Readonly<Record<string, string>> = {},
  ): Promise<AgentUnderTest> {
    const runDirectory = join(node.directory, 'cni');
    const all = {
      nodeName: node.name,
      zdsSocket: node.agent.path,
      runDirectory,
      dnsCapture: 'false',
      hostRoot: '/',
      healthPort: '0',
      monitoringPort: '0',
      logLevel: 'debug',
      ...flags,
    };
    const processes = new NamespaceProcesses(node);
    const child = processes.exec(process.execPath, [...FRUGAL_FLAGS, PROGRAM, JSON.stringify(all)], {
      // As the `ambit` script has it: stripping types costs tens of megabytes otherwise.
      env: { PATH: process.env['PATH'], NODE_COMPILE_CACHE: join(SANDBOX_DIR, 'compile-cache'), ...FRUGAL_ENV },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    const agent = new AgentUnderTest(node, child, runDirectory);
    agent.tell(...first, { kind: 'start' });
    await Promise.race([agent.waitForLine(/\tServing\t/, 30_000), agent.failed()]);
    return agent;
  }

  tell(...words: readonly Word[]): void {
    for (const word of words) this.process.send(word);
  }

  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  /** Waits for a line that is yet to come. */
  async nextLine(pattern: RegExp): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    const forget = this.onLine(line => {
      if (pattern.test(line)) resolve(line);
    });
    try {
      return await promise;
    } finally {
      forget();
    }
  }

  async ask(path: string): Promise<Readonly<Record<string, unknown>>> {
    return (await askHttp(join(this.runDirectory, 'agent.sock'), 'GET', path)).json;
  }

  async pods(): Promise<readonly PodAnswer[]> {
    return (await this.ask('/v1/pods'))['pods'] as readonly PodAnswer[];
  }

  /** Waits until a pod stands as wanted: the agent's own word, asked again and again, since it has no event for it. */
  async until(uid: string, status: string, timeoutMs = 15_000): Promise<void> {
    const deadline = AbortSignal.timeout(timeoutMs);
    for (let last: PodAnswer | undefined; ; ) {
      last = (await this.pods()).find(pod => pod.uid === uid);
      if (last?.status === status) return;
      if (deadline.aborted)
        throw new Error(`${uid} is not ${status}: ${JSON.stringify(last)}\n${this.log().slice(-3000)}`);
    }
  }

  /** As the plugin's executable asks. */
  async cni(command: string, pod: Pod, more: object = {}): Promise<CniOutcome> {
    const env = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: `c-${pod.uid}`,
      CNI_NETNS: pod.netnsPath,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/opt/cni/bin',
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${pod.namespace};K8S_POD_NAME=${pod.name};K8S_POD_UID=${pod.uid}`,
    };
    const prevResult = {
      cniVersion: '1.0.0',
      interfaces: [{ name: 'eth0', sandbox: pod.netnsPath }],
      ips: [
        { address: `${pod.ip4}/32`, interface: 0 },
        { address: `${pod.ip6}/128`, interface: 0 },
      ],
    };
    const config = { cniVersion: '1.0.0', name: 'net', type: 'ambit-cni', prevResult, ...more };
    return sendFrame(join(this.runDirectory, 'cni.sock'), encodeFrame({ env, stdin: JSON.stringify(config) }));
  }
}

/** A pod of the bed as a source tells of it. */
export function asAgentPod(pod: Pod, more: Partial<AgentPod> = {}): AgentPod {
  return {
    uid: pod.uid,
    name: pod.name,
    namespace: pod.namespace,
    serviceAccount: pod.serviceAccount,
    labels: {},
    annotations: {},
    hostNetwork: false,
    ips: [pod.ip4, pod.ip6],
    phase: 'Running',
    netnsPath: pod.netnsPath,
    ...more,
  };
}
