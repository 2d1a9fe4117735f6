// Notes on a pod how it stands in the mesh: a merge patch of one annotation, on the status subresource, which takes less
// privilege. The patch names the pod's UID, so that a successor of the same name is left alone.
import { codeOf, type KubeClient, type KubeResponse, refusalOf, textAt } from '@ambit/kube';
import { CniError } from '../errors.ts';
import { type AgentPod, podName } from '../pod/agent-pod.ts';
import { kubernetesError } from './kubernetes-error.ts';
import { REDIRECTION_ANNOTATION, type RedirectionStatus } from './pod-source.ts';

/** A patch without a version is only refused as a conflict when many others write the same pod; the server has tried again. */
const MAX_ATTEMPTS = 5;
const TIMEOUT_MS = 10_000;

/** A pod that is gone, or has a successor, is no error. @throws CniError cni.kubernetes */
export async function noteStatus(
  client: KubeClient,
  pod: AgentPod,
  status: RedirectionStatus,
  signal: AbortSignal,
): Promise<void> {
  const path = `/api/v1/namespaces/${encodeURIComponent(pod.namespace)}/pods/${encodeURIComponent(pod.name)}`;
  const body = { metadata: { uid: pod.uid, annotations: { [REDIRECTION_ANNOTATION]: status ?? null } } };
  const what = `note on pod ${podName(pod)} that it is ${status ?? 'no member'}`;
  try {
    for (let attempt = 1; ; attempt += 1) {
      const response = await client.request({
        method: 'PATCH',
        path: `${path}/status`,
        body,
        signal,
        timeoutMs: TIMEOUT_MS,
      });
      if (response.status === 200 || response.status === 404) return;
      // 422 is how servers may put that a UID cannot change.
      const isDisputed = response.status === 409 || response.status === 422;
      if (isDisputed && !(await isThere(client, path, pod.uid, signal))) return;
      if (response.status !== 409 || attempt === MAX_ATTEMPTS) throw refused(what, response);
    }
  } catch (error) {
    throw kubernetesError(`cannot ${what}`, error);
  }
}

async function isThere(client: KubeClient, path: string, uid: string, signal: AbortSignal): Promise<boolean> {
  const response = await client.request({ path, signal, timeoutMs: TIMEOUT_MS });
  return response.status !== 404 && (response.status !== 200 || textAt(response.body, 'metadata', 'uid') === uid);
}

function refused(what: string, { status, body }: KubeResponse): CniError {
  const message = `the API server refused to ${what}: ${refusalOf(status, body).message}  [${codeOf(status)}]`;
  const next = status === 403 ? 'allow the agent the verb patch on pods/status' : undefined;
  return new CniError('cni.kubernetes', message, next === undefined ? {} : { next });
}
