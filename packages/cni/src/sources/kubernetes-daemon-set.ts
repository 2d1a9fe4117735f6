// Whether somebody takes over when this agent ends: a DaemonSet that stays and still means this node is an upgrade or a
// restart, and everything is left in place for the next agent. One look, no retries: those are the caller's decision.
import { asObject, at, type KubeClient, type KubeResponse, mapAt, refusalOf, textAt } from '@ambit/kube';
import { CniError } from '../errors.ts';
import { kubernetesError } from './kubernetes-error.ts';
import { choosesNodes, mayRunOn } from './kubernetes-node-affinity.ts';

export type DaemonSetState =
  /** It is there to stay, and so is its pod on this node. */
  | 'stays'
  /** It is being deleted. */
  | 'ending'
  /** It is there, and no longer meant for this node. */
  | 'elsewhere'
  | 'absent'
  /** We are not known any more: the service account was deleted, as an uninstall does. */
  | 'unauthorized';

export interface DaemonSetName {
  readonly namespace: string;
  readonly name: string;
}

const TIMEOUT_MS = 5000;

/** @throws CniError cni.kubernetes when there is no such answer */
export async function lookUpDaemonSet(
  client: KubeClient,
  { namespace, name }: DaemonSetName,
  nodeName: string,
  signal?: AbortSignal,
): Promise<DaemonSetState> {
  const what = `look up DaemonSet ${namespace}/${name}`;
  const get = async (path: string): Promise<KubeResponse> => {
    try {
      return await client.request({ path, signal, timeoutMs: TIMEOUT_MS });
    } catch (error) {
      throw kubernetesError(`cannot ${what}`, error);
    }
  };
  const where = `namespaces/${encodeURIComponent(namespace)}/daemonsets/${encodeURIComponent(name)}`;
  const { status, body } = await get(`/apis/apps/v1/${where}`);
  if (status === 404) return 'absent';
  if (status === 401) return 'unauthorized';
  if (status !== 200) {
    throw new CniError('cni.kubernetes', `the API server refused to ${what}: ${refusalOf(status, body).message}`);
  }
  if (textAt(body, 'metadata', 'deletionTimestamp') !== '') return 'ending';
  const spec = asObject(at(body, 'spec', 'template', 'spec'));
  if (!choosesNodes(spec)) return 'stays';
  const node = await get(`/api/v1/nodes/${encodeURIComponent(nodeName)}`);
  // Without a word on the node, nothing says that the set has left it.
  if (node.status !== 200) return 'stays';
  return mayRunOn(spec, { name: nodeName, labels: mapAt(node.body, 'metadata', 'labels') }) ? 'stays' : 'elsewhere';
}
