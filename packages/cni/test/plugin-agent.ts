// Just enough of an agent for tests of the plugin: answers frames on the plugin's socket by hooks that the test gives, and
// keeps what was asked.
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { buffer } from 'node:stream/consumers';
import type { AgentPod } from '../src/pod/agent-pod.ts';
import type { CniHooks } from '../src/agent/hooks.ts';
import { handleCni } from '../src/plugin/cni-requests.ts';
import { decodeFrame, encodeAnswer } from '../src/plugin/frame.ts';

export class PluginAgent implements AsyncDisposable {
  readonly enrolled: { readonly pod: string; readonly ips: readonly string[]; readonly netnsPath: string }[] = [];
  readonly collected: (readonly string[])[] = [];
  /** Set: every enrolment fails with it. */
  refusal: Error | undefined;
  readonly #server: Server;
  readonly #hooks: CniHooks;

  private constructor() {
    this.#server = createServer({ allowHalfOpen: true }, socket => void this.#answer(socket));
    this.#hooks = {
      lookup: async (namespace, name) =>
        namespace === 'plain'
          ? { kind: 'outsider', why: 'namespace plain is not labelled' }
          : { kind: 'member', pod: podOf(namespace, name) },
      enrol: async ({ namespace, name }, ips, netnsPath) => {
        if (this.refusal !== undefined) throw this.refusal;
        this.enrolled.push({ pod: `${namespace}/${name}`, ips, netnsPath });
      },
      check: async ({ name }) => (this.enrolled.some(({ pod }) => pod.endsWith(`/${name}`)) ? [] : ['not enrolled']),
      collect: async ids => {
        this.collected.push(ids);
      },
      notReady: () => undefined,
    };
  }

  static async listen(socketPath: string): Promise<PluginAgent> {
    const agent = new PluginAgent();
    mkdirSync(dirname(socketPath), { recursive: true });
    agent.#server.listen(socketPath);
    await once(agent.#server, 'listening');
    return agent;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    await promise;
  }

  async #answer(socket: Socket): Promise<void> {
    const request = decodeFrame(await buffer(socket));
    socket.end(encodeAnswer(await handleCni(request, this.#hooks, AbortSignal.timeout(10_000))));
  }
}

function podOf(namespace: string, name: string): AgentPod {
  return {
    uid: `${namespace}-${name}`,
    name,
    namespace,
    serviceAccount: 'default',
    labels: {},
    annotations: {},
    hostNetwork: false,
    ips: [],
    phase: 'Pending',
    netnsPath: undefined,
  };
}
