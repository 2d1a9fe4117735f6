// The whole plugin in one process, as upstream's is: for when our agent is not there to decide (its own pods and those outside
// the mesh start all the same) or the agent is Istio's. It decides by the API server and enrols by `POST /cmdadd`. What it
// cannot find out fails the ADD, unless the configuration says otherwise (`enable_ambient_detection_retry: false`, upstream's
// default: two attempts, then the pod counts as an outsider).
import { join } from 'node:path';
import { parseIp } from '@ambit/mesh';
import { errorText } from '@ambit/log';
import type { CniHooks, Membership } from '../../agent/hooks.ts';
import { CniError } from '../../errors.ts';
import { KUBECONFIG_NAME } from '../../install/kubeconfig-name.ts';
import { membership } from '../../pod/membership.ts';
import { type CniRequest, type HandledCni, handleCni } from '../cni-requests.ts';
import { type PluginConfig, readPluginConfig } from '../plugin-config.ts';
import { agentProblem, sendCmdAdd } from './agent-client.ts';
import { readKubeAccess, readPod } from './kube-reader.ts';

export interface FullPluginOptions {
  /** Between two looks. Default 1 s, as upstream. */
  readonly spacingMs?: number;
}

const RETRIES = 30;
const RETRIES_WITHOUT_DETECTION = 1;

/** Never rejects. */
export async function runFullPlugin(
  request: CniRequest,
  signal: AbortSignal,
  { spacingMs = 1000 }: FullPluginOptions = {},
): Promise<HandledCni> {
  // A configuration that cannot be read is refused by the handler before it asks any of these.
  const config = () => readPluginConfig(request.stdin);
  const runDir = runDirOf(request.stdin);
  const isStatus = request.env['CNI_COMMAND'] === 'STATUS' && runDir !== undefined;
  const problem = isStatus ? await agentProblem(runDir) : undefined;
  const hooks: CniHooks = {
    lookup: (namespace, name, _signal, uid) => lookup(config(), { namespace, name, uid, signal, spacingMs }),
    enrol: (pod, ips, netnsPath) => {
      const { name, namespace } = pod;
      const addresses = ips.flatMap(ip => parseIp(ip) ?? []);
      const event = { netnsPath, podName: name, podNamespace: namespace, ips: addresses };
      return sendCmdAdd(config().agentRunDir, event, signal);
    },
    // Upstream's agent has nothing to ask for these two.
    check: () => Promise.resolve([]),
    collect: () => Promise.resolve(),
    notReady: () => problem,
  };
  return handleCni(request, hooks, signal);
}

interface Look {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string | undefined;
  readonly signal: AbortSignal;
  readonly spacingMs: number;
}

async function lookup(config: PluginConfig, { namespace, name, uid, signal, spacingMs }: Look): Promise<Membership> {
  const access = readKubeAccess(join(config.agentRunDir, KUBECONFIG_NAME));
  const rules = { selectors: config.selectors, excludedNamespaces: config.excludedNamespaces };
  const retries = config.retriesLookup ? RETRIES : RETRIES_WITHOUT_DETECTION;
  for (let attempt = 0; ; attempt++) {
    try {
      const found = await readPod(access, namespace, name, signal);
      if (uid !== undefined && found.pod.uid !== uid) {
        throw new CniError('enrol.unknown_pod', `the API server has another pod ${namespace}/${name}`);
      }
      const { member, why } = membership(found.pod, found.namespace, rules);
      return member ? { kind: 'member', pod: found.pod } : { kind: 'outsider', why };
    } catch (error) {
      if (attempt < retries && !signal.aborted) {
        await pause(spacingMs);
        continue;
      }
      const why = `${errorText(error)}, after ${attempt + 1} attempts`;
      return config.retriesLookup || signal.aborted ? { kind: 'unknown', why } : { kind: 'outsider', why };
    }
  }
}

/** undefined when the configuration cannot be read, which the handler says better. */
export function runDirOf(stdin: string): string | undefined {
  try {
    return readPluginConfig(stdin).agentRunDir;
  } catch {
    return undefined;
  }
}

async function pause(ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  setTimeout(resolve, ms);
  await promise;
}
