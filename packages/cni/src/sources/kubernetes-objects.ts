// Pods and namespaces of the API server as the agent knows them: only the fields that it reads are kept, since a whole pod is
// some 10 KB. Pure. Values come from a server, so nothing throws: what is odd reads as absent.
import { at, listAt, mapAt, type ReadObject, textAt } from '@ambit/kube';
import { parseIp } from '@ambit/mesh';
import type { AgentPod, PodNamespace } from '../pod/agent-pod.ts';

/** ZDS goes by it. */
const MAX_UID_BYTES = 253;
const PHASES = ['Pending', 'Running', 'Succeeded', 'Failed'] as const;

export type ReadKubernetes<O> = ReadObject<O, string>;

export const readKubernetesPod: ReadKubernetes<AgentPod> = raw => {
  const uid = textAt(raw, 'metadata', 'uid');
  const name = textAt(raw, 'metadata', 'name');
  const namespace = textAt(raw, 'metadata', 'namespace');
  if (uid === '' || Buffer.byteLength(uid) > MAX_UID_BYTES)
    return { problems: [`pod ${namespace}/${name} has no UID`] };
  const serviceAccount = textAt(raw, 'spec', 'serviceAccountName');
  const phase = textAt(raw, 'status', 'phase');
  return {
    object: {
      uid,
      name,
      namespace,
      serviceAccount: serviceAccount === '' ? 'default' : serviceAccount,
      labels: mapAt(raw, 'metadata', 'labels'),
      annotations: ownAnnotations(mapAt(raw, 'metadata', 'annotations')),
      hostNetwork: at(raw, 'spec', 'hostNetwork') === true,
      ips: ipsOf(raw),
      phase: PHASES.find(each => each === phase) ?? 'Unknown',
      netnsPath: undefined,
    },
  };
};

export const readKubernetesNamespace: ReadKubernetes<PodNamespace> = raw => ({
  object: {
    name: textAt(raw, 'metadata', 'name'),
    labels: mapAt(raw, 'metadata', 'labels'),
    annotations: ownAnnotations(mapAt(raw, 'metadata', 'annotations')),
  },
});

/** Istio's and ours. Others may be whole documents: network plugins' status, `kubectl apply`'s copy of the object. */
function ownAnnotations(annotations: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(annotations).filter(([name]) => name.includes('istio.io/') || name.includes('ambit')),
  );
}

/** `podIPs`, or where that is empty `podIP`; each once. */
function ipsOf(raw: unknown): readonly string[] {
  const listed = listAt(raw, 'status', 'podIPs').map(item => textAt(item, 'ip'));
  const texts = listed.length > 0 ? listed : [textAt(raw, 'status', 'podIP')];
  return [...new Set(texts.flatMap(text => parseIp(text) ?? []))];
}
