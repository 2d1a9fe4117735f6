// A ztunnel of any make, as a process in a node's namespace: started with the environment that leads it to the bed's
// agent and mesh file, watched until it says it is ready, its last lines kept for whoever asks why it is not.
import type { ChildProcess } from 'node:child_process';
import { TestbedError } from './errors.ts';
import type { NamespaceProcesses } from './processes.ts';
import type { NodeNet } from './topology.ts';
import { WatchedProcess } from './watched-process.ts';

export interface ZtunnelOptions {
  /** Program and arguments. */
  readonly command: readonly string[];
  /** Added to, and stronger than, the environment the bed makes. Undefined removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Default 20 000. */
  readonly readyTimeoutMs?: number;
}

export const READINESS_PORT = 15021;
const DEFAULT_READY_TIMEOUT_MS = 20_000;

export class ZtunnelProcess extends WatchedProcess {
  readonly node: NodeNet;

  private constructor(node: NodeNet, child: ChildProcess) {
    super(`ztunnel on ${node.name}`, child);
    this.node = node;
  }

  /** Starts it and waits for its readiness page. @throws testbed.timeout, testbed.command_failed (it ended) */
  static async start(node: NodeNet, processes: NamespaceProcesses, options: ZtunnelOptions): Promise<ZtunnelProcess> {
    const [program, ...args] = options.command;
    if (program === undefined) throw new TestbedError('testbed.argument', 'a ztunnel needs a command');
    const child = processes.exec(program, args, {
      env: options.env,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ztunnel = new ZtunnelProcess(node, child);
    try {
      const url = `http://${node.ip4}:${READINESS_PORT}/healthz/ready`;
      await ztunnel.becomeReady(url, options.readyTimeoutMs ?? DEFAULT_READY_TIMEOUT_MS);
    } catch (error) {
      await ztunnel.stop(0);
      throw error;
    }
    return ztunnel;
  }
}
